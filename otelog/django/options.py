"""The options of the middleware, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.module_loading import import_string

from otelog._requests import options
from otelog._requests.options import RequestSettings
from otelog.exceptions import ConfigurationError

SETTING = "OTELOG"
"""In Django's settings: a dict of options, in capitals or not."""

ACCESS_LOGGER = "otelog.django.access"
"""The logger name of access records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DjangoSettings(RequestSettings):
    """The options of one site."""

    access_log_name: str = ACCESS_LOGGER


def resolve(given: Any, keywords: Mapping[str, Any]) -> DjangoSettings:
    """Returns the settings.

    Args:
        given: What Django's settings have; None: nothing.
        keywords: Of the middleware's class; they win.

    Raises:
        ConfigurationError: An option is unknown, of the wrong kind, or out of its range.
    """
    if given is not None and not isinstance(given, Mapping):
        raise ConfigurationError(f"{SETTING} must be a dict of options")
    values = {**{str(key).lower(): value for key, value in (given or {}).items()}, **keywords}
    fields = values.get("fields")
    if isinstance(fields, str):
        # Settings cannot import what needs the settings.
        values["fields"] = import_string(fields)
    return options.resolve(DjangoSettings, values, SETTING)
