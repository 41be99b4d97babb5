"""The configuration file: every option, every precedence, and every mistake at once with its line."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import otelog
from otelog._config import table
from otelog._config.file import MAX_FILE_BYTES, ConfigFileError, json_schema, load
from otelog._config.kinds import HEADERS, PROXY, URL, Entry
from otelog._config.resolve import explain, resolve
from otelog._setup import configure
from otelog.exceptions import ConfigurationError
from otelog.testing import OTLPServer
from tests.arrivals import bodies
from tests.config.test_config import CASES, COMPANIONS, OPTIONS, get_value, is_one_of_two, other_of_two, variable_of

yaml = pytest.importorskip("yaml", reason="the extra config is tested in the main environment")
jsonschema = pytest.importorskip("jsonschema")

IN_FILE = [name for name, option in OPTIONS.items() if option.in_file]
OTHERS = {"certificate_file": "x.pem", "max_attribute_length": 7}


def plain(value: object) -> object:
    """A value as YAML can hold it."""
    return str(value) if isinstance(value, Path) else value


@pytest.fixture
def write(tmp_path: Path) -> Any:
    path = tmp_path / "otelog.yaml"

    def write_file(content: Any) -> str:
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    return write_file


def mistakes_of(path: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigFileError) as caught:
        load(path)
    assert isinstance(caught.value, ConfigurationError)
    for mistake in caught.value.mistakes:
        assert f"{path}:{mistake.line}: " in str(caught.value)
    return [(mistake.line, mistake.key, mistake.problem) for mistake in caught.value.mistakes]


# Every option, from every place.


def test_every_option_but_those_that_cannot_may_stand_in_a_file() -> None:
    kept_out = {name for name, option in OPTIONS.items() if not option.in_file}
    configure = {
        "access_log",
        "traces_exporter",
        "metrics_exporter",
        "metric_export_interval_millis",
        "metric_export_timeout_millis",
    }
    assert kept_out == {"config_file", "exporter", "sdk_disabled"} | configure
    assert set(json_schema()["properties"]) == set(IN_FILE) <= set(CASES)


@pytest.mark.parametrize("name", IN_FILE)
def test_a_value_of_the_file_is_taken(write: Any, name: str) -> None:
    case = CASES[name]
    path = write({name: plain(case.keyword), **COMPANIONS.get(name, {})})
    settings, sources = explain({"config_file": path}, {})
    expected = dict(case.resolved) if isinstance(case.resolved, Mapping) else case.resolved
    assert getattr(settings, name) == expected != OPTIONS[name].default
    assert re.fullmatch(re.escape(path) + r":\d+", sources[name])
    assert settings.warnings == ()


@pytest.mark.parametrize("name", [name for name in IN_FILE if CASES[name].text is not None])
def test_the_environment_beats_the_file_and_a_keyword_beats_both(write: Any, name: str) -> None:
    case = CASES[name]
    in_file, keyword = plain(case.keyword), plain(case.keyword)
    if is_one_of_two(name):
        in_file = keyword = other_of_two(name)
    path = write({name: in_file, **COMPANIONS.get(name, {})})
    environ = {variable_of(name): case.text or ""}
    settings, sources = explain({"config_file": path}, environ)
    found, expected = get_value(settings, name), case.value
    if OPTIONS[name].merged:
        assert set(dict(expected).items()) <= {(name, str(value)) for name, value in found.items()}
    else:
        assert found == expected
    assert sources[name] == variable_of(name)
    with_keyword = explain({"config_file": path, name: keyword, **COMPANIONS.get(name, {})}, environ)
    assert with_keyword[1][name] == "keyword"
    assert get_value(with_keyword[0], name) != get_value(resolve(COMPANIONS.get(name, {}), environ), name)


def test_entries_of_a_mapping_are_merged_from_all_three(write: Any) -> None:
    path = write({"headers": {"a": "file", "b": "file", "c": "file"}, "resource_attributes": {"x": 1, "y": 1, "z": 1}})
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "b=env,c=env", "OTEL_RESOURCE_ATTRIBUTES": "y=2,z=2"}
    settings = resolve({"config_file": path, "headers": {"c": "keyword"}, "resource_attributes": {"z": 3}}, environ)
    assert settings.headers == {"a": "file", "b": "env", "c": "keyword"}
    assert settings.resource_attributes == {"x": 1, "y": "2", "z": 3}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "file"),
        ({"OTEL_SERVICE_NAME": "name"}, "name"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=attribute"}, "attribute"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=attribute", "OTEL_SERVICE_NAME": "name"}, "name"),
    ],
)
def test_a_services_name_follows_the_same_precedence(write: Any, environ: dict[str, str], expected: str) -> None:
    path = write({"service_name": "file", "resource_attributes": {"service.name": "attribute of the file"}})
    settings = resolve({"config_file": path}, environ)
    assert settings.service_name == settings.resource_attributes["service.name"] == expected
    assert resolve({"config_file": path, "service_name": "keyword"}, environ).service_name == "keyword"


def test_the_environment_names_the_file(write: Any) -> None:
    path = write({"timeout": 3})
    settings = resolve({}, {"OTELOG_CONFIG_FILE": path})
    assert (settings.timeout, settings.config_file) == (3.0, path)
    assert resolve({"config_file": write({"timeout": 3})}, {"OTELOG_CONFIG_FILE": "no such file"}).timeout == 3.0
    with pytest.raises(ConfigFileError, match="no such file:1: cannot be read: No such file"):
        resolve({"config_file": "no such file"}, {})


def test_a_file_of_the_environment_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    for path in ("no such file", str(tmp_path)):
        settings = resolve({}, {"OTELOG_CONFIG_FILE": path, "OTELOG_LEVEL": "ERROR"})
        (warning,) = settings.warnings
        assert warning.startswith(f"OTELOG_CONFIG_FILE: {path}:1: cannot be read: ")
        assert (settings.config_file, settings.level) == (None, 40)


def test_a_mistake_in_a_file_is_an_error_whoever_names_it(write: Any) -> None:
    path = write({"timeout": "soon"})
    with pytest.raises(ConfigFileError):
        resolve({}, {"OTELOG_CONFIG_FILE": path})


@pytest.mark.parametrize("content", ["", "# nothing yet\n", "---\n", "level:\nheaders:\n"])
def test_what_is_not_given_is_the_default(write: Any, content: str) -> None:
    path = write(content)
    assert load(path).values == {}
    settings = resolve({"config_file": path}, {})
    assert {name: get_value(settings, name) for name in IN_FILE} == {name: OPTIONS[name].default for name in IN_FILE}


def test_values_of_the_file_must_fit_together_too(write: Any) -> None:
    with pytest.raises(ConfigurationError, match="a batch must fit into the queue"):
        resolve({"config_file": write({"max_queue_size": 10, "max_export_batch_size": 20})}, {})
    with pytest.raises(ConfigurationError, match="at least 10240000 are needed"):
        resolve({"config_file": write({"max_queue_bytes": 2048})}, {})
    with pytest.raises(ConfigurationError, match="mTLS needs both"):
        resolve({"config_file": write({"client_key_file": "key.pem"})}, {})
    whole = resolve({"config_file": write({"endpoint": "http://c:1/v1/logs"})}, {})
    assert (whole.endpoint, whole.base_endpoint) == ("http://c:1/v1/logs", "http://c:1")


# Mistakes.


def can_stand_in_yaml(value: object) -> bool:
    try:
        return bool(yaml.safe_load(yaml.safe_dump({"a": value}))["a"] == value)
    except (yaml.YAMLError, ValueError):
        return False


def bad_values() -> list[Any]:
    return [
        pytest.param(name, bad, id=f"{name}-{number}")
        for name in IN_FILE
        for number, bad in enumerate(CASES[name].bad_keywords)
        if can_stand_in_yaml(bad)
    ]


@pytest.mark.parametrize(("name", "bad"), bad_values())
def test_a_bad_value_of_each_option_is_told_with_its_line_and_what_is_allowed(write: Any, name: str, bad: Any) -> None:
    others = {key: value for key, value in OTHERS.items() if key != name}
    path = write(yaml.safe_dump(others) + yaml.safe_dump({name: bad}))
    ((line, key, problem),) = mistakes_of(path)
    assert (line, key) == (len(others) + 1, name)
    # Of URLs and headers it is said what is wrong, too.
    allowed, separator, why = problem.partition("; but ")
    assert allowed.endswith(f"allowed: {OPTIONS[name].allowed}")
    assert not separator or (OPTIONS[name].kind in (URL, HEADERS, PROXY) and why)


def test_every_mistake_in_the_list_of_exporters_is_told_with_its_own_line(write: Any) -> None:
    path = write(
        "exporters:\n"
        "  - otlp\n"
        "  - other\n"
        "  - type: file\n"
        "    max_bytes: -1\n"
        "    folder: logs\n"
        "    folder: more\n"
        "    foldre: logs\n"
        "    max_queue_size: 0\n"
        "  - {type: console, format: xml, level: loud}\n"
        "  - type: otlp\n"
        "    headers:\n"
        "      bad name: s3cret\n"
        "  - type: tcp\n"
        "  - level: INFO\n"
        "  - none\n"
        "  - 7\n"
    )
    found = mistakes_of(path)
    assert [(line, key) for line, key, _ in found] == [
        (3, "exporters[1]"),
        (5, "exporters[2].max_bytes"),
        (7, "exporters[2].folder"),
        (8, "exporters[2].foldre"),
        (9, "exporters[2].max_queue_size"),
        (10, "exporters[3].format"),
        (10, "exporters[3].level"),
        (12, "exporters[4].headers"),
        (14, "exporters[5].type"),
        (15, "exporters[6]"),
        (16, "exporters[7]"),
        (17, "exporters[8]"),
    ]
    problems = [problem for _, _, problem in found]
    assert problems[0] == "'other' is not allowed; allowed: otlp, file, console"
    assert problems[1] == "-1 is not allowed; allowed: a whole number >= 0"
    assert problems[2] == "is given twice, first in line 6"
    assert problems[3] == "is not an option; did you mean folder?"
    assert "s3cret" not in str(problems)


def test_the_list_of_exporters_is_taken_from_the_file(write: Any) -> None:
    path = write(
        "exporters:\n"
        "  - otlp\n"
        "  - type: otlp\n"
        "    name: second\n"
        "    endpoint: http://other:4318\n"
        "    level: ERROR\n"
        "  - type: file\n"
        "    folder: audit\n"
        "    loggers: [shop.audit]\n"
        "    max_queue_size: 50\n"
    )
    settings, sources = explain({"config_file": path}, {})
    assert settings.exporters == (
        Entry("otlp"),
        Entry("otlp", name="second", level=40, options={"endpoint": "http://other:4318"}),
        Entry("file", loggers=("shop.audit",), max_queue_size=50, options={"file_folder": "audit"}),
    )
    assert sources["exporters"] == f"{path}:1"
    jsonschema.validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")), json_schema())
    assert resolve({"config_file": write("exporters: [none]")}, {}).exporters == ()


def test_all_mistakes_are_told_at_once(write: Any) -> None:
    path = write(
        "service_name: shop\n"
        "levle: INFO\n"
        "max_queue_size: -5\n"
        "\n"
        "headers:\n"
        "  authorization: s3cret\n"
        "  bad name: s3cret\n"
        "timeout: soon\n"
        "timeout: 5\n"
        "zzz: 1\n"
        "exporter: otlp\n"
        "5: 6\n"
    )
    found = mistakes_of(path)
    assert [(line, key) for line, key, _ in found] == [
        (2, "levle"),
        (3, "max_queue_size"),
        (5, "headers"),
        (9, "timeout"),
        (10, "zzz"),
        (11, "exporter"),
        (12, "5"),
    ]
    problems = {key: problem for _, key, problem in found}
    assert problems["levle"] == "is not an option; did you mean level?"
    assert problems["timeout"] == "is given twice, first in line 8"
    assert problems["max_queue_size"] == "-5 is not allowed; allowed: a whole number >= 1"
    with pytest.raises(ConfigFileError) as caught:
        resolve({"config_file": path}, {})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("level: INFO\n\tx: 1\n", 2, "is not YAML: "),
        ("level: [INFO\n", 2, "is not YAML: "),
        ("level: INFO\n---\nlevel: DEBUG\n", 2, "is not YAML: "),
        ("- level\n", 1, "the file must be a mapping of options to values"),
        ("just words\n", 1, "the file must be a mapping of options to values"),
        (b"level: INFO\nservice_name: \xff\n", 2, "is not UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), 1, f"is larger than {MAX_FILE_BYTES} bytes"),
        ("level: \x00\n", 1, "is not YAML: "),
        pytest.param("[" * 5000, 1, "is nested too deep", marks=pytest.mark.no_cover),
        ("level: !!python/object/apply:os.system [echo]\n", 1, "is not YAML: "),
        ("level: *nowhere\n", 1, "is not YAML: "),
    ],
)
def test_what_is_no_configuration_at_all_is_told(write: Any, content: Any, line: int, problem: str) -> None:
    ((found_line, key, found),) = mistakes_of(write(content))
    assert (found_line, key) == (line, "")
    assert found.startswith(problem)


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    ((line, key, problem),) = mistakes_of(str(tmp_path))
    assert (line, key, problem) == (1, "", "cannot be read: Is a directory")


def test_a_mark_at_the_beginning_and_aliases_are_understood(write: Any) -> None:
    path = write(b"\xef\xbb\xbfresource_attributes: &all {a: 1}\nheaders: {<<: {x: y}}\nlevel: debug\n")
    assert load(path).values == {"resource_attributes": {"a": 1}, "headers": {"x": "y"}, "level": 10}


@pytest.mark.parametrize("library", ["yaml", "jsonschema"])
def test_without_the_extra_the_error_says_what_to_install(
    write: Any, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    path = write({"level": "INFO"})
    package = {"yaml": "PyYAML"}.get(library, library)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigurationError, match=rf"needs {package}: python -m pip install 'otelog\[config\]'"):
        load(path)


def test_the_schema_is_one() -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    json.dumps(schema)
    assert all(part["description"] for part in schema["properties"].values())


# From end to end.


def test_configure_reads_it(write: Any) -> None:
    with OTLPServer() as server:
        path = write({"endpoint": server.endpoint, "service_name": "from the file", "schedule_delay_millis": 10})
        try:
            otelog.configure(config_file=path)
            otelog.get_logger().info("configured")
            assert otelog.flush()
            assert bodies(server.records) == ["configured"]
            with pytest.raises(ConfigFileError):
                otelog.configure(config_file=write({"level": "loud"}))
            otelog.get_logger().info("goes on")
            assert otelog.flush()
            assert bodies(server.records) == ["configured", "goes on"]
        finally:
            configure.reset()


def test_the_options_table_in_the_readme_says_how_a_file_is_given() -> None:
    assert "| `config_file` | `OTELOG_CONFIG_FILE` |" in table.markdown_table()
