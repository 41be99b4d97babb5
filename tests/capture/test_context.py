"""Context never leaks: a record has the ids and the bound fields of the task or request that logged it, and no other's.

Every record carries, as fields of its own, the ids that it should have; the receiver compares them with those that it
has. A receiver that sees nothing would pass, so applications that do leak are shown to it, too.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from typing import Any, NamedTuple

import pytest
from flask import Flask, request
from opentelemetry import trace
from opentelemetry.context import attach, detach, get_current, get_value, set_value
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.threading import ThreadingInstrumentor
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, format_span_id, format_trace_id
from werkzeug.test import create_environ, run_wsgi_app

import otelog
from otelog.testing import OTLPServer
from tests.arrivals import configured
from tests.sizes import sized

TASKS = sized(4_000, full=100_000, brief=1_000)
TASKS_AT_ONCE = 200
REQUESTS = sized(600, full=10_000, brief=200)
REQUESTS_AT_ONCE = 8
MEET_SECONDS = 30.0

log = otelog.get_logger("facade")
# The short way of a standard call, and the way by a LogRecord, which another handler makes necessary.
std = (logging.getLogger("std"), logging.getLogger("std.handled"))
std[1].addHandler(logging.NullHandler())


class Identity(NamedTuple):
    """What a record should have."""

    trace_id: str
    span_id: str
    tenant: int

    def __str__(self) -> str:
        return f"{self.trace_id}/{self.span_id}/{self.tenant}"

    def note(self) -> None:
        """Log by the facade and by the standard library."""
        own = str(self)
        log.info("a step", own=own)
        std[self.tenant % 2].info("a step", extra={"own": own})
        made.append(own)

    @property
    def span(self) -> NonRecordingSpan:
        return NonRecordingSpan(
            SpanContext(int(self.trace_id, 16), int(self.span_id, 16), is_remote=False, trace_flags=TraceFlags(1))
        )


NOBODY = Identity("", "", 0)
made: list[str] = []
"""What the records that were made say of themselves, two for each entry."""


def identity_of(number: int) -> Identity:
    return Identity(format_trace_id(number << 64 | number), format_span_id(number), number)


@contextmanager
def receiving() -> Iterator[OTLPServer]:
    """A pipeline in which a full queue waits, so that nothing can be lost."""
    made.clear()
    root = logging.getLogger()
    # pytest's own, which would format and keep every record.
    others, root.handlers[:] = list(root.handlers), []
    try:
        with configured(
            when_full="block", block_timeout=60.0, max_export_batch_size=4096, code_attributes=False, compression="none"
        ) as server:
            yield server
    finally:
        root.handlers[:] = others


def find_strangers(server: OTLPServer) -> list[str]:
    """Deliver everything, and return a line for each record that has not what it should have.

    That every record has arrived, once, is asserted here.
    """
    assert otelog.flush(60.0)
    stats = otelog.stats()
    strangers = []
    arrived: Counter[str] = Counter()
    for sent in server.requests:
        for record in sent.kept_records:
            fields = {attribute.key: attribute.value for attribute in record.attributes}
            own = fields["own"].string_value
            tenant = fields["tenant"].int_value if "tenant" in fields else 0
            has = f"{record.trace_id.hex()}/{record.span_id.hex()}/{tenant}"
            if has != own:
                strangers.append(f"{own} has {has}")
            arrived[own] += 1
    assert arrived == {own: 2 * count for own, count in Counter(made).items()}
    assert (stats.created, stats.exported, stats.lost) == (2 * len(made), 2 * len(made), 0)
    return strangers


# Tasks.


async def work(number: int, chance: random.Random, door: asyncio.Semaphore) -> None:
    own = identity_of(number)
    with trace.use_span(own.span), otelog.bound(tenant=number):
        own.note()
        way = chance.random()
        while True:
            if way < 0.5:
                await asyncio.sleep(0)
            elif way < 0.9:
                # Another task, in its own context, lets this one in.
                async with door:
                    await asyncio.sleep(0)
            elif way < 0.99:
                await asyncio.create_task(note_later(own))
            else:
                await asyncio.to_thread(own.note)
            own.note()
            way = chance.random()
            if way < 0.9:
                return


async def note_later(own: Identity) -> None:
    await asyncio.sleep(0)
    own.note()


async def work_in_waves(tasks: int) -> None:
    chance, door = random.Random(7), asyncio.Semaphore(10)
    for first in range(1, tasks + 1, TASKS_AT_ONCE):
        await asyncio.gather(*(work(number, chance, door) for number in range(first, first + TASKS_AT_ONCE)))
        NOBODY.note()


def test_interleaved_tasks_keep_their_ids_and_fields_apart() -> None:
    with receiving() as server:
        asyncio.run(work_in_waves(TASKS))

        assert find_strangers(server) == []
    assert len(set(made)) == TASKS + 1


# Requests in threads.

_ENVIRON = create_environ()
_OWN_SPAN = "tests.own_span"


def keep_span(span: trace.Span, environ: dict[str, Any]) -> None:
    """Say which span is the request's on a way that is not the Context."""
    environ[_OWN_SPAN] = format_span_id(span.get_span_context().span_id)


def own_identity(tenant: int) -> Identity:
    number = int(request.view_args["number"]) if request.view_args else 0
    return identity_of(number)._replace(span_id=request.environ[_OWN_SPAN], tenant=tenant)


@contextmanager
def application(inside: Callable[[Identity], None]) -> Iterator[Flask]:
    """A Flask application with OpenTelemetry's instrumentation, and a view that calls `inside`."""
    app = Flask("shop")
    FlaskInstrumentor().instrument_app(
        app, tracer_provider=TracerProvider(shutdown_on_exit=False), request_hook=keep_span
    )

    @app.before_request
    def before() -> None:
        own_identity(0).note()

    @app.get("/orders/<int:number>")
    def order(number: int) -> str:
        own = own_identity(number)
        with otelog.bound(tenant=number):
            inside(own)
        return str(number)

    @app.after_request
    def after(response: Any) -> Any:
        own_identity(0).note()
        return response

    yield app
    FlaskInstrumentor.uninstrument_app(app)


def ask(app: Any, number: int) -> str:
    """Send the application a request with a trace of its own, in this thread. Returns the answer's text."""
    identity = identity_of(number)
    environ = {
        **_ENVIRON,
        "wsgi.input": BytesIO(),
        "PATH_INFO": f"/orders/{number}",
        "HTTP_TRACEPARENT": f"00-{identity.trace_id}-{identity.span_id}-01",
    }
    body, status, _ = run_wsgi_app(app, environ, buffered=True)
    assert status == "200 OK"
    return b"".join(body).decode()


@contextmanager
def switching_often() -> Iterator[None]:
    """Have threads take turns in the middle of things."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def test_requests_in_threads_keep_their_ids_and_fields_apart() -> None:
    # In every view all threads meet: as many requests are at the same place at once.
    meeting = threading.Barrier(REQUESTS_AT_ONCE)

    def inside(own: Identity) -> None:
        own.note()
        meeting.wait(MEET_SECONDS)
        own.note()

    def serve(first: int) -> None:
        for number in range(first, REQUESTS + 1, REQUESTS_AT_ONCE):
            assert ask(app, number) == str(number)
            # A thread between two requests is nobody's.
            NOBODY.note()

    with receiving() as server, application(inside) as app, switching_often():
        with ThreadPoolExecutor(REQUESTS_AT_ONCE) as pool:
            list(pool.map(serve, range(1, REQUESTS_AT_ONCE + 1)))

        assert find_strangers(server) == []
    assert len({own.partition("/")[0] for own in made}) == REQUESTS + 1
    assert len(made) == 5 * REQUESTS


def test_threads_that_a_request_starts_have_its_ids_and_a_pool_has_none_afterwards() -> None:
    with ThreadPoolExecutor(4) as pool:

        def inside(own: Identity) -> None:
            thread = threading.Thread(target=own.note)
            timer = threading.Timer(0.0, own.note)
            thread.start()
            timer.start()
            # The pool is the application's, and lives longer than the request.
            pool.submit(own.note).result(MEET_SECONDS)
            thread.join(MEET_SECONDS)
            timer.join(MEET_SECONDS)

        def serve(first: int) -> None:
            for number in range(first, 101, 4):
                ask(app, number)
                NOBODY.note()
                pool.submit(NOBODY.note).result(MEET_SECONDS)

        instrumentor = ThreadingInstrumentor()
        instrumentor.instrument()
        try:
            with receiving() as server, application(inside) as app:
                with ThreadPoolExecutor(4) as callers:
                    list(callers.map(serve, range(1, 5)))

                assert find_strangers(server) == []
        finally:
            instrumentor.uninstrument()
    assert len(made) == 7 * 100


class ContextsSeen(InMemoryLogRecordExporter):
    """Keeps the Contexts in which it is called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[tuple[str, trace.Span, object]] = []

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        self.seen.append((threading.current_thread().name, trace.get_current_span(), get_value("of the request")))
        return super().export(batch)


@pytest.mark.parametrize("count", [1, 2])
def test_threads_of_otelog_that_a_request_starts_stay_out_of_it(count: int) -> None:
    exporters = [ContextsSeen() for _ in range(count)]
    instrumentor = ThreadingInstrumentor()
    instrumentor.instrument()
    try:
        token = attach(set_value("of the request", 1, trace.set_span_in_context(identity_of(1).span)))
        with configured(exporters=[{"exporter": exporter} for exporter in exporters]):
            log.info("the first")
            detach(token)
            assert otelog.flush(10.0)
    finally:
        instrumentor.uninstrument()
    for exporter in exporters:
        ((thread, span, value),) = exporter.seen
        assert thread.startswith("otelog-")
        assert (span, value) == (trace.INVALID_SPAN, None)


# The receiver is no friend of leaks.


def attach_and_forget(own: Identity) -> None:
    attach(trace.set_span_in_context(own.span))
    own._replace(tenant=0).note()


def bind_and_forget(own: Identity) -> None:
    with otelog.bound(tenant=own.tenant):
        context = get_current()
    attach(context)
    NOBODY._replace(tenant=own.tenant).note()


@pytest.mark.parametrize("forget", [attach_and_forget, bind_and_forget])
def test_an_application_that_leaves_its_context_behind_in_a_thread_is_found(forget: Callable[[Identity], None]) -> None:
    def leaking(environ: Any, start_response: Any) -> list[bytes]:
        forget(identity_of(int(environ["PATH_INFO"].rpartition("/")[2])))
        start_response("200 OK", [])
        return []

    def serve(number: int) -> None:
        ask(leaking, number)
        NOBODY.note()

    with receiving() as server:
        for number in (1, 2, 3):
            thread = threading.Thread(target=serve, args=(number,))
            thread.start()
            thread.join(MEET_SECONDS)

        strangers = find_strangers(server)
    # By both ways of logging, after each request.
    assert len(strangers) == 6
    assert all(line.startswith(f"{NOBODY} has ") for line in strangers)


@pytest.mark.parametrize("forget", [attach_and_forget, bind_and_forget])
def test_a_task_that_does_several_jobs_and_leaves_the_context_of_one_behind_is_found(
    forget: Callable[[Identity], None],
) -> None:
    async def consume(numbers: Sequence[int]) -> None:
        for number in numbers:
            forget(identity_of(number))
            await asyncio.sleep(0)
            NOBODY.note()

    async def both() -> None:
        await asyncio.gather(consume((1, 2)), consume((3, 4)))

    with receiving() as server:
        asyncio.run(both())

        strangers = [line for line in find_strangers(server) if line.startswith(f"{NOBODY} has ")]
    assert len(strangers) == 8
