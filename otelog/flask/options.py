"""The options of `FlaskLogging`, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    from flask import Request

ACCESS_LOGGER = "otelog.flask.access"
"""The logger name of access records."""

SERVER_ACCESS_LOG = ("console", "silence", "keep")
CLIENT_ADDRESS = ("peer", "forwarded", "none")


class FlaskOptions(TypedDict, total=False):
    """The keywords of `FlaskLogging`, which says what each does."""

    excluded_urls: str | None
    access_log: bool
    access_log_name: str
    access_log_excluded: Sequence[str]
    server_access_log: Literal["console", "silence", "keep"]
    client_address: Literal["peer", "forwarded", "none"]
    trusted_proxies: int
    request_id_header: str | None
    trace_id_header: str | None
    fields: Callable[[Request], Mapping[str, object]] | None
    instrument_threading: bool
    metrics: str | None
    health: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FlaskSettings:
    """The options of one application."""

    excluded_urls: str | None = None
    access_log: bool = True
    access_log_name: str = ACCESS_LOGGER
    access_log_excluded: tuple[str, ...] = ()
    server_access_log: str = "console"
    client_address: str = "peer"
    trusted_proxies: int = 1
    request_id_header: str | None = "X-Request-ID"
    trace_id_header: str | None = "X-Trace-ID"
    fields: Callable[[Any], Mapping[str, object]] | None = None
    instrument_threading: bool = True
    metrics: str | None = None
    health: str | None = None


def resolve(options: Mapping[str, Any]) -> FlaskSettings:
    """Returns the settings.

    Raises:
        ConfigurationError: An option is unknown, of the wrong kind, or out of its range.
    """
    unknown = sorted(set(options) - {field.name for field in fields(FlaskSettings)})
    if unknown:
        raise ConfigurationError(f"FlaskLogging has no option {', '.join(unknown)}")
    given = dict(options)
    excluded = given.get("access_log_excluded", ())
    if isinstance(excluded, str) or not all(isinstance(path, str) and path.startswith("/") for path in excluded):
        raise ConfigurationError("access_log_excluded must be a list of paths, each with a leading slash")
    given["access_log_excluded"] = tuple(excluded)
    settings = FlaskSettings(**given)
    for name in ("access_log", "instrument_threading"):
        _require(isinstance(getattr(settings, name), bool), f"{name} must be True or False")
    for name, allowed in (("server_access_log", SERVER_ACCESS_LOG), ("client_address", CLIENT_ADDRESS)):
        _require(getattr(settings, name) in allowed, f"{name} must be one of {', '.join(allowed)}")
    for name in ("metrics", "health"):
        path = getattr(settings, name)
        _require(
            path is None or (isinstance(path, str) and path.startswith("/")),
            f"{name} must be a path with a leading slash, or None",
        )
    _require(
        settings.metrics is None or settings.metrics != settings.health, "metrics and health need a path of their own"
    )
    for name in ("request_id_header", "trace_id_header"):
        header = getattr(settings, name)
        _require(
            header is None or (isinstance(header, str) and header.replace("-", "").isalnum() and header.isascii()),
            f"{name} must be a header's name, or None",
        )
    _require(
        type(settings.trusted_proxies) is int and settings.trusted_proxies >= 1,
        "trusted_proxies must be a number of at least 1",
    )
    _require(isinstance(settings.access_log_name, str), "access_log_name must be a logger's name")
    _require(
        settings.excluded_urls is None or isinstance(settings.excluded_urls, str),
        "excluded_urls must be regular expressions in one string, with commas between them",
    )
    _require(settings.fields is None or callable(settings.fields), "fields must be a function of the request")
    return settings


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigurationError(message)
