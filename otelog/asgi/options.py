"""The options of `AccessLog`, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from otelog._requests import options
from otelog._requests.options import RequestOptions, RequestSettings, require

ACCESS_LOGGER = "otelog.asgi.access"
"""The logger name of access records."""


class AccessLogOptions(RequestOptions, total=False):
    """The keywords of `AccessLog`, which says what each does."""

    fields: Callable[[Mapping[str, Any]], Mapping[str, object]] | None
    instrument: bool
    instrument_threading: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogSettings(RequestSettings):
    """The options of one application."""

    access_log_name: str = ACCESS_LOGGER
    instrument: bool = True
    instrument_threading: bool = True


def resolve(given: Mapping[str, Any]) -> AccessLogSettings:
    """Returns the settings.

    Raises:
        ConfigurationError: An option is unknown, of the wrong kind, or out of its range.
    """
    settings = options.resolve(AccessLogSettings, given, "AccessLog")
    for name in ("instrument", "instrument_threading"):
        require(isinstance(getattr(settings, name), bool), f"{name} must be True or False")
    return settings
