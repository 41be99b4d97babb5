"""A record that is over a request's limit is cut, marked, counted and delivered; only what cannot be cut is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry._logs import SeverityNumber
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ScopeLogs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor

import otelog
from otelog._otlp.encode import Encoder
from otelog._otlp.truncation import truncate_record
from otelog._record.attributes import AttributeBuilder
from otelog._record.row import Source
from otelog._record.values import Limits
from otelog._setup import configure
from otelog.testing import OTLPServer, Reply
from tests.grpc_server import GrpcServer
from tests.sizes import sized

SOURCE = Source("shop", 17, "ERROR")
LATEST = 20.0


def encode(message: Any = "m", fields: dict[str, Any] | None = None, limits: Limits | None = None) -> bytes:
    row = (1_700_000_000_000_000_000, SOURCE, None, message, None, fields, None, 0, 1)
    builder = AttributeBuilder(limits or Limits(), code_attributes=False)
    batch, failed = Encoder({}, "", builder).encode(list(row), lambda: None)
    assert not failed
    return batch.records[0]


def decode(record: bytes) -> LogRecord:
    (decoded,) = ScopeLogs.FromString(record).log_records
    return decoded


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return {pair.key: plain(pair.value) for pair in value.kvlist_value.values}
    return None if kind is None else getattr(value, kind)


def fields_of(record: LogRecord) -> dict[str, Any]:
    return {pair.key: plain(pair.value) for pair in record.attributes}


def cut(max_bytes: int, message: Any = "m", fields: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
    found = truncate_record(encode(message, fields), max_bytes)
    assert found is not None
    assert len(found) <= max_bytes
    record = decode(found)
    return plain(record.body), fields_of(record)


def test_the_longest_texts_are_cut_to_one_length_and_the_others_are_whole() -> None:
    body, fields = cut(3000, "b" * 5000, {"long": "l" * 4000, "short": "s" * 300, "number": 7})
    assert fields["short"] == "s" * 300
    assert fields["number"] == 7
    assert len(body) == len(fields["long"]) > 1000
    assert fields["otelog.truncated"] == ["body", "long"]


def test_as_much_is_kept_as_there_is_room_for() -> None:
    for limit in range(400, 900, 7):
        found = truncate_record(encode("b" * 5000, {"a": "a" * 5000}), limit)
        assert found is not None
        assert limit - 8 <= len(found) <= limit


@pytest.mark.parametrize("letter", ["x", "é", "€", "😀"])
def test_a_text_is_cut_between_two_characters(letter: str) -> None:
    for limit in range(200, 260):
        body, fields = cut(limit, letter * 500, {"a": letter * 500})
        assert set(body) == set(fields["a"]) == {letter}


def test_nested_values_and_bytes_are_cut_and_named_by_their_attribute() -> None:
    _, fields = cut(2000, "m", {"n": {"deep": [{"text": "t" * 9000}], "id": 1}, "raw": b"r" * 9000, "ok": [1, 2]})
    assert set(fields["n"]["deep"][0]["text"]) == {"t"}
    assert fields["n"]["id"] == 1
    assert fields["ok"] == [1, 2]
    assert fields["raw"] == b"r" * len(fields["raw"])
    assert fields["otelog.truncated"] == ["n", "raw"]


def test_a_body_that_is_a_mapping_is_cut() -> None:
    body, fields = cut(1000, {"a": "x" * 5000, "b": 1})
    assert body["b"] == 1
    assert fields == {"otelog.truncated": ["body"]}


def test_where_texts_do_not_do_lists_and_mappings_lose_their_last_elements() -> None:
    numbers = list(range(1000))
    _, fields = cut(1500, "m", {"list": numbers, "map": {f"key{n}": n for n in numbers}, "small": [1, 2, 3]})
    assert fields["list"] == numbers[: len(fields["list"])] != []
    assert fields["map"] == {f"key{n}": n for n in range(len(fields["map"]))} != {}
    assert fields["small"] == [1, 2, 3]
    assert fields["otelog.truncated"] == ["list", "map"]


def test_what_cannot_be_made_small_enough_is_said_to_be_so() -> None:
    assert truncate_record(encode("m", {f"{'k' * 900}{n}": n for n in range(100)}), 50_000) is None
    assert truncate_record(encode("m" * 1000), 30) is None


def test_a_record_that_is_cut_twice_names_all() -> None:
    once = truncate_record(encode("b" * 900, {"a": "a" * 5000}), 2000)
    assert once is not None
    assert fields_of(decode(once))["otelog.truncated"] == ["a"]
    twice = truncate_record(once, 1000)
    assert twice is not None
    assert fields_of(decode(twice))["otelog.truncated"] == ["a", "body"]


def test_all_else_of_the_record_is_as_it_was() -> None:
    whole = decode(encode("b" * 5000, {"a": 1}))
    found = truncate_record(encode("b" * 5000, {"a": 1}), 1000)
    assert found is not None
    record = decode(found)
    assert record.body.string_value != whole.body.string_value
    record.body.CopyFrom(whole.body)
    assert record.attributes.pop().key == "otelog.truncated"
    assert record == whole


TEXTS = st.text(max_size=60) | st.builds("{}{}".format, st.text(max_size=3), st.sampled_from(["x" * 300, "é€😀" * 200]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXTS | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5),
    max_leaves=20,
)


def is_part(cut_value: Any, value: Any) -> bool:
    if type(value) in (str, bytes):
        return type(cut_value) is type(value) and bool(value.startswith(cut_value))
    if type(value) is list:
        return len(cut_value) <= len(value) and all(map(is_part, cut_value, value))
    if type(value) is dict:
        return list(cut_value) == list(value)[: len(cut_value)] and all(
            is_part(cut_value[k], value[k]) for k in cut_value
        )
    return bool(cut_value == value)


@settings(max_examples=sized(40, full=100))
@given(VALUES, st.dictionaries(TEXTS.filter(bool), VALUES, max_size=6), st.floats(0, 1))
def test_any_record_is_cut_to_any_limit_or_not_at_all(body: Any, fields: dict[str, Any], share: float) -> None:
    whole = encode(body, fields)
    limit = int(len(whole) * share)
    found = truncate_record(whole, limit)
    if found is None:
        return
    assert len(found) <= limit
    record, before = decode(found), decode(whole)
    after, named = fields_of(record), fields_of(before)
    names = after.pop("otelog.truncated", [])
    assert list(after) == list(named)
    assert is_part(plain(record.body), plain(before.body))
    for key, value in named.items():
        assert is_part(after[key], value)
        assert (after[key] != value) == (key in names) or key == "body" or after[key] != after[key]


# Through the pipeline.


@pytest.fixture(autouse=True)
def reset() -> Iterator[None]:
    yield
    configure.reset()


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with OTLPServer() as server:
        yield server


def check_identity() -> otelog.Stats:
    stats = otelog.stats()
    assert stats.created == sum(stats.refused.values()) + stats.queued + sum(stats.removed.values()) + stats.accepted
    for one in stats.exporters.values():
        assert one.accepted == one.filtered + one.exported + sum(one.dropped.values()) + one.waiting + one.in_flight
    return stats


def test_a_record_over_max_request_bytes_is_delivered_cut_and_its_neighbours_whole(
    server: OTLPServer, capfd: pytest.CaptureFixture[str]
) -> None:
    otelog.configure(endpoint=server.endpoint, max_request_bytes=16_384, compression="none")
    log = otelog.get_logger("shop")
    log.info("before")
    log.info("large %s", "x" * 100_000, order=7)
    logging.getLogger("shop").error("from logging: " + "y" * 100_000)
    try:
        raise ValueError("z" * 200_000)
    except ValueError:
        log.exception("failed", answer={"text": "é" * 50_000})
    log.info("after")
    assert otelog.flush(LATEST)
    stats = check_identity()
    otelog.shutdown()
    assert (stats.exported, stats.lost, stats.truncated, stats.exporters["otlp"].truncated) == (5, 0, 3, 3)
    assert all(len(request.body) <= 16_384 for request in server.requests)
    arrived = {record.body.string_value[:6]: record for record in server.records}
    assert set(arrived) == {"before", "large ", "from l", "failed", "after"}
    assert fields_of(arrived["large "])["otelog.truncated"] == ["body"]
    assert fields_of(arrived["large "])["order"] == 7
    assert fields_of(arrived["from l"])["otelog.truncated"] == ["body"]
    failed = fields_of(arrived["failed"])
    assert set(failed["otelog.truncated"]) == {"answer", "exception.message", "exception.stacktrace"}
    assert failed["exception.type"] == "ValueError"
    assert all("otelog.truncated" not in fields_of(arrived[name]) for name in ("before", "after"))
    assert "otelog: a record is cut to fit into a request: it alone was over max_request_bytes (16384)" in (
        capfd.readouterr().err
    )


def test_a_server_with_a_lower_limit_gets_the_record_in_a_size_that_it_takes(server: OTLPServer) -> None:
    # nginx and the like have one of their own, and answer 413 without a word about it.
    server.script = [Reply(status=413)] * 3
    otelog.configure(endpoint=server.endpoint, compression="none")
    otelog.get_logger("shop").info("x" * 80_000)
    assert otelog.flush(LATEST)
    stats = check_identity()
    otelog.shutdown()
    assert (stats.exported, stats.lost, stats.truncated, stats.resent) == (1, 0, 1, 0)
    (record,) = server.records
    assert 8_000 < len(record.body.string_value) <= 10_000
    assert fields_of(record)["otelog.truncated"] == ["body"]


def test_a_server_that_speaks_grpc_does_so_too() -> None:
    with GrpcServer(options=[("grpc.max_receive_message_length", 3000)]) as server:
        otelog.configure(endpoint=server.endpoint, protocol="grpc", compression="none")
        for number in range(8):
            otelog.get_logger("shop").info("large " + "x" * 40_000 if number == 5 else f"small {number}")
        assert otelog.flush(LATEST)
        stats = check_identity()
        otelog.shutdown()
        assert (stats.exported, stats.lost, stats.truncated) == (8, 0, 1)
        assert sum(body.startswith("large x") for body in server.bodies) == 1


def test_under_another_processor_it_is_cut_too(server: OTLPServer) -> None:
    exporter = otelog.OTLPLogExporter(endpoint=f"{server.endpoint}/v1/logs", max_request_bytes=4096)
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    provider.get_logger("shop").emit(body="x" * 10_000, severity_number=SeverityNumber.INFO)
    provider.shutdown()
    assert (exporter.stats().exported, exporter.stats().truncated) == (1, 1)
    assert [len(request.body) <= 4096 for request in server.requests] == [True]


def test_many_scopes_in_a_batch_leave_a_record_the_room_that_it_has_alone(server: OTLPServer) -> None:
    # The size of a request was once estimated with the names of all scopes of the batch, whatever was in it.
    otelog.configure(endpoint=server.endpoint, max_request_bytes=2048, compression="none")
    for number in range(200):
        otelog.get_logger(f"shop.part{number}").info("one")
    assert otelog.flush(LATEST)
    stats = check_identity()
    otelog.shutdown()
    assert (stats.exported, stats.lost, stats.truncated) == (200, 0, 0)
    assert all(len(request.body) <= 2048 for request in server.requests)


# The limit on attributes.


@pytest.mark.parametrize(
    "fields",
    [
        {"short": "s" * 10, "long": "l" * 11},
        {"short": ["s" * 10], "long": ["ok", "l" * 11]},
        {"short": {"a": "s" * 10}, "long": {"a": {"b": b"l" * 11}}},
    ],
    ids=["texts", "lists", "mappings"],
)
def test_what_max_attribute_length_cuts_is_marked_and_what_fits_exactly_is_not(
    server: OTLPServer, fields: dict[str, Any]
) -> None:
    otelog.configure(endpoint=server.endpoint, max_attribute_length=10)
    log = otelog.get_logger("shop")
    log.info("m" * 50, **fields)
    with otelog.bound(outer="o" * 11):
        log.info({"text": "m" * 50}, **fields)
    logging.getLogger("shop").warning("m" * 50, extra=fields)
    log.info("m", short="s" * 10)
    assert otelog.flush(LATEST)
    stats = check_identity()
    otelog.shutdown()
    first, second, third, last = server.records
    assert fields_of(first)["otelog.truncated"] == fields_of(third)["otelog.truncated"] == ["long"]
    assert sorted(fields_of(second)["otelog.truncated"]) == ["long", "outer"]
    assert "otelog.truncated" not in fields_of(last)
    # It is a limit on attributes: bodies are whole, and so is the place of the call.
    assert plain(second.body) == {"text": "m" * 50}
    assert first.body.string_value == third.body.string_value == "m" * 50
    for record in (first, second, last):
        assert fields_of(record)["code.file.path"] == __file__
    assert stats.truncated == 0, "what the application asked for is not counted"
