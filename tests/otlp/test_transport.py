"""One request and its answer: what is sent, how it fails, and that no deadline is passed."""

from __future__ import annotations

import gzip
import math
import os
import select
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import trustme

from otelog._otlp.exchange import MAX_ANSWER_BYTES, Answer, TransportFailure, TransportSettings
from otelog._otlp.http import Transport
from otelog.exceptions import ConfigurationError
from otelog.testing import OTLPServer, Reply
from tools.loopback import find_free_ports
from tools.waiting import wait_until

BODY = b"twelve bytes" * 100
SOON = 0.3
"""Seconds that an exchange is given which must end at its deadline."""
LATE = 5.0
"""Seconds after which such an exchange has certainly passed its deadline, however busy the machine is."""


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with OTLPServer() as one:
        yield one


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def authority_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@contextmanager
def transport_to(endpoint: str, **options: object) -> Iterator[Transport]:
    transport = Transport(TransportSettings(endpoint=endpoint, **options))  # type: ignore[arg-type]
    try:
        yield transport
    finally:
        transport.close()


def secure_transport_to(endpoint: str, authority_file: str) -> AbstractContextManager[Transport]:
    url = endpoint.replace("http:", "https:")
    return transport_to(url, certificate_file=authority_file, compression="none")


@contextmanager
def peer(talk: Callable[[socket.socket], object]) -> Iterator[str]:
    """A server that does to one connection what no `Reply` can."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/logs"
        thread.join(10.0)


def fail(transport: Transport, body: bytes = BODY, *, timeout: float = 10.0) -> TransportFailure:
    with pytest.raises(TransportFailure) as caught:
        transport.post(body, timeout=timeout)
    return caught.value


def secure_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


# --- what is sent


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_body_arrives_as_it_was_given(server: OTLPServer, compression: str) -> None:
    if compression == "zstd":
        pytest.importorskip("zstandard")
    with transport_to(server.logs_endpoint, compression=compression) as transport:
        assert transport.post(BODY) == Answer(
            200, {"content-type": "application/x-protobuf", "content-length": "0"}, b""
        )
    (request,) = server.requests
    assert request.body == BODY
    assert request.headers.get("content-encoding", "none") == compression
    assert (len(request.raw) < len(BODY)) == (compression != "none")


def test_headers_are_those_of_otlp_and_the_users(server: OTLPServer) -> None:
    with transport_to(
        server.logs_endpoint, headers={"Authorization": "Bearer a"}, user_agent="otelog/1.2"
    ) as transport:
        transport.post(BODY)
    headers = server.requests[0].headers
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["user-agent"] == "otelog/1.2"
    assert headers["authorization"] == "Bearer a"
    assert headers["host"] == f"127.0.0.1:{server.port}"


def test_the_users_own_user_agent_wins(server: OTLPServer) -> None:
    with transport_to(server.logs_endpoint, headers={"user-agent": "mine"}) as transport:
        transport.post(BODY)
    assert server.requests[0].headers["user-agent"] == "mine"


def test_the_query_of_the_endpoint_is_sent_and_not_shown(server: OTLPServer) -> None:
    with transport_to(server.logs_endpoint + "?key=secret") as transport:
        transport.post(BODY)
        assert "secret" not in transport.target
    assert server.requests[0].path == "/v1/logs?key=secret"


def test_a_name_with_several_addresses_is_reached_at_the_one_that_listens() -> None:
    with OTLPServer(host="localhost") as server, transport_to(server.logs_endpoint) as transport:
        assert transport.post(BODY).status == 200


def test_no_proxy_of_the_environment_is_used(server: OTLPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{find_free_ports(1)[0]}")
    with transport_to(server.logs_endpoint) as transport:
        assert transport.post(BODY).status == 200


# --- the connection


def test_a_system_without_poll_is_served(server: OTLPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")
    with transport_to(server.logs_endpoint) as transport:
        assert [transport.post(BODY).status for _ in range(2)] == [200, 200]
        assert server.connections == 1


def test_an_application_with_thousands_of_open_files_is_served(server: OTLPServer) -> None:
    resource = pytest.importorskip("resource")
    wanted = 1100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * wanted)), hard))
    try:
        with ExitStack() as stack:
            for _ in range(wanted):
                file = stack.enter_context(open(os.devnull, "rb"))
            assert file.fileno() > 1023
            with transport_to(server.logs_endpoint) as transport:
                assert [transport.post(BODY).status for _ in range(2)] == [200, 200]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_connection_serves_all_requests(server: OTLPServer) -> None:
    server.script = [Reply(status=503), Reply(status=204), Reply(rejected=1), Reply(status=400, body=b"no")]
    with transport_to(server.logs_endpoint) as transport:
        assert [transport.post(BODY).status for _ in range(6)] == [503, 204, 200, 400, 200, 200]
    assert server.connections == 1


def test_a_connection_that_the_server_has_closed_is_opened_again(server: OTLPServer) -> None:
    server.script = [Reply(headers={"Connection": "close"})]
    with transport_to(server.logs_endpoint) as transport:
        assert [transport.post(BODY).status for _ in range(3)] == [200, 200, 200]
    assert server.connections == 2


def test_a_server_that_was_restarted_is_found_again() -> None:
    with OTLPServer() as first, transport_to(first.logs_endpoint) as transport:
        transport.post(BODY)
        first.close()
        with OTLPServer(port=first.port) as second:
            assert transport.post(BODY).status == 200
            assert len(second.requests) == 1


def test_after_close_a_post_opens_a_new_connection(server: OTLPServer) -> None:
    with transport_to(server.logs_endpoint) as transport:
        transport.post(BODY)
        transport.close()
        transport.close()
        transport.post(BODY)
    assert server.connections == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("secure", [False, True])
def test_a_forked_child_has_a_connection_of_its_own(secure: bool, authority: trustme.CA, authority_file: str) -> None:
    context = secure_context(authority.issue_cert("127.0.0.1")) if secure else None
    with OTLPServer(tls=context) as server:
        program = (
            "import os, sys\n"
            "from otelog._otlp.http import *\n"
            "t = Transport(TransportSettings(endpoint=sys.argv[1], certificate_file=sys.argv[2]))\n"
            "t.post(b'before')\n"
            "child = os.fork()\n"
            "t.post(b'child' if child == 0 else b'parent')\n"
            "t.post(b'child' if child == 0 else b'parent')\n"
            "if child == 0: os._exit(0)\n"
            "assert os.waitpid(child, 0)[1] == 0\n"
            "t.post(b'after')\n"
            "t.close()\n"
        )
        command = [sys.executable, "-W", "error", "-c", program, server.logs_endpoint, authority_file]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert sorted(request.body for request in server.requests) == sorted(
            [b"before", b"child", b"child", b"parent", b"parent", b"after"]
        )
        assert server.connections == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    ("reply", "steps"),
    [(Reply(delay=0.3), 0), (Reply(fault="hang"), 5), (Reply(fault="endless_body"), 30)],
    ids=["while importing", "before the answer", "in the answer"],
)
def test_a_child_forked_in_the_middle_of_an_exchange_can_send(reply: Reply, steps: int) -> None:
    with OTLPServer([reply]) as server:
        program = (
            "import os, sys, threading, warnings\n"
            "warnings.simplefilter('ignore', DeprecationWarning)\n"
            "from otelog._otlp.http import *\n"
            "t = Transport(TransportSettings(endpoint=sys.argv[1]))\n"
            "steps, over = [], threading.Event()\n"
            "def time_left():\n"
            "    steps.append(None)\n"
            "    return 0.0 if over.is_set() else 60.0\n"
            "def post():\n"
            "    try: t.post(b'parent', time_left=time_left, timeout=60.0)\n"
            "    except TransportFailure: pass\n"
            "thread = threading.Thread(target=post)\n"
            "thread.start()\n"
            "while len(steps) < int(sys.argv[2]) or not t._exchanging.locked(): over.wait(0.01)\n"
            "child = os.fork()\n"
            "if child == 0:\n"
            "    t.close()\n"
            "    for _ in range(2): assert t.post(b'child', timeout=20.0).status == 200\n"
            "    t.close()\n"
            "    os._exit(0)\n"
            "assert os.waitpid(child, 0)[1] == 0\n"
            "over.set()\n"
            "thread.join()\n"
            "assert t.post(b'after').status == 200\n"
            "t.close()\n"
        )
        command = [sys.executable, "-W", "error", "-c", program, server.logs_endpoint, str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert sorted(request.body for request in server.requests) == [b"after", b"child", b"child", b"parent"]


# --- answers


def test_an_answer_has_status_headers_and_body(server: OTLPServer) -> None:
    server.script = [Reply(status=429, headers={"Retry-After": "3"}, body=b"busy")]
    with transport_to(server.logs_endpoint) as transport:
        answer = transport.post(BODY)
    assert (answer.status, answer.headers["retry-after"], answer.body) == (429, "3", b"busy")


def test_a_redirect_is_an_answer_and_is_not_followed(server: OTLPServer) -> None:
    server.script = [Reply(status=301, headers={"Location": server.logs_endpoint})]
    with transport_to(server.logs_endpoint) as transport:
        assert transport.post(BODY).status == 301
    assert len(server.requests) == 1


@pytest.mark.parametrize("installed", [True, False], ids=["isal", "zlib"])
def test_gzip_is_packed_by_isal_where_it_is_installed(
    server: OTLPServer, monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    isal = pytest.importorskip("isal.isal_zlib", reason="is tested in the main environment")
    made: list[int] = []
    standard = isal.compressobj
    monkeypatch.setattr(isal, "compressobj", lambda *arguments: made.append(1) or standard(*arguments))
    if not installed:
        monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    with transport_to(server.logs_endpoint, compression="gzip") as transport:
        for _ in range(3):
            assert transport.post(BODY).status == 200
    assert [request.body for request in server.requests] == [BODY] * 3
    assert all(len(request.raw) < len(BODY) / 5 for request in server.requests)
    assert len(made) == (3 if installed else 0)


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_decoded(server: OTLPServer, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    server.script = [Reply(headers={"Content-Encoding": encoding}, body=pack(b"said"))]
    with transport_to(server.logs_endpoint) as transport:
        assert transport.post(BODY).body == b"said"


def test_a_body_that_cannot_be_decoded_counts_as_empty(server: OTLPServer) -> None:
    server.script = [Reply(headers={"Content-Encoding": "gzip"}, body=b"not gzip")]
    with transport_to(server.logs_endpoint) as transport:
        assert transport.post(BODY).body == b""


def test_a_chunked_body_is_read_to_its_end(server: OTLPServer) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        connection.recv(65536)

    with peer(talk) as endpoint, transport_to(endpoint) as transport:
        assert transport.post(BODY).body == b"abcde"


@pytest.mark.parametrize(
    "cut",
    [b"Content-Length: 9\r\n\r\nabcde", b"Transfer-Encoding: chunked\r\n\r\n9\r\nabcde"],
    ids=["length", "chunked"],
)
def test_a_success_whose_body_ends_too_early_is_none(cut: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + cut)
        connection.shutdown(socket.SHUT_WR)

    with peer(talk) as endpoint, transport_to(endpoint) as transport:
        failure = fail(transport)
        assert (failure.retryable, failure.outcome_unknown) == (True, True)


@pytest.mark.parametrize("size", [MAX_ANSWER_BYTES, MAX_ANSWER_BYTES + 1])
@pytest.mark.parametrize("packed", [False, True])
def test_a_success_with_a_body_over_the_bound_is_not_retried(server: OTLPServer, size: int, packed: bool) -> None:
    body = bytes(size)
    server.script = (
        [Reply(headers={"Content-Encoding": "gzip"}, body=gzip.compress(body))] if packed else [Reply(body=body)]
    )
    with transport_to(server.logs_endpoint) as transport:
        if size <= MAX_ANSWER_BYTES:
            assert transport.post(BODY).body == body
        else:
            failure = fail(transport)
            assert (failure.retryable, failure.outcome_unknown) == (False, True)
        assert transport.post(BODY).status == 200


@pytest.mark.parametrize("fault", ["endless_body", "reset_answer"])
def test_a_failure_is_known_by_its_status_even_if_its_body_is_not(server: OTLPServer, fault: str) -> None:
    server.script = [Reply(status=503, fault=fault, headers={"Retry-After": "9"}, pace=0)]  # type: ignore[arg-type]
    with transport_to(server.logs_endpoint) as transport:
        answer = transport.post(BODY)
        assert (answer.status, answer.headers["retry-after"], answer.body) == (503, "9", b"")
        assert transport.post(BODY).status == 200
    assert server.fired[fault] == 1


@pytest.mark.parametrize("secure", [False, True])
def test_an_answer_that_comes_before_the_request_is_read_is_found(
    secure: bool, authority: trustme.CA, authority_file: str
) -> None:
    context = secure_context(authority.issue_cert("127.0.0.1"))

    def refuse_early(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) if secure else connection as ready:
            ready.recv(100)
            ready.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            ready.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))

    with peer(refuse_early) as endpoint:
        url = endpoint.replace("http:", "https:") if secure else endpoint
        with transport_to(url, certificate_file=authority_file, compression="none") as transport:
            assert transport.post(bytes(30_000_000)).status == 413


# --- failures


@pytest.mark.parametrize("fault", ["hang", "endless_headers", "endless_body"])
def test_an_exchange_ends_at_its_deadline_however_the_server_drags_it_out(server: OTLPServer, fault: str) -> None:
    server.script = [Reply(fault=fault)]  # type: ignore[arg-type]
    with transport_to(server.logs_endpoint) as transport:
        began = time.monotonic()
        failure = fail(transport, timeout=SOON)
        assert SOON <= time.monotonic() - began < LATE
        assert (failure.retryable, failure.outcome_unknown) == (True, True)
        assert server.fired[fault] == 1
        assert transport.post(BODY).status == 200


@pytest.mark.parametrize("secure", [False, True])
def test_a_server_that_does_not_read_is_left_at_the_deadline(
    secure: bool, authority: trustme.CA, authority_file: str
) -> None:
    context = secure_context(authority.issue_cert("127.0.0.1"))
    over = threading.Event()

    def listen_only(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) if secure else connection as ready:
            assert ready
            over.wait(10.0)

    with peer(listen_only) as endpoint:
        url = endpoint.replace("http:", "https:") if secure else endpoint
        with transport_to(url, certificate_file=authority_file, compression="none") as transport:
            began = time.monotonic()
            failure = fail(transport, bytes(30_000_000), timeout=SOON)
            over.set()
            assert time.monotonic() - began < LATE
            assert (failure.retryable, failure.outcome_unknown) == (True, False)


@pytest.mark.parametrize("secure", [False, True])
def test_a_server_that_reads_slowly_still_gets_every_byte(
    secure: bool, authority: trustme.CA, authority_file: str
) -> None:
    context = secure_context(authority.issue_cert("127.0.0.1"))
    body = os.urandom(12_000_000)
    got: list[bytes] = []
    pause = threading.Event()

    def read_slowly(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) if secure else connection as ready:
            # Longer than the transport's own short waits, so that its writes are interrupted and taken up again.
            for _ in range(3):
                pause.wait(0.25)
                got.append(ready.recv(1_000_000))
            while sum(map(len, got)) < len(body):
                got.append(ready.recv(1_000_000))
            head, _, rest = b"".join(got).partition(b"\r\n\r\n")
            while len(rest) < len(body):
                rest += ready.recv(1_000_000)
            got[:] = [head, rest]
            ready.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            ready.recv(10)

    with peer(read_slowly) as endpoint:
        url = endpoint.replace("http:", "https:") if secure else endpoint
        with transport_to(url, certificate_file=authority_file, compression="none") as transport:
            assert transport.post(body, timeout=30.0).status == 200
    assert got[1] == body


@pytest.mark.skipif(sys.platform != "linux", reason="relies on how Linux treats a full backlog")
def test_a_host_that_never_accepts_is_left_at_the_deadline() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(listener.getsockname())
            with transport_to(f"http://127.0.0.1:{listener.getsockname()[1]}/v1/logs") as transport:
                began = time.monotonic()
                failure = fail(transport, timeout=SOON)
                assert SOON <= time.monotonic() - began < LATE
                assert (failure.retryable, failure.outcome_unknown) == (True, False)
        finally:
            for one in waiting:
                one.close()


def test_a_handshake_that_never_ends_is_left_at_the_deadline() -> None:
    def listen_only(connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with peer(listen_only) as endpoint, transport_to(endpoint.replace("http:", "https:")) as transport:
        began = time.monotonic()
        failure = fail(transport, timeout=SOON)
        assert time.monotonic() - began < LATE
        assert (failure.retryable, failure.outcome_unknown) == (True, False)


def test_closing_does_not_wait_for_the_exchange_under_way(server: OTLPServer) -> None:
    server.script = [Reply(fault="endless_body")]
    with transport_to(server.logs_endpoint) as transport:
        over = threading.Event()
        failures: list[TransportFailure] = []

        def exchange() -> None:
            with pytest.raises(TransportFailure) as caught:
                transport.post(BODY, timeout=60.0, time_left=lambda: 0.0 if over.is_set() else math.inf)
            failures.append(caught.value)

        thread = threading.Thread(target=exchange)
        thread.start()
        assert server.wait_until(lambda: server.fired["endless_body"] == 1)
        began = time.monotonic()
        transport.close()
        assert time.monotonic() - began < LATE
        assert thread.is_alive()
        over.set()
        thread.join(LATE)
        assert failures[0].outcome_unknown
        assert transport.post(BODY).status == 200


def test_closing_in_the_middle_of_an_exchange_lets_it_end_and_then_closes(server: OTLPServer) -> None:
    server.script = [Reply(), Reply(delay=0.3)]
    with transport_to(server.logs_endpoint) as transport:
        transport.post(BODY)
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(transport.post(BODY)))
        thread.start()
        assert server.wait_until(lambda: len(server.requests) == 2)
        transport.close()
        thread.join(LATE)
        assert answers[0].status == 200
        transport.post(BODY)
    assert server.connections == 2


def test_a_second_exchange_waits_for_its_turn_no_longer_than_its_deadline(server: OTLPServer) -> None:
    server.script = [Reply(fault="hang")]
    with transport_to(server.logs_endpoint) as transport:
        over = threading.Event()

        def exchange() -> None:
            with pytest.raises(TransportFailure):
                transport.post(BODY, timeout=60.0, time_left=lambda: 0.0 if over.is_set() else math.inf)

        thread = threading.Thread(target=exchange)
        thread.start()
        assert server.wait_until(lambda: server.fired["hang"] == 1)
        failure = fail(transport, timeout=SOON)
        assert (failure.retryable, failure.outcome_unknown) == (True, False)
        over.set()
        assert transport.post(BODY).status == 200
        thread.join(LATE)


def test_a_shutdown_cuts_an_exchange_that_is_under_way(server: OTLPServer) -> None:
    server.script = [Reply(fault="hang")]
    with transport_to(server.logs_endpoint) as transport:
        began = time.monotonic()
        with pytest.raises(TransportFailure):
            # The shutdown begins when the server has the request.
            transport.post(BODY, timeout=60.0, time_left=lambda: 0.0 if server.fired["hang"] else math.inf)
        assert time.monotonic() - began < LATE


@pytest.mark.parametrize(
    ("fault", "outcome_unknown"), [("close", True), ("reset_answer", True), ("reset_request", None)]
)
def test_a_cut_connection_may_be_retried(server: OTLPServer, fault: str, outcome_unknown: bool | None) -> None:
    server.script = [Reply(fault=fault)]  # type: ignore[arg-type]
    with transport_to(server.logs_endpoint, compression="none") as transport:
        # Large, so that it is not all in the kernel's buffers when the reset comes.
        failure = fail(transport, bytes(30_000_000))
        assert failure.retryable
        if outcome_unknown is not None:
            assert failure.outcome_unknown == outcome_unknown
        assert transport.post(BODY).status == 200
    assert server.fired[fault] == 1


def test_a_refused_connection_may_be_retried_and_nothing_was_sent() -> None:
    with transport_to(f"http://127.0.0.1:{find_free_ports(1)[0]}/v1/logs") as transport:
        failure = fail(transport)
    assert (failure.retryable, failure.outcome_unknown) == (True, False)
    assert "refused" in failure.detail


def test_a_name_that_cannot_be_looked_up_may_be_retried() -> None:
    with transport_to("http://otelog.invalid/v1/logs") as transport:
        failure = fail(transport)
    assert (failure.retryable, failure.outcome_unknown) == (True, False)


def test_a_port_that_speaks_something_else_is_named() -> None:
    def speak_http2(connection: socket.socket) -> None:
        connection.sendall(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00\n")
        connection.recv(65536)
        connection.recv(65536)

    with peer(speak_http2) as endpoint, transport_to(endpoint) as transport:
        failure = fail(transport)
        assert "4317" in failure.detail
        assert failure.retryable


def test_an_interrupt_leaves_a_transport_that_can_be_used(server: OTLPServer) -> None:
    def interrupt() -> float:
        raise KeyboardInterrupt

    with transport_to(server.logs_endpoint) as transport:
        transport.post(BODY)
        with pytest.raises(KeyboardInterrupt):
            transport.post(BODY, time_left=interrupt)
        assert transport.post(BODY).status == 200


# --- TLS


def test_a_server_of_a_trusted_authority_is_used(authority: trustme.CA, authority_file: str) -> None:
    context = secure_context(authority.issue_cert("127.0.0.1"))
    with OTLPServer(tls=context) as server:
        with transport_to(server.logs_endpoint, certificate_file=authority_file) as transport:
            assert [transport.post(BODY).status for _ in range(3)] == [200, 200, 200]
        assert server.connections == 1


def test_a_full_name_with_its_dot_is_the_certificates_name(
    authority: trustme.CA, authority_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo
    # Not every resolver finds it in its own file.
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: look_up(host.rstrip(b"."), *rest, **more))
    with OTLPServer(host="localhost", tls=secure_context(authority.issue_cert("localhost"))) as server:
        endpoint = server.logs_endpoint.replace("localhost", "localhost.")
        with transport_to(endpoint, certificate_file=authority_file) as transport:
            assert transport.post(BODY).status == 200


@pytest.mark.parametrize(
    ("names", "trusted", "hint"),
    [
        (["127.0.0.1"], False, "certificate_file"),
        (["elsewhere.example"], True, "name"),
        (["10.0.0.1"], True, "name"),
    ],
)
def test_a_wrong_certificate_is_final_and_says_what_to_set(
    authority: trustme.CA, authority_file: str, names: list[str], trusted: bool, hint: str
) -> None:
    with OTLPServer(tls=secure_context(authority.issue_cert(*names))) as server:
        with transport_to(server.logs_endpoint, certificate_file=authority_file if trusted else None) as transport:
            failure = fail(transport)
        assert (failure.retryable, failure.outcome_unknown) == (False, False)
        assert "certificate" in failure.detail
        assert hint in failure.detail
        assert server.wait_until(lambda: server.fired["tls_refused"] == 1)
        assert server.requests == []


def test_a_server_without_tls_is_named(server: OTLPServer) -> None:
    with transport_to(server.logs_endpoint.replace("http:", "https:")) as transport:
        failure = fail(transport)
    assert not failure.retryable
    assert "http://" in failure.detail


@pytest.mark.parametrize("goodbye", [True, False])
def test_a_success_over_tls_that_ends_too_early_is_none(
    goodbye: bool, authority: trustme.CA, authority_file: str
) -> None:
    context = secure_context(authority.issue_cert("127.0.0.1"))

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabcde")
            if goodbye:
                with suppress(ssl.SSLError):
                    # It is not answered.
                    secured.unwrap()

    with peer(talk) as endpoint, secure_transport_to(endpoint, authority_file) as transport:
        failure = fail(transport, b"")
        assert (failure.retryable, failure.outcome_unknown) == (True, True)


@pytest.mark.parametrize("size", [0, 1, 16_384, 1_000_000])
def test_an_answer_of_any_size_is_read_over_tls(size: int, authority: trustme.CA, authority_file: str) -> None:
    body = os.urandom(size)
    with OTLPServer([Reply(body=body)] * 2, tls=secure_context(authority.issue_cert("127.0.0.1"))) as server:
        with transport_to(server.logs_endpoint, certificate_file=authority_file) as transport:
            assert [transport.post(BODY).body for _ in range(2)] == [body] * 2
        assert server.connections == 1


def test_half_an_answer_over_tls_ends_with_its_connection(authority: trustme.CA, authority_file: str) -> None:
    script = [Reply(status=503, fault="endless_body", pace=0)]
    with OTLPServer(script, tls=secure_context(authority.issue_cert("127.0.0.1"))) as server:
        with transport_to(server.logs_endpoint, certificate_file=authority_file) as transport:
            assert [transport.post(BODY).status for _ in range(2)] == [503, 200]
        assert server.connections == 2


def test_an_answer_that_nobody_asked_for_ends_the_connection(authority: trustme.CA, authority_file: str) -> None:
    """Even if it came in one piece with the one that was asked for, and waits inside of TLS."""
    context = secure_context(authority.issue_cert("127.0.0.1"))
    answers = [b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status for status in (200, 400)]

    def talk(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)

        def wait_for(operation: Callable[[], object]) -> None:
            while True:
                try:
                    operation()
                    return
                except ssl.SSLWantReadError:
                    connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65536))

        wait_for(tls.do_handshake)
        wait_for(lambda: tls.read(65536))
        for answer in answers:
            tls.write(answer)
        connection.sendall(outgoing.read())
        connection.recv(65536)

    with peer(talk) as endpoint, secure_transport_to(endpoint, authority_file) as transport:
        assert transport.post(b"").status == 200
        # To a listener that takes no second connection.
        assert not fail(transport, timeout=SOON).outcome_unknown


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command; Python's ssl cannot send a key update")
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_what_tls_says_for_itself_between_two_answers_ends_no_connection(
    version: str, authority: trustme.CA, authority_file: str, tmp_path: Path
) -> None:
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    (port,) = find_free_ports(1)
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-naccept", "1", version]
    heard = tmp_path / "heard"

    def hears(words: bytes) -> bool:
        return words in heard.read_bytes()

    with (
        heard.open("wb") as output,
        subprocess.Popen(
            [*command, "-cert", str(tmp_path / "server.pem")], stdin=subprocess.PIPE, stdout=output, stderr=output
        ) as process,
    ):
        assert process.stdin is not None
        try:
            wait_until(partial(hears, b"ACCEPT"))
            with transport_to(f"https://127.0.0.1:{port}/", certificate_file=authority_file, compression="none") as one:
                for number in range(3):
                    statuses: list[int] = []
                    body = b"request %d" % number

                    def post(body: bytes = body, statuses: list[int] = statuses) -> None:
                        statuses.append(one.post(body, timeout=20.0).status)

                    thread = threading.Thread(target=post)
                    thread.start()
                    wait_until(partial(hears, body))
                    os.write(process.stdin.fileno(), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    thread.join()
                    assert statuses == [200]
                    if version == "-tls1_3":
                        # Another key, and the client is to take one, too.
                        os.write(process.stdin.fileno(), b"K\n")
                        wait_until(lambda: one._connection._bounded.has_input())  # type: ignore[union-attr]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def client_pair(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("client")
    certificate = authority.issue_cert("client@example.org")
    certificate.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    certificate.private_key_pem.write_to_path(str(folder / "client.key"))
    return str(folder / "client.pem"), str(folder / "client.key")


@pytest.mark.parametrize("known", [True, False])
def test_a_server_that_asks_who_we_are_is_told(
    authority: trustme.CA, authority_file: str, client_pair: tuple[str, str], known: bool
) -> None:
    context = secure_context(authority.issue_cert("127.0.0.1"))
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    pair = {"client_certificate_file": client_pair[0], "client_key_file": client_pair[1]} if known else {}
    with OTLPServer(tls=context) as server:
        with transport_to(server.logs_endpoint, certificate_file=authority_file, **pair) as transport:
            if known:
                assert transport.post(BODY).status == 200
            else:
                failure = fail(transport)
                # Where the server closes before its alert was read, the cause cannot be told from a cut connection.
                assert failure.retryable or "client_certificate_file" in failure.detail
        assert bool(server.requests) == known


# --- configuration


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "localhost:4318",
        "ftp://localhost/v1/logs",
        "http://",
        "http:///v1/logs",
        "http://host:port/",
        "http://host:99999/",
        "http://[::1/",
        "http://ho st/",
        "http://host/\r\nX: y",
        "http://user:hunter2@host/v1/logs",
        "http://host/v1/lögs",
    ],
)
def test_an_endpoint_that_cannot_be_used_is_refused_when_it_is_set(endpoint: str) -> None:
    with pytest.raises(ConfigurationError, match="endpoint") as caught:
        TransportSettings(endpoint=endpoint)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("https://collector.example/v1/logs", "https://collector.example:443/v1/logs"),
        ("http://[::1]:4318/v1/logs", "http://[::1]:4318/v1/logs"),
        ("http://bücher.example", "http://xn--bcher-kva.example:80/"),
    ],
)
def test_an_endpoint_is_read_as_it_is(endpoint: str, target: str) -> None:
    with transport_to(endpoint) as transport:
        assert transport.target == target


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"},
        {"two words": "x"},
        {"name:": "x"},
        {"x": "secret\r\nInjected: yes"},
        {"x": "secret\x00"},
        {"x": "secret☃"},
        {"x": 1},
        {"Content-Length": "secret"},
        {"content-encoding": "secret"},
        {"Transfer-Encoding": "secret"},
    ],
)
def test_headers_that_cannot_be_sent_are_refused_when_they_are_set(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="headers") as caught:
        TransportSettings(endpoint="http://host/", headers=headers)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "brotli"},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"timeout": float("inf")},
        {"client_key_file": "key.pem"},
        {"user_agent": "two\nlines"},
    ],
)
def test_an_option_that_cannot_be_used_is_refused_when_it_is_set(options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        TransportSettings(endpoint="http://host/", **options)  # type: ignore[arg-type]


def test_headers_are_not_shown() -> None:
    assert "secret" not in repr(TransportSettings(endpoint="http://host/", headers={"Authorization": "secret"}))


@pytest.mark.parametrize("content", [None, "not a certificate"])
@pytest.mark.parametrize("option", ["certificate_file", "client_certificate_file"])
def test_a_certificate_that_cannot_be_read_names_its_option(tmp_path: Path, content: str | None, option: str) -> None:
    path = tmp_path / "some.pem"
    if content:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=option) as caught:
        Transport(TransportSettings(endpoint="https://host/", **{option: str(path)}))
    assert "some.pem" in str(caught.value)


def test_an_encrypted_key_is_refused_without_asking_for_its_password(tmp_path: Path, authority: trustme.CA) -> None:
    from cryptography.hazmat.primitives import serialization

    certificate = authority.issue_cert("client.example")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "client.pem"))
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    (tmp_path / "client.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"pw")
        )
    )
    settings = TransportSettings(
        endpoint="https://host/",
        client_certificate_file=str(tmp_path / "client.pem"),
        client_key_file=str(tmp_path / "client.key"),
    )
    with pytest.raises(ConfigurationError, match="encrypted"):
        Transport(settings)


def test_zstd_without_its_library_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['zstandard'] = None\n"
        "from otelog._otlp.http import *\n"
        "from otelog.exceptions import ConfigurationError\n"
        "try: Transport(TransportSettings(endpoint='http://host/', compression='zstd'))\n"
        "except ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert sys.version_info >= (3, 14) or "zstandard" in done.stdout


def test_http_and_tls_are_not_imported_before_the_first_request() -> None:
    program = (
        "import sys\n"
        "from otelog._otlp.http import *\n"
        "Transport(TransportSettings(endpoint='http://host/'))\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('http', 'email', 'ssl', 'urllib3')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
