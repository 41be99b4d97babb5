"""The scripted server does what its script says, and says what it has done."""

from __future__ import annotations

import gzip
import http.client
import socket
import sys
import zlib
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from otelog.testing import OTLPServer, Reply


def encode(*bodies: str) -> bytes:
    request = ExportLogsServiceRequest()
    records = request.resource_logs.add().scope_logs.add().log_records
    for body in bodies:
        records.add().body.string_value = body
    return request.SerializeToString()


def post(
    server: OTLPServer, body: bytes, *, path: str = "/v1/logs", method: str = "POST", **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10.0)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with OTLPServer() as one:
        yield one


def test_it_can_be_closed_while_connections_come_in() -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(100):
            with ExitStack() as stack, OTLPServer() as server:
                for _ in range(5):
                    stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
    finally:
        sys.setswitchinterval(interval)


def test_records_are_decoded_and_kept(server: OTLPServer) -> None:
    assert post(server, encode("one", "two"), X_Tenant="t-1")[0] == 200
    assert [record.body.string_value for record in server.records] == ["one", "two"]
    (request,) = server.requests
    assert (request.path, request.headers["x-tenant"], request.body) == ("/v1/logs", "t-1", encode("one", "two"))
    assert server.fired == {"200": 1}


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_decompressed_and_also_kept_raw(server: OTLPServer, encoding, pack) -> None:
    raw = pack(encode("one"))
    assert post(server, raw, Content_Encoding=encoding)[0] == 200
    assert (server.requests[0].raw, server.requests[0].body) == (raw, encode("one"))


@pytest.mark.parametrize("encoding", ["gzip", "br"])
def test_a_body_that_cannot_be_decompressed_is_answered_400_and_not_kept(server: OTLPServer, encoding: str) -> None:
    assert post(server, b"nonsense", Content_Encoding=encoding)[0] == 400
    assert server.requests == []


def test_the_script_is_followed_and_then_all_is_well(server: OTLPServer) -> None:
    server.script = [Reply(status=503, headers={"Retry-After": "2"}), Reply(status=301), Reply(status=204)]
    answers = [post(server, encode(str(number))) for number in range(5)]
    assert [status for status, _, _ in answers] == [503, 301, 204, 200, 200]
    assert answers[0][2]["Retry-After"] == "2"
    assert server.fired == {"503": 1, "301": 1, "204": 1, "200": 2}
    assert [record.body.string_value for record in server.records] == ["2", "3", "4"]
    assert server.script == []


def test_a_partial_success_keeps_all_but_the_rejected(server: OTLPServer) -> None:
    server.script = [Reply(rejected=2, message="too old")]
    _, body, _ = post(server, encode("one", "two", "three"))
    said = ExportLogsServiceResponse.FromString(body).partial_success
    assert (said.rejected_log_records, said.error_message) == (2, "too old")
    assert [record.body.string_value for record in server.records] == ["one"]
    assert server.fired == {"partial_success": 1}


def test_other_signals_are_taken_and_take_no_reply_of_the_script(server: OTLPServer) -> None:
    server.script = [Reply(status=503)]
    assert [post(server, b"x" * 9, path=path)[:2] for path in ("/v1/metrics", "/v1/traces")] == [(200, b"")] * 2
    assert (server.other_signals, server.requests) == ({"/v1/metrics": 1, "/v1/traces": 1}, [])
    assert (len(server.script), server.fired) == (1, {})


def test_other_paths_and_methods_are_refused_and_take_no_reply_of_the_script(server: OTLPServer) -> None:
    server.script = [Reply(status=503)]
    assert post(server, b"", path="/v2/logs")[0] == 404
    assert post(server, b"", method="GET")[0] == 405
    assert len(server.script) == 1


@pytest.mark.parametrize("fault", ["close", "reset_request", "reset_answer"])
def test_a_cut_connection_is_seen_by_the_client(server: OTLPServer, fault) -> None:
    server.script = [Reply(fault=fault)]
    with pytest.raises((OSError, http.client.HTTPException)):
        post(server, encode("one") + bytes(4_000_000))
    assert server.fired == {fault: 1}
    assert len(server.requests) == (fault != "reset_request")
    assert post(server, encode("two"))[0] == 200


@pytest.mark.parametrize("fault", ["hang", "endless_headers", "endless_body"])
def test_an_answer_without_end_ends_with_the_server(fault) -> None:
    server = OTLPServer([Reply(fault=fault)])
    with server, socket.create_connection(("127.0.0.1", server.port), timeout=10.0) as client:
        body = encode("one")
        client.sendall(b"POST /v1/logs HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        assert server.wait_until(lambda: server.fired[fault] == 1)
        server.close()
        while client.recv(65536):
            pass
    assert [record.body.string_value for record in server.records] == ["one"]


def test_a_request_that_ends_early_is_not_kept(server: OTLPServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10.0) as client:
        client.sendall(b"POST /v1/logs HTTP/1.1\r\nContent-Length: 10\r\n\r\nonly")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100) == b""
    assert server.requests == []


def test_a_server_can_be_started_again_on_the_same_port() -> None:
    with OTLPServer() as first:
        post(first, encode("one"))
    first.close()
    with OTLPServer(port=first.port) as second:
        assert post(second, encode("two"))[0] == 200
        assert second.endpoint == first.endpoint
        assert second.logs_endpoint == f"{second.endpoint}/v1/logs"


def test_a_connection_is_kept_for_further_requests(server: OTLPServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10.0)
    for status in (503, 204, 200, 200):
        server.script = [Reply(status=status)]
        connection.request("POST", "/v1/logs", encode("one"))
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()
    assert server.connections == 1


def test_a_wait_that_is_in_vain_says_so(server: OTLPServer) -> None:
    assert not server.wait_until(lambda: server.connections == 1, timeout=0.05)
