"""Every fault that a server can make ends in its counter, and no other record is touched."""

from __future__ import annotations

import math
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from otelog._otlp.delivery import MOST_HALVINGS, Delivery
from otelog._otlp.exchange import Answer, TransportFailure, TransportSettings
from otelog._otlp.http import Transport
from otelog._runtime import diagnostics
from otelog._runtime.retry import Backoff
from otelog.testing import OTLPServer, Reply
from tests.sizes import sized
from tools.loopback import find_free_ports
from tools.waiting import wait_until

LATE = 5.0
"""Seconds after which something that ends at a deadline of a fraction of a second has certainly passed it."""
LOSSES = {"rejected", "too_large", "retry_exhausted", "encode_error", "shutdown_timeout"}


class Books:
    """A tally that insists on each record being settled once."""

    def __init__(self, count: int) -> None:
        self.open = [True] * count
        self.fates: list[str | None] = [None] * count
        self.exported = 0
        self.dropped: Counter[str] = Counter()
        self.resent = 0
        self.unknown = 0
        self.truncated = 0

    def settle(self, start: int, stop: int, reason: str | None) -> None:
        assert reason is None or reason in LOSSES
        self._close(start, stop, reason or "exported")
        if reason is None:
            self.exported += stop - start
        else:
            self.dropped[reason] += stop - start

    def settle_partly(self, start: int, stop: int, rejected: int) -> None:
        assert 0 < rejected <= stop - start
        self._close(start, stop, "partly")
        self.exported += stop - start - rejected
        self.dropped["rejected"] += rejected

    def resend(self, count: int) -> None:
        assert count > 0
        self.resent += count

    def leave_unknown(self, count: int) -> None:
        assert count > 0
        self.unknown += count

    def explain(self, cause: str, reason: str | None = None) -> None:
        assert cause

    def truncate(self, count: int) -> None:
        assert count > 0
        self.truncated += count

    def _close(self, start: int, stop: int, fate: str) -> None:
        assert 0 <= start < stop <= len(self.open)
        assert all(self.open[start:stop]), "a record is settled twice"
        self.open[start:stop] = [False] * (stop - start)
        self.fates[start:stop] = [fate] * (stop - start)


class Batch:
    """Records whose bodies are their numbers; concatenated requests of protobuf are one request."""

    def __init__(
        self, numbers: range, *, unencodable: frozenset[int] = frozenset(), cuttable: frozenset[int] = frozenset()
    ) -> None:
        self.numbers = numbers
        self.unencodable = unencodable
        self.cuttable = cuttable
        self.cut: dict[int, int] = {}
        self.parts = [self._encode(number) for number in numbers]

    @staticmethod
    def _encode(number: int) -> bytes:
        request = ExportLogsServiceRequest()
        request.resource_logs.add().scope_logs.add().log_records.add().body.int_value = number
        return request.SerializeToString()

    def __len__(self) -> int:
        return len(self.parts)

    def payload(self, start: int, stop: int) -> bytes:
        if self.unencodable.intersection(self.numbers[start:stop]):
            raise ValueError("one of these cannot be encoded")
        return b"".join(self.parts[start:stop])

    def size_bytes(self, start: int, stop: int) -> int:
        return sum(map(len, self.parts[start:stop]))

    def truncate(self, index: int, max_bytes: int) -> bool:
        # What can be cut of a record here are the unknown bytes behind it.
        least = len(self._encode(self.numbers[index]))
        if self.numbers[index] not in self.cuttable or least > max_bytes:
            return False
        assert max_bytes < len(self.parts[index]), "it is cut although it fits"
        self.parts[index] = pad(self._encode(self.numbers[index]), max_bytes)
        self.cut[index] = self.cut.get(index, 0) + 1
        return True

    def count_truncated(self, start: int, stop: int) -> int:
        return len([index for index in self.cut if start <= index < stop])


def pad(request: bytes, size: int) -> bytes:
    """The request with an unknown field behind it, so that it has this size, or one byte or two less."""
    room = size - len(request)
    for content in range(max(0, room - 2), max(0, room - 8), -1):
        field = b"\x3a" + bytes([content]) + bytes(content) if content < 128 else None
        if content >= 128:
            field = b"\x3a" + bytes([content & 127 | 128, content >> 7]) + bytes(content)
        if field is not None and len(field) <= room:
            return request + field
    return request


class Stop(threading.Event):
    """A shutdown signal of real time."""

    stop_deadline = math.inf
    turn_deadline = math.inf

    def begin(self, deadline: float) -> None:
        self.stop_deadline = deadline
        self.set()


class FakeTime:
    """A clock that only waiting moves on, and the shutdown signal that waits on it."""

    turn_deadline = math.inf

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        self.stop_deadline = math.inf
        self.on_wait: Callable[[], None] = lambda: None

    def clock(self) -> float:
        return self.now

    def is_set(self) -> bool:
        return self.stop_deadline < math.inf

    def wait(self, timeout: float) -> bool:
        assert timeout > 0.0, "a wait of nothing would ask the server without a pause"
        assert not self.is_set(), "no wait begins after the shutdown has begun"
        self.on_wait()
        if not self.is_set():
            self.waits.append(timeout)
            self.now += timeout
        return self.is_set()


def ids(server: OTLPServer) -> list[int]:
    return [record.body.int_value for record in server.records]


def deliver(
    transport: object,
    batch: Batch,
    *,
    fake: FakeTime | None = None,
    seconds: float = 30.0,
    timeout: float = 10.0,
    max_request_bytes: int = 4 * 1024 * 1024,
    bisect_bad_request: bool = False,
) -> Books:
    fake = fake or FakeTime()
    delivery = Delivery(
        transport,  # type: ignore[arg-type]
        max_request_bytes=max_request_bytes,
        timeout=timeout,
        bisect_bad_request=bisect_bad_request,
        backoff=Backoff(jitter=0.0),
        clock=fake.clock,
    )
    books = Books(len(batch))
    complete = delivery.deliver(batch, books, deadline=fake.now + seconds, stop=fake)
    assert not any(books.open), "a record is not settled"
    assert complete == (books.exported == len(batch))
    return books


@pytest.fixture(autouse=True)
def fresh_diagnostics() -> None:
    diagnostics._last_said.clear()


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with OTLPServer() as one:
        yield one


@pytest.fixture
def transport(server: OTLPServer) -> Iterator[Transport]:
    one = Transport(TransportSettings(endpoint=server.logs_endpoint))
    yield one
    one.close()


# --- every fault, against a real server


def in_seconds(status: int, seconds: int) -> Reply:
    return Reply(status=status, headers={"Retry-After": str(seconds)})


def as_date(status: int, seconds: int, *, clock_error: float = 0.0) -> Reply:
    server_now = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(seconds=clock_error)
    then = server_now + timedelta(seconds=seconds)
    headers = {"Date": format_datetime(server_now, usegmt=True), "Retry-After": format_datetime(then, usegmt=True)}
    return Reply(status=status, headers=headers)


@dataclass(frozen=True)
class Scenario:
    """What four records meet, and what must be in the books; `kept` are those that the server has, in order."""

    name: str
    script: list[Reply]
    exported: int = 4
    dropped: dict[str, int] = field(default_factory=dict)
    resent: int = 0
    unknown: int = 0
    waits: list[float] = field(default_factory=list)
    kept: list[int] = field(default_factory=lambda: [0, 1, 2, 3])
    bisect: bool = False


ALL_TWICE = [0, 1, 2, 3, 0, 1, 2, 3]
SCENARIOS = [
    Scenario("429 with seconds", [in_seconds(429, 3)], resent=4, waits=[3.0]),
    Scenario("503 with seconds", [in_seconds(503, 2), in_seconds(503, 4)], resent=8, waits=[2.0, 4.0]),
    Scenario("429 with a date", [as_date(429, 3)], resent=4, waits=[3.0]),
    Scenario("503 with a date", [as_date(503, 7)], resent=4, waits=[7.0]),
    Scenario("503 with a date of a wrong clock", [as_date(503, 7, clock_error=9e6)], resent=4, waits=[7.0]),
    Scenario("503 with a date that has passed", [as_date(503, -7)], resent=4, waits=[1.0]),
    Scenario("503 with nonsense", [Reply(status=503, headers={"Retry-After": "soon"})], resent=4, waits=[1.0]),
    Scenario("429 beyond the deadline", [in_seconds(429, 31)], exported=0, dropped={"retry_exhausted": 4}, kept=[]),
    Scenario("503 again and again", [Reply(status=503)] * 3, resent=12, waits=[1.0, 1.5, 2.25]),
    Scenario("502 and 504", [Reply(status=502), Reply(status=504)], resent=8, waits=[1.0, 1.5]),
    Scenario("500", [Reply(status=500)], exported=0, dropped={"rejected": 4}, kept=[]),
    Scenario("501 with Retry-After", [in_seconds(501, 1)], exported=0, dropped={"rejected": 4}, kept=[]),
    Scenario("400", [Reply(status=400)], exported=0, dropped={"rejected": 4}, kept=[]),
    Scenario("401", [Reply(status=401)], exported=0, dropped={"rejected": 4}, kept=[]),
    Scenario("404", [Reply(status=404)], exported=0, dropped={"rejected": 4}, kept=[]),
    Scenario("301", [Reply(status=301, headers={"Location": "/"})], exported=0, dropped={"rejected": 4}, kept=[]),
    Scenario("307", [Reply(status=307)], exported=0, dropped={"rejected": 4}, kept=[]),
    Scenario("204", [Reply(status=204)]),
    Scenario("202", [Reply(status=202)]),
    Scenario("a success with a body that is none", [Reply(body=b"<html>ok</html>")]),
    Scenario("partial success", [Reply(rejected=1)], exported=3, dropped={"rejected": 1}, kept=[0, 1, 2]),
    Scenario("all rejected", [Reply(rejected=4)], exported=0, dropped={"rejected": 4}, kept=[]),
    Scenario("more rejected than sent", [Reply(rejected=99)], exported=0, dropped={"rejected": 4}, kept=[]),
    Scenario("a warning", [Reply(message="be gentle")]),
    Scenario("413 for all, then for none", [Reply(status=413)]),
    Scenario(
        "413 for one alone",
        [Reply(status=413), Reply(status=413), Reply(), Reply(status=413)],
        exported=3,
        dropped={"too_large": 1},
        kept=[0, 2, 3],
    ),
    Scenario("413 for each", [Reply(status=413)] * 7, exported=0, dropped={"too_large": 4}, kept=[]),
    Scenario(
        "400 for one alone, with the option",
        [Reply(status=400), Reply(), Reply(status=400)],
        exported=3,
        dropped={"rejected": 1},
        resent=1 + 1 + 2,
        kept=[0, 2, 3],
        bisect=True,
    ),
    Scenario("closed before the answer", [Reply(status=500, fault="close")], resent=4, unknown=4, waits=[1.0]),
    Scenario("kept, then closed", [Reply(fault="close")], resent=4, unknown=4, waits=[1.0], kept=ALL_TWICE),
    Scenario("reset in the request", [Reply(fault="reset_request")], resent=4, unknown=4, waits=[1.0]),
    Scenario("reset in the answer", [Reply(fault="reset_answer")], resent=4, unknown=4, waits=[1.0], kept=ALL_TWICE),
    Scenario("never an answer", [Reply(fault="hang")], resent=4, unknown=4, waits=[1.0], kept=ALL_TWICE),
    Scenario("headers without end", [Reply(fault="endless_headers")], resent=4, unknown=4, waits=[1.0], kept=ALL_TWICE),
    Scenario("a body without end", [Reply(fault="endless_body")], resent=4, unknown=4, waits=[1.0], kept=ALL_TWICE),
    Scenario(
        "a flood",
        [Reply(fault="endless_body", pace=0)],
        exported=0,
        dropped={"rejected": 4},
        unknown=4,
        kept=[0, 1, 2, 3],
    ),
    Scenario(
        "a mixture",
        [Reply(status=503), Reply(fault="reset_request"), Reply(status=413), Reply(status=500), Reply(rejected=1)],
        exported=1,
        dropped={"rejected": 3},
        resent=8,
        unknown=4,
        waits=[1.0, 1.5],
        kept=[2],
    ),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_fault_ends_in_its_counter_and_touches_no_other_record(
    server: OTLPServer, transport: Transport, scenario: Scenario
) -> None:
    assert deliver(transport, Batch(range(100, 103))).exported == 3

    server.script = scenario.script
    fake = FakeTime()
    without_end = ("hang", "endless_headers", "endless_body")
    waits_for_us = any(reply.fault in without_end and reply.pace for reply in scenario.script)
    books = deliver(
        transport,
        Batch(range(4)),
        fake=fake,
        timeout=0.2 if waits_for_us else 10.0,
        bisect_bad_request=scenario.bisect,
    )
    assert server.script == [], "a part of the script was not played"
    assert (books.exported, dict(books.dropped)) == (scenario.exported, scenario.dropped)
    assert (books.resent, books.unknown) == (scenario.resent, scenario.unknown)
    assert fake.waits == pytest.approx(scenario.waits)
    for name, count in Counter(reply.name for reply in scenario.script).items():
        assert server.fired[name] >= count, f"{name} has not fired"

    assert deliver(transport, Batch(range(200, 203))).exported == 3
    assert ids(server) == [100, 101, 102, *scenario.kept, 200, 201, 202]


def test_a_refused_connection_is_tried_until_the_deadline_and_again_for_the_next_batch() -> None:
    (port,) = find_free_ports(1)
    transport = Transport(TransportSettings(endpoint=f"http://127.0.0.1:{port}/v1/logs"))
    fake = FakeTime()
    books = deliver(transport, Batch(range(4)), fake=fake)
    assert books.dropped == {"retry_exhausted": 4}
    assert fake.waits == [1.0, 1.5, 2.25, 3.375, 5.0, 5.0, 5.0, 5.0]
    assert (books.resent, books.unknown) == (4 * 8, 0)
    with OTLPServer(port=port) as server:
        assert deliver(transport, Batch(range(10, 14))).exported == 4
        assert ids(server) == [10, 11, 12, 13]
        transport.close()


def test_a_collector_that_comes_back_gets_everything() -> None:
    (port,) = find_free_ports(1)
    transport = Transport(TransportSettings(endpoint=f"http://127.0.0.1:{port}/v1/logs"))
    fake = FakeTime()
    servers: list[OTLPServer] = []

    def come_back() -> None:
        if len(fake.waits) == 3:
            servers.append(OTLPServer(port=port))

    fake.on_wait = come_back
    try:
        books = deliver(transport, Batch(range(4)), fake=fake)
        assert books.exported == 4
        assert ids(servers[0]) == [0, 1, 2, 3]
    finally:
        transport.close()
        for server in servers:
            server.close()


def test_a_wrong_certificate_is_a_rejection_at_once_and_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    fake = FakeTime()
    with OTLPServer(tls=context) as server:
        transport = Transport(TransportSettings(endpoint=server.logs_endpoint))
        books = deliver(transport, Batch(range(4)), fake=fake)
        assert server.wait_until(lambda: server.fired["tls_refused"] == 1)
        assert server.requests == []
    assert (dict(books.dropped), books.resent, books.unknown, fake.waits) == ({"rejected": 4}, 0, 0, [])
    said = capfd.readouterr().err
    assert "4 records lost (rejected)" in said
    assert "certificate_file" in said


# --- deadlines and shutdown, in real time


def run_in_real_time(transport: Transport, stop: Stop, *, seconds: float, timeout: float = 10.0) -> Books:
    books = Books(4)
    delivery = Delivery(
        transport, max_request_bytes=10**6, timeout=timeout, backoff=Backoff(initial=0.02, maximum=0.05)
    )
    assert not delivery.deliver(Batch(range(4)), books, deadline=time.monotonic() + seconds, stop=stop)
    return books


@pytest.mark.parametrize("fault", ["hang", "endless_headers", "endless_body", "close"])
def test_the_deadline_of_a_batch_is_kept(server: OTLPServer, transport: Transport, fault: str) -> None:
    server.script = [Reply(fault=fault)] * 1000  # type: ignore[arg-type]
    began = time.monotonic()
    books = run_in_real_time(transport, Stop(), seconds=0.4)
    assert time.monotonic() - began < LATE
    assert books.dropped == {"retry_exhausted": 4}
    assert books.unknown == 4 * server.fired[fault] > 0


def test_a_batch_whose_deadline_has_passed_is_not_sent(server: OTLPServer, transport: Transport) -> None:
    assert run_in_real_time(transport, Stop(), seconds=0.0).dropped == {"retry_exhausted": 4}
    assert server.connections == 0


def in_background(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_a_shutdown_cuts_a_wait_and_allows_one_more_attempt(server: OTLPServer, transport: Transport) -> None:
    server.script = [in_seconds(503, 20)] * 9
    stop = Stop()
    begin = in_background(
        lambda: wait_until(lambda: server.fired["503"] == 1) and stop.begin(time.monotonic() + 10.0)  # type: ignore[func-returns-value]
    )
    began = time.monotonic()
    books = run_in_real_time(transport, stop, seconds=30.0)
    begin.join()
    assert time.monotonic() - began < LATE
    assert books.dropped == {"shutdown_timeout": 4}
    assert server.fired["503"] == 2
    assert books.resent == 4


def test_a_shutdown_that_finds_the_server_well_again_delivers(server: OTLPServer, transport: Transport) -> None:
    server.script = [in_seconds(503, 20)]
    fake = FakeTime()

    def begin() -> None:
        fake.stop_deadline = fake.now + 5.0

    fake.on_wait = begin
    assert deliver(transport, Batch(range(4)), fake=fake).exported == 4


def test_a_request_under_way_is_cut_when_the_time_of_the_shutdown_is_over(
    server: OTLPServer, transport: Transport
) -> None:
    server.script = [Reply(fault="hang")] * 2
    stop = Stop()
    begin = in_background(
        lambda: wait_until(lambda: server.fired["hang"] == 1) and stop.begin(time.monotonic() + 0.1)  # type: ignore[func-returns-value]
    )
    began = time.monotonic()
    books = run_in_real_time(transport, stop, seconds=60.0, timeout=60.0)
    begin.join()
    assert time.monotonic() - began < LATE
    assert books.dropped == {"shutdown_timeout": 4}
    assert books.unknown == 4


def test_after_the_time_of_the_shutdown_nothing_is_sent(server: OTLPServer, transport: Transport) -> None:
    stop = Stop()
    stop.begin(time.monotonic())
    assert run_in_real_time(transport, stop, seconds=30.0).dropped == {"shutdown_timeout": 4}
    assert server.connections == 0


# --- large batches


@pytest.mark.parametrize("room_for", [1, 2, 3, 7, 10, 100])
def test_a_batch_over_the_limit_is_split_into_few_requests(
    server: OTLPServer, transport: Transport, room_for: int
) -> None:
    batch = Batch(range(10))
    limit = room_for * max(map(len, batch.parts))
    books = deliver(transport, batch, max_request_bytes=limit)
    assert (books.exported, books.resent) == (10, 0)
    assert ids(server) == list(range(10))
    assert all(len(request.body) <= limit for request in server.requests)
    assert len(server.requests) == math.ceil(10 / room_for)


@pytest.mark.parametrize("large", [{0}, {9}, {3, 4}, set(range(10))])
def test_a_record_over_the_limit_is_lost_alone(server: OTLPServer, transport: Transport, large: set[int]) -> None:
    batch = Batch(range(10))
    limit = 3 * max(map(len, batch.parts))
    for number in large:
        batch.parts[number] += bytes(limit)
    books = deliver(transport, batch, max_request_bytes=limit)
    assert books.dropped == {"too_large": len(large)}
    assert ids(server) == [number for number in range(10) if number not in large]


@pytest.mark.parametrize("large", [{0}, {9}, {3, 4}, set(range(10))])
def test_a_record_over_the_limit_that_can_be_cut_is_delivered_so(
    server: OTLPServer, transport: Transport, large: set[int]
) -> None:
    batch = Batch(range(10), cuttable=frozenset(large))
    limit = 3 * max(map(len, batch.parts))
    for number in large:
        batch.parts[number] = pad(batch.parts[number], 3 * limit)
    books = deliver(transport, batch, max_request_bytes=limit)
    assert (books.exported, books.truncated, books.dropped) == (10, len(large), {})
    assert sorted(ids(server)) == list(range(10))
    assert all(len(request.body) <= limit for request in server.requests)


def test_a_record_that_the_server_alone_finds_too_large_is_halved_until_it_is_not() -> None:
    class Strict(ModelServer):
        def answer(self, body: bytes, *, timeout: float, time_left: Callable[[], float]) -> Answer:
            if len(body) > 1000:
                self.requests.append(())
                return Answer(413, {}, b"")
            return super().answer(body, timeout=timeout, time_left=time_left)

    server = Strict(FakeTime())
    batch = Batch(range(3), cuttable=frozenset({1}))
    batch.parts[1] = pad(batch.parts[1], 10_000)
    books = deliver(server, batch)
    assert (books.exported, books.truncated, books.dropped) == (3, 1, {})
    assert batch.cut == {1: 4}, "10,000 to 5,000, 2,500, 1,250 and 625"
    assert books.resent == 0


def test_a_server_that_finds_everything_too_large_is_not_asked_for_ever() -> None:
    server = ModelServer(FakeTime(), too_large=frozenset({0}))
    batch = Batch(range(1), cuttable=frozenset({0}))
    batch.parts[0] = pad(batch.parts[0], 16_000)
    books = deliver(server, batch)
    assert (books.exported, books.truncated, books.dropped) == (0, 0, {"too_large": 1})
    assert len(server.requests) == MOST_HALVINGS + 1


@pytest.mark.parametrize("broken", [{0}, {5}, {2, 9}])
def test_a_record_that_cannot_be_encoded_is_lost_alone(
    server: OTLPServer, transport: Transport, broken: set[int]
) -> None:
    books = deliver(transport, Batch(range(10), unencodable=frozenset(broken)))
    assert books.dropped == {"encode_error": len(broken)}
    assert ids(server) == [number for number in range(10) if number not in broken]


def test_an_empty_batch_is_delivered(server: OTLPServer, transport: Transport) -> None:
    assert deliver(transport, Batch(range(0))).exported == 0
    assert server.connections == 0


# --- what is said


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(status=404), ["answered 404", "path"]),
        (Reply(status=401), ["answered 401", "credentials"]),
        (Reply(status=301), ["answered 301", "redirects"]),
        (Reply(status=400, body=b"\x12\x09too much!"), ["answered 400; too much!"]),
        (Reply(rejected=3, message="too old"), ["rejected 3 of 4 records: too old"]),
        (Reply(message="be gentle"), ["rejected 0 of 4 records: be gentle"]),
        (in_seconds(429, 99), ["retry_exhausted", "answered 429"]),
    ],
    ids=lambda value: value.name if isinstance(value, Reply) else "",
)
def test_a_loss_is_told_with_its_cause(
    server: OTLPServer, transport: Transport, capfd: pytest.CaptureFixture[str], reply: Reply, words: list[str]
) -> None:
    server.script = [reply]
    deliver(transport, Batch(range(4)))
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert all(word in said for word in words)


def test_a_success_says_nothing(server: OTLPServer, transport: Transport, capfd: pytest.CaptureFixture[str]) -> None:
    server.script = [Reply(status=503)]
    deliver(transport, Batch(range(4)))
    assert capfd.readouterr().err == ""


# --- a model: any answers to any batch


class ModelServer:
    """A transport to a server in memory, with rules of its own and troubles from a script."""

    target = "model"

    def __init__(
        self,
        fake: FakeTime,
        troubles: list[str] | None = None,
        *,
        bad: frozenset[int] = frozenset(),
        too_large: frozenset[int] = frozenset(),
        most: int = 10**9,
    ) -> None:
        self.fake = fake
        self.troubles = troubles or []
        self.bad = bad
        self.too_large = too_large
        self.most = most
        self.requests: list[tuple[int, ...]] = []
        self.acknowledged = 0
        self.kept: Counter[int] = Counter()
        self.unknown = 0
        self.largest = 0
        self.exchange: Callable[[], Answer] | None = None

    def send(self, body: bytes, *, timeout: float, time_left: Callable[[], float]) -> None:
        assert self.exchange is None, "an exchange begins after the one before has ended"
        self.exchange = lambda: self.answer(body, timeout=timeout, time_left=time_left)

    def receive(self) -> Answer:
        assert self.exchange is not None
        return self.exchange()

    def end_exchange(self) -> None:
        assert self.exchange is not None
        self.exchange = None

    def answer(self, body: bytes, *, timeout: float, time_left: Callable[[], float]) -> Answer:
        self.largest = max(self.largest, len(body))
        assert timeout > 0.0
        assert time_left() > 0.0
        request = ExportLogsServiceRequest.FromString(body)
        numbers = tuple(
            record.body.int_value
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        )
        assert numbers
        self.requests.append(numbers)
        trouble = self.troubles.pop(0) if self.troubles else "none"
        if trouble.isdigit() and trouble != "204":
            return Answer(int(trouble), {}, b"")
        if trouble.startswith("retry_after"):
            return Answer(503, {"retry-after": trouble.partition(" ")[2]}, b"")
        if trouble == "refused":
            raise TransportFailure(trouble, retryable=True, outcome_unknown=False)
        if trouble == "certificate":
            raise TransportFailure(trouble, retryable=False, outcome_unknown=False)
        if trouble == "flood":
            self.unknown += len(numbers)
            raise TransportFailure(trouble, retryable=False, outcome_unknown=True)
        if trouble in ("kept_and_timed_out", "lost_and_timed_out"):
            self.fake.now += min(timeout, time_left())
            self.unknown += len(numbers)
            if trouble.startswith("kept"):
                self.kept.update(numbers)
            raise TransportFailure(trouble, retryable=True, outcome_unknown=True)
        if len(numbers) > self.most or self.too_large.intersection(numbers):
            return Answer(413, {}, b"")
        if self.bad.intersection(numbers):
            return Answer(400, {}, b"")
        if trouble == "204":
            self.acknowledged += len(numbers)
            self.kept.update(numbers)
            return Answer(204, {}, b"")
        if trouble.startswith("partial"):
            rejected = int(trouble.partition(" ")[2])
            answer = ExportLogsServiceResponse()
            answer.partial_success.rejected_log_records = rejected
            kept = numbers[: max(0, len(numbers) - rejected)]
            self.acknowledged += len(kept)
            self.kept.update(kept)
            return Answer(200, {}, answer.SerializeToString())
        self.acknowledged += len(numbers)
        self.kept.update(numbers)
        return Answer(200, {}, b"")


TROUBLES = [
    *["none"] * 4,
    *("204", "301", "400", "404", "413", "429", "500", "502", "503", "504"),
    *("retry_after 0", "retry_after 2", "retry_after 90", "retry_after x"),
    *("refused", "certificate", "flood", "kept_and_timed_out", "lost_and_timed_out"),
    *("partial 0", "partial 1", "partial 3", "partial 999"),
]


@settings(max_examples=sized(120, full=400))
@given(
    count=st.integers(0, 40),
    troubles=st.lists(st.sampled_from(TROUBLES), max_size=25),
    bad=st.frozensets(st.integers(0, 39), max_size=4),
    most=st.integers(1, 50),
    room_for=st.integers(1, 50),
    bisect_bad_request=st.booleans(),
    stop_at_wait=st.none() | st.integers(0, 3),
    stop_seconds=st.sampled_from([0.0, 1.0, 60.0]),
    large=st.frozensets(st.integers(0, 39), max_size=4),
    cuttable=st.frozensets(st.integers(0, 39), max_size=20),
)
def test_any_answers_to_any_batch_leave_exact_books(
    count: int,
    troubles: list[str],
    bad: frozenset[int],
    most: int,
    room_for: int,
    bisect_bad_request: bool,
    stop_at_wait: int | None,
    stop_seconds: float,
    large: frozenset[int],
    cuttable: frozenset[int],
) -> None:
    fake = FakeTime()

    def maybe_stop() -> None:
        if len(fake.waits) == stop_at_wait:
            fake.stop_deadline = fake.now + stop_seconds

    fake.on_wait = maybe_stop
    server = ModelServer(fake, list(troubles), bad=bad, most=most)
    batch = Batch(range(count), cuttable=cuttable)
    limit = room_for * max(map(len, batch.parts), default=1)
    for number in large:
        if number < count:
            batch.parts[number] = pad(batch.parts[number], 2 * limit)
    began = fake.now
    books = deliver(
        server,
        batch,
        fake=fake,
        seconds=30.0,
        timeout=10.0,
        max_request_bytes=limit,
        bisect_bad_request=bisect_bad_request,
    )
    assert books.exported == server.acknowledged, "exported is what the server acknowledged"
    assert books.exported + sum(books.dropped.values()) == count
    assert books.unknown == server.unknown
    assert books.truncated <= len(batch.cut)
    cut = [number for number in batch.cut if books.fates[number] == "exported"]
    assert books.truncated >= len(cut), "one that was cut is delivered and not counted so"
    assert all(server.kept[number] for number, fate in enumerate(books.fates) if fate == "exported")
    repeated = sum(len(request) * (times - 1) for request, times in Counter(server.requests).items() if times > 1)
    assert books.resent == repeated if not bisect_bad_request else books.resent >= repeated
    assert fake.now <= min(began + 30.0, fake.stop_deadline) + 1e-6
    assert server.largest <= limit
    duplicated = sum(times - 1 for times in server.kept.values() if times > 1)
    assert duplicated <= books.unknown + books.resent, "a duplicate cannot be explained"


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 64, 100])
def test_a_too_large_record_is_found_with_few_requests(count: int) -> None:
    for large in range(count):
        server = ModelServer(FakeTime(), too_large=frozenset({large}))
        books = deliver(server, Batch(range(count)))
        assert books.dropped == {"too_large": 1}
        assert books.fates[large] == "too_large"
        assert len(server.requests) <= 2 * math.ceil(math.log2(count)) + 2
        assert books.resent == 0


@pytest.mark.parametrize("count", [*range(1, 34), 100, 127, 128, 129, 512])
def test_a_lone_bad_record_is_found_within_the_bound(count: int) -> None:
    for bad in range(0, count, max(1, count // 40)):
        server = ModelServer(FakeTime(), bad=frozenset({bad}))
        books = deliver(server, Batch(range(count)), bisect_bad_request=True)
        assert books.dropped == {"rejected": 1}
        assert books.fates[bad] == "rejected"
        assert len(server.requests) <= 2 * math.log2(count) + 2
        assert set(server.kept.values()) <= {1}


@settings(max_examples=sized(50, full=150))
@given(count=st.integers(1, 300), data=st.data())
def test_however_many_records_are_bad_the_search_keeps_its_bound(count: int, data: st.DataObject) -> None:
    bad = data.draw(st.frozensets(st.integers(0, count - 1), min_size=1))
    server = ModelServer(FakeTime(), bad=bad)
    books = deliver(server, Batch(range(count)), bisect_bad_request=True)
    assert len(server.requests) <= 2 * math.log2(count) + 2
    assert all(books.fates[number] == "rejected" for number in bad)
    assert books.exported == len(server.kept) == sum(server.kept.values())
    assert books.resent == sum(map(len, server.requests[1:]))


def test_without_the_option_a_bad_request_is_sent_once() -> None:
    server = ModelServer(FakeTime(), bad=frozenset({1}))
    assert deliver(server, Batch(range(8))).dropped == {"rejected": 8}
    assert len(server.requests) == 1


REAL_REPLIES = [
    Reply(),
    Reply(),
    Reply(status=204),
    Reply(status=503),
    in_seconds(429, 2),
    Reply(status=400),
    Reply(status=413),
    Reply(status=500),
    Reply(rejected=1),
    Reply(rejected=50),
    Reply(message="careful"),
    Reply(status=500, fault="close"),
    Reply(status=500, fault="reset_answer", headers={}),
    Reply(fault="reset_request"),
]


@settings(max_examples=sized(30, full=60))
@given(count=st.integers(1, 20), replies=st.lists(st.sampled_from(REAL_REPLIES), max_size=8))
def test_the_books_agree_with_a_real_server(count: int, replies: list[Reply]) -> None:
    with OTLPServer(replies) as server:
        transport = Transport(TransportSettings(endpoint=server.logs_endpoint))
        books = deliver(transport, Batch(range(count)))
        transport.close()
        kept = ids(server)
        assert server.script == replies[sum(server.fired.values()) :]
        assert books.exported == len(kept) == len(set(kept))
        assert books.exported + sum(books.dropped.values()) == count
        assert [number for number, fate in enumerate(books.fates) if fate == "exported"] == sorted(
            set(kept) - {number for number, fate in enumerate(books.fates) if fate == "partly"}
        )
