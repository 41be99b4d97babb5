"""What the user asked for: the options, resolved from keywords, environment, file and defaults, and checked together.

This is the only module that reads the environment. Precedence: keyword, environment, file, default. A bad keyword or
file raises `ConfigurationError`; a bad environment value is a warning and is ignored, as the specification rules.

Source: OpenTelemetry specification, "Environment Variable Specification".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from otelog._config.kinds import Entry, explain_refusal
from otelog._config.proxy import DIRECT, choose_proxy, hide_credentials, parse_proxy
from otelog._config.table import (
    GRPC,
    HTTP_PROTOBUF,
    OPTIONS,
    EnvironmentOptions,
    LoneExporterOptions,
    Option,
    OTLPOptions,
    ProcessOptions,
    QueueOptions,
    SourceOptions,
    check_key_pair,
)
from otelog._config.values import Values
from otelog._runtime.diagnostics import warn
from otelog._runtime.shown_text import hide_secrets
from otelog.exceptions import ConfigurationError

if TYPE_CHECKING:
    from otelog._config.file import ConfigFile

__all__ = [
    "ExporterSettings",
    "ProcessorSettings",
    "Settings",
    "choose_configurator",
    "explain",
    "fill_environment",
    "has_metrics_folder",
    "list_network_variables",
    "list_unread_files",
    "list_variables",
    "read_chosen_setup",
    "resolve",
    "resolve_exporter",
    "resolve_processor",
    "resolve_told_resource",
    "wants_log_correlation",
]

LOGS_PATH = "/v1/logs"
GRPC_BASE_ENDPOINT = "http://localhost:4317"
LEAST_BYTES_PER_RECORD = 1024
DEFAULT_BYTES_PER_RECORD = 4096

_DEFAULT, _KEYWORD = "default", "keyword"
DECLARATIVE = ("OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE")
# In the order in which the clients that read them look; the last two are OpenSSL's.
_AUTHORITIES_OF_OPENSSL = ("SSL_CERT_FILE", "SSL_CERT_DIR")
_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", *_AUTHORITIES_OF_OPENSSL)
_CONFIGURATOR, _DISTRO = "OTEL_PYTHON_CONFIGURATOR", "OTEL_PYTHON_DISTRO"


@contextmanager
def fill_environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have the environment say these where it says nothing, for a library that reads it when it is imported."""
    missing = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


def is_turned_off(name: str) -> bool:
    """Returns whether the environment says no to something that a library does unless it is set otherwise."""
    return os.environ.get(name, "").strip().lower() in ("0", "false", "no", "off")


def list_variables(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Returns OpenTelemetry's and otelog's variables, of those that are set; an empty one is unset.

    Args:
        environ: the environment; by default that of the process.
    """
    environ = os.environ if environ is None else environ
    return {name: value for name, value in environ.items() if name.startswith(("OTEL_", "OTELOG_")) and value.strip()}


def read_chosen_setup() -> tuple[str, str]:
    """Returns the names of the configurator and of the distro that OpenTelemetry is set to take; "": not set."""
    return tuple(os.environ.get(name, "").strip() for name in (_CONFIGURATOR, _DISTRO))  # type: ignore[return-value]


def choose_configurator(name: str) -> None:
    """Have OpenTelemetry take this configurator, here and in the processes that this one starts."""
    os.environ[_CONFIGURATOR] = name


def list_network_variables() -> dict[str, str]:
    """Returns what the environment says of proxies and of whom to trust, for every client of the process."""
    return {
        name: value for name, value in os.environ.items() if name in _AUTHORITIES or name.lower().endswith("_proxy")
    }


def list_unread_files() -> list[str]:
    """Returns the variables that name a declarative configuration of OpenTelemetry's, which otelog does not read."""
    return [name for name in DECLARATIVE if os.environ.get(name, "").strip()]


def has_metrics_folder() -> bool:
    """Returns whether `prometheus_client` keeps its values in files that several processes share."""
    return bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))


def has_trace_variables() -> bool:
    """Returns whether the environment says of OTLP what is for traces alone: the SDK's own exporter reads it."""
    return any(name.startswith("OTEL_EXPORTER_OTLP_TRACES_") for name in os.environ)


def is_instrumentation_disabled(name: str) -> bool:
    """Returns whether OpenTelemetry is set to leave a library alone."""
    names = os.environ.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "").split(",")
    return bool({name, "*"} & {one.strip() for one in names})


def wants_log_correlation() -> bool:
    """Returns whether OpenTelemetry's instrumentation of `logging` is set to put trace ids into records."""
    return os.environ.get("OTEL_PYTHON_LOG_CORRELATION", "").strip().lower() == "true"


class _Resolved(Values):
    """Options that were resolved; `warnings` says what in the environment was ignored, for the caller to show."""

    warnings: tuple[str, ...]

    @classmethod
    def of_resolution(cls: type[R], resolution: _Resolution) -> R:
        """Returns what came out, with what is beside the rows."""
        new = object.__new__(cls)
        new._hold({**resolution.values, "warnings": tuple(resolution.warnings)})
        return new

    def __repr__(self) -> str:
        # Headers are secrets, and so is what a proxy is told.
        values = {name: value for name, value in vars(self).items() if name != "headers"}
        if values.get("proxy") is not None:
            values["proxy"] = hide_credentials(values["proxy"])
        shown = (f"{name}={value!r}" for name, value in values.items())
        return hide_secrets(f"{type(self).__name__}({', '.join(shown)})")


R = TypeVar("R", bound=_Resolved)


class Settings(
    SourceOptions, OTLPOptions, LoneExporterOptions, QueueOptions, ProcessOptions, EnvironmentOptions, _Resolved
):
    """Every option of `configure()`, resolved and checked; those of the files and the console by their keywords.

    `endpoint` is the whole URL that logs are posted to, `base_endpoint` the one that other signals' paths are appended
    to, and `base_protocol` its protocol; by gRPC neither has a path. `resource_attributes` has `service.name`
    and its like in it, as far as they are known.
    """

    base_endpoint: str
    base_protocol: str


class ProcessorSettings(QueueOptions, _Resolved):
    """The options of `BatchLogRecordProcessor`, resolved and checked, with the SDK's defaults where they differ."""

    max_export_batch_size = QueueOptions.max_export_batch_size.changed(default=512)
    max_queue_size = QueueOptions.max_queue_size.changed(default=2048)
    reserve_for_errors = QueueOptions.reserve_for_errors.changed(default=0.0)


class ExporterSettings(OTLPOptions, _Resolved):
    """The options of `OTLPLogExporter`, resolved and checked; `endpoint` is the whole URL."""


class _Resolution:
    """The values of some options, and for each where it came from.

    That is "keyword", a variable's name, a place in the configuration file ("otelog.yaml:7"), or "default".
    """

    def __init__(
        self,
        options: Collection[Option[Any]],
        keywords: Mapping[str, object],
        environ: Mapping[str, str] | None,
        file: ConfigFile | None = None,
    ) -> None:
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.warnings: list[str] = []
        self._environ: Mapping[str, str] = os.environ if environ is None else environ
        self._file = file
        _refuse_unknown(options, keywords)
        for option in options:
            self._resolve(option, keywords.get(option.name))

    def _resolve(self, option: Option[Any], keyword: object) -> None:
        # None is "not given", so that callers can pass on their own optional arguments.
        given = None if keyword is None else option.check(keyword)
        source, value = _KEYWORD, given
        if given is None or option.merged:
            found, inherited = self._from_environment(option)
            if self._file is not None and option.name in self._file.values:
                if found == _DEFAULT:
                    found, inherited = self._file.place(option.name), self._file.values[option.name]
                elif option.merged:
                    inherited = {**self._file.values[option.name], **inherited}
            if given is None:
                source, value = found, inherited
            else:
                value = {**inherited, **given}
        self.values[option.name] = value
        self.sources[option.name] = source

    def _from_environment(self, option: Option[Any], *, quietly: bool = False) -> tuple[str, Any]:
        for variable in option.variables:
            text = self._environ.get(variable, "")
            if not text.strip():
                continue

            def complain(message: str, variable: str = variable) -> None:
                if not quietly:
                    self.warnings.append(f"{variable}: {message}")

            try:
                return variable, option.kind.check(option, option.kind.read(text, complain))
            except (ValueError, TypeError, OverflowError) as error:
                complain(f"{option.describe(text)} is ignored; allowed: {option.allowed}{explain_refusal(error)}")
        return _DEFAULT, option.default

    def is_chosen(self, name: str) -> bool:
        """Returns whether the value is a keyword's or the file's: then what does not fit is an error."""
        source = self.sources[name]
        return source == _KEYWORD or (self._file is not None and source == self._file.place(name))

    def is_free(self, name: str) -> bool:
        """Returns whether the environment has no part in the value."""
        return self.is_chosen(name) or self.sources[name] == _DEFAULT

    def fit_batch_into_queue(self) -> None:
        """Keep the batch from being larger than the queue."""
        batch, queue = self.values["max_export_batch_size"], self.values["max_queue_size"]
        if batch <= queue:
            return
        sources = self.sources["max_export_batch_size"], self.sources["max_queue_size"]
        if self.is_chosen("max_export_batch_size") and self.is_free("max_queue_size"):
            raise ConfigurationError(
                f"max_export_batch_size={batch} is larger than max_queue_size={queue}: a batch must fit into the queue"
            )
        if sources[0] != _DEFAULT:
            self.warnings.append(
                f"max_export_batch_size is lowered from {batch} ({sources[0]}) to max_queue_size={queue} ({sources[1]})"
            )
        self.values["max_export_batch_size"] = queue

    def fit_queue_into_bytes(self) -> None:
        """Keep the bound by bytes from being too small for the bound by records."""
        queue, size = self.values["max_queue_size"], self.values["max_queue_bytes"]
        source = self.sources["max_queue_bytes"]
        if source == _DEFAULT:
            self.values["max_queue_bytes"] = max(size, queue * DEFAULT_BYTES_PER_RECORD)
        elif size < queue * LEAST_BYTES_PER_RECORD:
            least = queue * LEAST_BYTES_PER_RECORD
            problem = f"max_queue_bytes={size} is too small for max_queue_size={queue}: at least {least} are needed"
            if self.is_chosen("max_queue_bytes") and self.is_free("max_queue_size"):
                raise ConfigurationError(problem)
            self.warnings.append(f"{problem}, and used")
            self.values["max_queue_bytes"] = least

    def pair_client_files(self) -> None:
        """Refuse a client key that has no certificate."""
        try:
            check_key_pair(self.values)
        except ConfigurationError:
            if self.is_chosen("client_key_file"):
                raise
            source = self.sources["client_key_file"]
            self.warnings.append(f"{source}: the client key is ignored, because there is no client certificate")
            self.values["client_key_file"] = None

    def check_files(self) -> None:
        """Leave out, with a word, the environment's certificate files that cannot be used.

        Nothing is looked at where nothing is encrypted.
        """
        peers = self.values["endpoint"], self.values.get("base_endpoint", ""), self.check_proxy() or ""
        if not any(peer.lower().startswith("https:") for peer in peers):
            return
        # Late: TLS takes longer to import than all of otelog.
        from otelog._config.tls import make_context

        self._check_client_files(make_context)
        trusted = self.values["certificate_file"]
        if trusted is not None and not self.is_chosen("certificate_file"):
            source = self.sources["certificate_file"]
            if not self._is_usable(make_context, source, trusted):
                self.values["certificate_file"] = trusted = None
        if trusted is None:
            self._find_authorities(make_context)

    def _find_authorities(self, make_context: Callable[..., object]) -> None:
        """Trust what other clients of this process are set to trust."""
        for variable in _AUTHORITIES:
            path = self._environ.get(variable, "").strip()
            if path and self._is_usable(make_context, variable, path):
                # OpenSSL reads its own variables itself, beside the system's authorities; gRPC does not.
                if variable not in _AUTHORITIES_OF_OPENSSL or self.values["protocol"] == GRPC:
                    self.values["certificate_file"], self.sources["certificate_file"] = path, variable
                return

    def _is_usable(self, make_context: Callable[..., object], source: str, path: str) -> bool:
        problem = None
        if not os.path.exists(path):
            problem = f"{path!r} is not there"
        elif not os.path.isdir(path):
            try:
                make_context(path, None, None)
            except ConfigurationError as error:
                problem = str(error)
        if problem is not None:
            self.warnings.append(f"{source}: {problem}; the system's authorities are trusted")
        return problem is None

    def _check_client_files(self, make_context: Callable[..., object]) -> None:
        certificate, key = self.values["client_certificate_file"], self.values["client_key_file"]
        names = [name for name in ("client_certificate_file", "client_key_file") if self.values[name] is not None]
        sources = [self.sources[name] for name in names if not self.is_chosen(name)]
        if certificate is None or not sources:
            return
        try:
            make_context(None, certificate, key)
        except ConfigurationError as error:
            self.warnings.append(
                f"{', '.join(sources)}: {error}; no client certificate is shown: a server that asks for one refuses "
                "the connection"
            )
            self.values["client_certificate_file"] = self.values["client_key_file"] = None

    def choose_exporters(self) -> None:
        """Let a lone exporter stand in the list, which holds from here on."""
        if self.values["exporter"] is None:
            return
        if self.is_chosen("exporters"):
            raise ConfigurationError("exporter and exporters are both given: put the former into the list")
        self.values["exporters"] = (Entry("", exporter=self.values["exporter"]),)

    def pair_console_handler(self) -> None:
        """Refuse to take the console away where nothing takes its place."""
        if not self.values["replace_console_handler"] or any(e.kind == "console" for e in self.values["exporters"]):
            return
        problem = "replace_console_handler needs the console among exporters: there would be no console at all"
        if self.is_chosen("replace_console_handler"):
            raise ConfigurationError(problem)
        self.warnings.append(f"{self.sources['replace_console_handler']}: it is ignored: {problem}")
        self.values["replace_console_handler"] = False

    def fit_to_libraries(self) -> None:
        """Keep the environment from asking for what is not installed; a keyword or a file is refused later."""
        if self.values["protocol"] == GRPC and not self.is_chosen("protocol"):
            self.values["protocol"] = self._find_library_of(GRPC, self.sources["protocol"], "grpc")
        if self.values["compression"] == "zstd" and not self.is_chosen("compression") and not _has_zstd():
            self.warnings.append(
                f"{self.sources['compression']}: zstd needs the package zstandard (pip install 'otelog[zstd]'); "
                "gzip is used"
            )
            self.values["compression"] = "gzip"

    def _find_library_of(self, protocol: str, source: str, module: str) -> str:
        if protocol != GRPC or _is_installed(module):
            return protocol
        said = f"{source}: grpc needs the package grpcio (pip install 'otelog[grpc]'); {HTTP_PROTOBUF} is used"
        if said not in self.warnings:
            self.warnings.append(said)
        return HTTP_PROTOBUF

    def fit_compression_to_protocol(self) -> None:
        """Keep gRPC from being asked for a compression that it does not have."""
        if self.values["protocol"] != GRPC or self.values["compression"] != "zstd":
            return
        problem = 'compression "zstd" does not work with protocol "grpc": allowed are gzip, none'
        if self.is_chosen("compression") and self.is_free("protocol"):
            raise ConfigurationError(problem)
        self.warnings.append(f"{problem}; gzip is used")
        self.values["compression"] = "gzip"

    def check_proxy(self) -> str | None:
        """Refuse a proxy that cannot be used, but pass over one of the environment's, with a word.

        Returns what is used.
        """
        while True:
            try:
                return find_proxy(self.values["proxy"], self.values["endpoint"], self.values["protocol"], self._environ)
            except ConfigurationError as error:
                if self.values["proxy"] is None:
                    self.warnings.append(str(error))
                    return None
                if self.is_chosen("proxy"):
                    raise
                self.warnings.append(f"{self.sources['proxy']}: {error}")
                self.values["proxy"] = None

    def complete_endpoint(self) -> None:
        """Make `endpoint` the whole URL, and put the base of all signals and its protocol beside it."""
        endpoint, source = self.values["endpoint"], self.sources["endpoint"]
        protocol = base_protocol = self.values["protocol"]
        base, base_source = endpoint, source
        per_signal, general = OTLPOptions.endpoint.variables
        path = urlsplit(endpoint).path.rstrip("/")
        if source == per_signal:
            base_source, base = self._from_environment(OTLPOptions.endpoint.changed(environment=(general,)))
            if self.sources["protocol"] == OTLPOptions.protocol.variables[0]:
                only_general = OTLPOptions.protocol.changed(environment=OTLPOptions.protocol.variables[1:])
                base_protocol = self._from_environment(only_general, quietly=True)[1]
                base_protocol = self._find_library_of(base_protocol, OTLPOptions.protocol.variables[1], "grpc")
        elif protocol != GRPC and self.is_chosen("endpoint") and path.endswith(LOGS_PATH):
            # A whole URL where the base was asked for: appending once more is never what was meant.
            base = urlsplit(endpoint)._replace(path=path.removesuffix(LOGS_PATH)).geturl()
        elif protocol != GRPC:
            endpoint = _append_path(endpoint, LOGS_PATH)
        if protocol == GRPC:
            endpoint = GRPC_BASE_ENDPOINT if source == _DEFAULT else _drop_path(endpoint)
        if base_protocol == GRPC:
            base = GRPC_BASE_ENDPOINT if base_source == _DEFAULT else _drop_path(base)
        self.values["endpoint"], self.values["base_endpoint"] = endpoint, base
        self.values["base_protocol"] = base_protocol

    def complete_resource(self, keywords: Mapping[str, object]) -> None:
        """Let the service's options and the resource's attributes agree."""
        given = keywords.get("resource_attributes") or {}
        inherited = self._from_environment(SourceOptions.resource_attributes, quietly=True)[1]
        attributes = self.values["resource_attributes"]
        for option in OPTIONS:
            key = option.resource_key
            if key is None:
                continue
            # OTEL_SERVICE_NAME wins over OTELSourceOptions.resource_attributes, and a keyword's entry over both.
            source = self.sources[option.name]
            from_keyword = isinstance(given, Mapping) and key in given and source != _KEYWORD
            from_environment = key in inherited and self.is_chosen(option.name) and source != _KEYWORD
            if self.values[option.name] is None or from_keyword or from_environment:
                named = attributes.get(key)
                self.values[option.name] = None if named is None else str(named)
            if self.values[option.name] is not None:
                attributes = {**attributes, key: self.values[option.name]}
        self.values["resource_attributes"] = attributes


def _refuse_unknown(options: Collection[Option[Any]], keywords: Mapping[str, object]) -> None:
    known = [option.name for option in options if not option.environment_only]
    for name in keywords:
        if name not in known:
            # Only needed on the way to an error, and its import is not free.
            import difflib

            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(known))}"
            raise ConfigurationError(f"unknown option {name!r}: {hint}")


def _is_installed(module: str) -> bool:
    """Returns whether a library can be imported, without importing it."""
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _has_zstd() -> bool:
    return sys.version_info >= (3, 14) or _is_installed("zstandard")


def find_proxy(proxy: str | None, endpoint: str, protocol: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Returns the URL of the proxy that an endpoint is reached by, which may hold a password; None: there is none.

    Args:
        proxy: What the option says; None: it says nothing, and the environment does.
        endpoint: The whole URL.
        protocol: The endpoint's protocol.
        environ: The environment; by default that of the process.

    Raises:
        ConfigurationError: The environment names one that cannot be used.
    """
    if proxy == DIRECT:
        return None
    source, url = "proxy", proxy
    if url is None:
        chosen = choose_proxy(endpoint, os.environ if environ is None else environ, grpc=protocol == GRPC)
        if chosen is None:
            return None
        source, url = chosen
    try:
        secure = parse_proxy(url).secure
    except ValueError as error:
        raise ConfigurationError(f"{source}: the proxy's URL is ignored: {error}") from None
    if secure and protocol == GRPC:
        raise ConfigurationError(f"{source}: an https:// proxy is ignored: gRPC cannot use it")
    return url


def find_usable_proxy(proxy: str | None, endpoint: str, protocol: str) -> str | None:
    """Returns what `find_proxy` does; None, with a line on standard error, where that cannot be used."""
    try:
        return find_proxy(proxy, endpoint, protocol)
    except ConfigurationError as error:
        # Usually it was reported when the options were resolved.
        warn(f"config:{error}", str(error))
        return None


def append_logs_path(url: str) -> str:
    """Returns the URL that logs are posted to, given the base or that URL itself."""
    # A whole URL where the base was asked for: appending once more is never what was meant.
    return url if urlsplit(url).path.rstrip("/").endswith(LOGS_PATH) else _append_path(url, LOGS_PATH)


def _append_path(url: str, path: str) -> str:
    """Append `path` to the path of the URL, before its query."""
    parts = urlsplit(url)
    return parts._replace(path=parts.path.rstrip("/") + path).geturl()


def _drop_path(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def resolve(keywords: Mapping[str, object], environ: Mapping[str, str] | None = None) -> Settings:
    """Resolve the options of `configure()`.

    Args:
        keywords: what the caller gave; None stands for "not given".
        environ: the environment; by default that of the process.

    Returns:
        The settings; `warnings` holds what in the environment was ignored.

    Raises:
        ConfigurationError: a keyword is unknown, its value is not allowed, or the configuration file cannot be used.
    """
    return _settings_of(_resolve(keywords, environ))


def resolve_told_resource(keywords: Mapping[str, object], environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Returns the resource's attributes that a keyword or the configuration file tells, without the environment's.

    Args and errors are those of `resolve`.
    """
    environ = os.environ if environ is None else environ
    hidden = {name for option in OPTIONS if option.resource_key for name in option.variables}
    hidden.update(SourceOptions.resource_attributes.variables)
    told = _resolve(keywords, {name: text for name, text in environ.items() if name not in hidden})
    return dict(told.values["resource_attributes"])


def explain(
    keywords: Mapping[str, object], environ: Mapping[str, str] | None = None
) -> tuple[Settings, dict[str, str]]:
    """Resolve as `resolve` does; returns also where each option's value came from.

    That is "keyword", a variable's name, a place in the configuration file ("otelog.yaml:7"), or "default".
    """
    resolution = _resolve(keywords, environ)
    return _settings_of(resolution), resolution.sources


def _settings_of(resolution: _Resolution) -> Settings:
    return Settings.of_resolution(resolution)


def _resolve(keywords: Mapping[str, object], environ: Mapping[str, str] | None) -> _Resolution:
    environ = os.environ if environ is None else environ
    found = _Resolution((SourceOptions.config_file,), {"config_file": keywords.get("config_file")}, environ)
    path, source = found.values["config_file"], found.sources["config_file"]
    file: ConfigFile | None = None
    ignored: str | None = None
    if path is not None:
        # Late, because most have none.
        from otelog._config.file import UnusableFileError, load

        try:
            file = load(path)
        except UnusableFileError as error:
            if source == _KEYWORD:
                raise
            ignored = f"{source}: {error}; no configuration file is used"
    resolution = _Resolution(OPTIONS, keywords, environ, file)
    if ignored is not None:
        resolution.warnings.insert(0, ignored)
        resolution.values["config_file"] = None
    resolution.fit_batch_into_queue()
    resolution.fit_queue_into_bytes()
    resolution.fit_to_libraries()
    resolution.fit_compression_to_protocol()
    resolution.complete_endpoint()
    resolution.check_files()
    resolution.pair_client_files()
    resolution.complete_resource(keywords)
    resolution.choose_exporters()
    resolution.pair_console_handler()
    return resolution


def resolve_processor(keywords: Mapping[str, object], environ: Mapping[str, str] | None = None) -> ProcessorSettings:
    """Resolve the options of `BatchLogRecordProcessor`: the SDK's names, variables and defaults.

    Args:
        keywords: what the caller gave; None stands for "not given".
        environ: the environment; by default that of the process.

    Returns:
        The settings; `warnings` holds what in the environment was ignored.

    Raises:
        ConfigurationError: a keyword is unknown, or its value is not allowed.
    """
    resolution = _Resolution(ProcessorSettings.rows.values(), keywords, environ)
    resolution.fit_batch_into_queue()
    resolution.fit_queue_into_bytes()
    return ProcessorSettings.of_resolution(resolution)


def resolve_exporter(keywords: Mapping[str, object], environ: Mapping[str, str] | None = None) -> ExporterSettings:
    """Resolve the options of `OTLPLogExporter`; here a given endpoint is the whole URL, as in the official exporter.

    Args:
        keywords: what the caller gave; None stands for "not given".
        environ: the environment; by default that of the process.

    Returns:
        The settings; `warnings` holds what in the environment was ignored.

    Raises:
        ConfigurationError: a keyword is unknown, or its value is not allowed.
    """
    resolution = _Resolution(ExporterSettings.rows.values(), keywords, environ)
    resolution.fit_to_libraries()
    resolution.fit_compression_to_protocol()
    if resolution.sources["endpoint"] != _KEYWORD:
        resolution.complete_endpoint()
        del resolution.values["base_endpoint"], resolution.values["base_protocol"]
    resolution.check_files()
    resolution.pair_client_files()
    return ExporterSettings.of_resolution(resolution)
