"""The options of `FlaskLogging`, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otelog._requests import options
from otelog._requests.options import RequestOptions, RequestSettings, require

if TYPE_CHECKING:
    from flask import Request

ACCESS_LOGGER = "otelog.flask.access"
"""The logger name of access records."""


class FlaskOptions(RequestOptions, total=False):
    """The keywords of `FlaskLogging`, which says what each does."""

    excluded_urls: str | None
    fields: Callable[[Request], Mapping[str, object]] | None
    instrument_threading: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FlaskSettings(RequestSettings):
    """The options of one application."""

    access_log_name: str = ACCESS_LOGGER
    excluded_urls: str | None = None
    instrument_threading: bool = True


def resolve(given: Mapping[str, Any]) -> FlaskSettings:
    """Returns the settings.

    Raises:
        ConfigurationError: An option is unknown, of the wrong kind, or out of its range.
    """
    settings = options.resolve(FlaskSettings, given, "FlaskLogging")
    require(isinstance(settings.instrument_threading, bool), "instrument_threading must be True or False")
    require(
        settings.excluded_urls is None or isinstance(settings.excluded_urls, str),
        "excluded_urls must be regular expressions in one string, with commas between them",
    )
    return settings
