"""The records in the Collector's files, by service: the quick count against a plain one."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelog.audit.books import FileRecords
from otelog.audit.files import FileCount, find_files
from tests.sizes import sized

# What could be taken for a key of the document, were it not escaped.
HOSTILE = [
    '"body":',
    '{"timeUnixNano":"1"',
    '"severityNumber":21',
    '{"resource":{"attributes":[]},"scopeLogs":[',
    '{"resourceLogs":[{"resource":{',
    '"key":"gen_ai.system"',
    "\\",
    '\\"body":',
    "gen_ai.system",
    "]}",
    "é\n\u2028",
]
texts = st.text(max_size=8) | st.sampled_from(HOSTILE)
keys = st.sampled_from(["gen_ai.system", "gen_ai", "x.gen_ai.y", "body", "severityNumber", "service.name"]) | texts
values: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.builds(lambda text: {"stringValue": text}, texts) | st.just({"intValue": "7"}),
    lambda inner: st.builds(
        lambda key, value: {"kvlistValue": {"values": [{"key": key, "value": value}]}}, keys, inner
    ),
    max_leaves=3,
)
attributes = st.lists(st.builds(lambda key, value: {"key": key, "value": value}, keys, values), max_size=3)
times = st.integers(10**18, 2 * 10**18)
SINCE = 15 * 10**17
MOST_DOCUMENTS, MOST_RESOURCES = sized(2, full=4), sized(2, full=3)


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    """A record with its keys in the Collector's order, those without a value left out as it does."""
    record: dict[str, Any] = {}
    if when := draw(st.none() | times):
        record["timeUnixNano"] = str(when)
    if draw(st.booleans()):
        record["observedTimeUnixNano"] = str(draw(times))
    if number := draw(st.integers(0, 24)):
        record["severityNumber"] = number
    record["body"] = draw(values | st.just({}))
    if found := draw(attributes):
        record["attributes"] = found
    return record


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    resources = []
    for _ in range(draw(st.integers(1, MOST_RESOURCES))):
        resource: dict[str, Any] = {}
        if pairs := draw(attributes):
            resource["attributes"] = [pair for pair in pairs if not pair["key"].startswith("service.")]
        for key in ("service.name", "service.namespace"):
            if draw(st.booleans()):
                value = {"stringValue": draw(st.sampled_from(["shop", "pay"]))}
                resource.setdefault("attributes", []).append({"key": key, "value": value})
        scopes = draw(
            st.lists(
                st.builds(
                    lambda name, logs: {"scope": {"name": name} if name else {}, "logRecords": logs},
                    st.sampled_from(["", "shop.ai", "shop.orders"]),
                    st.lists(records(), max_size=4),
                ),
                max_size=2,
            )
        )
        resources.append({"resource": resource, "scopeLogs": scopes})
    return {"resourceLogs": resources}


def count_plainly(
    several: Iterable[dict[str, Any]], *, since_ns: int = 0, ai_loggers: str = "none"
) -> dict[str, Counter[str]]:
    """What the file has, read as anybody would who knows OTLP/JSON."""
    counts: dict[str, Counter[str]] = {"records": Counter(), "errors": Counter(), "ai": Counter()}
    for document in several:
        for resource_logs in document["resourceLogs"]:
            own = {
                pair["key"]: pair["value"].get("stringValue")
                for pair in resource_logs["resource"].get("attributes", ())
            }
            name = own.get("service.name", "unknown_service")
            service = f"{own['service.namespace']}/{name}" if "service.namespace" in own else name
            for scope_logs in resource_logs["scopeLogs"]:
                for record in scope_logs["logRecords"]:
                    if int(record.get("timeUnixNano", 0)) < since_ns:
                        continue
                    found = [pair["key"].startswith("gen_ai.") for pair in record.get("attributes", ())]
                    counts["records"][service] += 1
                    counts["errors"][service] += record.get("severityNumber", 0) >= 17
                    counts["ai"][service] += any(found) or scope_logs["scope"].get("name") == ai_loggers
    return counts


def write(path: Path, several: Iterable[dict[str, Any]], *, packed: bool = False) -> None:
    data = b"".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for one in several)
    path.write_bytes(gzip.compress(data) if packed else data)


def assert_same(found: FileRecords, plain: dict[str, Counter[str]]) -> None:
    assert found.torn == 0
    assert {name: dict(getattr(found, name)) for name in plain} == {
        name: dict(+counts) for name, counts in plain.items()
    }


@given(several=st.lists(documents(), max_size=MOST_DOCUMENTS))
def test_the_quick_count_is_that_of_a_parser(several: list[dict[str, Any]], tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("logs")
    write(folder / "app.jsonl", several)
    assert_same(FileCount(folder).read_on()["app"], count_plainly(several))
    # So it is with a window, and with loggers that are AI.
    assert_same(FileCount(folder, since_ns=SINCE).read_on()["app"], count_plainly(several, since_ns=SINCE))
    found = FileCount(folder, ai_loggers="^shop.ai$").read_on()["app"]
    assert_same(found, count_plainly(several, ai_loggers="shop.ai"))


def make(service: str, count: int) -> dict[str, Any]:
    record = {"timeUnixNano": str(10**18), "severityNumber": 9, "body": {"stringValue": "x"}}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return {"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": {}, "logRecords": [record] * count}]}]}


def test_a_document_of_another_making_is_parsed(tmp_path: Path) -> None:
    (tmp_path / "app.jsonl").write_text(json.dumps(make("shop", 3)) + "\n")
    assert FileCount(tmp_path).read_on()["app"] == FileRecords(records={"shop": 3})


def test_a_file_that_grows_and_is_rotated_is_counted_once(tmp_path: Path) -> None:
    write(tmp_path / "app.jsonl", [make("shop", 3)])
    counted = FileCount(tmp_path)
    assert counted.read_on()["app"].records == {"shop": 3}
    with (tmp_path / "app.jsonl").open("ab") as file:
        file.write(json.dumps(make("shop", 2), separators=(",", ":")).encode() + b"\n")
    (tmp_path / "app.jsonl").rename(tmp_path / "app-2026-11-25T10-47-40.123.jsonl")
    write(tmp_path / "app.jsonl", [make("pay", 4)])
    assert counted.size_bytes() > 0
    assert counted.read_on()["app"].records == {"shop": 5, "pay": 4}
    assert counted.size_bytes() == 0
    assert FileCount(tmp_path).read_on() == counted.read_on()


def test_packed_and_rotated_files_count_and_others_do_not(tmp_path: Path) -> None:
    write(tmp_path / "app-2026-11-25T10-47-40.123.jsonl.gz", [make("shop", 3)], packed=True)
    write(tmp_path / "app.jsonl", [make("shop", 1)])
    write(tmp_path / "errors.jsonl", [make("shop", 1)])
    write(tmp_path / "application.jsonl", [make("shop", 7)])
    write(tmp_path / "app.log", [make("shop", 7)])
    counted = FileCount(tmp_path)
    assert counted.read_on()["app"].records == {"shop": 4}
    assert counted.read_on()["app"].records == {"shop": 4}
    assert {stream: [path.name for path in paths] for stream, paths in find_files(tmp_path).items()} == {
        "app": ["app-2026-11-25T10-47-40.123.jsonl.gz", "app.jsonl"],
        "errors": ["errors.jsonl"],
    }


def test_a_torn_last_document_is_said_until_it_is_whole(tmp_path: Path) -> None:
    data = json.dumps(make("shop", 2), separators=(",", ":")).encode() + b"\n"
    file = tmp_path / "app.jsonl"
    file.write_bytes(data + data[:50])
    counted = FileCount(tmp_path)
    assert counted.read_on()["app"] == FileRecords(records={"shop": 2}, torn=1)
    assert counted.read_on()["app"] == FileRecords(records={"shop": 2}, torn=1)
    file.write_bytes(data + data)
    assert counted.read_on()["app"] == FileRecords(records={"shop": 4})


@pytest.mark.parametrize("gap", [b"", b"\n"])
def test_what_a_killed_collector_has_left_is_torn_and_the_next_document_counts(tmp_path: Path, gap: bytes) -> None:
    data = json.dumps(make("shop", 2), separators=(",", ":")).encode() + b"\n"
    (tmp_path / "app.jsonl").write_bytes(data + data[:-20] + gap + data)
    assert FileCount(tmp_path).read_on()["app"] == FileRecords(records={"shop": 4}, torn=1)
