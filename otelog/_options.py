"""The table of options: from each row follow the keyword, the environment variables, the checks and the README's line.

Nothing here reads the environment; `_config` does.

Source: OpenTelemetry specification, "Environment Variable Specification" and "OpenTelemetry Protocol Exporter".
"""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from otelog._severity import level_number

__all__ = ["EXPORTER_OPTIONS", "OPTIONS", "PROCESSOR_OPTIONS", "Option", "markdown_table"]

KIB = 1024
MIB = 1024 * KIB

# Waits take their timeout from these, and `threading` refuses more than about 4.29 million seconds on some platforms.
LONGEST_SECONDS = 4_000_000.0

DEFAULT_BASE_ENDPOINT = "http://localhost:4318"
GRPC, HTTP_PROTOBUF = "grpc", "http/protobuf"

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]*")
_CREDENTIALS = re.compile(r"//[^/?#]*@")

Complain = Callable[[str], None]


class Kind(Protocol):
    """How the values of an option are read, checked and described."""

    def read(self, text: str, complain: Complain) -> object:
        """Turn an environment variable's text into a value that `check` takes, or raise ValueError."""

    def check(self, option: Option, value: object) -> object:
        """Return the value as `Settings` holds it, or raise ValueError (or TypeError)."""

    def allowed(self, option: Option) -> str:
        """Say what is allowed, for messages and the README."""

    def schema(self, option: Option) -> dict[str, Any]:
        """Return the JSON Schema of a value in a configuration file; `check` may ask for more."""


class Option(NamedTuple):
    """One row of the table.

    Args:
        name: the keyword and the field of the settings.
        kind: how values are read, checked and described.
        default: the value when nothing else gives one, as the settings hold it.
        doc: one line for the README.
        environment: variables in order, the first usable one wins; None means `OTELOG_` and the name in capitals.
        resource_key: the option is this attribute of the resource, so `OTEL_RESOURCE_ATTRIBUTES` gives it, too.
        minimum: lowest allowed number.
        above: numbers must be greater than this.
        maximum: highest allowed number.
        choices: allowed words.
        unit: of a number.
        merged: entries of the keyword are put over those of the environment, one by one.
        secret: the value never appears in a message.
        environment_only: there is no such keyword.
        in_file: it may stand in a configuration file.
    """

    name: str
    kind: Kind
    default: object
    doc: str
    environment: tuple[str, ...] | None = None
    resource_key: str | None = None
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    unit: str = ""
    merged: bool = False
    secret: bool = False
    environment_only: bool = False
    in_file: bool = True

    @property
    def variables(self) -> tuple[str, ...]:
        """The environment variables that are read for this option, in order."""
        return (f"OTELOG_{self.name.upper()}",) if self.environment is None else self.environment

    @property
    def allowed(self) -> str:
        """What is allowed, in words."""
        return self.kind.allowed(self)

    def describe(self, value: object) -> str:
        """The value for a message: never a secret, never long."""
        if self.secret:
            return f"(a {type(value).__name__}, not shown)"
        try:
            text = _CREDENTIALS.sub("//...@", repr(value))
        except Exception:
            # Even repr() of a plain int raises, from 4,300 digits on.
            return f"(a {type(value).__name__})"
        return text if len(text) <= 200 else text[:200] + "..."


class _Text:
    def read(self, text: str, complain: Complain) -> object:
        return text

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, str) or not value.strip():
            raise ValueError
        return value.strip()

    def allowed(self, option: Option) -> str:
        return "a string that is not empty"

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "string", "minLength": 1}


class _Word(_Text):
    def check(self, option: Option, value: object) -> object:
        # The official exporter's Compression is an Enum whose values are the specification's words.
        word = value.value if isinstance(value, Enum) else value
        if not isinstance(word, str) or word.strip().lower() not in option.choices:
            raise ValueError
        return word.strip().lower()

    def allowed(self, option: Option) -> str:
        return ", ".join(option.choices)

    def schema(self, option: Option) -> dict[str, Any]:
        return {"enum": list(option.choices)}


class _Words:
    def read(self, text: str, complain: Complain) -> object:
        return [word for word in (part.strip().lower() for part in text.split(",")) if word]

    def check(self, option: Option, value: object) -> object:
        words = tuple(value) if isinstance(value, list) else ()
        if not words or any(word not in option.choices for word in words):
            raise ValueError
        return () if "none" in words else words

    def allowed(self, option: Option) -> str:
        return "a list of " + ", ".join(option.choices)

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "array", "items": {"enum": list(option.choices)}}


class _Flag:
    def read(self, text: str, complain: Complain) -> object:
        word = text.strip().lower()
        if word not in ("true", "false"):
            complain("only 'true' is true: it counts as false")
        return word == "true"

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, bool):
            raise TypeError
        return value

    def allowed(self, option: Option) -> str:
        return "true, false"

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "boolean"}


class _Number:
    def __init__(self, *, whole: bool) -> None:
        self.whole = whole

    def read(self, text: str, complain: Complain) -> object:
        # int() and float() take digit groups ("1_000"), which no other language's SDK would.
        if "_" in text:
            raise ValueError
        return int(text) if self.whole else float(text)

    def check(self, option: Option, value: object) -> object:
        if isinstance(value, (bool, str, bytes)):
            raise TypeError
        number: Any = operator.index(value) if self.whole else float(value)  # type: ignore[arg-type]
        if not self.whole and not math.isfinite(number):
            raise ValueError
        if option.minimum is not None and number < option.minimum:
            raise ValueError
        if option.above is not None and number <= option.above:
            raise ValueError
        if option.maximum is not None and number > option.maximum:
            raise ValueError
        return number

    def allowed(self, option: Option) -> str:
        parts = []
        if option.minimum is not None:
            parts.append(f">= {option.minimum:.10g}")
        if option.above is not None:
            parts.append(f"> {option.above:.10g}")
        if option.maximum is not None:
            parts.append(f"<= {option.maximum:.10g}")
        noun = "a whole number" if self.whole else "a number"
        return " ".join((noun, " and ".join(parts))).rstrip()

    def schema(self, option: Option) -> dict[str, Any]:
        bounds = {"minimum": option.minimum, "exclusiveMinimum": option.above, "maximum": option.maximum}
        found: dict[str, Any] = {key: bound for key, bound in bounds.items() if bound is not None}
        return {"type": "integer" if self.whole else "number", **found}


class _Level:
    def read(self, text: str, complain: Complain) -> object:
        text = text.strip()
        return int(text) if text.isdigit() else text

    def check(self, option: Option, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise TypeError
        return level_number(value)

    def allowed(self, option: Option) -> str:
        return "a level's name or number, as in the standard library"

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": ["string", "integer"], "minimum": 0}


class _Path(_Text):
    def check(self, option: Option, value: object) -> object:
        path = os.fspath(value)  # type: ignore[call-overload]
        if not isinstance(path, str) or not path or "\0" in path:
            raise ValueError
        return path

    def allowed(self, option: Option) -> str:
        return "a file's path"


class _Url(_Text):
    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, str):
            raise TypeError
        _check_url(value.strip())
        return value.strip()

    def allowed(self, option: Option) -> str:
        return "an http:// or https:// URL without user name (send credentials as headers)"

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "string", "pattern": "^https?://"}


class _Headers:
    def read(self, text: str, complain: Complain) -> object:
        headers: dict[str, str] = {}
        for name, value in _read_pairs(text, complain):
            try:
                headers.update(_check_header(name, value))
            except ValueError:
                complain(f"the header {name!r} is left out: its name or value is not legal in HTTP")
        return headers

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, Mapping):
            raise TypeError
        headers: dict[str, str] = {}
        for name, text in value.items():
            headers.update(_check_header(name, text))
        return headers

    def allowed(self, option: Option) -> str:
        return (
            "a mapping of names to printable ASCII strings; in the environment `name=value,name=value`, percent-encoded"
        )

    def schema(self, option: Option) -> dict[str, Any]:
        return {"type": "object", "additionalProperties": {"type": "string"}}


class _Attributes:
    def read(self, text: str, complain: Complain) -> object:
        return dict(_read_pairs(text, complain))

    def check(self, option: Option, value: object) -> object:
        if not isinstance(value, Mapping):
            raise TypeError
        for key, item in value.items():
            items = item if isinstance(item, (list, tuple)) else (item,)
            if not isinstance(key, str) or not key or not all(isinstance(i, (str, bool, int, float)) for i in items):
                raise ValueError
        return dict(value)

    def allowed(self, option: Option) -> str:
        return (
            "a mapping of names to strings, numbers, booleans or lists of them; in the environment "
            "`name=value,name=value`, percent-encoded"
        )

    def schema(self, option: Option) -> dict[str, Any]:
        scalar = {"type": ["string", "number", "boolean"]}
        return {"type": "object", "additionalProperties": {"anyOf": [scalar, {"type": "array", "items": scalar}]}}


class _Exporter(_Text):
    def check(self, option: Option, value: object) -> object:
        if isinstance(value, type) or not all(callable(getattr(value, name, None)) for name in ("export", "shutdown")):
            raise TypeError
        return value

    def allowed(self, option: Option) -> str:
        return "an instance of the SDK's LogRecordExporter"


def _read_pairs(text: str, complain: Complain) -> list[tuple[str, str]]:
    """Split "name=value,name=value" and decode percent escapes; a bad pair is reported by place, never by content."""
    pairs = []
    for place, pair in enumerate(text.split(","), start=1):
        if not pair.strip():
            continue
        name, equals, value = pair.partition("=")
        name = unquote(name.strip())
        if not equals or not name:
            complain(f"entry {place} is left out: it is not name=value")
            continue
        pairs.append((name, unquote(value.strip())))
    return pairs


def _check_header(name: object, value: object) -> dict[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError
    if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
        raise ValueError
    return {name.lower(): value}


def _check_url(url: str) -> None:
    # urlsplit() drops line breaks silently and reads the port only when asked.
    if any(character.isspace() for character in url):
        raise ValueError
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.fragment:
        raise ValueError
    if parts.port == 0:
        raise ValueError


def _otlp(name: str) -> tuple[str, str]:
    return f"OTEL_EXPORTER_OTLP_LOGS_{name}", f"OTEL_EXPORTER_OTLP_{name}"


TEXT, WORD, WORDS, FLAG, LEVEL = _Text(), _Word(), _Words(), _Flag(), _Level()
PATH, URL, HEADERS, ATTRIBUTES, EXPORTER = _Path(), _Url(), _Headers(), _Attributes(), _Exporter()
INTEGER, NUMBER = _Number(whole=True), _Number(whole=False)
_SIGNALS = ("none", "otlp", "console")

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
        "endpoint",
        URL,
        DEFAULT_BASE_ENDPOINT,
        "Base URL of the Collector; `/v1/logs` is appended, except to `OTEL_EXPORTER_OTLP_LOGS_ENDPOINT`. With "
        "`protocol=grpc` the default is `http://localhost:4317`, and a path counts for nothing.",
        environment=_otlp("ENDPOINT"),
    ),
    Option(
        "protocol",
        WORD,
        HTTP_PROTOBUF,
        "How the Collector is spoken to; `grpc` needs `otelog[grpc]`, usually goes to port 4317, and uses TLS if the "
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
        "Certificates (PEM) to trust instead of the system's (of those that come with grpcio, by gRPC).",
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
        "exporter",
        EXPORTER,
        None,
        "Used instead of otelog's own OTLP exporter, such as another library's.",
        environment=(),
        in_file=False,
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
        "max_request_bytes",
        INTEGER,
        4 * MIB,
        "Bytes in one request before compression; larger batches are split.",
        minimum=KIB,
        maximum=64 * MIB,
        unit="bytes",
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
        "What gives way when the queue is full: the new record, the oldest below ERROR, or the caller's time.",
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
        "Longer strings in attributes are cut; without it they are whole.",
        environment=("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"),
        minimum=0,
        unit="characters",
    ),
    Option("install_handler", FLAG, True, "Puts `LoggingHandler` on the root logger."),
    Option(
        "direct_logging",
        FLAG,
        True,
        "Takes a `logging` call without making a `LogRecord`, if no other handler, filter or factory would see one.",
    ),
    Option("handle_sigterm", FLAG, False, "Flushes on SIGTERM, then does what was set for it before."),
    Option(
        "shutdown_timeout",
        NUMBER,
        5.0,
        "The longest time that the exit of the process waits for delivery.",
        minimum=0,
        maximum=LONGEST_SECONDS,
        unit="s",
    ),
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
)

EXPORTER_OPTIONS: tuple[Option, ...] = tuple(
    _BY_NAME[name]
    for name in (
        "endpoint",
        "protocol",
        "headers",
        "compression",
        "timeout",
        "certificate_file",
        "client_certificate_file",
        "client_key_file",
        "max_request_bytes",
    )
)


def _show_default(option: Option) -> str:
    value = option.default
    if value is None or value == {} or value == ():
        return ""
    if option.kind is LEVEL:
        return "`INFO`"
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
