"""The table of options: from each row follow the keyword, the environment variables, the checks and the README's line.

Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".
"""

from __future__ import annotations

from otelog._config.kinds import (
    ATTRIBUTES,
    EXPORTER,
    FLAG,
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

__all__ = [
    "ENTRY_OPTIONS",
    "EXPORTERS",
    "EXPORTER_OPTIONS",
    "OPTIONS",
    "PROCESSOR_OPTIONS",
    "Option",
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

_OTLP_OPTIONS: tuple[Option, ...] = (
    Option(
        "endpoint",
        URL,
        DEFAULT_BASE_ENDPOINT,
        "Base URL of the Collector; `/v1/logs` is appended, except to `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`. With "
        "`protocol=grpc` the default is `http://localhost:4317`, and a path is ignored.",
        environment=_otlp("ENDPOINT"),
    ),
    Option(
        "protocol",
        WORD,
        HTTP_PROTOBUF,
        "The protocol to the Collector; `grpc` needs `otelog[grpc]`, usually goes to port 4317, and uses TLS if the "
        "endpoint is `https://`.",
        environment=_otlp("PROTOCOL"),
        choices=(HTTP_PROTOBUF, GRPC),
    ),
    Option(
        "headers",
        HEADERS,
        {},
        "Sent with every request, such as an authorization.",
        environment=_otlp("HEADERS"),
        merged=True,
        secret=True,
    ),
    Option(
        "compression",
        WORD,
        "gzip",
        "Of the request's body; `zstd` needs `otelog[zstd]` and a Collector that takes it, and is not for gRPC.",
        environment=_otlp("COMPRESSION"),
        choices=("gzip", "zstd", "none"),
    ),
    Option(
        "timeout",
        NUMBER,
        10.0,
        "For one request, in seconds in the environment, too: the specification says milliseconds there, "
        "but opentelemetry-python reads seconds.",
        environment=_otlp("TIMEOUT"),
        above=0,
        maximum=LONGEST_SECONDS,
        unit="s",
    ),
    Option(
        "certificate_file",
        PATH,
        None,
        "Certificates (PEM) to trust instead of the system's (of those that come with grpcio, by gRPC); else what "
        "`REQUESTS_CA_BUNDLE`, `CURL_CA_BUNDLE`, `SSL_CERT_FILE` or `SSL_CERT_DIR` names.",
        environment=_otlp("CERTIFICATE"),
    ),
    Option(
        "client_certificate_file",
        PATH,
        None,
        "The client's certificate (PEM) for mTLS; it may hold the key as well.",
        environment=_otlp("CLIENT_CERTIFICATE"),
    ),
    Option(
        "client_key_file",
        PATH,
        None,
        "The client's key (PEM) for mTLS; needs `client_certificate_file`.",
        environment=_otlp("CLIENT_KEY"),
    ),
    Option(
        "proxy",
        PROXY,
        None,
        "An HTTP proxy on the way to the Collector, with user and password if it wants them; else what `HTTPS_PROXY`, "
        "`HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say. `none`: no proxy, whatever they say. One of `https://` is "
        "itself reached by TLS, and trusted as the Collector is (`certificate_file`); `protocol=grpc` cannot use it.",
        secret=True,
    ),
    Option(
        "max_request_bytes",
        INTEGER,
        4 * MIB,
        "Bytes in one request before compression; larger batches are split, a larger record is cut and marked.",
        minimum=KIB,
        maximum=64 * MIB,
        unit="bytes",
    ),
)

FILE_OPTIONS: tuple[Option, ...] = (
    Option("file_folder", PATH, "logs", "Where `app.log`, `errors.log` and `ai_responses.log` are; it is made."),
    Option("file_level", LEVEL, None, "The files get this level and those above; without it everything."),
    Option(
        "file_max_bytes",
        INTEGER,
        100 * MIB,
        "A file is rotated before it grows larger; 0: never by size.",
        minimum=0,
        unit="bytes",
    ),
    Option(
        "file_interval",
        NUMBER,
        0.0,
        "A file is rotated when it is so old; 0: never by age.",
        minimum=0,
        maximum=LONGEST_SECONDS,
        unit="s",
    ),
    Option("file_daily", FLAG, False, "Files are rotated at midnight, local time, and named by their day."),
    Option(
        "file_compression",
        WORD,
        "gzip",
        "Of rotated files; `zstd` needs `otelog[zstd]`.",
        choices=("gzip", "zstd", "none"),
    ),
    Option(
        "file_max_files",
        INTEGER,
        10,
        "Rotated files that are kept of each kind, the newest; 0: all.",
        minimum=0,
        unit="files",
    ),
    Option(
        "file_max_age_days",
        NUMBER,
        0.0,
        "Rotated files that are older are removed; 0: never.",
        minimum=0,
        maximum=MOST_DAYS,
        unit="days",
    ),
    Option(
        "file_max_total_bytes",
        INTEGER,
        0,
        "All files of the folder together: the oldest are removed first; 0: no bound.",
        minimum=0,
        unit="bytes",
    ),
    Option("file_per_process", FLAG, False, "Each process writes files of its own, its id in their names."),
    Option("file_ai_loggers", NAMES, (), "Loggers, with those below them, whose records go to `ai_responses.log`."),
    Option("file_ai_only", FLAG, False, "What is in `ai_responses.log` is not in `app.log`."),
    Option(
        "file_ai_max_bytes",
        INTEGER,
        0,
        "As `file_max_bytes`, for `ai_responses.log`; 0: the same.",
        minimum=0,
        unit="bytes",
    ),
    Option(
        "file_ai_max_files",
        INTEGER,
        0,
        "As `file_max_files`, for `ai_responses.log`; 0: the same.",
        minimum=0,
        unit="files",
    ),
)

CONSOLE_OPTIONS: tuple[Option, ...] = (
    Option("console_stream", WORD, "stderr", "Where the console exporter writes.", choices=("stderr", "stdout")),
    Option(
        "console_format",
        WORD,
        "auto",
        "`readable`, JSON lines, or as it is looked at: readable on a terminal, else JSON.",
        choices=("auto", "readable", "json"),
    ),
    Option("console_level", LEVEL, None, "The console gets this level and those above; without it everything."),
)

ENTRY_OPTIONS: tuple[Option, ...] = (
    Option("exporter", EXPORTER, None, "An instance, instead of a type.", environment=(), in_file=False),
    Option("name", TEXT, None, "Its name in the ledger and the metrics.", environment=()),
    Option("level", LEVEL, None, "It gets this level and those above.", environment=()),
    Option("loggers", NAMES, (), "It gets records of these loggers and those below them.", environment=()),
    Option(
        "filter",
        FUNCTION,
        None,
        "Called with the SDK's record in the exporter's own thread: whether it gets it.",
        environment=(),
        in_file=False,
    ),
    Option(
        "max_queue_size",
        INTEGER,
        None,
        "Records that may wait for it; as many as in the queue by default.",
        environment=(),
        minimum=1,
        unit="records",
    ),
)
"""What an entry of the list of exporters may say beside its type's own options."""


def _strip(prefix: str, options: tuple[Option, ...]) -> dict[str, Option]:
    stripped = {option.name.removeprefix(prefix): option for option in options}
    return {key: option for key, option in stripped.items() if key != "level"}


EXPORTERS = Exporters(
    {option.name: option for option in ENTRY_OPTIONS},
    {
        "otlp": {option.name: option for option in _OTLP_OPTIONS},
        "file": _strip("file_", FILE_OPTIONS),
        "console": _strip("console_", CONSOLE_OPTIONS),
    },
)

OPTIONS: tuple[Option, ...] = (
    Option(
        "config_file",
        PATH,
        None,
        "A YAML file that says the same options by the same names (not this one, nor `exporter`); needs "
        "`otelog[config]`.",
        in_file=False,
    ),
    Option(
        "service_name",
        TEXT,
        None,
        "`service.name` of the resource; without one the SDK says `unknown_service`.",
        environment=("OTEL_SERVICE_NAME",),
        resource_key="service.name",
    ),
    Option(
        "service_version",
        TEXT,
        None,
        "`service.version` of the resource.",
        environment=(),
        resource_key="service.version",
    ),
    Option(
        "service_namespace",
        TEXT,
        None,
        "`service.namespace` of the resource.",
        environment=(),
        resource_key="service.namespace",
    ),
    Option(
        "deployment_environment",
        TEXT,
        None,
        "`deployment.environment.name` of the resource.",
        environment=(),
        resource_key="deployment.environment.name",
    ),
    Option(
        "resource_attributes",
        ATTRIBUTES,
        {},
        "More attributes of the resource; the options above win over the same names in here.",
        environment=("OTEL_RESOURCE_ATTRIBUTES",),
        merged=True,
    ),
    Option("level", LEVEL, 20, "Calls below this level are not records; also set on the root logger."),
    Option(
        "exporters",
        EXPORTERS,
        (Entry("otlp"),),
        "Where every record goes, each with a thread and a bounded queue of its own if there are several; see above.",
        environment=("OTELOG_EXPORTERS", "OTEL_LOGS_EXPORTER"),
    ),
    *_OTLP_OPTIONS,
    Option(
        "exporter",
        EXPORTER,
        None,
        "Used instead of otelog's own OTLP exporter, such as another library's.",
        environment=(),
        in_file=False,
    ),
    Option(
        "bisect_failed_exports",
        FLAG,
        False,
        "Where an exporter that is not otelog's says that a batch failed, look for the records that it failed for, "
        "with at most 2·log₂n + 2 calls a batch: the others are delivered; what it had written of it comes twice.",
    ),
    Option(
        "max_queue_size",
        INTEGER,
        10_000,
        "Records that may wait.",
        environment=("OTEL_BLRP_MAX_QUEUE_SIZE",),
        minimum=1,
        unit="records",
    ),
    Option(
        "max_queue_bytes",
        INTEGER,
        64 * MIB,
        "Bytes of records that may wait, by estimate; at least 1 KiB for each of `max_queue_size`. The default grows "
        "to 4 KiB for each.",
        minimum=KIB,
        unit="bytes",
    ),
    Option(
        "max_export_batch_size",
        INTEGER,
        2048,
        "Records in one request; at most `max_queue_size`.",
        environment=("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",),
        minimum=1,
        unit="records",
    ),
    Option(
        "schedule_delay_millis",
        NUMBER,
        1000.0,
        "The longest time that a record waits for others before it is sent.",
        environment=("OTEL_BLRP_SCHEDULE_DELAY",),
        above=0,
        maximum=LONGEST_SECONDS * 1000,
        unit="ms",
    ),
    Option(
        "export_timeout_millis",
        NUMBER,
        30_000.0,
        "For one batch with all its retries.",
        environment=("OTEL_BLRP_EXPORT_TIMEOUT",),
        above=0,
        maximum=LONGEST_SECONDS * 1000,
        unit="ms",
    ),
    Option(
        "when_full",
        WORD,
        "drop_newest",
        "What is dropped when the queue is full: the new record, the oldest below ERROR, or the caller's time.",
        choices=("drop_newest", "drop_oldest", "block"),
    ),
    Option(
        "block_timeout",
        NUMBER,
        1.0,
        "The longest wait of one call under `when_full=block`.",
        minimum=0,
        maximum=LONGEST_SECONDS,
        unit="s",
    ),
    Option(
        "reserve_for_errors",
        NUMBER,
        0.1,
        "Share of the queue that only records of ERROR and above may use.",
        minimum=0,
        maximum=0.9,
    ),
    Option("code_attributes", FLAG, True, "Adds `code.file.path`, `code.function.name` and `code.line.number`."),
    Option("thread_attributes", FLAG, False, "Adds `thread.id` and `thread.name`."),
    Option("message_template", FLAG, False, "Adds the message before formatting, and its arguments, for grouping."),
    Option(
        "max_attributes",
        INTEGER,
        128,
        "Attributes of one record; more are discarded and counted in it.",
        environment=("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"),
        minimum=0,
    ),
    Option(
        "max_attribute_length",
        INTEGER,
        None,
        "Longer strings in attributes are cut, and named by `otelog.truncated`; without it they are whole.",
        environment=("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
        minimum=0,
        unit="characters",
    ),
    Option("install_handler", FLAG, True, "Puts `LoggingHandler` on the root logger, and keeps it there."),
    Option(
        "capture_non_propagating",
        FLAG,
        True,
        "Also takes the records of loggers with `propagate=False` that have handlers of their own.",
    ),
    Option(
        "replace_console_handler",
        FLAG,
        False,
        "Takes `logging`'s plain console handlers off the root logger: the console exporter does their work.",
    ),
    Option(
        "direct_logging",
        FLAG,
        True,
        "Takes a `logging` call without making a `LogRecord`, if no other handler, filter or factory would see one.",
    ),
    Option(
        "handle_sigterm",
        FLAG,
        False,
        "Delivers on SIGTERM, then does what was set before `configure()`, or dies as by default.",
    ),
    Option(
        "handle_exit",
        FLAG,
        True,
        "Delivers before `os._exit`, `os.abort`, `os.exec*` or a signal that the process sends to itself ends it.",
    ),
    Option(
        "shutdown_timeout",
        NUMBER,
        5.0,
        "The longest time that the end of the process waits for delivery; metrics have half a second more.",
        minimum=0,
        maximum=LONGEST_SECONDS,
        unit="s",
    ),
    *FILE_OPTIONS,
    *CONSOLE_OPTIONS,
    Option(
        "sdk_disabled",
        FLAG,
        False,
        "Turns everything off: calls cost nothing and nothing is sent.",
        environment=("OTEL_SDK_DISABLED",),
        environment_only=True,
        in_file=False,
    ),
    Option(
        "traces_exporter",
        WORDS,
        (),
        "Exporters of the tracer provider, if `configure()` has to install one.",
        environment=("OTEL_TRACES_EXPORTER",),
        choices=_SIGNALS,
        environment_only=True,
        in_file=False,
    ),
    Option(
        "metrics_exporter",
        WORDS,
        ("otlp",),
        "Exporters of the meter provider, if `configure()` has to install one.",
        environment=("OTEL_METRICS_EXPORTER",),
        choices=_SIGNALS,
        environment_only=True,
        in_file=False,
    ),
    Option(
        "metric_export_interval_millis",
        NUMBER,
        60_000.0,
        "How long that meter provider waits between two exports.",
        environment=("OTEL_METRIC_EXPORT_INTERVAL",),
        above=0,
        maximum=LONGEST_SECONDS * 1000,
        unit="ms",
        environment_only=True,
        in_file=False,
    ),
    Option(
        "metric_export_timeout_millis",
        NUMBER,
        30_000.0,
        "The longest time for one of them.",
        environment=("OTEL_METRIC_EXPORT_TIMEOUT",),
        above=0,
        maximum=LONGEST_SECONDS * 1000,
        unit="ms",
        environment_only=True,
        in_file=False,
    ),
)

_BY_NAME = {option.name: option for option in OPTIONS}

# The SDK's own defaults, where they differ from those of configure().
PROCESSOR_OPTIONS: tuple[Option, ...] = (
    _BY_NAME["schedule_delay_millis"],
    _BY_NAME["max_export_batch_size"]._replace(default=512),
    _BY_NAME["export_timeout_millis"],
    _BY_NAME["max_queue_size"]._replace(default=2048),
    _BY_NAME["max_queue_bytes"],
    _BY_NAME["when_full"],
    _BY_NAME["block_timeout"],
    _BY_NAME["reserve_for_errors"]._replace(default=0.0),
    _BY_NAME["bisect_failed_exports"],
)

EXPORTER_OPTIONS: tuple[Option, ...] = _OTLP_OPTIONS


def _show_default(option: Option) -> str:
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


def _show_variables(option: Option) -> str:
    names = [f"`{variable}`" for variable in option.variables]
    if option.resource_key is not None:
        names.append(f"`{option.resource_key}` in `OTEL_RESOURCE_ATTRIBUTES`")
    return ", ".join(names)


def markdown_table() -> str:
    """Render the options of `configure()` for the README: option, environment, default, allowed, what it does."""
    lines = ["| option | environment | default | allowed | what it does |", "|---|---|---|---|---|"]
    for option in OPTIONS:
        name = "(environment only)" if option.environment_only else f"`{option.name}`"
        cells = (name, _show_variables(option), _show_default(option), option.allowed, option.doc)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
