"""`track`: one record at the end of a piece of work, whatever its end, and the work itself is left as it is."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otelog
from otelog.exceptions import ConfigurationError
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, configured, flush_record, flush_records, to_python


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with configured() as one:
        yield one


class OutOfStock(Exception):
    pass


def line() -> int:
    """The caller's line."""
    return sys._getframe(1).f_lineno


def test_a_block_that_ends_well_is_told_with_its_duration_and_fields(server: OTLPServer) -> None:
    with otelog.track("save_data", table="daily") as operation:
        operation.add(rows=3)
    expected = line() - 2
    record = flush_record(server)
    attributes = attributes_of(record)
    assert (record.severity_text, record.event_name) == ("INFO", "")
    assert 0 <= attributes.pop("duration") < 60
    assert attributes == {
        "table": "daily",
        "rows": 3,
        "outcome": "success",
        "code.file.path": __file__,
        "code.function.name": "test_a_block_that_ends_well_is_told_with_its_duration_and_fields",
        "code.line.number": expected,
    }
    assert to_python(record.body).startswith("save_data succeeded in 0.")
    (request,) = server.requests
    assert request.decode().resource_logs[0].scope_logs[0].scope.name == __name__


def test_a_failure_is_an_error_with_its_exception_and_goes_on(server: OTLPServer) -> None:
    with pytest.raises(OutOfStock), otelog.track("reserve", item=7):
        raise OutOfStock("none left")
    record = flush_record(server)
    attributes = attributes_of(record)
    assert record.severity_text == "ERROR"
    assert (attributes["outcome"], attributes["item"]) == ("failure", 7)
    assert attributes["error.type"] == attributes["exception.type"] == f"{__name__}.OutOfStock"
    assert attributes["exception.message"] == "none left"
    assert "raise OutOfStock" in attributes["exception.stacktrace"]
    assert to_python(record.body).startswith("reserve failed in ")


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
def test_an_end_that_is_no_error_is_a_cancellation(server: OTLPServer, error: BaseException) -> None:
    with pytest.raises(type(error)), otelog.track("poll"):
        raise error
    record = flush_record(server)
    attributes = attributes_of(record)
    assert (record.severity_text, attributes["outcome"]) == ("WARNING", "cancelled")
    assert attributes["error.type"].rpartition(".")[2] == type(error).__name__
    assert "exception.type" not in attributes


def plain(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


async def coroutine(a: int, b: int = 2) -> int:
    await asyncio.sleep(0)
    return a + b


def generator(a: int, b: int = 2) -> Iterator[int]:
    yield a
    yield b


def call_plain(function: Callable[..., Any]) -> Any:
    return function(1, b=4)


def call_coroutine(function: Callable[..., Any]) -> Any:
    assert inspect.iscoroutinefunction(function)
    return asyncio.run(function(1, b=4))


def call_generator(function: Callable[..., Any]) -> Any:
    assert inspect.isgeneratorfunction(function)
    return sum(function(1, b=4))


@pytest.mark.parametrize(
    ("function", "call"), [(plain, call_plain), (coroutine, call_coroutine), (generator, call_generator)]
)
def test_a_decorated_function_is_told_at_each_call_and_stays_what_it_was(
    server: OTLPServer, function: Callable[..., Any], call: Callable[..., Any]
) -> None:
    tracked = otelog.track("add", unit="eur")(function)
    assert (tracked.__name__, tracked.__doc__, inspect.signature(tracked)) == (
        function.__name__,
        function.__doc__,
        inspect.signature(function),
    )
    assert [call(tracked), call(tracked)] == [5, 5]
    records = flush_records(server)
    assert [attributes_of(record)["outcome"] for record in records] == ["success", "success"]
    attributes = attributes_of(records[0])
    assert attributes["unit"] == "eur"
    # The place is the function's own, not that of a wrapper.
    assert attributes["code.file.path"] == __file__
    assert attributes["code.function.name"] == function.__name__
    assert attributes["code.line.number"] == inspect.getsourcelines(function)[1]


def test_a_recursive_or_concurrent_function_has_a_record_for_each_call(server: OTLPServer) -> None:
    @otelog.track("count")
    def count(n: int) -> int:
        return 0 if n == 0 else 1 + count(n - 1)

    @otelog.track("wait")
    async def wait(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def both() -> None:
        await asyncio.gather(wait(0.05), wait(0.0))

    assert count(3) == 3
    asyncio.run(both())
    records = [
        (to_python(record.body).partition(" ")[0], attributes_of(record)["duration"])
        for record in flush_records(server)
    ]
    assert [name for name, _ in records] == ["count"] * 4 + ["wait"] * 2
    durations = [duration for name, duration in records if name == "count"]
    assert durations == sorted(durations)
    short, long = (duration for name, duration in records if name == "wait")
    assert short < 0.05 <= long


def test_a_task_that_is_cancelled_says_so(server: OTLPServer) -> None:
    @otelog.track("forever")
    async def forever() -> None:
        await asyncio.Event().wait()

    async def cancel() -> None:
        task = asyncio.create_task(forever())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert attributes_of(flush_record(server))["outcome"] == "cancelled"


def test_async_with_is_told_at_its_own_place(server: OTLPServer) -> None:
    async def work() -> int:
        async with otelog.track("load"):
            return line() - 1

    expected = asyncio.run(work())
    attributes = attributes_of(flush_record(server))
    assert (attributes["code.function.name"].rpartition(".")[2], attributes["code.line.number"]) == ("work", expected)


def test_an_event_has_its_name(server: OTLPServer) -> None:
    with otelog.track("order.pay", event=True):
        pass
    assert flush_record(server).event_name == "order.pay"


def test_a_span_holds_what_is_logged_in_it_and_the_record_itself(
    server: OTLPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    log = otelog.get_logger()
    with otelog.track("charge", span=True, order=7, tags=["a"]):
        log.info("inside")
    with pytest.raises(OutOfStock), otelog.track("charge", span=True):
        raise OutOfStock
    good, bad = exporter.get_finished_spans()
    assert (good.name, dict(good.attributes or {})) == ("charge", {"order": 7, "tags": "['a']"})
    assert (good.status.is_ok, bad.status.is_ok, len(bad.events)) == (True, False, 1)
    first, second, third = flush_records(server)
    assert first.span_id == second.span_id == good.get_span_context().span_id.to_bytes(8, "big")
    assert third.span_id == bad.get_span_context().span_id.to_bytes(8, "big")


def test_level_and_logger_are_chosen(server: OTLPServer) -> None:
    otelog.configure(endpoint=server.endpoint, level="DEBUG")
    log = otelog.get_logger("shop").bind(tenant="t-1")
    with otelog.track("quiet", level="debug", logger=log):
        pass
    record = flush_record(server)
    assert (record.severity_text, attributes_of(record)["tenant"]) == ("DEBUG", "t-1")
    with pytest.raises(ConfigurationError):
        otelog.track("x", level="loud")


def test_a_level_that_is_off_tells_failures_alone(server: OTLPServer) -> None:
    otelog.configure(endpoint=server.endpoint, level="ERROR")
    with otelog.track("fine"):
        pass
    with pytest.raises(OutOfStock), otelog.track("not fine"):
        raise OutOfStock
    assert to_python(flush_record(server).body).startswith("not fine failed")


def test_an_async_generator_is_refused_with_what_to_do() -> None:
    async def numbers() -> Any:
        yield 1

    with pytest.raises(TypeError, match="async generator .*numbers; use with in it"):
        otelog.track("x")(numbers)


def test_what_has_no_code_of_its_own_can_be_tracked(server: OTLPServer) -> None:
    assert otelog.track("size")(len)([1, 2]) == 2
    assert attributes_of(flush_record(server))["outcome"] == "success"


def test_hostile_names_and_fields_do_no_harm(server: OTLPServer) -> None:
    class Broken:
        def __str__(self) -> str:
            raise ValueError

        __repr__ = __str__

    with otelog.track(Broken(), span=True, value=Broken(), outcome="mine") as operation:  # type: ignore[arg-type]
        operation.add(more=Broken())
    attributes = attributes_of(flush_record(server))
    assert attributes["outcome"] == "success"
    assert isinstance(attributes["value"], str)


def test_before_configure_it_goes_to_the_standard_library(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger=__name__)
    with otelog.track("early", n=1):
        pass
    (record,) = caplog.records
    assert record.getMessage().startswith("early succeeded in 0.")
    assert (record.name, record.funcName) == (__name__, "test_before_configure_it_goes_to_the_standard_library")
