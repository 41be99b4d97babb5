"""OTLP over gRPC: every answer and every fault of a real server ends in its counter."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

import otelog
from otelog import BatchLogRecordProcessor, OTLPLogExporter
from otelog._otlp import grpc as grpc_module
from otelog._otlp.answer import read_retry_delay
from otelog._otlp.exchange import TransportFailure, TransportSettings
from otelog._otlp.grpc import GrpcTransport
from otelog._otlp.open import LOGS_METHOD
from otelog._setup import configure
from otelog.exceptions import ConfigurationError
from tests.grpc_server import GrpcServer, Reply
from tests.otlp.test_faults import check, names, send
from tests.pipelines import make_logger, running
from tools.loopback import find_free_ports
from tools.waiting import wait_until

LATEST = 20.0
# Spelled out as the specification has them.
RETRYABLE = ["ABORTED", "CANCELLED", "DATA_LOSS", "DEADLINE_EXCEEDED", "OUT_OF_RANGE", "UNAVAILABLE"]
FINAL = sorted({code.name for code in grpc.StatusCode} - {*RETRYABLE, "OK"})

log = otelog.get_logger("grpc")


class Relay:
    """Hands a server's connections on, counts what goes to it, and can cut them."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.bytes_sent = 0
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += [client, server]
            for pair in ((client, server), (server, client)):
                self._threads.append(threading.Thread(target=self._pump, args=(*pair, pair[0] is client)))
                self._threads[-1].start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(65536):
                self.bytes_sent += len(data) if counted else 0
                sink.sendall(data)
        except OSError:
            return

    def cut(self) -> None:
        while self._sockets:
            one = self._sockets.pop()
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        self.cut()
        for thread in self._threads:
            thread.join()


@contextmanager
def pipeline(endpoint: str, **options: Any) -> Iterator[None]:
    """`configure` by gRPC with short times, taken back afterwards."""
    defaults = {"schedule_delay_millis": 60_000, "timeout": 5.0, "export_timeout_millis": 15_000}
    try:
        otelog.configure(**{"endpoint": endpoint, "protocol": "grpc", "service_name": "grpc", **defaults, **options})
        yield
    finally:
        configure.reset()


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """What is said on standard error is the subject of few tests."""


def open_transport(endpoint: str, **options: Any) -> GrpcTransport:
    return GrpcTransport(TransportSettings(endpoint=endpoint, grpc_method=LOGS_METHOD, **options))


def retry_info(seconds: float, *, before: bool = False) -> tuple[tuple[str, bytes], ...]:
    """The trailer by which a server asks for a wait."""
    status = Status(code=8, message="slow down")
    if before:
        status.details.add().Pack(ErrorInfo(reason="QUOTA"))
    whole = int(seconds // 1)
    status.details.add().Pack(RetryInfo(retry_delay=Duration(seconds=whole, nanos=round((seconds - whole) * 1e9))))
    return (("grpc-status-details-bin", status.SerializeToString()),)


# What goes out.


def test_records_arrive_with_headers_and_who_sent_them() -> None:
    with GrpcServer() as server, pipeline(server.endpoint, headers={"Authorization": "Bearer s3cret"}):
        assert send("sent")
        check(exported=10)
        assert server.bodies == names("sent")
        ((method, metadata),) = server.calls
        assert method == LOGS_METHOD
        assert metadata["authorization"] == "Bearer s3cret"
        assert metadata["user-agent"].startswith("otelog/")


SHORT_SCRIPT = """
import sys, otelog
otelog.configure(endpoint=sys.argv[1], protocol="grpc")
log = otelog.get_logger("short")
if sys.argv[2] == "after a flush":
    log.info("before")
    assert otelog.flush(10)
log.info("at the end")
"""


@pytest.mark.parametrize("way", ["at once", "after a flush"])
def test_what_a_short_script_logs_arrives_at_its_end(way: str) -> None:
    """Python 3.12 starts no thread then."""
    with GrpcServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", SHORT_SCRIPT, server.endpoint, way],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert server.bodies[-1:] == ["at the end"]


def test_a_user_agent_among_the_headers_is_the_one_that_is_told() -> None:
    with GrpcServer() as server, pipeline(server.endpoint, headers={"User-Agent": "shop/1"}):
        assert send("sent")
        assert server.calls[0][1]["user-agent"].startswith("shop/1 ")


def test_the_path_of_an_endpoint_counts_for_nothing() -> None:
    with GrpcServer() as server, pipeline(f"{server.endpoint}/v1/logs"):
        assert send("sent")
        assert server.calls[0][0] == LOGS_METHOD


def test_all_batches_go_over_one_connection() -> None:
    with GrpcServer() as server, Relay(server.port) as relay:
        with pipeline(relay.endpoint, max_export_batch_size=10):
            assert send("sent", 50)
            check(exported=50)
        assert len(server.calls) == 5
        assert len(relay._threads) == 3


@pytest.mark.parametrize(("compression", "at_least", "at_most"), [("gzip", 1, 20_000), ("none", 100_000, 120_000)])
def test_requests_are_compressed_as_it_was_chosen(compression: str, at_least: int, at_most: int) -> None:
    with GrpcServer() as server, Relay(server.port) as relay:
        with pipeline(relay.endpoint, compression=compression):
            log.info("x" * 100_000)
            assert otelog.flush(LATEST)
        assert at_least <= relay.bytes_sent <= at_most
        assert server.bodies == ["x" * 100_000]


def test_a_batch_over_the_byte_limit_is_split() -> None:
    with GrpcServer() as server, pipeline(server.endpoint, max_request_bytes=1024):
        assert send("a record of a certain length" * 5, 20)
        assert len(server.calls) > 2
        assert len(server.bodies) == 20


# What comes back.


@pytest.mark.parametrize("code", RETRYABLE)
def test_what_can_be_retried_is_and_arrives_once(code: str) -> None:
    with GrpcServer([Reply(code)]) as server, pipeline(server.endpoint):
        assert send("again")
        assert server.bodies == names("again")
        unknown = {"outcome_unknown": 10} if code in ("CANCELLED", "DEADLINE_EXCEEDED") else {}
        check(exported=10, resent=10, **unknown)


@pytest.mark.parametrize("code", FINAL)
def test_what_cannot_be_retried_is_lost_at_once_and_counted(code: str) -> None:
    with GrpcServer([Reply(code)]) as server, pipeline(server.endpoint):
        assert not send("lost")
        check(rejected=10)
        assert send("next")
        assert len(server.calls) == 2
        check(rejected=10, exported=10)


def test_exhaustion_that_says_when_to_come_back_is_retried() -> None:
    reply = Reply("RESOURCE_EXHAUSTED", trailers=retry_info(0.001))
    with GrpcServer([reply]) as server, pipeline(server.endpoint):
        assert send("again")
        check(exported=10, resent=10)


@pytest.mark.parametrize("code", ["RESOURCE_EXHAUSTED", "UNAVAILABLE"])
def test_a_server_is_left_alone_for_as_long_as_it_asks(code: str) -> None:
    replies = [Reply(code, trailers=retry_info(16.5, before=True))]
    with GrpcServer(replies) as server, pipeline(server.endpoint):
        # Longer than the batch has: so there is no second attempt.
        assert not send("lost")
        assert len(server.calls) == 1
        check(retry_exhausted=10)


def test_a_message_that_is_too_large_is_halved_until_the_large_record_is_alone_and_cut() -> None:
    options = [("grpc.max_receive_message_length", 3000)]
    with GrpcServer(options=options) as server, pipeline(server.endpoint, compression="none"):
        for number in range(16):
            log.info("large " + "x" * 4000 if number == 5 else "small %d", number)
        assert otelog.flush(LATEST)
        check(exported=16, truncated=1)
        (large,) = (body for body in server.bodies if body.startswith("large"))
        assert 1000 < len(large) < 3000
        assert sorted({*server.bodies} - {large}) == sorted(f"small {number}" for number in range(16) if number != 5)


@pytest.mark.parametrize(
    "words",
    [
        "grpc: received message larger than max (5242880 vs. 4194304)",
        "SERVER: Received message larger than max (5000000 vs. 4194304)",
        "gRPC message exceeds maximum size 4194304: 5000000",
        "Received message exceeds the maximum configured message size.",
        "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes",
    ],
)
def test_every_servers_words_for_a_message_that_is_too_large_are_known(words: str) -> None:
    with GrpcServer([Reply("RESOURCE_EXHAUSTED", words)]) as server:
        transport = open_transport(server.endpoint)
        assert transport.post(b"").status == 413
        transport.close()


def test_a_bad_request_is_searched_for_its_bad_record_if_that_is_wanted() -> None:
    with GrpcServer([Reply("INVALID_ARGUMENT")] * 2) as server:
        exporter = OTLPLogExporter(endpoint=server.endpoint, protocol="grpc", bisect_bad_request=True)
        with running(BatchLogRecordProcessor(exporter, 60_000)) as processor:
            for number in range(2):
                make_logger(processor).info("%d", number)
            assert not processor.force_flush(15_000)
            assert processor.stats().exported == 1
            assert processor.stats().dropped["rejected"] == 1


def test_partial_success_is_counted_and_never_resent() -> None:
    with GrpcServer([Reply(rejected=3, message="too old")]) as server, pipeline(server.endpoint):
        assert not send("partly")
        check(exported=7, rejected=3)
        assert len(server.calls) == 1


def test_a_loss_is_told_in_the_servers_words() -> None:
    code = """
import sys, otelog
otelog.configure(endpoint=sys.argv[1], protocol="grpc")
otelog.get_logger("x").info("lost")
otelog.shutdown(10.0)
"""
    with GrpcServer([Reply("UNAUTHENTICATED", "no\ntoken")]) as server:
        words = f"{server.endpoint} answered UNAUTHENTICATED; no token; check the credentials in headers"
        assert f"otelog: 1 record lost (rejected): {words}\n" in run(code, server.endpoint).stderr


@pytest.mark.parametrize(
    ("details", "delay"),
    [
        (retry_info(2.5)[0][1], 2.5),
        (retry_info(0)[0][1], 0.0),
        (retry_info(-3)[0][1], 0.0),
        (retry_info(7, before=True)[0][1], 7.0),
        (Status(details=[AnyMessage(type_url="type.googleapis.com/google.rpc.RetryInfo")]).SerializeToString(), 0.0),
        (Status(details=[AnyMessage(type_url="other", value=b"\x0a\x02\x08\x05")]).SerializeToString(), None),
        (b"", None),
        (b"\x1a\x7f\x00", None),
        (b"\xff" * 20, None),
    ],
)
def test_the_wait_that_a_server_asks_for_is_read(details: bytes, delay: float | None) -> None:
    assert read_retry_delay(details) == delay


# What goes wrong on the way.


def test_a_call_without_an_answer_may_have_arrived() -> None:
    with GrpcServer([Reply(hang=True)]) as server, pipeline(server.endpoint, timeout=0.3):
        assert send("twice")
        check(exported=10, resent=10, outcome_unknown=10)


def test_a_call_that_is_cut_off_may_have_arrived() -> None:
    with GrpcServer([Reply(hang=True)]) as server, Relay(server.port) as relay, pipeline(relay.endpoint):
        for text in names("cut"):
            log.info(text)
        otelog.LoggingHandler().flush()
        wait_until(lambda: server.calls)
        relay.cut()
        assert otelog.flush(LATEST)
        check(exported=10, resent=10, outcome_unknown=10)


def test_what_never_had_a_connection_cannot_have_arrived() -> None:
    (port,) = find_free_ports(1)
    with pipeline(f"http://127.0.0.1:{port}", export_timeout_millis=700):
        assert not send("lost")
        check(retry_exhausted=10)


def test_a_server_that_never_speaks_has_no_records() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        with pipeline(endpoint, timeout=0.3, export_timeout_millis=700):
            assert not send("lost")
            check(retry_exhausted=10)


def test_a_server_that_goes_and_comes_back_gets_everything() -> None:
    with GrpcServer() as first, pipeline(first.endpoint):
        assert send("before")
    with pipeline(first.endpoint, schedule_delay_millis=10):
        for text in names("between"):
            log.info(text)
        wait_until(lambda: not otelog.stats().queued)
        with GrpcServer(port=first.port) as second:
            assert otelog.flush(LATEST)
            assert second.bodies == names("between")


def test_a_connection_that_was_lost_between_two_batches_is_made_again() -> None:
    with GrpcServer() as server, Relay(server.port) as relay, pipeline(relay.endpoint):
        assert send("before")
        relay.cut()
        assert send("after")
        assert set(server.bodies) == {*names("before"), *names("after")}


def test_an_http_port_is_told_as_such() -> None:
    def answer(listener: socket.socket) -> None:
        client = listener.accept()[0]
        client.recv(1000)
        client.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        with pytest.raises(TransportFailure, match=r"is this an HTTP port \(4318\)\?"):
            open_transport(f"http://127.0.0.1:{listener.getsockname()[1]}").post(b"")
        thread.join()


def test_while_a_call_is_unanswered_the_next_batch_is_made_ready_and_no_more() -> None:
    options = {"max_export_batch_size": 10, "timeout": 8.0}
    with GrpcServer([Reply(hang=True)]) as server, pipeline(server.endpoint, **options):
        for text in names("waiting", 50):
            log.info(text)
        otelog.LoggingHandler().flush()
        wait_until(lambda: otelog.stats().in_flight == 20 and len(server.calls) == 1)
        assert otelog.stats().queued == 30
        assert otelog.flush(40.0)
        check(exported=50, resent=10, outcome_unknown=10)


def test_a_shutdown_cuts_a_call_that_hangs_and_counts_it() -> None:
    options = {"timeout": 600.0, "export_timeout_millis": 600_000}
    before = set(threading.enumerate())
    with GrpcServer([Reply(hang=True)] * 3) as server, pipeline(server.endpoint, **options):
        for text in names("left"):
            log.info(text)
        otelog.LoggingHandler().flush()
        wait_until(lambda: server.calls)
        assert not otelog.shutdown(0.5)
        assert otelog.stats().dropped["shutdown_timeout"] == 10
        # The server still holds the call; nobody here does.
        started = {thread for thread in threading.enumerate() if thread.name.startswith("otelog")} - before
        wait_until(lambda: not any(thread.is_alive() for thread in started), what="the worker's end")


def test_a_transport_that_was_closed_connects_again() -> None:
    with GrpcServer() as server:
        transport = open_transport(server.endpoint)
        for _ in range(2):
            assert transport.post(b"").status == 200
            transport.close()


# Forks.

FORK = """
import os, sys
import otelog
otelog.configure(endpoint=sys.argv[1], protocol="grpc", service_name="fork", timeout=5.0, export_timeout_millis=8000)
log = otelog.get_logger("fork")
log.info("parent before")
assert otelog.flush(10.0)
child = os.fork()
if child == 0:
    log.info("child")
    delivered = otelog.shutdown(10.0)
    os._exit(0 if delivered else 3 + otelog.stats().dropped["rejected"])
log.info("parent after")
assert otelog.flush(10.0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def run(code: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_forked_child_has_a_channel_of_its_own() -> None:
    with GrpcServer() as server:
        # Python 3.12 and later warn of every fork of a process that has threads.
        done = run(FORK, server.endpoint, PYTHONWARNINGS="ignore")
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(server.bodies) == ["child", "parent after", "parent before"]


@pytest.mark.parametrize("environ", [{}, {"GRPC_ENABLE_FORK_SUPPORT": "1"}])
def test_whoever_imported_grpc_and_whatever_it_does_about_forks_the_child_delivers(
    environ: dict[str, str],
) -> None:
    with GrpcServer() as server:
        done = run("import grpc\n" + FORK, server.endpoint, PYTHONWARNINGS="ignore", **environ)
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(server.bodies) == ["child", "parent after", "parent before"]


def test_where_grpc_must_not_survive_a_fork_the_child_counts_its_loss_and_says_what_to_do() -> None:
    with GrpcServer() as server:
        done = run(FORK, server.endpoint, GRPC_ENABLE_FORK_SUPPORT="0")
        assert done.returncode == 4
        assert "GRPC_ENABLE_FORK_SUPPORT=0; unset it" in done.stderr
        assert sorted(server.bodies) == ["parent after", "parent before"]


def test_a_call_that_is_out_too_long_is_cut_by_a_fork_and_sent_again() -> None:
    code = """
import os, sys, time
import otelog
otelog.configure(endpoint=sys.argv[1], protocol="grpc", service_name="fork", timeout=50.0, export_timeout_millis=60000)
log = otelog.get_logger("fork")
log.info("parent")
otelog.LoggingHandler().flush()
sys.stdin.readline()
began = time.monotonic()
child = os.fork()
if child == 0:
    log.info("child")
    os._exit(0 if otelog.shutdown(20.0) else 1)
took = time.monotonic() - began
assert otelog.flush(40.0)
stats = otelog.stats()
print(stats.exported, stats.resent, stats.outcome_unknown, took < 3.0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    with GrpcServer([Reply("UNAVAILABLE", hang=True)]) as server:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, server.endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        wait_until(lambda: server.calls)
        said, _ = process.communicate("\n", timeout=60)
        assert (process.returncode, said) == (0, "1 1 1 True\n")
        assert sorted(server.bodies) == ["child", "parent"]


def test_otelogs_own_thread_may_fork_while_its_call_is_out() -> None:
    code = """
import os, sys
import otelog
from otelog._setup import configure as providers

def fork(ledger, last):
    if not last and not children and ledger.read().in_flight == 0 and ledger.read().exported:
        children.append(os.fork())
        if children[0] == 0:
            os._exit(0)
        assert os.waitpid(children[0], 0)[1] == 0

children = []
providers.add_observer(fork)
otelog.configure(endpoint=sys.argv[1], protocol="grpc", service_name="fork", max_export_batch_size=5)
log = otelog.get_logger("fork")
for number in range(50):
    log.info("%d", number)
assert otelog.flush(20.0)
assert children
"""
    with GrpcServer() as server:
        done = run(code, server.endpoint, PYTHONWARNINGS="ignore")
        assert (done.returncode, done.stderr) == (0, "")
        assert sorted(server.bodies) == sorted(map(str, range(50)))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors cannot be seen")
def test_a_child_has_no_descriptor_of_the_librarys() -> None:
    code = """
import os, sys
import otelog
before = len(os.listdir("/proc/self/fd"))
otelog.configure(endpoint=sys.argv[1], protocol="grpc", service_name="fork")
otelog.get_logger("fork").info("parent")
assert otelog.flush(20.0)
assert len(os.listdir("/proc/self/fd")) > before
child = os.fork()
if child == 0:
    os._exit(len(os.listdir("/proc/self/fd")) - before)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    with GrpcServer() as server:
        done = run(code, server.endpoint, PYTHONWARNINGS="ignore", OTEL_METRICS_EXPORTER="none")
        assert (done.returncode, done.stderr) == (0, "")


def test_the_librarys_insides_are_as_they_are_known() -> None:
    # Where they are not, forks wait longer, and children inherit more: see otelog/_otlp/grpc.py.
    channel = grpc.insecure_channel("localhost:1")
    try:
        assert channel._call_state.managed_calls == 0
        assert not channel._channel.check_connectivity_state(False)
        if os.path.isdir(grpc_module._TASKS):
            assert grpc_module._is_up()
    finally:
        channel.close()


def test_the_library_is_only_imported_where_it_is_chosen_and_leaves_the_environment_as_it_was() -> None:
    code = """
import os, sys, otelog
before = dict(os.environ)
otelog.configure()
assert "grpc" not in sys.modules
otelog.configure(protocol="grpc")
assert "grpc" in sys.modules
assert dict(os.environ) == before
"""
    done = run(code)
    assert (done.returncode, done.stderr) == (0, "")


# Metrics.


def test_the_duration_has_grpcs_status_and_not_https() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    with GrpcServer([Reply(), Reply("NOT_FOUND")]) as server:
        exporter = OTLPLogExporter(endpoint=server.endpoint, protocol="grpc")
        with running(BatchLogRecordProcessor(exporter, 60_000, meter_provider=provider)) as processor:
            for _ in range(2):
                make_logger(processor).info("x")
                processor.force_flush(15_000)
            data: Any = reader.get_metrics_data()
    (duration,) = [
        metric
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
        if metric.name == "otel.sdk.exporter.operation.duration"
    ]
    found = [dict(point.attributes) for point in duration.data.data_points]
    assert [one["rpc.response.status_code"] for one in found] == ["OK", "NOT_FOUND"]
    assert {one["otel.component.type"] for one in found} == {"otlp_grpc_log_exporter"}
    assert {one["server.port"] for one in found} == {server.port}
    assert not any("http.response.status_code" in one for one in found)
    provider.shutdown()


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "{}"},
        {"OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_ENDPOINT": "{}"},
    ],
)
def test_the_metrics_go_the_same_way(environ: dict[str, str]) -> None:
    with GrpcServer() as server:
        variables = {name: text.format(server.endpoint) for name, text in environ.items()}
        code = "import otelog\notelog.configure()\notelog.get_logger('x').info('y')\nassert otelog.shutdown(10.0)"
        done = run(code, OTEL_METRICS_EXPORTER="otlp", **variables)
        assert (done.returncode, done.stderr) == (0, "")
        assert server.bodies == ["y"]
        assert "otel.sdk.exporter.log.exported" in server.metrics


# What is refused at once.


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(ConfigurationError, match=re.escape("pip install 'otelog[grpc]'")):
        OTLPLogExporter(protocol="grpc")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("x-token-bin", "s3cret", "binary"),
        ("Host", "s3cret", "set by gRPC itself"),
        ("grpc-timeout", "s3cret", "set by gRPC itself"),
        ("a!b", "s3cret", "cannot be sent by gRPC"),
        ("tab", "s3cret\t", "characters that gRPC cannot carry"),
    ],
)
def test_a_header_that_grpc_cannot_carry_is_an_error_without_its_value(name: str, value: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        OTLPLogExporter(protocol="grpc", headers={name: value})
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("option", ["certificate_file", "client_certificate_file"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_cannot_be_used_is_an_error_at_set_up(tmp_path: Any, option: str, content: str | None) -> None:
    path = tmp_path / "file.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=option):
        OTLPLogExporter(endpoint="https://localhost:4317", protocol="grpc", **{option: str(path)})
