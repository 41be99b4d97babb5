"""Faults of the server, through the whole pipeline: each in its counter and its time, and no other record touched."""

from __future__ import annotations

import datetime as dt
import email.utils
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import otelog
from otelog._ledger.counters import BESIDE_COUNTS
from otelog._setup import configure
from otelog.testing import OTLPServer, Reply
from tests.arrivals import bodies
from tools.loopback import find_free_ports
from tools.waiting import wait_until

log = otelog.get_logger("faults")
NEIGHBOURS = 10


@contextmanager
def pipeline(endpoint: str, **options: Any) -> Iterator[None]:
    """`configure` with short times, taken back afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_METRICS_EXPORTER", "none")
        try:
            defaults = {"schedule_delay_millis": 60_000, "timeout": 0.5, "export_timeout_millis": 3000}
            otelog.configure(**{"endpoint": endpoint, "service_name": "faults", **defaults, **options})
            yield
        finally:
            configure.reset()


@pytest.fixture(autouse=True)
def quiet(capfd: pytest.CaptureFixture[str]) -> None:
    """What otelog says on standard error is the subject of other tests."""


def send(name: str, count: int = NEIGHBOURS) -> bool:
    """Log a batch and deliver it."""
    for number in range(count):
        log.info("%s %d", name, number)
    return otelog.flush(15.0)


def names(name: str, count: int = NEIGHBOURS) -> list[str]:
    return [f"{name} {number}" for number in range(count)]


def check(**expected: int) -> None:
    """Hold the books against all that is expected; what is not named must be zero."""
    stats = otelog.stats()
    dropped = {reason: count for reason, count in stats.dropped.items() if count}
    assert stats.created == stats.accepted == stats.exported + sum(dropped.values())
    assert (stats.queued, stats.waiting, stats.in_flight, sum(stats.refused.values())) == (0, 0, 0, 0)
    beside = {name: getattr(stats, name) for name in BESIDE_COUNTS}
    found = {"exported": stats.exported, **beside, **dropped}
    assert {key: count for key, count in found.items() if count} == expected


def soon() -> str:
    """A moment a second away, as HTTP writes it."""
    return email.utils.format_datetime(dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=1), usegmt=True)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize("header", ["none", "seconds", "date"])
def test_what_can_be_retried_is_and_arrives_once(status: int, header: str) -> None:
    headers = {"none": {}, "seconds": {"Retry-After": "0"}, "date": {"Retry-After": soon()}}[header]
    with OTLPServer([Reply(), Reply(status=status, headers=headers)]) as server, pipeline(server.endpoint):
        assert send("before")
        assert send("retried")
        assert send("after")
        assert bodies(server.records) == names("before") + names("retried") + names("after")
        assert server.fired[str(status)] == 1
        # The server said that it did not take them, so nobody wonders whether they arrived.
        stats = otelog.stats()
        assert (stats.exported, stats.lost, stats.outcome_unknown) == (30, 0, 0)


@pytest.mark.parametrize("status", [429, 503])
def test_retries_end_with_the_export_timeout(status: int) -> None:
    with (
        OTLPServer([Reply(), *[Reply(status=status, headers={"Retry-After": "0"})] * 2000]) as server,
        pipeline(server.endpoint, export_timeout_millis=700),
    ):
        assert send("before")
        begin = time.monotonic()
        assert not send("lost")
        assert time.monotonic() - begin < 5.0
        server.script = []
        assert send("after")
        assert bodies(server.records) == names("before") + names("after")
        assert server.fired[str(status)] >= 1
        stats = otelog.stats()
        assert (stats.exported, dict(stats.dropped)["retry_exhausted"], stats.lost) == (20, 10, 10)


def test_a_retry_after_beyond_the_deadline_gives_up_without_waiting_longer() -> None:
    with (
        OTLPServer([Reply(status=503, headers={"Retry-After": "3600"})]) as server,
        pipeline(server.endpoint, export_timeout_millis=700),
    ):
        begin = time.monotonic()
        assert not send("lost")
        assert time.monotonic() - begin < 5.0
        assert send("after")
        assert bodies(server.records) == names("after")
        check(exported=10, retry_exhausted=10)
        assert server.fired["503"] == 1


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 405, 418, 500, 501])
def test_what_cannot_be_retried_is_rejected_once(status: int) -> None:
    headers = {"Location": "http://127.0.0.1:1/v1/logs"} if status < 400 else {}
    with OTLPServer([Reply(), Reply(status=status, headers=headers)]) as server, pipeline(server.endpoint):
        assert send("before")
        assert not send("lost")
        assert send("after")
        assert bodies(server.records) == names("before") + names("after")
        check(exported=20, rejected=10)
        assert server.fired[str(status)] == 1
        assert len(server.requests) == 3


@pytest.mark.parametrize("status", [200, 202, 204])
def test_any_success_is_a_success(status: int) -> None:
    with OTLPServer([Reply(status=status)]) as server, pipeline(server.endpoint):
        assert send("taken")
        check(exported=10)
        assert server.fired[str(status)] == 1


def test_a_413_finds_the_record_that_is_too_large() -> None:
    with OTLPServer() as server, pipeline(server.endpoint, compression="none", max_export_batch_size=64):
        # The first request holds all; then halves, until the large one is alone; refused once more, it is cut to half.
        server.script = [Reply(status=413), Reply(status=413), Reply(status=413), Reply(status=413)]
        for number in range(8):
            log.info("%s", "x" * 2000 if number == 0 else f"small {number}")
        assert otelog.flush(15.0)
        large, *small = sorted(bodies(server.records), key=len, reverse=True)
        assert sorted(small) == [f"small {number}" for number in range(1, 8)]
        assert 500 < len(large) < 1500
        check(exported=8, truncated=1)
        assert server.fired["413"] == 4
        assert send("after")


def test_partial_success_is_read_and_not_sent_again() -> None:
    with OTLPServer([Reply(rejected=3, message="too old")]) as server, pipeline(server.endpoint):
        assert not send("partly")
        assert send("after")
        assert bodies(server.records) == names("partly", 7) + names("after")
        check(exported=17, rejected=3)
        assert server.fired["partial_success"] == 1
        assert len(server.requests) == 2


def test_a_warning_with_success_loses_nothing() -> None:
    with OTLPServer([Reply(message="clock is off")]) as server, pipeline(server.endpoint):
        assert send("all")
        check(exported=10)
        assert server.fired["partial_success"] == 1


@pytest.mark.parametrize("fault", ["close", "reset_request", "reset_answer"])
def test_a_cut_connection_is_retried(fault: Any) -> None:
    with OTLPServer([Reply(), Reply(status=503 if fault == "close" else 200, fault=fault)]) as server:  # noqa: SIM117
        with pipeline(server.endpoint):
            assert send("before")
            assert send("cut")
            assert send("after")
            stats = otelog.stats()
            assert (stats.exported, stats.lost) == (30, 0)
            assert stats.resent >= 10
            arrived = bodies(server.records)
            assert set(arrived) == {*names("before"), *names("cut"), *names("after")}
            # Only what may have arrived may be there twice.
            assert len(arrived) - 30 <= stats.resent
            assert server.fired[fault] == 1


@pytest.mark.parametrize("fault", ["hang", "endless_headers", "endless_body"])
def test_an_answer_that_never_comes_or_never_ends_is_given_up_at_the_timeout(fault: Any) -> None:
    with OTLPServer([Reply(), *[Reply(status=503, fault=fault)] * 50]) as server:  # noqa: SIM117
        with pipeline(server.endpoint, timeout=0.3, export_timeout_millis=1000):
            assert send("before")
            begin = time.monotonic()
            assert not send("unheard")
            assert time.monotonic() - begin < 6.0
            server.script = []
            assert send("after")
            assert bodies(server.records) == names("before") + names("after")
            stats = otelog.stats()
            assert (stats.exported, stats.dropped["retry_exhausted"], stats.lost) == (20, 10, 10)
            assert server.fired[fault] >= 1


def test_a_hanging_answer_leaves_the_outcome_unknown() -> None:
    with OTLPServer([Reply(fault="hang")]) as server, pipeline(server.endpoint, timeout=0.3):
        assert send("twice")
        # The server has kept them, and has not said so; then they came again.
        assert len(server.records) == 20
        check(exported=10, resent=10, outcome_unknown=10)
        assert server.fired["hang"] == 1


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(status=503), {"exported": 50, "resent": 10}),
        (Reply(status=400), {"exported": 40, "rejected": 10}),
        (Reply(rejected=3), {"exported": 47, "rejected": 3}),
        (Reply(fault="hang"), {"exported": 50, "resent": 10, "outcome_unknown": 10}),
        (Reply(fault="reset_answer"), {"exported": 50, "resent": 10, "outcome_unknown": 10}),
    ],
    ids=["503", "400", "partial_success", "hang", "reset_answer"],
)
@pytest.mark.parametrize("place", range(5))
def test_a_fault_between_batches_that_follow_each_other_is_that_batchs_alone(
    reply: Reply, expected: dict[str, int], place: int
) -> None:
    """The next batch is made ready while a request is out; what becomes of that request must not touch it."""
    options = {"max_export_batch_size": 10, "timeout": 1.0, "export_timeout_millis": 10_000}
    with OTLPServer([Reply()] * place + [reply]) as server, pipeline(server.endpoint, **options):
        # One flush takes all batches, one behind the other.
        assert send("one of many", 50) == (expected["exported"] == 50)
        check(**expected)
        assert server.fired[reply.name] == 1
        kept = set(bodies(server.records))
        assert len(kept) >= expected["exported"]


@dataclass(frozen=True)
class Held(Reply):
    """It comes when the test says so."""

    due: threading.Event = field(default_factory=threading.Event)

    def encode_body(self) -> bytes:
        self.due.wait(30)
        return b""


def test_while_a_request_is_unanswered_the_next_batch_is_made_ready_and_no_more() -> None:
    options = {"max_export_batch_size": 10, "timeout": 30.0, "export_timeout_millis": 60_000}
    held = Held(fault="close")
    with OTLPServer([held]) as server, pipeline(server.endpoint, **options):
        for text in names("waiting", 50):
            log.info(text)
        otelog.LoggingHandler().flush()
        wait_until(lambda: otelog.stats().in_flight == 20 and len(server.requests) == 1)
        assert otelog.stats().queued == 30
        held.due.set()
        assert otelog.flush(15.0)
        check(exported=50, resent=10, outcome_unknown=10)


def test_a_batch_that_uses_up_its_time_leaves_the_next_one_its_own() -> None:
    options = {"max_export_batch_size": 10, "timeout": 2.0, "export_timeout_millis": 2000}
    with OTLPServer([Reply(fault="hang")]) as server, pipeline(server.endpoint, **options):
        assert not send("one is lost", 50)
        check(exported=40, retry_exhausted=10, outcome_unknown=10)


def test_a_refused_connection_is_retried_until_the_deadline() -> None:
    (port,) = find_free_ports(1)
    with pipeline(f"http://127.0.0.1:{port}", export_timeout_millis=700):
        begin = time.monotonic()
        assert not send("lost")
        assert time.monotonic() - begin < 5.0
        check(retry_exhausted=10)


def test_a_server_that_comes_up_late_gets_everything() -> None:
    (port,) = find_free_ports(1)
    with pipeline(f"http://127.0.0.1:{port}", schedule_delay_millis=10, export_timeout_millis=20_000):
        for text in names("early"):
            log.info(text)
        # The worker has begun to try once the records have left the queue.
        wait_until(lambda: not otelog.stats().queued)
        with OTLPServer(port=port) as server:
            assert otelog.flush(15.0)
            assert bodies(server.records) == names("early")
            assert (otelog.stats().exported, otelog.stats().lost) == (10, 0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    try:
        subprocess.run([*command, "-out", paths[0], "-keyout", paths[1]], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no openssl here")
    return paths


def test_a_certificate_nobody_vouches_for_is_refused_at_once(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with OTLPServer(tls=context) as server, pipeline(server.endpoint, timeout=5.0, export_timeout_millis=20_000):
        begin = time.monotonic()
        assert not send("lost")
        assert time.monotonic() - begin < 10.0
        check(rejected=10)
        assert server.wait_until(lambda: server.fired["tls_refused"] == 1)
        assert server.records == []


def test_a_trusted_certificate_delivers(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with OTLPServer(tls=context) as server:  # noqa: SIM117
        with pipeline(server.endpoint, certificate_file=str(certificate[0]), timeout=5.0):
            assert send("safe")
            assert bodies(server.records) == names("safe")
            check(exported=10)


def test_a_shutdown_cuts_a_retry_and_counts_what_it_leaves() -> None:
    with OTLPServer([Reply(status=503)] * 2000) as server, pipeline(server.endpoint, schedule_delay_millis=10):
        for text in names("left"):
            log.info(text)
        assert server.wait_until(lambda: server.fired["503"] >= 1)
        begin = time.monotonic()
        assert not otelog.shutdown(0.5)
        assert time.monotonic() - begin < 4.0
        stats = otelog.stats()
        assert (stats.created, stats.dropped["shutdown_timeout"], stats.lost, stats.in_flight) == (10, 10, 10, 0)
        assert server.records == []


def test_a_processor_with_our_exporter_counts_the_same_way() -> None:
    with OTLPServer([Reply(status=400), Reply(rejected=2)]) as server:
        exporter = otelog.OTLPLogExporter(endpoint=server.logs_endpoint)
        processor = otelog.BatchLogRecordProcessor(exporter, schedule_delay_millis=60_000)
        from opentelemetry.sdk._logs import LoggerProvider

        provider = LoggerProvider(shutdown_on_exit=False)
        provider.add_log_record_processor(processor)
        logger = provider.get_logger("sdk")
        for expected in (False, False, True):
            for number in range(5):
                logger.emit(body=f"x {number}")
            assert processor.force_flush() is expected
        stats = processor.stats()
        assert (stats.created, stats.exported, stats.dropped["rejected"], stats.lost) == (15, 8, 7, 7)
        assert processor.shutdown()
