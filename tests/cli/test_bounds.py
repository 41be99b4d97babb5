"""What a receiver takes from strangers: a request is bounded by what is decoded, one to another's name is refused."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otelog.cli.dev.bounds import (
    Bounds,
    RefusedError,
    check_host,
    check_json,
    check_protobuf,
    decompress,
    make_schema,
)
from otelog.cli.dev.journal import Journal
from otelog.cli.dev.receiver import Receiver

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024 * 1024
MOST_MEMORY = 450 * MIB
"""What a refused request of 64 MiB may take at most: a few copies of it, and the objects that the bounds allow."""

LOGS = make_schema(ExportLogsServiceRequest.DESCRIPTOR)
RECORD: Any = LOGS[1][2][2]  # type: ignore[index]

BOMBS = """
import gzip, http.client, json, os, resource, sys
from otelog.cli.dev.journal import Journal
from otelog.cli.dev.receiver import Receiver

SIZE = 60 * 1024 * 1024

def sized(tag, content):
    size, header = len(content), bytearray()
    while size > 127:
        header.append(size & 127 | 128)
        size >>= 7
    header.append(size)
    return bytes((tag,)) + bytes(header) + content

def logs(records):
    return sized(0x0A, sized(0x12, records))

def record(content):
    return logs(sized(0x12, content))

BOMBS = {
    "records": lambda: ("x-protobuf", logs(b"\\x12\\x00" * (SIZE // 2))),
    "attributes": lambda: ("x-protobuf", record(b"\\x32\\x00" * (SIZE // 2))),
    "values": lambda: ("x-protobuf", record(sized(0x2A, sized(0x2A, b"\\x0a\\x00" * (SIZE // 2))))),
    "resources": lambda: ("x-protobuf", b"\\x0a\\x00" * (SIZE // 2)),
    "scalars": lambda: ("x-protobuf", record(b"\\x10\\x01" * (SIZE // 2))),
    "a scope's name": lambda: (
        "x-protobuf",
        sized(0x0A, sized(0x12, sized(0x0A, sized(0x0A, b"n" * (SIZE // 2))) + sized(0x12, b"\\x10\\x09") * 50_000)),
    ),
    "JSON's records": lambda: (
        "json", b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + b"{}," * (SIZE // 3) + b"{}]}]}]}"
    ),
    "JSON's lists": lambda: ("json", b'{"x":[' + b"[]," * (SIZE // 3) + b"[]]}"),
    "JSON's numbers": lambda: ("json", b'{"x":[' + b"1," * (SIZE // 2) + b"1]}"),
    "JSON's texts": lambda: ("json", b'{"x":[' + b'"\\\\"",' * (SIZE // 5) + b'""]}'),
}
kind, plain = BOMBS[sys.argv[1]]()
packed = gzip.compress(plain, 1)
del plain

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

journal = Journal(sys.argv[2])
# The peak so far is that of the bomb's making.
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = peak()
with Receiver(journal) as receiver:
    connection = http.client.HTTPConnection(receiver.host, receiver.port, timeout=100)
    headers = {"Content-Type": f"application/{kind}", "Content-Encoding": "gzip"}
    connection.request("POST", sys.argv[3], packed, headers)
    answer = connection.getresponse()
    said = answer.read()
    after = peak()
    connection.close()
    connection.request("GET", "/stats")
    alive = connection.getresponse().status
    connection.close()
print(json.dumps({"status": answer.status, "said": said.decode("utf-8", "replace"), "sent": len(packed),
                  "took": after - before, "alive": alive, "records": journal.counts()["records"]}))
"""

LOG_BOMBS = (
    *("records", "attributes", "values", "resources", "scalars", "a scope's name"),
    *("JSON's records", "JSON's lists", "JSON's numbers", "JSON's texts"),
)


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc")
@pytest.mark.parametrize(("bomb", "path"), [*((bomb, "/v1/logs") for bomb in LOG_BOMBS), ("resources", "/v1/metrics")])
def test_a_bomb_is_refused_before_it_takes_memory(bomb: str, path: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOMBS, bomb, str(tmp_path), path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["status"], seen["alive"], seen["records"]) == (413, 200, 0), seen
    assert "over" in seen["said"]
    assert seen["took"] < MOST_MEMORY, seen


def make(records: int, attributes: int = 0, text: str = "m") -> bytes:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for _ in range(records):
        record = scope.log_records.add()
        record.body.string_value = text
        for number in range(attributes):
            record.attributes.add(key=f"key{number}").value.int_value = number
    return request.SerializeToString()


def test_records_are_counted_exactly_and_on_the_wire() -> None:
    bounds = Bounds(records=10)
    check_protobuf(make(10), LOGS, RECORD, bounds)
    with pytest.raises(RefusedError, match="over 10 records") as refused:
        check_protobuf(make(11), LOGS, RECORD, bounds)
    assert refused.value.status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def test_fields_are_counted_in_every_depth_but_only_where_there_may_be_too_many() -> None:
    body = make(1, 50)
    # The request's own, its scope's, and of each attribute four: itself, its key, its value, the number.
    fields = 3 + 2 + 50 * 4
    check_protobuf(body, LOGS, RECORD, Bounds(fields=fields))
    with pytest.raises(RefusedError, match="fields"):
        check_protobuf(body, LOGS, RECORD, Bounds(fields=fields - 1))


def test_what_is_no_message_is_said_to_be_none() -> None:
    for body in (b"\x0a\x05x", b"\xff" * 11, b"\x0b", b"\x09\x00"):
        with pytest.raises(ValueError, match="damaged"):
            check_protobuf(body, LOGS, RECORD, Bounds())


def test_values_of_json_are_counted_outside_of_texts() -> None:
    texts = json.dumps({"a": ["[,{" * 1000, 'a "quoted" \\ text' * 100]}).encode()
    check_json(texts, Bounds(fields=20))
    with pytest.raises(RefusedError, match="values"):
        check_json(b"[" + b"1," * 100 + b"1]", Bounds(fields=20))


def test_what_is_not_compressed_is_bounded_too() -> None:
    assert decompress(b"x" * 10, "identity", max_bytes=10) == b"x" * 10
    with pytest.raises(RefusedError):
        decompress(b"x" * 11, "identity", max_bytes=10)


# The Host check.

OURS = (
    *("localhost", "LOCALHOST", "localhost:4318", "localhost.", "app.localhost", "app.localhost:1"),
    *("127.0.0.1", "127.0.0.1:4318", "127.8.9.1", "[::1]", "[::1]:4318", "[::ffff:127.0.0.1]:1"),
)
STRANGE = (
    *("evil.example", "evil.example:4318", "localhost.evil.example", "127.0.0.1.evil.example", "notlocalhost"),
    *("", ":4318", "127.1", "0x7f.1", "2130706433", "0.0.0.0", "[::]", "10.0.0.1", "[fe80::1]", "::1:1", "a b"),
    *(
        "localhost evil.example",
        "user@localhost",
        "localhost/x",
        "[::1",
        "127.0.0.1:x",
        "localhost:80:80",
        "localhost\t.x",
    ),
)


@pytest.mark.parametrize("host", OURS)
def test_loopback_names_are_ours(host: str) -> None:
    check_host([host], ())


@pytest.mark.parametrize("host", STRANGE)
def test_other_names_are_not(host: str) -> None:
    with pytest.raises(RefusedError) as refused:
        check_host([host], ())
    assert refused.value.status is HTTPStatus.MISDIRECTED_REQUEST


def test_of_several_names_each_must_be_ours_and_none_at_all_is_no_browsers() -> None:
    check_host([], ())
    with pytest.raises(RefusedError):
        check_host(["localhost", "evil.example"], ())


def test_the_name_that_was_given_is_ours() -> None:
    check_host(["desk.lan:4318"], {"desk.lan"})
    check_host(["10.0.0.1:4318"], {"10.0.0.1"})
    check_host(["[fe80:0::1]:4318"], {"fe80::1"})
    for host in ("evil.example", "10.0.0.2"):
        with pytest.raises(RefusedError):
            check_host([host], {"desk.lan", "10.0.0.1"})


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_an_address_for_all_allows_addresses_but_no_names(wildcard: str) -> None:
    for host in ("10.0.0.1:4318", "[fe80::1]"):
        check_host([host], {wildcard})
    with pytest.raises(RefusedError):
        check_host(["evil.example"], {wildcard})


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    journal = Journal(tmp_path / "files")
    with Receiver(journal, hosts=["Collector"]) as receiver:
        yield receiver
    journal.close()


def exchange(receiver: Receiver, head: str, body: bytes = b"") -> bytes:
    with socket.create_connection((receiver.host, receiver.port), timeout=10) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /records?after=0 HTTP/1.1\nHost: evil.example", b"421"),
        ("GET /stats HTTP/1.1\nHost: evil.example:4318", b"421"),
        ("GET /stats HTTP/1.1\nHost: localhost\nHost: evil.example", b"421"),
        ("GET http://evil.example/stats HTTP/1.1\nHost: localhost", b"421"),
        ("GET http://[/stats HTTP/1.1\nHost: localhost", b"400"),
        ("GET /stats HTTP/1.1\nHost: localhost:9", b"200"),
        ("GET http://localhost/stats HTTP/1.1\nHost: localhost", b"200"),
        ("GET /stats HTTP/1.1\nHost: collector:4318", b"200"),
        ("GET /stats HTTP/1.0", b"200"),
    ],
)
def test_who_asks_another_server_gets_nothing_of_this_one(receiver: Receiver, head: str, status: bytes) -> None:
    answer = exchange(receiver, head)
    assert answer.split()[1] == status
    assert status == b"200" or b"services" not in answer


def test_records_for_another_server_are_not_taken(receiver: Receiver) -> None:
    body = gzip.compress(make(3))
    head = f"Content-Type: application/x-protobuf\nContent-Encoding: gzip\nContent-Length: {len(body)}"
    answer = exchange(receiver, f"POST /v1/logs HTTP/1.1\nHost: evil.example\n{head}", body)
    assert answer.split()[1] == b"421"
    stats = receiver.stats()
    assert (stats["records"], stats["refused_requests"]) == (0, 1)
    assert exchange(receiver, f"POST /v1/logs HTTP/1.1\nHost: 127.0.0.1:1\n{head}", body).split()[1] == b"200"
    assert receiver.stats()["records"] == 3
