"""`otelog query`: what it finds in otelog's own files and in the Collector's."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList

from otelog.cli.commands import otelog
from otelog.cli.search.log_files import find_files, read_otlp
from otelog.cli.search.search import Search
from otelog.cli.show.filters import Filters
from otelog.cli.show.lines import render_lines
from otelog.sinks._line import LINE_KEYS

TRACE = "0af7651916cd43dd8448eb211c80319c"
# A fixed time: a test that compares with ages makes its own, however long the run has taken by then.
NOW = datetime(2026, 11, 24, 20, 0, tzinfo=timezone.utc)


def line(message: Any, *, age: float = 0.0, level: str = "INFO", **more: Any) -> dict[str, Any]:
    record = {
        **dict.fromkeys(LINE_KEYS),
        "timestamp": (NOW - timedelta(seconds=age)).isoformat(timespec="microseconds"),
        "level": level,
        "logger": "shop.orders",
        "message": message,
        "service.name": "shop",
    }
    return {**record, **more}


RECORDS = [
    line("oldest", age=7200, level="DEBUG"),
    line("paid 12.50", order_id=7, currency="EUR", vip=True, trace_id=TRACE),
    line("paid 3.10", age=30, order_id=8, currency="EUR"),
    line("charge failed", level="ERROR", order_id=7, line=3),
    line("ticket sold", logger="shop.tickets", **{"service.name": "box office"}),
    line("looks like it", logger="shop.ordersystem", level="Level 25"),
]

OLDER = {
    "timestamp": NOW.isoformat(timespec="microseconds"),
    "level": "NOTICE",
    "logger": "shop.old",
    "message": "as it was",
    "severity_number": 11,
    "service": "old shop",
    "attributes": {"order_id": 9},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS), encoding="utf-8")
    return path


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(otelog, ["query", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.stderr


def messages(*words: object) -> list[Any]:
    return [json.loads(one)["message"] for one in run(*words, "--json").splitlines()]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [record["message"] for record in RECORDS]),
        (["--level", "warning"], ["charge failed"]),
        (["--level", "25"], ["charge failed", "looks like it"]),
        (["--since", "2026-11-24T19:50Z", "--logger", "shop.orders"], ["paid 12.50", "paid 3.10", "charge failed"]),
        (["--until", (NOW - timedelta(hours=1)).isoformat()], ["oldest"]),
        (["--since", (NOW - timedelta(seconds=60)).isoformat(), "--until", "2026-11-24 19:59:50+00:00"], ["paid 3.10"]),
        (["--since", (NOW - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"), "--text", "PAID 3"], ["paid 3.10"]),
        (["--service", "box office"], ["ticket sold"]),
        (["--trace-id", TRACE.upper()], ["paid 12.50"]),
        (["--trace-id", TRACE[:8]], ["paid 12.50"]),
        (["--where", "order_id=7"], ["paid 12.50", "charge failed"]),
        (["--where", "order_id=7", "--where", "level=ERROR"], ["charge failed"]),
        (["--where", "vip=true"], ["paid 12.50"]),
        (["--where", "currency="], ["oldest", "charge failed", "ticket sold", "looks like it"]),
        (["--last", "2"], ["ticket sold", "looks like it"]),
        (["--text", "nothing like it"], []),
    ],
)
def test_what_is_asked_for_is_found(file: Path, words: list[str], expected: list[str]) -> None:
    assert messages(file, *words) == expected
    assert run(file, *words, "--count") == f"{len(expected)}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--since", "1h"], ["young"]),
        (["--until", "1h"], ["old"]),
        (["--since", "1d", "--until", "90m"], ["old"]),
        (["--since", "0.5w", "--until", "5400s"], ["old"]),
        (["--until", "2d"], []),
    ],
)
def test_ages_count_from_now(tmp_path: Path, words: list[str], expected: list[str]) -> None:
    path = tmp_path / "x.jsonl"
    now = datetime.now(timezone.utc)
    times = {"old": now - timedelta(hours=2), "young": now - timedelta(minutes=1)}
    lines = (json.dumps(line(message, timestamp=moment.isoformat())) + "\n" for message, moment in times.items())
    path.write_text("".join(lines), encoding="utf-8")
    assert messages(path, *words) == expected


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--level", "25"], 1),
        (["--level", "warning"], 0),
        (["--service", "old shop"], 1),
        (["--where", "service=old shop", "--where", "order_id=9"], 1),
    ],
)
def test_lines_of_before_are_still_read(tmp_path: Path, words: list[str], found: int) -> None:
    (tmp_path / "otelog-dev.jsonl").write_text(json.dumps(OLDER) + "\n", encoding="utf-8")
    assert run(tmp_path, *words, "--count") == f"{found}\n"
    assert "as it was order_id=9" in run(tmp_path)


def test_json_is_the_line_as_it_was(file: Path) -> None:
    assert [json.loads(one) for one in run(file, "--json").splitlines()] == RECORDS


def test_counts_by_field(file: Path) -> None:
    assert [row.split() for row in run(file, "--group-by", "currency").splitlines()] == [
        ["currency", "count"],
        ["4"],
        ["EUR", "2"],
    ]
    rows = [json.loads(row) for row in run(file, "--group-by", "service", "--group-by", "level", "--json").splitlines()]
    assert rows[0] == {"service": "shop", "level": "INFO", "count": 2}
    assert sum(row["count"] for row in rows) == len(RECORDS)


def test_a_readable_line_is_one_line_and_harmless(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    hostile = line("a\nb\x1b[2J\u202ec", level="ERROR", **{"k\n": {"v": "\r"}, "code.stacktrace": "hidden"})
    path.write_text(json.dumps(hostile) + "\n", encoding="utf-8")
    shown = run(path)
    assert shown.count("\n") == 1
    assert "shop.orders a\\nb\\x1b[2J\\u202ec" in shown
    assert "hidden" not in shown
    assert not {"\x1b", "\u202e", "\r"} & set(shown)


def request() -> ExportLogsServiceRequest:
    message = ExportLogsServiceRequest()
    resource = message.resource_logs.add()
    for key, value in (("service.name", "shop"), ("service.instance.id", "i-1")):
        resource.resource.attributes.append(KeyValue(key=key, value=AnyValue(string_value=value)))
    scope = resource.scope_logs.add()
    scope.scope.name = "shop.orders"
    for number in range(3):
        record = scope.log_records.add()
        record.time_unix_nano = 1_700_000_000_123_456_789 + number
        record.severity_number, record.severity_text = 17, "ERROR"
        record.body.string_value = f"failed {number}"
        record.trace_id, record.span_id = bytes.fromhex(TRACE), bytes(range(1, 9))
        values = {
            "text": AnyValue(string_value="x"),
            "whole": AnyValue(int_value=2**53 + 1),
            "real": AnyValue(double_value=1.5),
            "flag": AnyValue(bool_value=False),
            "bytes": AnyValue(bytes_value=b"\xff\x00"),
            "list": AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue()])),
            "map": AnyValue(kvlist_value=KeyValueList(values=[KeyValue(key="k", value=AnyValue(string_value="v"))])),
            "none": AnyValue(),
        }
        for key, value in values.items():
            record.attributes.append(KeyValue(key=key, value=value))
    scope.log_records[2].event_name = "order.failed"
    return message


def to_otlp_json(message: ExportLogsServiceRequest) -> dict[str, Any]:
    """As a Collector writes it: ids in hex, where protobuf's own JSON has base64."""
    from google.protobuf.json_format import MessageToDict

    document: dict[str, Any] = MessageToDict(message)
    for record in document["resourceLogs"][0]["scopeLogs"][0]["logRecords"]:
        record["traceId"], record["spanId"] = TRACE, bytes(range(1, 9)).hex()
        record["severityNumber"] = 17
    return document


def test_a_collectors_document_gives_the_same_records_as_otelogs_own_lines() -> None:
    message = request()
    assert list(read_otlp(to_otlp_json(message))) == [json.loads(one.text) for one in render_lines(message)]


def test_documents_and_lines_packed_or_not_are_read_from_a_folder(tmp_path: Path, file: Path) -> None:
    document = json.dumps(to_otlp_json(request())) + "\n"
    (tmp_path / "collector.jsonl.1.gz").write_bytes(gzip.compress(document.encode()))
    (tmp_path / "notes.txt").write_text("no log\n", encoding="utf-8")
    assert len(messages(tmp_path)) == len(RECORDS) + 3
    assert messages(tmp_path, "--where", "event_name=order.failed") == ["failed 2"]
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "old.log.zst").write_bytes(zstandard.compress(document.encode()) + zstandard.compress(b""))
    assert run(tmp_path, "--count", "--level", "error", "--where", "whole=9007199254740993") == "6\n"


def put(folder: Path, name: str, *texts: str) -> None:
    content = "".join(json.dumps(line(text)) + "\n" for text in texts).encode()
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)


def test_rotated_files_of_a_folder_are_read_oldest_first_and_each_record_once(tmp_path: Path) -> None:
    put(tmp_path, "app.log", "6")
    put(tmp_path, "app.20261124-212937-0002.log", "4")
    put(tmp_path, "app.20261124-212937-0001.log.gz", "2", "3")
    put(tmp_path, "app.20261124-212937-0001.log", "2", "3")
    put(tmp_path, "app.20261124-212936-0001.log.gz", "1")
    put(tmp_path, "app.77.20261124-212938-0001.log", "5")
    put(tmp_path, "app.20261124-212937-0002.log.gz.tmp", "4")
    put(tmp_path, "errors.log", "2")
    put(tmp_path, "ai_responses.log", "6")
    assert messages(tmp_path) == ["1", "2", "3", "4", "5", "6"]
    assert messages(tmp_path, "--stream", "errors") == ["2"]
    assert sorted(messages(tmp_path, "--stream", "ai_responses", "--stream", "errors")) == ["2", "6"]
    assert messages(tmp_path / "errors.log") == ["2"]


def test_of_the_collectors_folder_one_kind_of_files_is_meant_its_rotated_ones_too(tmp_path: Path) -> None:
    for name in ("app", "app-2026-11-25T10-00-00.123", "errors", "errors-2026-11-25T10-00-00.123", "ai_responses"):
        (tmp_path / f"{name}.jsonl").write_text("{}\n")
    (tmp_path / "application.jsonl").write_text("{}\n")

    def find(*streams: str) -> set[str]:
        return {path.stem for path in find_files([tmp_path], streams)}

    assert find("app") == {"app", "app-2026-11-25T10-00-00.123", "application"}
    assert find("errors") == {"errors", "errors-2026-11-25T10-00-00.123", "application"}


def test_a_folder_without_the_stream_says_so(tmp_path: Path) -> None:
    put(tmp_path, "app.log", "1")
    assert "has no log files of errors" in run(tmp_path, "--stream", "errors", code=1)


def test_lines_that_are_no_records_are_counted_and_lose_nothing_else(file: Path) -> None:
    with file.open("a", encoding="utf-8") as more:
        more.write('\n[1]\n"x"\nnull\n{"resourceLogs": [{"scopeLogs": 5}]}\n{"a": 1}\n{"timestamp": "2026-')
    done = CliRunner().invoke(otelog, ["query", str(file), "--count"])
    assert (done.stdout, done.stderr) == (f"{len(RECORDS)}\n", "6 lines are no records\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--level", "loud", "."], "level must be DEBUG"),
        (["--since", "yesterday", "."], "is no time: give an age"),
        (["--where", "x", "."], "'x' is not field=value"),
    ],
)
def test_what_cannot_be_done_is_said(words: list[str], said: str) -> None:
    code = 1 if words == ["nowhere.jsonl"] else 2
    assert said in " ".join(run(*words, code=code).split())


def test_an_empty_folder_and_a_damaged_file_are_told(tmp_path: Path) -> None:
    assert "has no log files" in run(tmp_path, code=1)
    for name, content in (("x.log.gz", gzip.compress(b"x" * 1000)[:20]), ("x.log.gz", b"nothing packed")):
        (tmp_path / name).write_bytes(content)
        assert "cannot be read" in run(tmp_path, code=1)
    pytest.importorskip("zstandard")
    (tmp_path / "x.log.gz").rename(tmp_path / "x.log.zst")
    assert "cannot be read" in run(tmp_path, code=1)


def ask(*words: object) -> tuple[int, str, str]:
    done = CliRunner().invoke(otelog, ["query", *map(str, words)])
    return done.exit_code, done.stdout, done.stderr


def test_where_nothing_matches_standard_error_says_what_was_looked_at(file: Path) -> None:
    code, output, errors = ask(file, "--service", "nobody", "--level", "ERROR", "--where", "a=b")
    assert (code, output) == (0, "")
    asked = "--where a=b, --level error (17), --service nobody"
    assert errors == f"nothing matched of {len(RECORDS)} records in {file}, asked: {asked}\n"


@pytest.mark.parametrize(
    ("words", "output"),
    [((), ""), (("--json",), ""), (("--last", 3), ""), (("--group-by", "level"), ""), (("--count",), "0\n")],
)
def test_every_kind_of_question_says_that_nothing_matched(words: tuple[object, ...], output: str, file: Path) -> None:
    code, shown, errors = ask(file, "--service", "nobody", *words)
    assert (code, shown) == (0, output)
    assert errors.startswith("nothing matched of ")


def test_what_duckdb_searched_is_counted_too(file: Path) -> None:
    nobody = Filters(service="nobody")
    searches = [Search([file], nobody, duckdb_from_bytes=least) for least in (0, None)]
    assert [list(search.records()) for search in searches] == [[], []]
    assert [search.count_looked_at() for search in searches] == [len(RECORDS)] * 2


def test_where_something_matches_standard_error_is_silent(file: Path) -> None:
    assert ask(file)[2] == ""
