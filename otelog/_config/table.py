"""The table of options. From each row follow the keyword, the environment variables, the key in a file and its schema,
the check, the attribute of the settings with its type, the line of docs/reference/options.md and the annotation in
`otelog.typing`.

Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otelog._config.kinds import (
    ATTRIBUTES,
    EXPORTER,
    FLAG,
    FOLDER,
    FUNCTION,
    HEADERS,
    INTEGER,
    LEVEL,
    NAMES,
    NUMBER,
    PATH,
    PROXY,
    TEXT,
    URL,
    WORD,
    WORDS,
    Entry,
    Exporters,
    Option,
)
from otelog._config.values import Values
from otelog.exceptions import ConfigurationError

__all__ = [
    "EXPORTERS",
    "OPTIONS",
    "ConsoleOptions",
    "EntryOptions",
    "EnvironmentOptions",
    "FileOptions",
    "LoneExporterOptions",
    "OTLPOptions",
    "Option",
    "ProcessOptions",
    "QueueOptions",
    "SourceOptions",
    "check_key_pair",
    "markdown_table",
]

KIB = 1024
MIB = 1024 * KIB

# Waits take their timeout from these, and `threading` refuses more than about 4.29 million seconds on some platforms.
LONGEST_SECONDS = 4_000_000.0
MOST_DAYS = 100_000.0

DEFAULT_BASE_ENDPOINT = "http://localhost:4318"
GRPC, HTTP_PROTOBUF = "grpc", "http/protobuf"


def _otlp(name: str) -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_LOGS_{name}", f"OTEL_EXPORTER_OTLP_{name}"


_SIGNALS = ("none", "otlp", "console")


class OTLPOptions(Values):
    """Of every OTLP exporter, and of `OTLPLogExporter` alone."""

    endpoint = Option(
        URL,
        DEFAULT_BASE_ENDPOINT,
        "Base URL of the Collector; `/v1/logs` is appended, except to `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`. With "
        "`protocol=grpc` the default is `http://localhost:4317`, and a path is ignored.",
        environment=_otlp("ENDPOINT"),
    )
    protocol = Option(
        WORD,
        HTTP_PROTOBUF,
        "The protocol to the Collector; `grpc` needs `otelog[grpc]`, usually goes to port 4317, and uses TLS if the "
        "endpoint is `https://`.",
        environment=_otlp("PROTOCOL"),
        choices=(HTTP_PROTOBUF, GRPC),
    )
    headers = Option(
        HEADERS,
        {},
        "Sent with every request, such as an authorization.",
        environment=_otlp("HEADERS"),
        merged=True,
        secret=True,
    )
    compression = Option(
        WORD,
        "gzip",
        "Of the request's body; `zstd` needs `otelog[zstd]` and a Collector that takes it, and is not for gRPC.",
        environment=_otlp("COMPRESSION"),
        choices=("gzip", "zstd", "none"),
    )
    timeout = Option(
        NUMBER,
        10.0,
        "For one request, in seconds in the environment, too: the specification says milliseconds there, "
        "but opentelemetry-python reads seconds.",
        environment=_otlp("TIMEOUT"),
        above=0,
        maximum=LONGEST_SECONDS,
        unit="s",
    )
    certificate_file = Option(
        PATH,
        None,
        "Certificates (PEM) to trust instead of the system's (of those that come with grpcio, by gRPC); else what "
        "`REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, `SSL_CERT_FILE` or `SSL_CERT_DIR` names.",
        environment=_otlp("CERTIFICATE"),
    )
    client_certificate_file = Option(
        PATH,
        None,
        "The client's certificate (PEM) for mTLS; it may hold the key as well.",
        environment=_otlp("CLIENT_CERTIFICATE"),
    )
    client_key_file = Option(
        PATH,
        None,
        "The client's key (PEM) for mTLS; needs `client_certificate_file`.",
        environment=_otlp("CLIENT_KEY"),
    )
    proxy = Option(
        PROXY,
        None,
        "An HTTP proxy on the way to the Collector, with user and password if it wants them; else what `HTTPS_PROXY`, "
        "`HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say. `none`: no proxy, whatever they say. One of `https://` is "
        "itself reached by TLS, and trusted as the Collector is (`certificate_file`); `protocol=grpc` cannot use it.",
        secret=True,
    )
    max_request_bytes = Option(
        INTEGER,
        4 * MIB,
        "Bytes in one request before compression; larger batches are split, a larger record is cut and marked.",
        minimum=KIB,
        maximum=64 * MIB,
        unit="bytes",
    )


class FileOptions(Values, prefix="file_"):
    """Of the files; `FileLogExporter` has the same without the prefix."""

    folder = Option(FOLDER, "logs", "Where `app.log`, `errors.log` and `ai_responses.log` are; it is made.")
    level = Option(LEVEL, None, "The files get this level and those above; without it everything.")
    max_bytes = Option(
        INTEGER,
        100 * MIB,
        "A file is rotated before it grows larger; 0: never by size.",
        minimum=0,
        unit="bytes",
    )
    interval = Option(
        NUMBER,
        0.0,
        "A file is rotated when it is so old; 0: never by age.",
        minimum=0,
        maximum=MOST_DAYS * 86_400,
        unit="s",
    )
    daily = Option(FLAG, False, "Files are rotated at midnight, local time, and named by their day.")
    compression = Option(
        WORD,
        "gzip",
        "Of rotated files; `zstd` needs `otelog[zstd]`.",
        choices=("gzip", "zstd", "none"),
    )
    max_files = Option(
        INTEGER,
        10,
        "Rotated files that are kept of each kind, the newest; 0: all.",
        minimum=0,
        unit="files",
    )
    max_age_days = Option(
        NUMBER,
        0.0,
        "Rotated files that are older are removed; 0: never.",
        minimum=0,
        maximum=MOST_DAYS,
        unit="days",
    )
    max_total_bytes = Option(
        INTEGER,
        0,
        "All files of the folder together: the oldest are removed first; 0: no bound.",
        minimum=0,
        unit="bytes",
    )
    per_process = Option(FLAG, False, "Each process writes files of its own, its id in their names.")
    ai_loggers = Option(NAMES, (), "Loggers, with those below them, whose records go to `ai_responses.log`.")
    ai_only = Option(FLAG, False, "What is in `ai_responses.log` is not in `app.log`.")
    ai_max_bytes = Option(
        INTEGER,
        0,
        "As `file_max_bytes`, for `ai_responses.log`; 0: the same.",
        minimum=0,
        unit="bytes",
    )
    ai_max_files = Option(
        INTEGER,
        0,
        "As `file_max_files`, for `ai_responses.log`; 0: the same.",
        minimum=0,
        unit="files",
    )


class ConsoleOptions(Values, prefix="console_"):
    """Of the console; `ConsoleLogExporter` has the same without the prefix."""

    stream = Option(WORD, "stderr", "Where the console exporter writes.", choices=("stderr", "stdout"))
    format = Option(
        WORD,
        "auto",
        "`readable`, JSON lines, or as it is looked at: readable on a terminal, else JSON.",
        choices=("auto", "readable", "json"),
    )
    level = Option(LEVEL, None, "The console gets this level and those above; without it everything.")


class EntryOptions(Values):
    """What an entry of the list of exporters may say beside its type's own options."""

    exporter = Option(EXPORTER, None, "An instance, instead of a type.", environment=(), in_file=False)
    name = Option(TEXT, None, "Its name in the ledger and the metrics.", environment=())
    level = Option(LEVEL, None, "It gets this level and those above.", environment=())
    loggers = Option(NAMES, (), "It gets records of these loggers and those below them.", environment=())
    filter = Option(
        FUNCTION,
        None,
        "Called with the SDK's record in the exporter's own thread: whether it gets it.",
        environment=(),
        in_file=False,
    )
    max_queue_size = Option(
        INTEGER,
        None,
        "Records that may wait for it; as many as in the queue by default.",
        environment=(),
        minimum=1,
        unit="records",
    )


def check_key_pair(values: Mapping[str, Any]) -> None:
    """Refuse a client's key without its certificate.

    Raises:
        ConfigurationError: There is no certificate.
    """
    if values["client_key_file"] is not None and values["client_certificate_file"] is None:
        raise ConfigurationError("client_key_file is given without client_certificate_file: mTLS needs both")


def _own(options: type[Values]) -> dict[str, Option[Any]]:
    return {key: option for key, option in options.rows.items() if key != "level"}


EXPORTERS = Exporters(
    EntryOptions.rows, {"otlp": _own(OTLPOptions), "file": _own(FileOptions), "console": _own(ConsoleOptions)}
)


class SourceOptions(Values):
    """Whose records these are, and where they go."""

    config_file = Option(
        PATH,
        None,
        "A YAML file that says the same options by the same names (not this one, nor `exporter`); needs "
        "`otelog[config]`.",
        in_file=False,
    )
    service_name = Option(
        TEXT,
        None,
        "`service.name` of the resource; without one the SDK says `unknown_service`.",
        environment=("OTEL_SERVICE_NAME",),
        resource_key="service.name",
    )
    service_version = Option(
        TEXT,
        None,
        "`service.version` of the resource.",
        environment=(),
        resource_key="service.version",
    )
    service_namespace = Option(
        TEXT,
        None,
        "`service.namespace` of the resource.",
        environment=(),
        resource_key="service.namespace",
    )
    deployment_environment = Option(
        TEXT,
        None,
        "`deployment.environment.name` of the resource.",
        environment=(),
        resource_key="deployment.environment.name",
    )
    resource_attributes = Option(
        ATTRIBUTES,
        {},
        "More attributes of the resource; the options above win over the same names in here.",
        environment=("OTEL_RESOURCE_ATTRIBUTES",),
        merged=True,
    )
    level = Option(
        LEVEL,
        20,
        "The level of the root logger and of otelog's loggers: calls below it are not records. A logger of `logging` "
        "with a level of its own keeps it.",
    )
    exporters = Option(
        EXPORTERS,
        (Entry("otlp"),),
        "Where every record goes, each with a thread and a bounded queue of its own if there are several.",
        environment=("OTELOG_EXPORTERS", "OTEL_LOGS_EXPORTER"),
    )


class LoneExporterOptions(Values):
    """The exporter that stands in for the list."""

    exporter = Option(
        EXPORTER,
        None,
        "Used instead of otelog's own OTLP exporter, such as another library's.",
        environment=(),
        in_file=False,
    )


class QueueOptions(Values):
    """Of the queue and the batches; `BatchLogRecordProcessor` has the same."""

    bisect_failed_exports = Option(
        FLAG,
        False,
        "Where an exporter that is not otelog's says that a batch failed, look for the records that it failed for, "
        "with at most 2·log₂n + 2 calls a batch: the others are delivered; what it had written of it comes twice.",
    )
    max_queue_size = Option(
        INTEGER,
        10_000,
        "Records that may wait.",
        environment=("OTEL_BLRP_MAX_QUEUE_SIZE",),
        minimum=1,
        unit="records",
    )
    max_queue_bytes = Option(
        INTEGER,
        64 * MIB,
        "Bytes of records that may wait, by estimate; at least 1 KiB for each of `max_queue_size`. The default grows "
        "to 4 KiB for each.",
        minimum=KIB,
        unit="bytes",
    )
    max_export_batch_size = Option(
        INTEGER,
        2048,
        "Records in one request; at most `max_queue_size`.",
        environment=("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",),
        minimum=1,
        unit="records",
    )
    schedule_delay_millis = Option(
        NUMBER,
        1000.0,
        "The longest time that a record waits for others before it is sent.",
        environment=("OTEL_BLRP_SCHEDULE_DELAY",),
        above=0,
        maximum=LONGEST_SECONDS * 1000,
        unit="ms",
    )
    export_timeout_millis = Option(
        NUMBER,
        30_000.0,
        "For one batch with all its retries.",
        environment=("OTEL_BLRP_EXPORT_TIMEOUT",),
        above=0,
        maximum=LONGEST_SECONDS * 1000,
        unit="ms",
    )
    when_full = Option(
        WORD,
        "drop_newest",
        "What is dropped when the queue is full: the new record, the oldest below ERROR, or the caller's time.",
        choices=("drop_newest", "drop_oldest", "block"),
    )
    block_timeout = Option(
        NUMBER,
        1.0,
        "The longest wait of one call under `when_full=block`.",
        minimum=0,
        maximum=LONGEST_SECONDS,
        unit="s",
    )
    reserve_for_errors = Option(
        NUMBER,
        0.1,
        "Share of the queue that only records of ERROR and above may use.",
        minimum=0,
        maximum=0.9,
    )


class ProcessOptions(Values):
    """Of records, handlers, and the process's end."""

    code_attributes = Option(FLAG, True, "Adds `code.file.path`, `code.function.name` and `code.line.number`.")
    thread_attributes = Option(FLAG, False, "Adds `thread.id` and `thread.name`.")
    message_template = Option(FLAG, False, "Adds the message before formatting, and its arguments, for grouping.")
    max_attributes = Option(
        INTEGER,
        128,
        "Attributes of one record; more are discarded and counted in it.",
        environment=("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
        minimum=0,
    )
    max_attribute_length = Option(
        INTEGER,
        None,
        "Longer strings in attributes are cut, and named by `otelog.truncated`; without it they are whole.",
        environment=("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
        minimum=0,
        unit="characters",
    )
    install_handler = Option(FLAG, True, "Puts `LoggingHandler` on the root logger, and keeps it there.")
    capture_non_propagating = Option(
        FLAG,
        True,
        "Also takes the records of loggers with `propagate=False` that have handlers of their own.",
    )
    replace_console_handler = Option(
        FLAG,
        False,
        "Takes `logging`'s plain console handlers off the root logger: the console exporter does their work.",
    )
    direct_logging = Option(
        FLAG,
        True,
        "Takes a `logging` call without making a `LogRecord`, if no other handler, filter or factory would see one.",
    )
    handle_sigterm = Option(
        FLAG,
        False,
        "Delivers on SIGTERM, then does what was set before `configure()`, or dies as by default.",
    )
    handle_exit = Option(
        FLAG,
        True,
        "Delivers before `os._exit`, `os.abort`, `os.exec*` or a signal that the process sends to itself ends it.",
    )
    shutdown_timeout = Option(
        NUMBER,
        5.0,
        "The longest time that the end of the process waits for delivery; metrics have half a second more.",
        minimum=0,
        maximum=LONGEST_SECONDS,
        unit="s",
    )


class EnvironmentOptions(Values):
    """What is no keyword."""

    access_log = Option(
        FLAG,
        False,
        "Under `otelog run`: one access record a request, in applications whose code says nothing of otelog.",
        environment=("OTELOG_ACCESS_LOG",),
        environment_only=True,
        in_file=False,
    )
    sdk_disabled = Option(
        FLAG,
        False,
        "Turns everything off: calls cost nothing and nothing is sent.",
        environment=("OTEL_SDK_DISABLED",),
        environment_only=True,
        in_file=False,
    )
    traces_exporter = Option(
        WORDS,
        (),
        "Exporters of the tracer provider, if `configure()` has to install one.",
        environment=("OTEL_TRACES_EXPORTER",),
        choices=_SIGNALS,
        environment_only=True,
        in_file=False,
    )
    metrics_exporter = Option(
        WORDS,
        ("otlp",),
        "Exporters of the meter provider, if `configure()` has to install one.",
        environment=("OTEL_METRICS_EXPORTER",),
        choices=_SIGNALS,
        environment_only=True,
        in_file=False,
    )
    metric_export_interval_millis = Option(
        NUMBER,
        60_000.0,
        "How long that meter provider waits between two exports.",
        environment=("OTEL_METRIC_EXPORT_INTERVAL",),
        above=0,
        maximum=LONGEST_SECONDS * 1000,
        unit="ms",
        environment_only=True,
        in_file=False,
    )
    metric_export_timeout_millis = Option(
        NUMBER,
        30_000.0,
        "The longest time for one of them.",
        environment=("OTEL_METRIC_EXPORT_TIMEOUT",),
        above=0,
        maximum=LONGEST_SECONDS * 1000,
        unit="ms",
        environment_only=True,
        in_file=False,
    )


OPTIONS: tuple[Option[Any], ...] = tuple(
    option
    for options in (
        SourceOptions,
        OTLPOptions,
        LoneExporterOptions,
        QueueOptions,
        ProcessOptions,
        FileOptions,
        ConsoleOptions,
        EnvironmentOptions,
    )
    for option in options.rows.values()
)
"""Every option of `configure()`, in the order of the table in docs/reference/options.md."""


def _show_default(option: Option[Any]) -> str:
    value = option.default
    if value is None or value == {} or value == ():
        return ""
    if option.kind is LEVEL:
        return "`INFO`"
    if option.kind is EXPORTERS:
        return "`otlp`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if option.unit == "bytes" and isinstance(value, int):
        return f"`{value}` ({value // MIB} MiB)"
    shown = ",".join(value) if isinstance(value, tuple) else f"{value:.10g}" if isinstance(value, float) else str(value)
    return f"`{shown}` {option.unit}".rstrip()


def _show_variables(option: Option[Any]) -> str:
    names = [f"`{variable}`" for variable in option.variables]
    if option.resource_key is not None:
        names.append(f"`{option.resource_key}` in `OTEL_RESOURCE_ATTRIBUTES`")
    return ", ".join(names)


def markdown_table() -> str:
    """Render the options of `configure()`: option, environment, default, allowed, what it does."""
    lines = ["| option | environment | default | allowed | what it does |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        name = "(environment only)" if option.environment_only else f"`{option.name}`"
        cells = (name, _show_variables(option), _show_default(option), option.allowed, option.doc)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
