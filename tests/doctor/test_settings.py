"""Settings that contradict each other are each told by exactly their own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otelog._config.resolve import list_variables, resolve
from otelog.doctor._packages import Packages, check_packages, look_at_packages
from otelog.doctor._settings import check_settings, list_targets
from otelog.exceptions import ConfigurationError

SERVICE = {"OTEL_SERVICE_NAME": "shop"}
REMOTE = "https://collector.example:4318"


def examine(environ: dict[str, str], keywords: dict[str, Any]) -> list[tuple[str, str, str]]:
    environ = {**SERVICE, **environ}
    area = check_settings(resolve(keywords, environ), list_variables(environ), resolve({}, environ))
    return [(finding.severity, finding.code, finding.subject) for finding in area.findings]


LOGS = "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"
BASE = "OTEL_EXPORTER_OTLP_ENDPOINT"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
SETTINGS: dict[str, tuple[dict[str, str], dict[str, Any], list[tuple[str, str, str]]]] = {
    "nothing said": ({}, {}, []),
    "a token to another machine": ({BASE: REMOTE, "OTEL_EXPORTER_OTLP_HEADERS": "authorization=x"}, {}, []),
    "gRPC at its port": ({BASE: "http://localhost:4317", PROTOCOL: "grpc"}, {}, []),
    "the whole URL for logs": ({LOGS: "http://localhost:4318/v1/logs"}, {}, []),
    "the same endpoint twice": ({BASE: "http://localhost:4318"}, {"endpoint": "http://localhost:4318"}, []),
    "an empty variable": ({"OTEL_CONFIG_FILE": " "}, {}, []),
    "HTTP to the port of gRPC": (
        {BASE: "http://localhost:4317"},
        {},
        [("warning", "settings.port_protocol", "otlp")],
    ),
    "gRPC to the port of HTTP": (
        {BASE: "http://localhost:4318", PROTOCOL: "grpc"},
        {},
        [("warning", "settings.port_protocol", "otlp")],
    ),
    "a base where the whole URL belongs": (
        {LOGS: "http://localhost:4318"},
        {},
        [("warning", "settings.endpoint_path", LOGS)],
    ),
    "the whole URL where the base belongs": (
        {BASE: "http://localhost:4318/v1/logs"},
        {},
        [("warning", "settings.endpoint_path", BASE)],
    ),
    "an endpoint in the code and another in the environment": (
        {LOGS: "http://localhost:4318/v1/logs"},
        {"endpoint": "http://127.0.0.1:9999"},
        [("warning", "settings.endpoint_overridden", LOGS)],
    ),
    "certificates that are not there": (
        {BASE: REMOTE},
        {"certificate_file": "nowhere.pem"},
        [("error", "settings.missing_file", "certificate_file")],
    ),
    "certificates of the environment that are not there": (
        {BASE: REMOTE, "OTEL_EXPORTER_OTLP_CERTIFICATE": "nowhere.pem"},
        {},
        [("warning", "settings.ignored", "OTEL_EXPORTER_OTLP_CERTIFICATE")],
    ),
    "a proxy that cannot be used": (
        {BASE: REMOTE, "HTTPS_PROXY": "socks5://user:secret@proxy"},
        {},
        [("warning", "settings.ignored", "HTTPS_PROXY")],
    ),
    "certificates without encryption": (
        {BASE: "http://collector.example:4318", "OTEL_EXPORTER_OTLP_CERTIFICATE": __file__},
        {},
        [("warning", "settings.unused_certificates", "otlp")],
    ),
    "TLS to loopback": ({BASE: "https://localhost:4318"}, {}, [("note", "settings.tls_to_loopback", "otlp")]),
    "a token in the clear": (
        {BASE: "http://collector.example:4318", "OTEL_EXPORTER_OTLP_HEADERS": "authorization=x"},
        {},
        [("warning", "settings.secret_in_clear", "otlp")],
    ),
    "no exporter": ({"OTEL_LOGS_EXPORTER": "none"}, {}, [("warning", "settings.no_exporter", "exporters")]),
    "none in the environment and one in the code": (
        {"OTEL_LOGS_EXPORTER": "none"},
        {"exporters": ["otlp"]},
        [("warning", "settings.exporter_contradicted", "OTEL_LOGS_EXPORTER")],
    ),
    "two exporters to one endpoint": (
        {},
        {"exporters": ["otlp", {"type": "otlp", "name": "again"}]},
        [("warning", "settings.exporter_twice", "http://localhost:4318/v1/logs")],
    ),
    "two exporters to one endpoint with levels": (
        {},
        {"exporters": [{"type": "otlp", "level": "ERROR"}, {"type": "otlp", "name": "again"}]},
        [],
    ),
    "the SDK's file": (
        {"OTEL_CONFIG_FILE": "sdk.yaml"},
        {},
        [("warning", "settings.sdk_config_file", "OTEL_CONFIG_FILE")],
    ),
    "the SDK's file by its older name": (
        {"OTEL_EXPERIMENTAL_CONFIG_FILE": "sdk.yaml"},
        {},
        [("warning", "settings.sdk_config_file", "OTEL_EXPERIMENTAL_CONFIG_FILE")],
    ),
    "the SDK's own handler": (
        {"OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED": "true"},
        {},
        [("warning", "settings.auto_logging", "OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED")],
    ),
    "two names of the service": (
        {"OTEL_RESOURCE_ATTRIBUTES": "team=a,service.name=till"},
        {},
        [("warning", "settings.service_name_contradicted", "OTEL_SERVICE_NAME")],
    ),
    "one name of the service in two places": ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shop"}, {}, []),
    "a variable of another name": (
        {"OTELOG_WHEN_FUL": "block", "OTELOG_COLLECTOR_HTTP": "localhost:4318", "OTEL_BSP_SCHEDULE_DELAY": "1"},
        {},
        [("warning", "settings.unknown_variable", "OTELOG_WHEN_FUL")],
    ),
    "a value that is not allowed": (
        {"OTELOG_BLOCK_TIMEOUT": "soon"},
        {},
        [("warning", "settings.ignored", "OTELOG_BLOCK_TIMEOUT")],
    ),
    "a batch larger than the queue": (
        {"OTEL_BLRP_MAX_QUEUE_SIZE": "100", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE": "200"},
        {},
        [("warning", "settings.ignored", "environment")],
    ),
    "no time to send again": (
        {},
        {"timeout": 60.0},
        [("warning", "settings.timeouts", "timeout")],
    ),
    "options of a file that is not written": ({}, {"file_daily": True}, [("note", "settings.no_effect", "file_daily")]),
    "a wait that nobody waits": ({}, {"block_timeout": 2.0}, [("note", "settings.no_effect", "block_timeout")]),
    "an exporter that cannot be": (
        {},
        {"exporters": [{"type": "otlp", "protocol": "grpc"}]},
        [("error", "settings.refused", "configure()")],
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_contradiction_is_told_by_its_code(name: str) -> None:
    environ, keywords, expected = SETTINGS[name]
    assert examine(environ, keywords) == expected


def test_a_service_without_a_name_is_noted() -> None:
    area = check_settings(resolve({}, {}), {})
    assert [finding.code for finding in area.findings] == ["settings.no_service_name"]


def test_what_the_sdk_does_not_merge_is_named() -> None:
    variables = {
        "OTEL_CONFIG_FILE": "x",
        "OTEL_SERVICE_NAME": "shop",
        "OTELOG_LEVEL": "INFO",
        "OTEL_PYTHON_DISTRO": "y",
    }
    area = check_settings(resolve({}, SERVICE), variables)
    (finding,) = area.findings
    assert "merges none of OTEL_SERVICE_NAME into it" in finding.what


def test_an_exporter_of_its_own_is_a_target_by_its_name(tmp_path: Path) -> None:
    settings = resolve({"exporters": ["otlp", {"type": "otlp", "name": "far", "endpoint": REMOTE}, "console"]}, SERVICE)
    targets = dict(list_targets(settings))
    assert {
        name: target.endpoint for name, target in targets.items() if not isinstance(target, ConfigurationError)
    } == {
        "otlp": "http://localhost:4318/v1/logs",
        "far": f"{REMOTE}/v1/logs",
    }


GOOD = Packages(flask="3.1", flask_instrumentation="0.60b0", distros=("otelog",), configurators=("otelog",))
INSTALLED: dict[str, tuple[Packages, dict[str, str], list[str]]] = {
    "all together": (GOOD, {}, []),
    "no Flask": (Packages(None, None, (), ()), {}, []),
    "chosen among several": (
        Packages("3.1", "0.60b0", ("distro", "otelog"), ()),
        {"OTEL_PYTHON_DISTRO": "otelog"},
        [],
    ),
    "Flask without its instrumentation": (
        Packages("3.1", None, (), ()),
        {},
        ["packages.flask_not_instrumented"],
    ),
    "Flask turned off": (
        GOOD,
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "redis, flask"},
        ["packages.flask_turned_off"],
    ),
    "FastAPI without its instrumentation, beside Starlette": (
        Packages(
            None, None, (), (), others={"fastapi": ("0.165", None), "starlette": ("1.1", None), "quart": ("1", "0")}
        ),
        {},
        ["packages.fastapi_not_instrumented", "packages.starlette_not_instrumented"],
    ),
    "Django and Celery without their instrumentations": (
        Packages(None, None, (), (), others={"django": ("5", None), "celery": ("5", None)}),
        {},
        ["packages.django_not_instrumented", "packages.celery_not_instrumented"],
    ),
    "Django turned off": (
        Packages(None, None, (), (), others={"django": ("5", "0.66b1")}),
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "django"},
        ["packages.django_turned_off"],
    ),
    "aiohttp turned off": (
        Packages(None, None, (), (), others={"aiohttp": ("3.14", "0.66b1")}),
        {"OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "aiohttp-server"},
        ["packages.aiohttp_turned_off"],
    ),
    "several distros": (Packages(None, None, ("distro", "otelog"), ()), {}, ["packages.several_distros"]),
    "several configurators": (Packages(None, None, (), ("other", "otelog")), {}, ["packages.several_configurators"]),
    "an unknown distro": (GOOD, {"OTEL_PYTHON_DISTRO": "mine"}, ["packages.unknown_distro"]),
}


@pytest.mark.parametrize("name", INSTALLED)
def test_packages_that_do_not_fit_are_told(name: str) -> None:
    packages, variables, expected = INSTALLED[name]
    assert [finding.code for finding in check_packages(packages, variables).findings] == expected


def test_the_environment_that_the_tests_run_in_is_looked_at() -> None:
    assert isinstance(look_at_packages(), Packages)
