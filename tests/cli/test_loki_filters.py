"""The command line's filters as LogQL, and Loki's entries as records."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from otelog._otlp.loki_form import odd_name
from otelog.cli.search.loki_filters import ALL, build_query, find_label, find_labels, is_logql, is_metric, to_ns
from otelog.cli.search.loki_records import to_record
from otelog.cli.show.filters import Filters
from otelog.loki import Entry


@pytest.mark.parametrize(
    ("word", "logql", "metric"),
    [
        ('{service_name="x"}', True, False),
        (' {service_name="x"} |= "(" ', True, False),
        ("sum(count_over_time({a='b'}[5m]))", True, True),
        ("sum by (a, b) (rate({a='b'}[5m]))", True, True),
        ("topk(5, sum by (a) (rate({a='b'}[5m])))", True, True),
        ("(sum(rate({a='b'}[5m])))", True, True),
        ("app.log", False, False),
        ("logs (1).jsonl", False, False),
        ("./{a}", False, False),
    ],
)
def test_logql_is_told_from_the_names_of_files(word: str, logql: bool, metric: bool) -> None:
    assert (is_logql(word), is_metric(word)) == (logql, metric)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(), '{service_name=~".+"}'),
        (Filters(service='a"b\\'), '{service_name="a\\"b\\\\"}'),
        (Filters(text="a.b"), '{service_name=~".+"} |~ "(?i)a\\\\.b"'),
        (Filters(logger="a.b"), '{service_name=~".+"} | scope_name=~"a\\\\.b(\\\\..*)?"'),
        (Filters(trace_id="AB"), '{service_name=~".+"} | trace_id=~"ab.*"'),
        (
            Filters(where=(("9 lives.n", "x"),)),
            f'{ALL} | (key_9_lives_n="x" or {odd_name("9 lives.n")}="x" or {odd_name("9 lives.n", "resource_")}="x")',
        ),
        (
            Filters(where=(("ключ", ""),)),
            f'{ALL} | ({odd_name("ключ")}="" and {odd_name("ключ", "resource_")}="")',
        ),
        (Filters(where=(("service", "x"),)), '{service_name=~".+"} | service_name="x"'),
        (
            Filters(level=17),
            f'{ALL} | (severity_number>=17 or (severity_number="" and detected_level=~"error|fatal|critical"))',
        ),
    ],
)
def test_filters_are_logql(filters: Filters, expected: str) -> None:
    assert build_query(None, filters) == expected


def test_logql_is_narrowed_on_lines_of_their_own() -> None:
    narrowed = build_query("{a='b'} # c", Filters(service="x", text="y"))
    assert narrowed == '{a=\'b\'} # c\n| service_name="x"\n|~ "(?i)y"'


def test_fields_have_the_names_that_loki_gives_them() -> None:
    assert [find_label(field) for field in ("service", "level", "http.route", "module")] == [
        "service_name",
        "severity_text",
        "http_route",
        None,
    ]
    assert find_label("ключ") == odd_name("ключ")
    assert find_labels(["logger", "process"]) == ["scope_name", "process_pid"]
    assert find_labels(["logger", "message"]) is None
    assert find_labels([]) == []


def test_times_are_exact() -> None:
    assert to_ns(datetime(2026, 11, 24, 20, 0, 0, 123457, tzinfo=timezone.utc)) == 1_795_550_400_123_457_000


def test_an_entry_that_came_by_otlp_is_the_record_that_a_file_has() -> None:
    metadata = {
        "severity_number": "17",
        "severity_text": "ERROR",
        "detected_level": "error",
        "scope_name": "shop.orders",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "code_file_path": "/srv/shop/orders.py",
        "code_function_name": "pay",
        "code_line_number": "7",
        "thread_name": "MainThread",
        "process_pid": "42",
        "service_instance_id": "i-1",
        "observed_timestamp": "1",
        "flags": "1",
        "telemetry_sdk_name": "opentelemetry",
        "exception_type": "KeyError",
        "event_name": "order.failed",
        "order_id": "7",
    }
    record = to_record(Entry(1_700_000_000_123_456_789, "failed", {"service_name": "shop"}, metadata, {"n": "5"}))
    assert datetime.fromisoformat(record.pop("timestamp")).timestamp() == 1_700_000_000.123456
    assert record == {
        "level": "ERROR",
        "logger": "shop.orders",
        "message": "failed",
        "module": "orders",
        "function": "pay",
        "line": 7,
        "thread": "MainThread",
        "process": 42,
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "span_id": "b7ad6b7169203331",
        "event_name": "order.failed",
        "service.name": "shop",
        "service.instance.id": "i-1",
        "exception.type": "KeyError",
        "order_id": "7",
        "n": "5",
    }


def test_hashed_names_are_shown_as_they_were_given() -> None:
    metadata = {
        "odd_0000000000000001": "1",
        "odd_resource_0000000000000002": "2",
        "odd_0000000000000003": "3",
        "otelog_names": '{"odd_0000000000000001": "ключ", "odd_0000000000000004": 5}',
        "otelog_resource_names": '{"odd_resource_0000000000000002": "страна"}',
    }
    record = to_record(Entry(5, "hello", {}, metadata))
    assert (record["ключ"], record["страна"], record["odd_0000000000000003"]) == ("1", "2", "3")
    assert not {"otelog_names", "otelog.names", "otelog_resource_names"} & set(record)
    for damaged in ("{", "[]", "5", "[" * 100_000):
        record = to_record(Entry(5, "hello", {}, {"odd_0000000000000001": "1", "otelog_names": damaged}))
        assert record["odd_0000000000000001"] == "1"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("order.paid", None),
        ("order.paid amount=12.5", None),
        ('order.paid "a b"=1', None),
        ("order.paid for=1 nobody", "order.paid for=1 nobody"),
        ("order.paid by ann", "order.paid by ann"),
        ("paid", "paid"),
    ],
)
def test_a_line_that_was_made_for_an_event_is_no_message(line: str, message: str | None) -> None:
    metadata = {"event_name": "order.paid", "amount": "12.5", "a_b": "1"}
    record = to_record(Entry(5, line, {}, metadata))
    assert (record["message"], record["event_name"]) == (message, "order.paid")


@pytest.mark.parametrize(("detected", "level"), [("warn", "WARN"), ("unknown", "UNSPECIFIED")])
def test_an_entry_that_did_not_has_the_level_that_loki_found(detected: str, level: str) -> None:
    record = to_record(Entry(5, "hello", {"job": "x"}, {"detected_level": detected}))
    assert (record["level"], record["message"], record["job"]) == (level, "hello", "x")
