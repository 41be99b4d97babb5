"""Options: every one by keyword, by environment, in their order, and with a bad value."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from otelog._config import resolve as resolve_module
from otelog._config import table as table_module
from otelog._config.kinds import Entry
from otelog._config.resolve import resolve, resolve_exporter, resolve_processor
from otelog._otlp.exporter import OTLPLogExporter
from otelog._pipeline.processor import BatchLogRecordProcessor
from otelog.exceptions import ConfigurationError, OtelogError
from otelog.sinks._settings import FileSettings
from otelog.sinks.console import ConsoleLogExporter
from otelog.sinks.files import FileLogExporter


class Case:
    """One option: how a keyword and a variable give it, and what is refused."""

    def __init__(
        self,
        keyword: Any,
        text: str | None,
        value: Any,
        bad_keywords: tuple[Any, ...],
        bad_texts: tuple[str, ...] = (),
        resolved: Any = None,
    ) -> None:
        self.keyword = keyword
        self.resolved = keyword if resolved is None else resolved
        self.text = text
        self.value = value
        self.bad_keywords = bad_keywords
        self.bad_texts = bad_texts


class Exporter:
    """What an SDK exporter must have, and no more."""

    def export(self, batch: object) -> None: ...

    def shutdown(self) -> None: ...


class Codec(Enum):
    """Stands for the official exporter's Compression."""

    GZIP = "gzip"


EXPORTER = Exporter()
BAD_TEXT = ("", "  ", 7, b"bytes")
BAD_FLAG = (1, 0, "true", 1.0)
BAD_COUNT = (-(10**5000), -1, 1.5, True, "5", float("nan"))
BAD_SECONDS = (-0.1, float("nan"), float("inf"), True, "5", 4_000_001, 10**400)
BAD_SECONDS_TEXT = ("-1", "soon", "nan", "inf", "1_0")
BAD_NAMES = ("ai", ("",), [7], 7)
BAD_PATHS = ("", 7, b"bytes", "nul\0byte")

CASES: dict[str, Case] = {
    "service_name": Case("shop", "cart", "cart", BAD_TEXT),
    "service_version": Case("1.2", None, None, BAD_TEXT),
    "service_namespace": Case("retail", None, None, BAD_TEXT),
    "deployment_environment": Case("staging", None, None, BAD_TEXT),
    "resource_attributes": Case(
        {"a": 1, "b": ["x", "y"]},
        "k=v%2C1, k2 = v2",
        {"k": "v,1", "k2": "v2"},
        ({"a": object()}, {1: "a"}, {"": 1}, "k=v"),
    ),
    "level": Case("debug", "WARNING", 30, ("loud", True, 1.5), ("loud",), resolved=10),
    "endpoint": Case(
        "https://collector:4318",
        "http://other/base",
        "http://other/base",
        (
            "collector:4318",
            "ftp://x",
            "http://",
            "http://x:99999",
            "http://x:0",
            "http://user:pw@x",
            "http://x/#part",
            "http://a b",
            "http://x/lögs",
            7,
        ),
        ("collector:4318", "http://x:port", "http://[half", "http://x/lögs"),
        resolved="https://collector:4318/v1/logs",
    ),
    "protocol": Case("grpc", "gRPC", "grpc", ("http/json", "", 3), ("http/json", "pigeon")),
    "headers": Case(
        {"X-Key": "a"},
        "api-key=s%20ecret,Other=1=2",
        {"api-key": "s ecret", "other": "1=2"},
        ({"a b": "c"}, {"a": "line\nbreak"}, {"a": "é"}, {"a": 1}, {"Content-Length": "1"}, [("a", "b")]),
        resolved={"x-key": "a"},
    ),
    "compression": Case("zstd", "NONE", "none", ("deflate", "", 3), ("deflate", "snappy")),
    "timeout": Case(2, "3.5", 3.5, (0, *BAD_SECONDS), ("0", *BAD_SECONDS_TEXT)),
    "certificate_file": Case("ca.pem", "env.pem", "env.pem", BAD_PATHS),
    "client_certificate_file": Case(Path("client.pem"), "env.pem", "env.pem", BAD_PATHS, resolved="client.pem"),
    "client_key_file": Case("client.key", "env.key", "env.key", BAD_PATHS),
    "proxy": Case(
        "http://proxy:3128",
        "NONE",
        "none",
        ("socks5://proxy", "", 3, "http://pro xy"),
        ("socks5://proxy", "http://proxy:0"),
    ),
    "exporter": Case(EXPORTER, None, None, (Exporter, "otlp", object())),
    "exporters": Case(
        ["OTLP", {"type": "console", "level": "error", "format": "json"}],
        "console, FILE",
        (Entry("console"), Entry("file")),
        (
            "otlp",
            [],
            7,
            {"type": "otlp"},
        ),
        ("other", "otlp,none"),
        resolved=(Entry("otlp"), Entry("console", level=40, options={"console_format": "json"})),
    ),
    "max_queue_size": Case(3000, "4000", 4000, (0, *BAD_COUNT), ("0", "-5", "many", "1e3", "1_000")),
    "max_queue_bytes": Case(2**24, "33554432", 2**25, (1023, *BAD_COUNT), ("1023", "64MiB")),
    "max_export_batch_size": Case(100, "200", 200, (0, *BAD_COUNT), ("0", "-5", "many", "1.5")),
    "max_request_bytes": Case(2048, "4096", 4096, (1023, 2**26 + 1, *BAD_COUNT), ("1", "67108865", "4MB")),
    "schedule_delay_millis": Case(50, "250", 250.0, (0, 4e9 + 1, True, "5"), ("0", *BAD_SECONDS_TEXT)),
    "export_timeout_millis": Case(5000, "6000", 6000.0, (0, 4e9 + 1, True, "5"), ("0", *BAD_SECONDS_TEXT)),
    "when_full": Case("block", "Drop_Oldest", "drop_oldest", ("drop", "", 1), ("drop",)),
    "block_timeout": Case(0, "0.25", 0.25, BAD_SECONDS, BAD_SECONDS_TEXT),
    "reserve_for_errors": Case(0.9, "0.5", 0.5, (-0.01, 0.91, float("nan"), True), ("1", "-1", "half")),
    "code_attributes": Case(False, "false", False, BAD_FLAG),
    "thread_attributes": Case(True, "TRUE", True, BAD_FLAG),
    "message_template": Case(True, " True ", True, BAD_FLAG),
    "max_attributes": Case(0, "5", 5, BAD_COUNT, ("-1", "few")),
    "max_attribute_length": Case(0, "100", 100, BAD_COUNT, ("-1", "long")),
    "install_handler": Case(False, "false", False, BAD_FLAG),
    "capture_non_propagating": Case(False, "false", False, BAD_FLAG),
    "replace_console_handler": Case(True, "true", True, BAD_FLAG),
    "direct_logging": Case(False, "false", False, BAD_FLAG),
    "bisect_failed_exports": Case(True, "true", True, BAD_FLAG),
    "handle_sigterm": Case(True, "true", True, BAD_FLAG),
    "handle_exit": Case(False, "false", False, BAD_FLAG),
    "shutdown_timeout": Case(0, "9", 9.0, BAD_SECONDS, BAD_SECONDS_TEXT),
    "file_folder": Case("records", "env", "env", BAD_PATHS),
    "file_level": Case("error", "WARNING", 30, ("loud", True, 1.5), ("loud",), resolved=40),
    "file_max_bytes": Case(0, "2048", 2048, BAD_COUNT, ("-1", "1MB")),
    "file_interval": Case(
        4_000_001, "3600", 3600.0, (-0.1, float("nan"), float("inf"), True, "5", 8_640_000_001), BAD_SECONDS_TEXT
    ),
    "file_daily": Case(True, "true", True, BAD_FLAG),
    "file_compression": Case("none", "ZSTD", "zstd", ("bzip2", "", 3), ("bzip2",)),
    "file_max_files": Case(0, "7", 7, BAD_COUNT, ("-1", "few")),
    "file_max_age_days": Case(30, "0.5", 0.5, (-1, 100_001, float("nan"), True, "5"), ("-1", "old")),
    "file_max_total_bytes": Case(2**30, "1000", 1000, BAD_COUNT, ("-1", "1GB")),
    "file_per_process": Case(True, "true", True, BAD_FLAG),
    "file_ai_loggers": Case(
        ["ai", "chat.model"], "ai, other", ("ai", "other"), BAD_NAMES, resolved=("ai", "chat.model")
    ),
    "file_ai_only": Case(True, "true", True, BAD_FLAG),
    "file_ai_max_bytes": Case(4096, "2048", 2048, BAD_COUNT, ("-1", "1MB")),
    "file_ai_max_files": Case(30, "7", 7, BAD_COUNT, ("-1", "few")),
    "console_stream": Case("stdout", "STDOUT", "stdout", ("file", "", 3), ("file",)),
    "console_format": Case("json", "Readable", "readable", ("xml", "", 3), ("xml",)),
    "console_level": Case("error", "WARNING", 30, ("loud", True, 1.5), ("loud",), resolved=40),
}
OPTIONS = {option.name: option for option in table_module.OPTIONS}
COMPANIONS: dict[str, dict[str, object]] = {
    "client_key_file": {"client_certificate_file": "c.pem"},
    "replace_console_handler": {"exporters": ["console"]},
}
WITH_VARIABLES = [name for name, case in CASES.items() if case.text is not None]


def variable_of(name: str) -> str:
    """The variable whose value stands in the settings as it is."""
    return OPTIONS[name].variables[-1]


def is_one_of_two(name: str) -> bool:
    """Whether there are only two values, so that keyword and variable cannot both differ from the default."""
    return isinstance(CASES[name].value, bool) or len(OPTIONS[name].choices) == 2


def other_of_two(name: str) -> Any:
    """The value that the variable does not give."""
    value = CASES[name].value
    return not value if isinstance(value, bool) else next(word for word in OPTIONS[name].choices if word != value)


def bad_keywords() -> list[Any]:
    return [
        pytest.param(name, bad, id=f"{name}-{n}")
        for name, case in CASES.items()
        for n, bad in enumerate(case.bad_keywords)
    ]


def bad_texts() -> list[Any]:
    return [pytest.param(name, bad, id=f"{name}-{bad}") for name, case in CASES.items() for bad in case.bad_texts]


def get_value(settings: object, name: str) -> Any:
    value = getattr(settings, name)
    return value.removesuffix("/v1/logs") if name == "endpoint" else value


def test_every_option_has_a_case_and_a_field() -> None:
    keywords = {name for name, option in OPTIONS.items() if not option.environment_only}
    fields = set(vars(resolve({}, {})))
    # A file's own tests are in test_config_file.py.
    assert set(CASES) == keywords - {"config_file"}
    assert fields - {"warnings", "base_endpoint", "base_protocol"} == set(OPTIONS)


@pytest.mark.parametrize("name", CASES)
def test_without_anything_the_default_holds(name: str) -> None:
    settings = resolve({}, {})
    assert get_value(settings, name) == OPTIONS[name].default
    assert settings.warnings == ()


@pytest.mark.parametrize("name", CASES)
def test_a_keyword_is_taken(name: str) -> None:
    case = CASES[name]
    settings = resolve({name: case.keyword, **COMPANIONS.get(name, {})}, {})
    if isinstance(case.resolved, Mapping):
        assert dict(getattr(settings, name)) == case.resolved
    else:
        assert getattr(settings, name) == case.resolved
    assert getattr(settings, name) != OPTIONS[name].default
    assert settings.warnings == ()


@pytest.mark.parametrize("name", CASES)
def test_the_keyword_none_is_not_given(name: str) -> None:
    assert get_value(resolve({name: None}, {}), name) == OPTIONS[name].default


@pytest.mark.parametrize("name", WITH_VARIABLES)
def test_the_environment_is_read(name: str) -> None:
    settings = resolve(COMPANIONS.get(name, {}), {variable_of(name): CASES[name].text or ""})
    assert get_value(settings, name) == CASES[name].value
    assert get_value(settings, name) != OPTIONS[name].default
    assert settings.warnings == ()


@pytest.mark.parametrize("name", WITH_VARIABLES)
def test_an_empty_variable_is_unset(name: str) -> None:
    settings = resolve({}, {variable_of(name): "  "})
    assert get_value(settings, name) == OPTIONS[name].default
    assert settings.warnings == ()


@pytest.mark.parametrize("name", [name for name in WITH_VARIABLES if not OPTIONS[name].merged])
def test_a_keyword_beats_the_environment(name: str) -> None:
    case = CASES[name]
    keyword, expected = (case.keyword, case.resolved) if not is_one_of_two(name) else (other_of_two(name),) * 2
    settings = resolve({name: keyword, **COMPANIONS.get(name, {})}, {variable_of(name): case.text or ""})
    assert getattr(settings, name) == expected != case.value
    assert settings.warnings == ()


@pytest.mark.parametrize("name", [name for name in WITH_VARIABLES if OPTIONS[name].merged])
def test_entries_of_a_keyword_are_put_over_those_of_the_environment(name: str) -> None:
    settings = resolve({name: {"b": "2", "c": "3"}}, {variable_of(name): "a=1,b=1"})
    assert getattr(settings, name) == {"a": "1", "b": "2", "c": "3"}


@pytest.mark.parametrize(("name", "bad"), bad_keywords())
def test_a_bad_keyword_is_an_error_that_says_what_is_allowed(name: str, bad: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({name: bad}, {})
    message = str(caught.value)
    assert message.startswith(f"{name}=")
    assert OPTIONS[name].allowed in message
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, OtelogError)


BAD_ENTRIES = [
    ("other", "exporters[0]='other': allowed is otlp, file, console"),
    (7, "exporters[0]=7: allowed is an instance of the SDK's LogRecordExporter"),
    ({"type": "other"}, "exporters[0]: needs `type`, one of otlp, file, console, or `exporter`"),
    ({"level": "INFO"}, "exporters[0]: needs `type`, one of otlp, file, console, or `exporter`"),
    ({"type": "file", "max_bytes": -1}, "exporters[0].max_bytes=-1: allowed is a whole number >= 0"),
    ({"type": "file", "endpoint": "http://x"}, "exporters[0]: 'endpoint' is not an option of it; known are name, "),
    ({"type": "otlp", "headers": {"a": "s3cret\n"}}, "exporters[0].headers=(a dict, not shown): allowed is"),
    ({"type": "console", "exporter": EXPORTER}, "exporters[0]: 'exporter' is not an option of it"),
    ({"exporter": object()}, "exporters[0].exporter=<object object at"),
    ({"exporter": EXPORTER, "filter": "none"}, "exporters[0].filter='none': allowed is a function"),
    ({"exporter": EXPORTER, "max_queue_size": 0}, "exporters[0].max_queue_size=0: allowed is a whole number >= 1"),
    ({"exporter": EXPORTER, "loggers": "shop"}, "exporters[0].loggers='shop': allowed is a list of loggers' names"),
    ({"exporter": EXPORTER, "level": "loud"}, "exporters[0].level='loud': allowed is a level's name"),
    ({"exporter": EXPORTER, "name": ""}, "exporters[0].name='': allowed is a string that is not empty"),
]


@pytest.mark.parametrize(("bad", "message"), BAD_ENTRIES)
def test_a_bad_entry_of_the_list_is_told_by_its_place(bad: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({"exporters": [bad, "otlp"]}, {})
    assert str(caught.value).startswith(message)


def test_none_stands_alone_and_a_lone_exporter_is_the_list() -> None:
    assert resolve({"exporters": ["none"]}, {}).exporters == ()
    assert resolve({}, {"OTEL_LOGS_EXPORTER": "none"}).exporters == ()
    assert resolve({"exporter": EXPORTER}, {}).exporters == (Entry("", exporter=EXPORTER),)
    assert resolve({"exporter": EXPORTER}, {"OTEL_LOGS_EXPORTER": "otlp"}).exporters[0].exporter is EXPORTER
    with pytest.raises(ConfigurationError, match="put the former into the list"):
        resolve({"exporter": EXPORTER, "exporters": ["otlp"]}, {})


def test_the_console_is_not_taken_away_where_nothing_takes_its_place() -> None:
    with pytest.raises(ConfigurationError, match="needs the console among exporters"):
        resolve({"replace_console_handler": True}, {})
    settings = resolve({}, {"OTELOG_REPLACE_CONSOLE_HANDLER": "true"})
    assert settings.replace_console_handler is False
    assert settings.warnings[0].startswith("OTELOG_REPLACE_CONSOLE_HANDLER: it is ignored")


def test_our_own_variable_beats_the_specifications() -> None:
    """Who keeps the stock SDK's exporter away with the latter may still say what otelog does."""
    environ = {"OTEL_LOGS_EXPORTER": "none", "OTELOG_EXPORTERS": "file"}
    assert resolve({}, environ).exporters == (Entry("file"),)


@pytest.mark.parametrize(("name", "bad"), bad_texts())
def test_a_bad_variable_is_a_warning_and_the_default(name: str, bad: str) -> None:
    settings = resolve({}, {variable_of(name): bad})
    assert get_value(settings, name) == OPTIONS[name].default
    (warning,) = settings.warnings
    assert warning.startswith(f"{variable_of(name)}: ")
    assert OPTIONS[name].allowed in warning


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.kind is table_module.FLAG])
@pytest.mark.parametrize(
    ("text", "value", "warned"), [("TRUE", True, 0), ("False", False, 0), ("1", False, 1), ("yes", False, 1)]
)
def test_only_true_is_true(name: str, text: str, value: bool, warned: int) -> None:
    settings = resolve(COMPANIONS.get(name, {}), {variable_of(name): text})
    assert getattr(settings, name) is value
    assert len(settings.warnings) == warned


@pytest.mark.parametrize(
    "name", [name for name, option in OPTIONS.items() if len(option.variables) == 2 and name != "endpoint"]
)
def test_the_variable_of_the_signal_beats_the_general_one(name: str) -> None:
    case, (special, general) = CASES[name], OPTIONS[name].variables
    settings = resolve(COMPANIONS.get(name, {}), {special: case.text or "", general: str(case.keyword)})
    assert getattr(settings, name) == case.value
    assert settings.warnings == ()


def test_a_bad_variable_of_the_signal_leaves_the_general_one() -> None:
    settings = resolve({}, {"OTEL_EXPORTER_OTLP_LOGS_TIMEOUT": "soon", "OTEL_EXPORTER_OTLP_TIMEOUT": "4"})
    assert settings.timeout == 4.0
    assert len(settings.warnings) == 1


# Endpoints.


@pytest.mark.parametrize("resolver", [resolve, resolve_exporter])
@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "http://localhost:4318/v1/logs"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1"}, "http://c:1/v1/logs"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/base/"}, "http://c:1/base/v1/logs"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c/?key=v"}, "https://c/v1/logs?key=v"),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:1"}, "http://c:1"),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:1/x/"}, "http://c:1/x/"),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://a/x", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://b"}, "http://a/x"),
    ],
)
def test_the_path_is_appended_to_the_general_endpoint_only(
    resolver: Any, environ: dict[str, str], expected: str
) -> None:
    assert resolver({}, environ).endpoint == expected


@pytest.mark.parametrize(
    ("keyword", "endpoint", "base"),
    [
        ("http://c:1", "http://c:1/v1/logs", "http://c:1"),
        ("http://c:1/", "http://c:1/v1/logs", "http://c:1/"),
        ("http://c:1/v1/logs", "http://c:1/v1/logs", "http://c:1"),
        ("http://c:1/in/v1/logs/", "http://c:1/in/v1/logs/", "http://c:1/in"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/logs", "http://[::1]:4318"),
    ],
)
def test_configure_takes_a_base_url_and_forgives_a_whole_one(keyword: str, endpoint: str, base: str) -> None:
    settings = resolve({"endpoint": keyword}, {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://other"})
    assert (settings.endpoint, settings.base_endpoint) == (endpoint, base)


def test_an_endpoint_for_logs_alone_leaves_the_base_to_the_general_one() -> None:
    environ = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://logs/x"}
    assert resolve({}, environ).base_endpoint == "http://localhost:4318"
    assert resolve({}, {**environ, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://all"}).base_endpoint == "http://all"


def test_the_exporter_takes_its_endpoint_as_it_is() -> None:
    assert resolve_exporter({"endpoint": "http://c:1/in"}, {}).endpoint == "http://c:1/in"


# Secrets.


@pytest.mark.parametrize("headers", [{"authorization": "s3cret\n"}, {"bad name": "s3cret"}, ["s3cret"]])
def test_headers_never_stand_in_an_error(headers: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({"headers": headers}, {})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("text", ["s3cret", "=s3cret", "a b=s3cret", "a=s3cret%0A", "content-length=s3cret"])
def test_headers_never_stand_in_a_warning_nor_in_the_settings_shown(text: str) -> None:
    settings = resolve({}, {"OTEL_EXPORTER_OTLP_HEADERS": f"{text},good=s3cret2"})
    assert settings.headers == {"good": "s3cret2"}
    assert len(settings.warnings) == 1
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"endpoint": "http:///v1/logs"}, "; but it has no host"),
        ({"headers": {"Content-Length": "s3cret"}}, "; but Content-Length is set by otelog itself"),
        ({"headers": {"x": "s3cret\n"}}, "; but the value of x has characters that a header cannot carry"),
        ({"proxy": "http://u:s3cret@proxy:0"}, "; but its port is 0"),
    ],
)
def test_what_is_wrong_with_a_url_or_a_header_is_told_without_secrets(options: dict[str, Any], why: str) -> None:
    for resolver in (resolve, resolve_exporter):
        with pytest.raises(ConfigurationError) as caught:
            resolver(options, {})
        assert str(caught.value).endswith(why)
        assert "s3cret" not in str(caught.value)


def test_credentials_in_an_endpoint_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve({"endpoint": "http://user:s3cret@host"}, {})
    assert "s3cret" not in str(caught.value)


# Names.


def test_an_unknown_option_is_told_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown option 'levle': did you mean 'level'\?"):
        resolve({"levle": "INFO"}, {})


def test_an_option_that_is_like_no_other_is_told_with_all_names() -> None:
    with pytest.raises(
        ConfigurationError, match="unknown option 'zzz': known are bisect_failed.*, block_timeout, .*when_full"
    ):
        resolve({"zzz": 1}, {})


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.environment_only])
def test_what_the_environment_alone_decides_is_no_keyword(name: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown option"):
        resolve({name: True}, {})


# The environment's own.


def test_the_sdk_can_be_disabled() -> None:
    assert resolve({}, {}).sdk_disabled is False
    assert resolve({}, {"OTEL_SDK_DISABLED": "True"}).sdk_disabled is True


@pytest.mark.parametrize(
    ("text", "expected", "warned"),
    [
        ("otlp", ("otlp",), 0),
        ("otlp, console", ("otlp", "console"), 0),
        ("none", (), 0),
        ("zipkin", None, 1),
        (",", None, 1),
    ],
)
@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_exporters_of_other_signals_are_read(
    signal: str, text: str, expected: tuple[str, ...] | None, warned: int
) -> None:
    settings = resolve({}, {f"OTEL_{signal.upper()}_EXPORTER": text})
    default = OPTIONS[f"{signal}_exporter"].default
    assert getattr(settings, f"{signal}_exporter") == (default if expected is None else expected)
    assert len(settings.warnings) == warned


@pytest.mark.parametrize("resolver", [resolve, resolve_exporter])
@pytest.mark.parametrize(
    ("protocol", "used", "warned"),
    [
        ("http/protobuf", "http/protobuf", 0),
        ("GRPC", "grpc", 0),
        ("http/json", "http/protobuf", 1),
        ("", "http/protobuf", 0),
    ],
)
def test_a_protocol_that_is_not_spoken_is_a_warning(resolver: Any, protocol: str, used: str, warned: int) -> None:
    settings = resolver({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": protocol})
    assert (settings.protocol, len(settings.warnings)) == (used, warned)


@pytest.mark.parametrize("resolver", [resolve, resolve_exporter])
@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "http://localhost:4317"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c:1"}, "https://c:1"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/base/?key=v"}, "http://c:1"),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:1/v1/logs"}, "http://c:1"),
    ],
)
def test_by_grpc_an_endpoint_has_no_path(resolver: Any, environ: dict[str, str], expected: str) -> None:
    assert resolver({"protocol": "grpc"}, environ).endpoint == expected


@pytest.mark.parametrize(
    ("keywords", "environ", "base"),
    [
        ({}, {"OTLP_PROTOCOL": "grpc"}, ("grpc", "http://localhost:4317")),
        ({}, {"OTLP_LOGS_PROTOCOL": "grpc"}, ("grpc", "http://localhost:4317")),
        ({"endpoint": "http://c:1/x", "protocol": "grpc"}, {}, ("grpc", "http://c:1")),
        ({"protocol": "grpc"}, {"OTLP_LOGS_ENDPOINT": "http://c:1"}, ("grpc", "http://localhost:4317")),
        (
            {},
            {"OTLP_LOGS_PROTOCOL": "grpc", "OTLP_LOGS_ENDPOINT": "http://c:1"},
            ("http/protobuf", "http://localhost:4318"),
        ),
        (
            {},
            {"OTLP_LOGS_PROTOCOL": "http/protobuf", "OTLP_LOGS_ENDPOINT": "http://c:1/in", "OTLP_PROTOCOL": "grpc"},
            ("grpc", "http://localhost:4317"),
        ),
        (
            {},
            {"OTLP_LOGS_PROTOCOL": "grpc", "OTLP_LOGS_ENDPOINT": "http://c:1", "OTLP_ENDPOINT": "http://d:2/x"},
            ("http/protobuf", "http://d:2/x"),
        ),
    ],
)
def test_other_signals_go_the_same_way_unless_the_way_is_for_logs_alone(
    keywords: dict[str, Any], environ: dict[str, str], base: tuple[str, str]
) -> None:
    settings = resolve(keywords, {f"OTEL_EXPORTER_{name}": text for name, text in environ.items()})
    assert (settings.base_protocol, settings.base_endpoint) == base
    assert settings.warnings == ()


@pytest.mark.parametrize("resolver", [resolve, resolve_exporter])
def test_zstd_by_grpc_is_an_error_from_a_keyword_and_gzip_from_the_environment(resolver: Any) -> None:
    with pytest.raises(ConfigurationError, match="zstd"):
        resolver({"protocol": "grpc", "compression": "zstd"}, {})
    settings = resolver({"protocol": "grpc"}, {"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"})
    assert (settings.compression, len(settings.warnings)) == ("gzip", 1)


def test_an_endpoint_without_a_scheme_is_an_error_that_says_what_is_allowed() -> None:
    with pytest.raises(ConfigurationError, match="an http:// or https:// URL"):
        resolve({"protocol": "grpc", "endpoint": "collector:4317"}, {})


# The resource.


@pytest.mark.parametrize(
    ("keywords", "environ", "expected"),
    [
        ({}, {}, None),
        ({}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a"}, "a"),
        ({}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a", "OTEL_SERVICE_NAME": "b"}, "b"),
        ({"resource_attributes": {"service.name": "c"}}, {"OTEL_SERVICE_NAME": "b"}, "c"),
        ({"resource_attributes": {"service.name": "c"}, "service_name": "d"}, {"OTEL_SERVICE_NAME": "b"}, "d"),
    ],
)
def test_the_service_name_comes_from_the_nearest_source(
    keywords: dict[str, object], environ: dict[str, str], expected: str | None
) -> None:
    settings = resolve(keywords, environ)
    assert settings.service_name == expected
    assert settings.resource_attributes.get("service.name") == expected


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("service_version", "service.version"),
        ("service_namespace", "service.namespace"),
        ("deployment_environment", "deployment.environment.name"),
    ],
)
def test_options_of_the_service_agree_with_the_resource(name: str, key: str) -> None:
    environ = {"OTEL_RESOURCE_ATTRIBUTES": f"{key}=from%20env,other=1"}
    settings = resolve({}, environ)
    assert getattr(settings, name) == settings.resource_attributes[key] == "from env"
    settings = resolve({name: "given"}, environ)
    assert getattr(settings, name) == settings.resource_attributes[key] == "given"
    assert settings.resource_attributes["other"] == "1"


def test_a_bad_pair_in_the_resource_spoils_itself_alone() -> None:
    settings = resolve({}, {"OTEL_RESOURCE_ATTRIBUTES": "a=1,oops,,b=2"})
    assert settings.resource_attributes == {"a": "1", "b": "2"}
    assert settings.warnings == ("OTEL_RESOURCE_ATTRIBUTES: entry 2 is left out: it is not name=value",)


def test_the_callers_mappings_stay_the_callers() -> None:
    headers, attributes = {"a": "1"}, {"b": "2"}
    settings = resolve({"headers": headers, "resource_attributes": attributes, "service_name": "s"}, {})
    headers["a"] = attributes["b"] = "changed"
    assert settings.headers["a"] == "1"
    assert settings.resource_attributes["b"] == "2"
    assert "service.name" not in attributes


# Options that must fit together.


@pytest.mark.parametrize(
    "keywords", [{"max_export_batch_size": 101, "max_queue_size": 100}, {"max_export_batch_size": 20_000}], ids=str
)
@pytest.mark.parametrize("resolver", [resolve, resolve_processor])
def test_a_batch_larger_than_the_queue_is_an_error(resolver: Any, keywords: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="max_export_batch_size=.* larger than max_queue_size="):
        resolver(keywords, {})


@pytest.mark.parametrize("resolver", [resolve, resolve_processor])
def test_a_default_batch_gives_way_to_a_small_queue(resolver: Any) -> None:
    settings = resolver({"max_queue_size": 100}, {})
    assert settings.max_export_batch_size == 100
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("keywords", "environ"),
    [
        ({}, {"OTEL_BLRP_MAX_QUEUE_SIZE": "100", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "101"}),
        ({"max_queue_size": 100}, {"OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "101"}),
        ({"max_export_batch_size": 101}, {"OTEL_BLRP_MAX_QUEUE_SIZE": "100"}),
    ],
)
def test_a_batch_too_large_through_the_environment_is_lowered_with_a_warning(
    keywords: dict[str, object], environ: dict[str, str]
) -> None:
    settings = resolve(keywords, environ)
    assert (settings.max_export_batch_size, settings.max_queue_size) == (100, 100)
    (warning,) = settings.warnings
    assert "lowered from 101" in warning


def test_the_bound_by_bytes_grows_with_the_bound_by_records() -> None:
    assert resolve({"max_queue_size": 100_000}, {}).max_queue_bytes == 100_000 * 4096
    assert resolve({"max_queue_size": 10}, {}).max_queue_bytes == 64 * 2**20


def test_a_bound_by_bytes_too_small_for_the_records_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="max_queue_bytes=1024 is too small for max_queue_size=2"):
        resolve({"max_queue_bytes": 1024, "max_queue_size": 2}, {})


def test_a_bound_by_bytes_too_small_through_the_environment_is_raised_with_a_warning() -> None:
    settings = resolve({"max_queue_size": 2}, {"OTELOG_MAX_QUEUE_BYTES": "1024"})
    assert settings.max_queue_bytes == 2048
    assert len(settings.warnings) == 1


@pytest.mark.parametrize("resolver", [resolve, resolve_exporter])
def test_a_client_key_needs_a_certificate(resolver: Any) -> None:
    with pytest.raises(ConfigurationError, match="client_key_file is given without client_certificate_file"):
        resolver({"client_key_file": "k.pem"}, {})
    settings = resolver({}, {"OTEL_EXPORTER_OTLP_CLIENT_KEY": "k.pem"})
    assert settings.client_key_file is None
    assert len(settings.warnings) == 1
    # One file may hold both.
    assert resolver({"client_certificate_file": "both.pem"}, {}).client_certificate_file == "both.pem"


# The smaller resolvers.


def test_the_processor_has_the_sdks_defaults() -> None:
    settings = resolve_processor({}, {})
    assert settings.schedule_delay_millis == 1000.0
    assert settings.max_export_batch_size == 512
    assert settings.export_timeout_millis == 30_000.0
    assert settings.max_queue_size == 2048
    assert settings.when_full == "drop_newest"
    assert settings.reserve_for_errors == 0.0


@pytest.mark.parametrize("name", resolve_module.ProcessorSettings.rows)
def test_the_processor_reads_the_same_keywords_and_variables(name: str) -> None:
    case = CASES[name]
    assert getattr(resolve_processor({name: case.keyword}, {}), name) == case.resolved
    # 100 or more is room enough for the default batch of either kind.
    if name != "max_queue_size":
        assert getattr(resolve_processor({}, {variable_of(name): case.text or ""}), name) == case.value


def test_the_processor_reads_the_queues_variable() -> None:
    assert resolve_processor({}, {"OTEL_BLRP_MAX_QUEUE_SIZE": "4000"}).max_queue_size == 4000


@pytest.mark.parametrize("name", [name for name in resolve_module.ExporterSettings.rows if name != "endpoint"])
def test_the_exporter_reads_the_same_keywords_and_variables(name: str) -> None:
    case, companions = CASES[name], COMPANIONS.get(name, {})
    assert getattr(resolve_exporter({name: case.keyword, **companions}, {}), name) == case.resolved
    assert getattr(resolve_exporter(companions, {variable_of(name): case.text or ""}), name) == case.value


@pytest.mark.parametrize(("resolver", "name"), [(resolve_processor, "timeout"), (resolve_exporter, "level")])
def test_a_smaller_resolver_knows_its_own_options_only(resolver: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match="unknown option"):
        resolver({name: 1}, {})


def test_the_official_compression_enumeration_is_understood() -> None:
    assert resolve_exporter({"compression": Codec.GZIP}, {}).compression == "gzip"


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "7")
    monkeypatch.setenv("OTEL_BLRP_EXPORT_TIMEOUT", "7")
    assert resolve({}).timeout == 7
    assert resolve_exporter({}).timeout == 7
    assert resolve_processor({}).export_timeout_millis == 7


def test_settings_travel_to_spawned_processes() -> None:
    settings = resolve({"service_name": "a", "headers": {"a": "b"}}, {})
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        resolve({}, {}).level = 10  # type: ignore[misc]


# The table of docs/reference/options.md.


def test_the_table_has_one_row_an_option_and_all_variables() -> None:
    head, rule, *rows = table_module.markdown_table().splitlines()
    assert head == "| option | environment | default | allowed | what it does |"
    assert rule == "|---|---|---|---|---|"
    assert len(rows) == len(OPTIONS)
    for row, option in zip(rows, table_module.OPTIONS, strict=True):
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 5
        assert cells[0] == ("(environment only)" if option.environment_only else f"`{option.name}`")
        assert all(variable in cells[1] for variable in option.variables)
        assert option.allowed == cells[3]


def test_the_table_shows_defaults_as_a_user_would_write_them() -> None:
    table = table_module.markdown_table()
    for shown in (
        "| `INFO` |",
        "| `67108864` (64 MiB) |",
        "| `1000` ms |",
        "| `0.1` |",
        "| `true` |",
        "| `10` s |",
        "|  |",
    ):
        assert shown in table


def test_type_checkers_see_every_option_that_is_a_keyword() -> None:
    from otelog.typing import ConfigureOptions

    keywords = [option.name for option in table_module.OPTIONS if not option.environment_only]
    assert list(ConfigureOptions.__annotations__) == keywords


@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (FileLogExporter, FileSettings.rows),
        (ConsoleLogExporter, {name: row for name, row in table_module.ConsoleOptions.rows.items() if name != "level"}),
        (OTLPLogExporter, resolve_module.ExporterSettings.rows),
        (BatchLogRecordProcessor, resolve_module.ProcessorSettings.rows),
    ],
)
def test_a_class_of_its_own_has_a_keyword_for_every_row_with_the_rows_default(kind: type, rows: Any) -> None:
    signature = inspect.signature(kind)
    assert set(rows) <= set(signature.parameters)
    assert set(signature.parameters) - set(rows) <= {
        "exporter",
        "export_timeout",
        "bisect_bad_request",
        "meter_provider",
    }
    for name, row in rows.items():
        # None is "not given": then the environment's value holds, and the row's default after it.
        assert signature.parameters[name].default in (row.default, None)
        assert f"{name}: " in (kind.__doc__ or "")


def test_the_resource_that_is_told_needs_what_else_the_environment_says() -> None:
    environ = {"OTELOG_EXPORTERS": "console", "OTEL_SERVICE_NAME": "env", "OTEL_RESOURCE_ATTRIBUTES": "team=env"}
    told = resolve_module.resolve_told_resource({"replace_console_handler": True, "service_version": "1.2"}, environ)
    assert told == {"service.version": "1.2"}
