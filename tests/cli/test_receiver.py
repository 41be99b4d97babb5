"""The embedded receiver: what it takes, what it refuses, and what it then knows."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import sys
import threading
import zlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from otelog.cli.dev.bounds import Bounds, RefusedError, decompress
from otelog.cli.dev.journal import MAX_INSTANCES, Journal
from otelog.cli.dev.receiver import Receiver
from otelog.cli.show.lines import Line, render_lines
from otelog.sinks._line import LINE_KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
TIME_NS = 1_700_000_000_123_456_789


def make_request(count: int = 1, *, service: str = "shop", instance: str = "i-1", severity: int = 9) -> bytes:
    request = ExportLogsServiceRequest()
    resource_logs = request.resource_logs.add()
    for key, value in (("service.name", service), ("service.instance.id", instance)):
        resource_logs.resource.attributes.add(key=key).value.string_value = value
    scope_logs = resource_logs.scope_logs.add()
    scope_logs.scope.name = "shop.web"
    for number in range(count):
        record = scope_logs.log_records.add(
            time_unix_nano=TIME_NS + number,
            severity_number=severity,  # type: ignore[arg-type]
            severity_text="INFO",
            trace_id=bytes(range(16)),
            span_id=bytes(range(8)),
        )
        record.body.string_value = f"message {number}"
        record.attributes.add(key="number").value.int_value = number
    return request.SerializeToString()


def make_json(*records: dict[str, Any]) -> bytes:
    """A request in OTLP/JSON."""
    return json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}).encode()


class Sender:
    """One kept-alive connection to a receiver."""

    def __init__(self, receiver: Receiver) -> None:
        self.connection = http.client.HTTPConnection(receiver.host, receiver.port, timeout=10)

    def post(self, body: Any, path: str = "/v1/logs", *, kind: str = PROTOBUF, **headers: str) -> tuple[int, bytes]:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        self.connection.request("POST", path, body, {"Content-Type": kind, **names})
        answer = self.connection.getresponse()
        return answer.status, answer.read()

    def get(self, path: str) -> tuple[int, Any]:
        self.connection.request("GET", path)
        answer = self.connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body) if answer.headers["Content-Type"] == "application/json" else body


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "files")
    yield journal
    journal.close()


@pytest.fixture
def receiver(journal: Journal) -> Iterator[Receiver]:
    with Receiver(journal, bounds=Bounds(body_bytes=100_000)) as receiver:
        yield receiver


@pytest.fixture
def sender(receiver: Receiver) -> Iterator[Sender]:
    sender = Sender(receiver)
    yield sender
    sender.connection.close()


def read_file(journal: Journal, stream: str = "app") -> list[dict[str, Any]]:
    path = journal.folder / f"{stream}.log"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def test_a_record_is_in_the_file_and_counted_before_the_answer(journal: Journal, sender: Sender) -> None:
    status, body = sender.post(make_request(3))
    assert status == 200
    assert ExportLogsServiceResponse.FromString(body) == ExportLogsServiceResponse()
    assert [record["message"] for record in read_file(journal)] == ["message 0", "message 1", "message 2"]
    status, stats = sender.get("/stats")
    assert status == 200
    assert stats == {
        "records": 3,
        "requests": 1,
        "refused_requests": 0,
        "refused_connections": 0,
        "services": [{"service": "shop", "records": 3, "severities": {"INFO": 3}}],
        "instances": [{"service": "shop", "instance": "i-1", "records": 3, "severities": {"INFO": 3}}],
        "ledgers": [],
    }


def test_a_line_is_the_file_sinks_line_with_the_senders_name_as_its_first_fields() -> None:
    request = ExportLogsServiceRequest.FromString(make_request())
    request.resource_logs[0].resource.attributes.add(key="process.pid").value.int_value = 77
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    for key, value in (("code.file.path", "/srv/shop/web.py"), ("code.function.name", "pay"), ("thread.name", "main")):
        record.attributes.add(key=key).value.string_value = value
    record.attributes.add(key="code.line.number").value.int_value = 12
    record.dropped_attributes_count = 3
    [line] = render_lines(request)
    fields = json.loads(line.text)
    moment = datetime.fromisoformat(fields.pop("timestamp"))
    assert moment == datetime.fromisoformat("2023-11-14T22:13:20.123456+00:00")
    assert list(fields.items()) == [
        ("level", "INFO"),
        ("logger", "shop.web"),
        ("message", "message 0"),
        ("module", "web"),
        ("function", "pay"),
        ("line", 12),
        ("thread", "main"),
        ("process", 77),
        ("trace_id", "000102030405060708090a0b0c0d0e0f"),
        ("span_id", "0001020304050607"),
        ("service.name", "shop"),
        ("service.instance.id", "i-1"),
        ("number", 0),
        ("dropped_attributes_count", 3),
    ]


def test_a_bare_record_has_nulls_for_what_it_lacks() -> None:
    request = ExportLogsServiceRequest()
    request.resource_logs.add().scope_logs.add().log_records.add()
    [line] = render_lines(request)
    assert json.loads(line.text) == {**dict.fromkeys(LINE_KEYS), "level": "UNSPECIFIED"}


def test_an_attribute_that_is_of_no_use_for_its_key_stays_a_field() -> None:
    request = ExportLogsServiceRequest.FromString(make_request())
    record = request.resource_logs[0].scope_logs[0].log_records[0]
    record.attributes.add(key="code.line.number").value.string_value = "twelve"
    record.attributes.add(key="thread.id").value.int_value = 5
    record.attributes.add(key="service.name").value.string_value = "its own"
    [line] = render_lines(request)
    fields = json.loads(line.text)
    assert (fields["line"], fields["code.line.number"], fields["thread"]) == (None, "twelve", "5")
    assert (fields["service.name"], line.service) == ("its own", "shop")


def test_values_of_every_kind_are_one_line_of_strict_json() -> None:
    request = ExportLogsServiceRequest()
    record = request.resource_logs.add().scope_logs.add().log_records.add(event_name="order.paid")
    record.body.string_value = "two\nlines\u2028and \x00"
    add = record.attributes.add
    add(key="nan").value.double_value = float("nan")
    add(key="infinite").value.double_value = float("-inf")
    add(key="half").value.double_value = 0.5
    add(key="large").value.int_value = 2**63 - 1
    add(key="true").value.bool_value = True
    add(key="bytes").value.bytes_value = b"\xff\x00"
    add(key="empty")
    add(key="list").value.array_value.values.add().string_value = "a"
    add(key="map").value.kvlist_value.values.add(key="k").value.int_value = 1
    add(key="level").value.string_value = "mine"
    [line] = render_lines(request)
    assert "\n" not in line.text

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    fields = json.loads(line.text, parse_constant=refuse)
    assert fields["message"] == "two\nlines\u2028and \x00"
    assert {key: value for key, value in fields.items() if key not in LINE_KEYS} == {
        "event_name": "order.paid",
        "nan": "NaN",
        "infinite": "-Infinity",
        "half": 0.5,
        "large": 2**63 - 1,
        "true": True,
        "bytes": "/wA=",
        "empty": None,
        "list": ["a"],
        "map": {"k": 1},
        "attributes.level": "mine",
    }


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (-1, "UNSPECIFIED"),
        (0, "UNSPECIFIED"),
        (1, "TRACE"),
        (4, "TRACE"),
        (5, "DEBUG"),
        (9, "INFO"),
        (13, "WARN"),
        (17, "ERROR"),
        (21, "FATAL"),
        (24, "FATAL"),
        (25, "UNSPECIFIED"),
    ],
)
def test_a_severity_number_belongs_to_one_range(number: int, name: str) -> None:
    assert Line(None, None, "", number, False, "").severity == name


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "identity"])
def test_a_body_is_taken_in_each_coding(encoding: str, journal: Journal, sender: Sender) -> None:
    body = make_request(10)
    if encoding == "gzip":
        body = gzip.compress(body)
    elif encoding == "zstd":
        body = pytest.importorskip("zstandard").compress(body)
    assert sender.post(body, Content_Encoding=encoding)[0] == 200
    assert len(read_file(journal)) == 10


def test_a_chunked_body_is_taken_and_the_connection_stays_usable(journal: Journal, sender: Sender) -> None:
    body = make_request(5)
    sender.connection.request(
        "POST", "/v1/logs", iter([body[:10], body[10:]]), {"Content-Type": PROTOBUF}, encode_chunked=True
    )
    answer = sender.connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    assert sender.post(make_request(1))[0] == 200
    assert len(read_file(journal)) == 6


def test_requests_follow_each_other_on_one_connection(sender: Sender) -> None:
    sender.post(make_request())
    used = sender.connection.sock
    for _ in range(20):
        assert sender.post(make_request())[0] == 200
        assert sender.connection.sock is used


@pytest.mark.parametrize("path", ["/v1/metrics", "/v1/traces"])
def test_other_signals_are_answered_and_dropped(path: str, journal: Journal, sender: Sender) -> None:
    assert sender.post(b"", path) == (200, b"")
    assert sender.post(b"{}", path, kind="application/json") == (200, b"{}")
    assert read_file(journal) == []
    assert sender.get("/stats")[1]["requests"] == 0


@pytest.mark.parametrize(
    ("body", "headers", "status", "detail"),
    [
        (b"\xff\xff\xff", {}, 400, b"not an ExportLogsServiceRequest"),
        (b"no gzip", {"Content_Encoding": "gzip"}, 400, b"gzip body is damaged"),
        (gzip.compress(make_request(50))[:-20], {"Content_Encoding": "gzip"}, 400, b"gzip body is damaged"),
        (b"no zstd", {"Content_Encoding": "zstd"}, 400, b"zstd body is damaged"),
        (b"x", {"Content_Encoding": "br"}, 415, b"Content-Encoding br is unknown"),
        (b"{}", {"kind": "text/json"}, 415, b"Content-Type must be application/x-protobuf or application/json"),
        (b"{", {"kind": JSON}, 400, b"not an ExportLogsServiceRequest"),
        (b"[]", {"kind": JSON}, 400, b"it is no JSON object"),
        (b"[" * 100_000, {"kind": JSON}, 400, b"not an ExportLogsServiceRequest"),
        (b'{"resourceLogs": 5}', {"kind": JSON}, 400, b"resourceLogs is no list of objects"),
        (b'{"resourceLogs": [{"scopeLogs": [5]}]}', {"kind": JSON}, 400, b"scopeLogs is no list of objects"),
        (make_json({"traceId": "zz"}), {"kind": JSON}, 400, b"traceId is not in hex"),
        (make_json({"spanId": 7}), {"kind": JSON}, 400, b"spanId is not in hex"),
        (make_json({"timeUnixNano": "soon"}), {"kind": JSON}, 400, b"not an ExportLogsServiceRequest"),
        (make_json({}, {"body": {"stringValue": 5}}), {"kind": JSON}, 400, b"not an ExportLogsServiceRequest"),
        (bytes(100_001), {}, 413, b"over 100000 bytes"),
        (gzip.compress(bytes(100_001)), {"Content_Encoding": "gzip"}, 413, b"over 100000 bytes"),
        (b"", {"path": "/v1/elsewhere"}, 404, b"logs go to /v1/logs"),
        (b"\xff", {"path": "/v1/metrics"}, 400, b"not an ExportMetricsServiceRequest"),
        (b"[]", {"path": "/v1/metrics", "kind": JSON}, 400, b"it is no JSON object"),
        (b"{}", {"path": "/v1/metrics", "kind": "text/json"}, 415, b"Content-Type must be"),
        (bytes(100_001), {"path": "/v1/metrics"}, 413, b"over 100000 bytes"),
        (gzip.compress(bytes(100_001)), {"path": "/v1/metrics", "Content_Encoding": "gzip"}, 413, b"over 100000 bytes"),
        (b"x", {"path": "/v1/traces", "Content_Encoding": "gzip"}, 400, b"gzip body is damaged"),
    ],
)
def test_a_bad_request_is_refused_in_words_and_the_next_one_is_taken(
    body: bytes, headers: dict[str, str], status: int, detail: bytes, journal: Journal, sender: Sender
) -> None:
    if headers.get("Content_Encoding") == "zstd":
        pytest.importorskip("zstandard")
    answered, said = sender.post(body, **headers)
    assert (answered, detail in said) == (status, True), said
    assert read_file(journal) == []
    assert sender.post(make_request())[0] == 200
    refused = 0 if "path" in headers else 1
    assert sender.get("/stats")[1]["refused_requests"] == refused


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_json_is_taken_like_protobuf(encoding: str, journal: Journal, sender: Sender) -> None:
    trace_id, span_id = "5b8efff798038103d269b633813fc60c", "eee19b7ec3c1b174"
    record = {
        "timeUnixNano": "1544712660300000000",
        "severityNumber": 17,
        "severityText": "ERROR",
        "body": {"stringValue": "failed"},
        "traceId": trace_id.upper(),
        "spanId": span_id,
        "eventName": "order.failed",
        "attributes": [
            {"key": "n", "value": {"intValue": "7"}},
            {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}, {"doubleValue": 0.5}]}}},
        ],
        "unknownField": {"anything": 1},
    }
    body = make_json(record)
    sent = gzip.compress(body) if encoding == "gzip" else body
    assert sender.post(sent, kind=f"{JSON}; charset=utf-8", Content_Encoding=encoding) == (200, b"{}")
    (line,) = read_file(journal)
    assert (line["level"], line["message"], line["event_name"]) == ("ERROR", "failed", "order.failed")
    assert (line["trace_id"], line["span_id"]) == (trace_id, span_id)
    assert (line["n"], line["list"]) == (7, [True, 0.5])
    assert line["timestamp"] is not None


def test_a_refusal_of_json_is_a_status_in_json(sender: Sender) -> None:
    answered, said = sender.post(b"{", kind=JSON)
    assert answered == 400
    assert json.loads(said)["message"].startswith("the body is not an ExportLogsServiceRequest: ")


def test_a_refusal_is_a_protobuf_status_as_otlp_asks(sender: Sender) -> None:
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    answered, said = sender.post(b"\xff")
    assert answered == 400
    assert "not an ExportLogsServiceRequest" in status_pb2.Status.FromString(said).message


def test_a_body_that_ends_early_is_not_taken(journal: Journal, receiver: Receiver, sender: Sender) -> None:
    # Either half is a whole message by itself: only the missing length tells that one is missing.
    half = make_request()
    sender.connection.putrequest("POST", "/v1/logs")
    sender.connection.putheader("Content-Type", PROTOBUF)
    sender.connection.putheader("Content-Length", str(2 * len(half)))
    sender.connection.endheaders(half)
    assert sender.connection.sock is not None
    sender.connection.sock.shutdown(1)
    answer = sender.connection.getresponse()
    assert answer.status == 400
    assert read_file(journal) == []


def test_the_sender_of_a_large_body_reads_the_refusal_and_no_reset(journal: Journal) -> None:
    with Receiver(journal, bounds=Bounds(body_bytes=4_000_000)) as receiver:
        sender = Sender(receiver)
        # More than the sockets' buffers hold, so that it is still being written when the answer is known.
        status, said = sender.post(bytes(7_900_000))
        assert (status, b"over 4000000 bytes" in said) == (413, True)
        sender.connection.close()


@pytest.mark.parametrize("length", ["-1", "many", "9" * 30])
def test_a_length_that_is_no_number_is_refused(length: str, sender: Sender) -> None:
    assert sender.post(b"", Content_Length=length)[0] == 400


@pytest.mark.parametrize("bomb", ["declared", "undeclared", "gzip"])
def test_a_bomb_is_refused_by_the_size_it_would_have(bomb: str) -> None:
    plain = bytes(10_000_000)
    if bomb == "gzip":
        packed, coding = gzip.compress(plain), "gzip"
    else:
        zstandard = pytest.importorskip("zstandard")
        compressor = zstandard.ZstdCompressor(write_content_size=bomb == "declared")
        packed, coding = compressor.compress(plain), "zstd"
    with pytest.raises(RefusedError, match="over 1000 bytes"):
        decompress(packed, coding, max_bytes=1000)


def test_a_cut_zstd_body_is_never_taken_for_a_whole_one() -> None:
    zstandard = pytest.importorskip("zstandard")
    plain = make_request(100)
    packed = zstandard.ZstdCompressor(write_content_size=False).compress(plain)
    assert decompress(packed, "zstd", max_bytes=10**6) == plain
    assert decompress(packed + packed, "zstd", max_bytes=10**6) == plain + plain
    for cut in (packed[:-1], packed[: len(packed) // 2], packed + packed[:-1], packed + b"rest"):
        with pytest.raises(RefusedError):
            decompress(cut, "zstd", max_bytes=10**6)


def test_several_gzip_members_are_one_body() -> None:
    assert decompress(gzip.compress(b"ab") + gzip.compress(b"cd"), "gzip", max_bytes=10) == b"abcd"
    with pytest.raises(RefusedError):
        decompress(zlib.compress(b"not gzip"), "gzip", max_bytes=100)


def test_counts_are_kept_by_instance_and_severity(sender: Sender) -> None:
    sender.post(make_request(2, instance="i-1", severity=9))
    sender.post(make_request(3, instance="i-1", severity=18))
    sender.post(make_request(4, instance="i-2", severity=99))
    assert sender.get("/stats")[1]["instances"] == [
        {"service": "shop", "instance": "i-1", "records": 5, "severities": {"INFO": 2, "ERROR": 3}},
        {"service": "shop", "instance": "i-2", "records": 4, "severities": {"UNSPECIFIED": 4}},
    ]


def test_records_are_read_on_from_a_number(sender: Sender) -> None:
    assert sender.get("/records") == (200, {"last": 0, "records": []})
    sender.post(make_request(5))
    status, answer = sender.get("/records?after=3")
    assert (status, answer["last"]) == (200, 5)
    assert [record["message"] for record in answer["records"]] == ["message 3", "message 4"]
    assert sender.get("/records?after=5")[1]["records"] == []
    assert sender.get("/records?after=99")[1]["records"] == []
    for wrong in ("x", "-1", "9" * 30):
        assert sender.get(f"/records?after={wrong}")[0] == 400
    assert sender.get("/elsewhere")[0] == 404


def test_kept_lines_are_bounded_in_number_and_size(tmp_path: Path) -> None:
    lines = render_lines(ExportLogsServiceRequest.FromString(make_request(10)))
    by_number = Journal(tmp_path / "a", kept_lines=4)
    by_number.append(lines)
    assert by_number.after(0) == (10, [line.text for line in lines[6:]])
    assert by_number.after(8) == (10, [line.text for line in lines[8:]])
    by_size = Journal(tmp_path / "b", kept_bytes=len(lines[0].text) * 2 + 10)
    by_size.append(lines)
    assert by_size.after(0) == (10, [line.text for line in lines[8:]])
    by_number.close()
    by_size.close()


@pytest.fixture
def quick_switches() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("quick_switches")
def test_many_senders_at_once_lose_and_tear_nothing(journal: Journal, receiver: Receiver) -> None:
    def send(name: str) -> None:
        sender = Sender(receiver)
        for _ in range(20):
            assert sender.post(make_request(10, instance=name))[0] == 200
        sender.connection.close()

    threads = [threading.Thread(target=send, args=(f"i-{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = read_file(journal)
    assert len(records) == 1600
    for number in range(8):
        assert sum(record["service.instance.id"] == f"i-{number}" for record in records) == 200
    assert {row["records"] for row in receiver.stats()["instances"]} == {200}  # type: ignore[attr-defined]


def test_what_cannot_be_written_is_answered_with_503_and_not_counted(
    journal: Journal, receiver: Receiver, sender: Sender
) -> None:
    sender.post(make_request(1, severity=17))
    # A folder where the file was: nothing can be appended to it.
    path = journal.folder / "app.log"
    path.unlink()
    path.mkdir()
    status, said = sender.post(make_request(3))
    assert (status, b"could not be written" in said) == (503, True)
    assert sender.get("/stats")[1]["records"] == 1
    path.rmdir()
    assert sender.post(make_request(3))[0] == 200
    assert (len(read_file(journal)), sender.get("/stats")[1]["records"]) == (3, 4)


def test_errors_and_language_models_records_are_in_files_of_their_own_as_well(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ai_loggers=["shop.web"])
    request = ExportLogsServiceRequest.FromString(make_request(2, severity=17))
    request.resource_logs[0].scope_logs[0].log_records[0].severity_number = 16  # type: ignore[assignment]
    request.resource_logs[0].scope_logs.add().scope.name = "shop.website"
    request.resource_logs[0].scope_logs[1].log_records.add().body.string_value = "elsewhere"
    answer = request.resource_logs[0].scope_logs[1].log_records.add()
    answer.body.string_value = "answer"
    answer.attributes.add().key = "gen_ai.request.model"
    journal.append(render_lines(request))
    journal.close()
    messages = {
        name: [one["message"] for one in read_file(journal, name)] for name in ("app", "errors", "ai_responses")
    }
    assert messages == {
        "app": ["message 0", "message 1", "elsewhere", "answer"],
        "errors": ["message 1"],
        "ai_responses": ["message 0", "message 1", "answer"],
    }


def test_files_are_rotated_at_their_size(tmp_path: Path) -> None:
    lines = render_lines(ExportLogsServiceRequest.FromString(make_request(10)))
    journal = Journal(tmp_path, max_bytes=3 * len(lines[0].text))
    journal.append(lines)
    journal.close()
    assert len(list(tmp_path.glob("app.*.log*"))) > 1


def test_lines_that_were_there_stay_and_a_torn_one_swallows_no_record(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "app.log"
    path.parent.mkdir()
    path.write_text('{"message": "old"}\n{"message": "to')
    journal = Journal(path.parent)
    journal.append(render_lines(ExportLogsServiceRequest.FromString(make_request())))
    journal.close()
    journal.close()
    first, torn, last = path.read_text().splitlines()
    assert (first, torn) == ('{"message": "old"}', '{"message": "to')
    assert json.loads(last)["message"] == "message 0"
    with pytest.raises(ValueError, match="closed"):
        journal.append(render_lines(ExportLogsServiceRequest.FromString(make_request())))


def test_instances_that_are_counted_apart_are_bounded(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([Line("shop", f"i-{number}", "", 9, False, "{}") for number in range(MAX_INSTANCES + 5)])
    counts: Any = journal.counts()
    journal.close()
    assert counts["records"] == MAX_INSTANCES + 5
    assert counts["instances"][-1] == {"service": None, "instance": None, "records": 5, "severities": {"INFO": 5}}
    assert len(counts["instances"]) == MAX_INSTANCES + 1


def test_a_connection_too_many_is_answered_503_and_the_others_go_on(journal: Journal) -> None:
    with Receiver(journal, max_connections=1) as receiver:
        first = Sender(receiver)
        assert first.post(make_request())[0] == 200
        with socket.create_connection((receiver.host, receiver.port), timeout=10) as second:
            assert second.makefile("rb").readline().startswith(b"HTTP/1.1 503 ")
        assert first.post(make_request())[0] == 200
        assert first.get("/stats")[1]["refused_connections"] == 1
        first.connection.close()


def test_stop_ends_the_thread_and_frees_the_port(journal: Journal) -> None:
    receiver = Receiver(journal)
    receiver.start()
    receiver.stop()
    receiver.stop()
    again = Receiver(journal, port=receiver.port)
    again.stop()
    assert "otelog-receiver" not in [thread.name for thread in threading.enumerate()]


def test_the_stock_exporter_of_the_sdk_delivers_to_it(journal: Journal, receiver: Receiver) -> None:
    exporter_module = pytest.importorskip("opentelemetry.exporter.otlp.proto.http._log_exporter")
    from opentelemetry._logs import LogRecord, SeverityNumber
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    provider = LoggerProvider(Resource({"service.name": "stock", "service.instance.id": "s-1"}))
    exporter = exporter_module.OTLPLogExporter(
        endpoint=f"{receiver.url}/v1/logs", compression=exporter_module.Compression.Gzip
    )
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    for number in range(100):
        provider.get_logger("stock.logger").emit(
            LogRecord(timestamp=TIME_NS + number, severity_number=SeverityNumber.WARN, body={"n": [number, "é"]})
        )
    provider.shutdown()
    assert [record["message"] for record in read_file(journal)] == [{"n": [n, "é"]} for n in range(100)]
    assert receiver.stats()["instances"] == [
        {"service": "stock", "instance": "s-1", "records": 100, "severities": {"WARN": 100}}
    ]
