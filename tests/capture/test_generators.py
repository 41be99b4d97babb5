"""`bound` and `track` in generators, which end in another task or thread, or in another order than they began in."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import get_current
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otelog
from otelog._capture.port import BOUND_KEY
from otelog.testing import OTLPServer
from tests.arrivals import bodies, configured, fields_of, flush_records, to_python

log = otelog.get_logger("generators")
plain = logging.getLogger("generators")


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured(level="DEBUG") as one:
        yield one


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter


def said(server: OTLPServer) -> dict[str, Any]:
    """Returns the fields of each record, by its body; no record may say that a Context could not be left."""
    records = flush_records(server)
    assert not [body for body in bodies(records) if "detach" in str(body)]
    return {to_python(one.body): fields_of(one) for one in records}


def in_new_context(function: Callable[[], Any]) -> None:
    contextvars.Context().run(function)


def in_copied_context(function: Callable[[], Any]) -> None:
    contextvars.copy_context().run(function)


def in_thread(function: Callable[[], Any]) -> None:
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


ELSEWHERE = [in_new_context, in_copied_context, in_thread]


def one_by_one(**fields: object) -> Iterator[int]:
    with otelog.bound(**fields):
        log.info("in it")
        yield 1
        yield 2


async def one_by_one_async(**fields: object) -> AsyncIterator[int]:
    with otelog.bound(**fields):
        yield 1
        yield 2


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
@pytest.mark.parametrize("outer", [{}, {"outer": 1, "inner": 1}])
def test_a_generator_that_is_closed_elsewhere_leaves_no_fields(
    server: OTLPServer, elsewhere: Callable[[Callable[[], Any]], None], outer: dict[str, int]
) -> None:
    def close() -> None:
        generator.close()
        log.info("who closed")

    before = get_current()
    with otelog.bound(**outer):
        generator = one_by_one(inner=2)
        next(generator)
        log.info("between")
        elsewhere(close)
        log.info("after")
        plain.info("after, by logging")
    log.info("outside")
    fields = said(server)
    assert fields["in it"] == fields["between"] == {**outer, "inner": 2}
    assert fields["after"] == fields["after, by logging"] == outer
    assert fields["who closed"] == (outer if elsewhere is in_copied_context else {})
    assert fields["outside"] == {}
    assert not outer or get_current() is before


@pytest.mark.parametrize("close", ["task", "collector"])
def test_an_async_generator_that_another_task_closes_leaves_no_fields(server: OTLPServer, close: str) -> None:
    async def main() -> None:
        async def shut(generator: Any) -> None:
            await generator.aclose()
            log.info("who closed")

        generator = one_by_one_async(inner=2)
        async for _ in generator:
            log.info("between")
            break
        if close == "task":
            await asyncio.create_task(shut(generator))
        del generator
        gc.collect()
        # The loop closes in a task of its own what the collector has found.
        for _ in range(5):
            await asyncio.sleep(0)
        log.info("after")

    asyncio.run(main(), debug=False)
    fields = said(server)
    assert fields["between"] == {"inner": 2}
    assert fields["after"] == fields.get("who closed", {}) == {}


def test_generators_that_take_turns_leave_nothing_behind(server: OTLPServer) -> None:
    before = get_current()
    first, second, third = (one_by_one(**{name: 1}) for name in "abc")
    for generator in (first, second, third):
        next(generator)
    first.close()
    third.close()
    second.close()
    log.info("after")
    assert said(server)["after"] == {}
    assert not {**get_current(), BOUND_KEY: 0}.keys() - {**before, BOUND_KEY: 0}.keys()


def test_a_span_that_began_meanwhile_stays_the_current_one(server: OTLPServer) -> None:
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("t")
    generator = one_by_one(inner=2)
    next(generator)
    with tracer.start_as_current_span("request") as span:
        generator.close()
        log.info("in the span")
    log.info("after")
    by_body: dict[Any, LogRecord] = {to_python(one.body): one for one in flush_records(server)}
    assert int.from_bytes(by_body["in the span"].span_id, "big") == span.get_span_context().span_id
    assert fields_of(by_body["in the span"]) == fields_of(by_body["after"]) == {}
    assert not by_body["after"].span_id


def test_a_task_keeps_the_fields_of_the_block_it_was_started_in(server: OTLPServer) -> None:
    async def main() -> None:
        async def work(go: asyncio.Event) -> None:
            await go.wait()
            log.info("later")

        go = asyncio.Event()
        with otelog.bound(a=1):
            task = asyncio.create_task(work(go))
        go.set()
        await task

    asyncio.run(main())
    assert said(server)["later"] == {"a": 1}


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_a_tracked_span_that_ends_elsewhere_holds_its_record_and_is_over(
    server: OTLPServer, spans: InMemorySpanExporter, elsewhere: Callable[[Callable[[], Any]], None]
) -> None:
    def work() -> Iterator[int]:
        with otelog.track("work", span=True):
            yield 1

    def close() -> None:
        generator.close()
        log.info("who closed")

    generator = work()
    # Where it began, the span stays the current one: nobody can reach that Context.
    contextvars.copy_context().run(lambda: (next(generator), elsewhere(close)))
    (span,) = spans.get_finished_spans()
    records = {to_python(one.body).split(" in ")[0]: one for one in flush_records(server)}
    assert sorted(records) == ["who closed", "work was cancelled"]
    assert int.from_bytes(records["work was cancelled"].span_id, "big") == span.get_span_context().span_id
    assert not records["who closed"].span_id
    assert span.status.is_ok


def test_an_exception_that_a_span_cannot_take_is_still_the_applications(
    server: OTLPServer, spans: InMemorySpanExporter, capfd: pytest.CaptureFixture[str]
) -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    with pytest.raises(Hostile), otelog.track("work", span=True):
        raise Hostile
    (span,) = spans.get_finished_spans()
    assert span.end_time is not None
    assert trace.get_current_span() is trace.INVALID_SPAN
