"""Settings that contradict each other, or do nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from otelog._config.resolve import DECLARATIVE, LOGS_PATH, ExporterSettings, Settings
from otelog._config.table import GRPC, OPTIONS, ConsoleOptions, FileOptions
from otelog._setup.destinations import resolve_otlp
from otelog.doctor._findings import Area, Finding, list_names, make_area
from otelog.exceptions import ConfigurationError

_LOGS_ENDPOINT, _ENDPOINT = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"
_GRPC_PORT, _HTTP_PORT = 4317, 4318
_FILES = ("certificate_file", "client_certificate_file", "client_key_file")
_VARIABLES = {variable for option in OPTIONS for variable in option.variables}
# What the command line and the servers' configuration read.
_OF_THE_STACK = tuple(f"OTELOG_{one}" for one in ("COLLECTOR", "LOKI", "PROMETHEUS", "ALERTMANAGER", "GRAFANA"))
_DEFAULTS = {option.name: option.default for option in OPTIONS}


def check_settings(settings: Settings, variables: Mapping[str, str], from_environment: Settings | None = None) -> Area:
    """Compare the settings with each other, and with what the environment says.

    Args:
        settings: In force, or as they will be.
        variables: OpenTelemetry's and otelog's environment variables.
        from_environment: What the environment alone would give; None where that cannot be used.
    """
    findings = [
        *_find_ignored(settings),
        *_check_service(settings),
        *_check_exporters(settings, variables),
        *_check_variables(variables),
        *_check_endpoint_variables(settings, variables, from_environment),
        *_check_times(settings),
        *_find_idle(settings),
    ]
    facts = [_describe(settings)]
    for name, target in list_targets(settings):
        if isinstance(target, ConfigurationError):
            findings.append(refuse_settings(target))
        else:
            findings += _check_target(name, target)
    return make_area("settings", facts, findings)


def refuse_settings(error: ConfigurationError) -> Finding:
    """Returns the finding that settings cannot be used at all."""
    advice = "correct it; `otelog config show` says where each value comes from"
    return Finding("error", "settings.refused", "configure()", str(error), advice)


def list_targets(settings: Settings) -> list[tuple[str, ExporterSettings | ConfigurationError]]:
    """Returns the OTLP exporters of the settings by their names, or why there is none of that name."""
    found: list[tuple[str, ExporterSettings | ConfigurationError]] = []
    for entry in settings.exporters:
        if entry.kind == "otlp":
            try:
                found.append((entry.name or "otlp", resolve_otlp(entry, settings)))
            except ConfigurationError as error:
                found.append((entry.name or "otlp", error))
    return found


def _describe(settings: Settings) -> str:
    kinds = [entry.name or entry.kind or type(entry.exporter).__name__ for entry in settings.exporters]
    service = f"service {settings.service_name}; " if settings.service_name else ""
    return f"{service}level {logging.getLevelName(settings.level)}; exporters: {', '.join(kinds) or 'none'}"


def _find_ignored(settings: Settings) -> Iterator[Finding]:
    for warning in settings.warnings:
        subject, separator, _ = warning.partition(": ")
        is_variable = bool(separator) and subject.isupper()
        yield Finding(
            "warning",
            "settings.ignored",
            subject if is_variable else "environment",
            warning.removeprefix(f"{subject}: ") if is_variable else warning,
            "correct the variable; `otelog config show` says what is in force",
        )


def _check_service(settings: Settings) -> Iterator[Finding]:
    if settings.service_name is None:
        yield Finding(
            "note",
            "settings.no_service_name",
            "service_name",
            "is not set: the records are those of unknown_service",
            "set service_name (OTEL_SERVICE_NAME)",
        )


def _check_exporters(settings: Settings, variables: Mapping[str, str]) -> Iterator[Finding]:
    if not settings.exporters:
        yield Finding(
            "warning",
            "settings.no_exporter",
            "exporters",
            "there is none: no record leaves the process",
            "let exporters (OTELOG_EXPORTERS, OTEL_LOGS_EXPORTER) be otlp",
        )
    elif variables.get("OTEL_LOGS_EXPORTER", "").strip().lower() == "none":
        yield Finding(
            "warning",
            "settings.exporter_contradicted",
            "OTEL_LOGS_EXPORTER",
            "is none, but exporters are set elsewhere, which wins: records are exported",
            "unset OTEL_LOGS_EXPORTER, or what contradicts it",
        )
    targets = [target.endpoint for _, target in list_targets(settings) if isinstance(target, ExporterSettings)]
    for endpoint in sorted({one for one in targets if targets.count(one) > 1}):
        entries = [entry for entry in settings.exporters if entry.kind == "otlp"]
        if any(entry.level is not None or entry.loggers or entry.filter for entry in entries):
            continue
        yield Finding(
            "warning",
            "settings.exporter_twice",
            endpoint,
            "is the endpoint of several exporters: every record arrives there several times",
            "keep one of them, or give them levels or loggers",
        )


def _check_variables(variables: Mapping[str, str]) -> Iterator[Finding]:
    for file in DECLARATIVE:
        if file not in variables:
            continue
        unmerged = sorted(
            name
            for name in variables
            if name.startswith("OTEL_") and not name.startswith("OTEL_PYTHON_") and name not in DECLARATIVE
        )
        also = f", and the SDK merges none of {list_names(unmerged)} into it" if unmerged else ""
        yield Finding(
            "warning",
            "settings.sdk_config_file",
            file,
            f"is the SDK's declarative configuration: otelog does not read it yet{also}",
            "say what otelog needs in OTELOG_CONFIG_FILE or variables, and take one way for both",
        )
    named = dict(pair.partition("=")[::2] for pair in variables.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    service, other = variables.get("OTEL_SERVICE_NAME"), named.get("service.name")
    if service and other and service.strip() != unquote(other.strip()):
        yield Finding(
            "warning",
            "settings.service_name_contradicted",
            "OTEL_SERVICE_NAME",
            f"is {service!r}, and OTEL_RESOURCE_ATTRIBUTES says {other!r}: the former is in force",
            "say it once",
        )
    for variable in sorted(variables.keys() - _VARIABLES):
        # Only ours: of OpenTelemetry's nobody knows all.
        if not variable.startswith("OTELOG_") or variable.startswith(_OF_THE_STACK):
            continue
        if near := get_close_matches(variable, _VARIABLES, n=1, cutoff=0.85):
            yield Finding(
                "warning",
                "settings.unknown_variable",
                variable,
                "is not known, and does nothing",
                f"did you mean {near[0]}?",
            )
    if variables.get("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED", "").strip().lower() == "true":
        yield Finding(
            "warning",
            "settings.auto_logging",
            "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED",
            "is true: opentelemetry-instrument puts another OpenTelemetry handler beside otelog's",
            "unset it: otelog takes the records of logging itself",
        )


def _check_endpoint_variables(
    settings: Settings, variables: Mapping[str, str], from_environment: Settings | None
) -> Iterator[Finding]:
    given = next((name for name in (_LOGS_ENDPOINT, _ENDPOINT) if name in variables), None)
    if given is None or from_environment is None:
        return
    if from_environment.endpoint != settings.endpoint:
        yield Finding(
            "warning",
            "settings.endpoint_overridden",
            given,
            f"says {from_environment.endpoint}, but {settings.endpoint} is in force",
            "unset it, or do not give an endpoint to configure()",
        )
        return
    path = urlsplit(settings.endpoint).path.rstrip("/")
    if settings.protocol == GRPC:
        return
    if given == _LOGS_ENDPOINT and not path.endswith(LOGS_PATH):
        yield Finding(
            "warning",
            "settings.endpoint_path",
            given,
            f"is used as it is, and {settings.endpoint} does not end in {LOGS_PATH}",
            f"append {LOGS_PATH}, or set {_ENDPOINT} instead",
        )
    elif path.endswith(LOGS_PATH * 2):
        yield Finding(
            "warning",
            "settings.endpoint_path",
            given,
            f"has the path already that is appended to it: {settings.endpoint}",
            f"take {LOGS_PATH} away, or set {_LOGS_ENDPOINT} instead",
        )


def _check_times(settings: Settings) -> Iterator[Finding]:
    if settings.timeout * 1000 > settings.export_timeout_millis:
        yield Finding(
            "warning",
            "settings.timeouts",
            "timeout",
            f"of one request is {settings.timeout:g} s, longer than export_timeout_millis "
            f"({settings.export_timeout_millis:g}): nothing is ever sent again",
            "give the former in seconds, also in the environment, or let the latter be three times as long",
        )


def _find_idle(settings: Settings) -> Iterator[Finding]:
    """Options that were given, and do nothing beside the others."""
    kinds = {entry.kind for entry in settings.exporters}
    idle = []
    for kind, options in (("file", FileOptions), ("console", ConsoleOptions)):
        if kind not in kinds:
            given = [one.name for one in options.rows.values() if getattr(settings, one.name) != one.default]
            idle += [(name, f"there is no {kind} exporter") for name in given]
    if settings.when_full != "block" and settings.block_timeout != _DEFAULTS["block_timeout"]:
        idle.append(("block_timeout", f"when_full is {settings.when_full}"))
    for name, why in idle:
        yield Finding("note", "settings.no_effect", name, f"does nothing: {why}", "leave it out, or add what it is for")


def _check_target(name: str, target: ExporterSettings) -> Iterator[Finding]:
    parts = urlsplit(target.endpoint)
    by_grpc, secure = target.protocol == GRPC, parts.scheme == "https"
    if parts.port == (_HTTP_PORT if by_grpc else _GRPC_PORT):
        spoken = "http/protobuf" if by_grpc else "grpc"
        yield Finding(
            "warning",
            "settings.port_protocol",
            name,
            f"speaks {target.protocol} to port {parts.port}, which is usually for {spoken}",
            f"set protocol={spoken}, or port {_GRPC_PORT if by_grpc else _HTTP_PORT}",
        )
    files = [(option, path) for option in _FILES if (path := getattr(target, option))]
    for option, path in files:
        if not Path(path).is_file():
            yield Finding("error", "settings.missing_file", option, f"{path} is not there", "give the file's path")
    if files and not secure:
        yield Finding(
            "warning",
            "settings.unused_certificates",
            name,
            f"has {list_names(option for option, _ in files)}, but {parts.scheme}:// is not encrypted: they do nothing",
            "use https://, or leave them out",
        )
    loopback = is_loopback(parts.hostname or "")
    if secure and loopback and not target.certificate_file:
        yield Finding(
            "note",
            "settings.tls_to_loopback",
            name,
            f"speaks TLS to {parts.hostname} without a certificate_file: no public authority signs for that name",
            "use http://, or set certificate_file to the authority that signed for it",
        )
    secrets = [header for header in target.headers if "auth" in header.lower() or "key" in header.lower()]
    if secrets and not secure and not loopback:
        yield Finding(
            "warning",
            "settings.secret_in_clear",
            name,
            f"sends {list_names(secrets)} to {parts.hostname} without encryption",
            "use https://",
        )


def is_loopback(host: str) -> bool:
    """Returns whether a host's name or address is this machine's own loopback."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
