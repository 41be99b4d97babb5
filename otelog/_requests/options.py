"""The options of what watches an application's requests, checked; frameworks add their own to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict, TypeVar

from otelog.exceptions import ConfigurationError

SERVER_ACCESS_LOG = ("console", "silence", "keep")
CLIENT_ADDRESS = ("peer", "forwarded", "none")


class RequestOptions(TypedDict, total=False):
    """The keywords that every framework's has; `otelog.flask.FlaskLogging` says what each does."""

    access_log: bool
    access_log_name: str
    access_log_excluded: Sequence[str]
    server_access_log: Literal["console", "silence", "keep"]
    client_address: Literal["peer", "forwarded", "none"]
    trusted_proxies: int
    request_id_header: str | None
    trace_id_header: str | None
    metrics: str | None
    health: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestSettings:
    """The options of one application."""

    access_log: bool = True
    access_log_name: str = "otelog.access"
    access_log_excluded: tuple[str, ...] = ()
    server_access_log: str = "console"
    client_address: str = "peer"
    trusted_proxies: int = 1
    request_id_header: str | None = "X-Request-ID"
    trace_id_header: str | None = "X-Trace-ID"
    fields: Callable[[Any], Mapping[str, object]] | None = None
    metrics: str | None = None
    health: str | None = None


_Settings = TypeVar("_Settings", bound=RequestSettings)


def resolve(kind: type[_Settings], options: Mapping[str, Any], owner: str) -> _Settings:
    """Returns the settings.

    Args:
        kind: Their class, with the defaults.
        options: What was given.
        owner: Who has been given them, for messages.

    Raises:
        ConfigurationError: An option is unknown, of the wrong kind, or out of its range.
    """
    unknown = sorted(set(options) - {field.name for field in fields(kind)})
    if unknown:
        raise ConfigurationError(f"{owner} has no option {', '.join(unknown)}")
    given = dict(options)
    if "access_log_excluded" in given:
        excluded = given["access_log_excluded"]
        if isinstance(excluded, str) or not all(isinstance(path, str) and path.startswith("/") for path in excluded):
            raise ConfigurationError("access_log_excluded must be a list of paths, each with a leading slash")
        given["access_log_excluded"] = tuple(excluded)
    settings = kind(**given)
    require(isinstance(settings.access_log, bool), "access_log must be True or False")
    for name, allowed in (("server_access_log", SERVER_ACCESS_LOG), ("client_address", CLIENT_ADDRESS)):
        require(getattr(settings, name) in allowed, f"{name} must be one of {', '.join(allowed)}")
    for name in ("metrics", "health"):
        path = getattr(settings, name)
        require(
            path is None or (isinstance(path, str) and path.startswith("/")),
            f"{name} must be a path with a leading slash, or None",
        )
    require(
        settings.metrics is None or settings.metrics != settings.health, "metrics and health need a path of their own"
    )
    for name in ("request_id_header", "trace_id_header"):
        header = getattr(settings, name)
        require(
            header is None or (isinstance(header, str) and header.replace("-", "").isalnum() and header.isascii()),
            f"{name} must be a header's name, or None",
        )
    require(
        type(settings.trusted_proxies) is int and settings.trusted_proxies >= 1,
        "trusted_proxies must be a number of at least 1",
    )
    require(isinstance(settings.access_log_name, str), "access_log_name must be a logger's name")
    require(settings.fields is None or callable(settings.fields), "fields must be a function of the request")
    return settings


def require(holds: bool, message: str) -> None:
    """Refuse an option whose value does not hold.

    Raises:
        ConfigurationError: It does not.
    """
    if not holds:
        raise ConfigurationError(message)
