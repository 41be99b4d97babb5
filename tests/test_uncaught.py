"""Exceptions that nobody handles: one record each, in the trace that they were raised in, whoever else logs them."""

from __future__ import annotations

import asyncio
import builtins
import copy
import gc
import logging
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.sdk.trace import TracerProvider

import otelog
from otelog._capture import exception_notes
from otelog._patches import asyncio_reports
from otelog._runtime.own_threads import own_threads
from otelog.testing import OTLPServer
from tests.arrivals import attributes_of, bodies, configured, flush_record, flush_records, to_python

ROOT = Path(__file__).resolve().parents[1]
TRACER = TracerProvider().get_tracer("test")
FATAL, ERROR = 21, 17


@pytest.fixture
def plain_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the interpreter's own hooks where pytest has put its own."""
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)


@pytest.fixture
def server(plain_hooks: None) -> Iterator[OTLPServer]:
    with configured(capture_exceptions=True) as one:
        yield one


def raise_in_thread(error: BaseException) -> None:
    def fail() -> None:
        raise error

    thread = threading.Thread(target=fail, name="doomed")
    thread.start()
    thread.join()


def raise_in_finalizer(error: BaseException) -> None:
    class Finalized:
        def __del__(self) -> None:
            raise error

    Finalized()


def give_to_hook(error: BaseException) -> None:
    """As the interpreter does it at the end of a process, but that it goes on."""
    try:
        raise error
    except BaseException:
        sys.excepthook(*sys.exc_info())


WAYS: dict[str, Callable[[BaseException], None]] = {
    "sys.excepthook": give_to_hook,
    "threading.excepthook": raise_in_thread,
    "sys.unraisablehook": raise_in_finalizer,
}
each_way = pytest.mark.parametrize("way", WAYS)


# Every place, in one process.

PLACES = """
import asyncio, atexit, concurrent.futures, gc, multiprocessing, os, signal, sys, threading
import otelog
from opentelemetry import trace

otelog.configure(endpoint=os.environ["ENDPOINT"], service_name="places")
tracer = trace.get_tracer("places")

def note(name):
    span = trace.get_current_span().get_span_context()
    # One line at once: there are threads.
    os.write(1, f"{name} {span.trace_id:032x} {span.span_id:016x}{os.linesep}".encode())

def fail(name):
    with tracer.start_as_current_span(name):
        note(name)
        raise LookupError(name)

def run(thread):
    thread.start()
    thread.join()

run(threading.Thread(target=fail, args=("thread",)))
run(threading.Timer(0.001, fail, args=("timer",)))

class Finalized:
    def __del__(self):
        fail("__del__")

Finalized()

def handle(*_):
    with tracer.start_as_current_span("signal, handled"):
        raise KeyError("handled")

signal.signal(signal.SIGUSR1, handle)
try:
    signal.raise_signal(signal.SIGUSR1)
except KeyError:
    pass

async def fail_later(name):
    fail(name)

async def raise_plainly(name):
    raise LookupError(name)

async def main():
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(fail_later("task"))
    with tracer.start_as_current_span("outside"):
        note("task of a span")
        of_span = asyncio.create_task(raise_plainly("task of a span"))
        loop.call_soon(lambda: note("callback of a span") or {}["callback of a span"])
    loop.call_soon(fail, "callback")
    loop.run_in_executor(None, fail, "future")
    asked = asyncio.create_task(fail_later("asked for"))
    try:
        await asked
    except LookupError:
        pass
    await asyncio.wait({task, of_span})
    with tracer.start_as_current_span("a request that has nothing to do with it"):
        del task, of_span
        gc.collect()
    await loop.shutdown_default_executor()

asyncio.run(main())
gc.collect()

with concurrent.futures.ThreadPoolExecutor(1) as pool:
    pool.submit(fail, "kept in the future")
    pool.submit(int).add_done_callback(lambda _: fail("executor callback"))

child = multiprocessing.get_context("fork").Process(target=fail, args=("child",))
child.start()
child.join()

generator = (fail("generator") for _ in "1")
try:
    next(generator)
except LookupError:
    pass

def stop(*_):
    raise SystemExit

atexit.register(fail, "atexit")
run(threading.Thread(target=stop))
signal.signal(signal.SIGUSR1, lambda *_: fail("signal handler"))
signal.raise_signal(signal.SIGUSR1)
"""

# What each is logged by, and how severe it is.
EXPECTED = {
    "thread": ("threading.excepthook", ERROR),
    "timer": ("threading.excepthook", ERROR),
    "__del__": ("sys.unraisablehook", ERROR),
    "task": ("asyncio", ERROR),
    "task of a span": ("asyncio", ERROR),
    "callback": ("asyncio", ERROR),
    "callback of a span": ("asyncio", ERROR),
    "future": ("asyncio", ERROR),
    "executor callback": ("concurrent.futures", ERROR),
    "child": ("multiprocessing", FATAL),
    "atexit": ("sys.unraisablehook", ERROR),
    "signal handler": ("sys.excepthook", FATAL),
}


def run_script(tmp_path: Path, script: str, server: OTLPServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(script), encoding="utf-8")
    environment = {**os.environ, "ENDPOINT": server.endpoint, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-W", "ignore", *arguments, str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def by_scope(server: OTLPServer) -> list[tuple[str, LogRecord]]:
    return [
        (scope.scope.name, record)
        for request in server.requests
        for resource in request.decode().resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def test_each_place_makes_one_record_with_the_trace_that_was_current_there(tmp_path: Path) -> None:
    with OTLPServer() as server:
        done = run_script(tmp_path, PLACES, server)
        records = by_scope(server)
    assert done.returncode == 1
    assert done.stderr.count("LookupError: signal handler") == 1, "the interpreter shows it as ever"
    found = {}
    for scope, record in records:
        attributes = attributes_of(record)
        name = attributes["exception.message"].strip("'\"")
        assert name not in found, f"{name} twice"
        ids = f"{record.trace_id.hex()} {record.span_id.hex()}"
        found[name] = (scope, record.severity_number)
        assert f"{name} {ids}" in done.stdout.splitlines(), (name, ids, done.stdout)
        assert attributes["exception.type"] in ("LookupError", "KeyError")
        assert "Traceback (most recent call last)" in attributes["exception.stacktrace"]
        if scope != "concurrent.futures":
            # That is an error that somebody logs, and no event.
            assert record.event_name == "exception"
    assert found == EXPECTED


# One record, whoever else logs it.


@each_way
def test_it_is_an_event_with_all_that_is_known(server: OTLPServer, way: str, capfd: pytest.CaptureFixture[str]) -> None:
    WAYS[way](ValueError("no such order"))
    record = flush_record(server)
    attributes = attributes_of(record)
    assert (record.event_name, record.severity_number, record.severity_text) == ("exception", ERROR, "ERROR")
    assert to_python(record.body) == "ValueError: no such order"
    assert attributes["exception.type"] == "ValueError"
    assert attributes["exception.message"] == "no such order"
    assert attributes["exception.stacktrace"].endswith("ValueError: no such order\n")
    assert attributes["thread.name"] == ("doomed" if way == "threading.excepthook" else "MainThread")
    assert attributes["code.file.path"] == __file__
    assert attributes["code.function.name"] != "<module>"
    assert ("exception.ignored_in" in attributes) == (way == "sys.unraisablehook")
    assert capfd.readouterr().err.count("ValueError: no such order") == 1


@each_way
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_a_process_by_intent_is_no_error(server: OTLPServer, way: str, kind: type[BaseException]) -> None:
    WAYS[way](kind())
    assert flush_records(server) == []


def log_by_logging(error: BaseException) -> None:
    logging.getLogger("app").error("failed", exc_info=error)


def log_by_facade(error: BaseException) -> None:
    otelog.get_logger("app").error("failed", exc_info=error)


@each_way
@pytest.mark.parametrize("log", [log_by_logging, log_by_facade])
@pytest.mark.parametrize("kind", [ValueError, type("Own", (Exception,), {})])
def test_what_was_logged_before_is_not_recorded_again(
    server: OTLPServer, way: str, log: Callable[[BaseException], None], kind: type[Exception]
) -> None:
    error = kind("once")
    log(error)
    WAYS[way](error)
    assert bodies(flush_records(server)) == ["failed"]


@each_way
def test_a_mention_below_error_is_not_its_record(server: OTLPServer, way: str) -> None:
    error = ValueError("in the end")
    logging.getLogger("app").warning("trying again", exc_info=error)
    WAYS[way](error)
    assert bodies(flush_records(server)) == ["trying again", "ValueError: in the end"]


@each_way
def test_a_call_that_made_no_record_does_not_count(server: OTLPServer, way: str) -> None:
    logging.getLogger("silent").disabled = True
    error = ValueError("still unknown")
    try:
        logging.getLogger("silent").error("nobody sees it", exc_info=error)
    finally:
        logging.getLogger("silent").disabled = False
    WAYS[way](error)
    assert bodies(flush_records(server)) == ["ValueError: still unknown"]


@each_way
def test_another_exception_with_the_logged_one_as_its_cause_is_a_record(server: OTLPServer, way: str) -> None:
    cause = KeyError("cause")
    log_by_logging(cause)
    error = ValueError("effect")
    error.__cause__ = cause
    WAYS[way](error)
    assert bodies(flush_records(server)) == ["failed", "ValueError: effect"]


def hook_of(way: str) -> tuple[Any, str]:
    module, _, name = way.partition(".")
    return sys.modules[module], name


def error_of(args: tuple[Any, ...]) -> BaseException:
    found: BaseException = args[1] if len(args) == 3 else args[0].exc_value
    return found


@each_way
@pytest.mark.parametrize("logs", [False, True])
def test_an_earlier_hook_is_called_once_and_may_log_the_exception_itself(
    plain_hooks: None, monkeypatch: pytest.MonkeyPatch, way: str, logs: bool
) -> None:
    calls: list[str] = []

    def earlier(*args: Any) -> None:
        calls.append(str(error_of(args)))
        if logs:
            log_by_logging(error_of(args))

    monkeypatch.setattr(*hook_of(way), earlier)
    with configured(capture_exceptions=True) as server:
        WAYS[way](ValueError("once"))
        assert calls == ["once"]
        assert bodies(flush_records(server)) == ["failed" if logs else "ValueError: once"]
    module, name = hook_of(way)
    assert getattr(module, name) is earlier, "put back"


@each_way
def test_an_earlier_hook_that_fails_or_ends_the_thread_costs_no_record(
    plain_hooks: None, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def earlier(*args: Any) -> None:
        raise SystemExit(7)

    monkeypatch.setattr(*hook_of(way), earlier)
    with configured(capture_exceptions=True) as server:
        try:
            WAYS[way](ValueError("once"))
        except SystemExit:
            assert way == "sys.excepthook"
        assert bodies(flush_records(server)) == ["ValueError: once"]


@each_way
def test_a_later_hook_stays_and_ours_passes_on_what_comes_after_shutdown(
    server: OTLPServer, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    module, name = hook_of(way)
    ours = getattr(module, name)
    calls: list[str] = []

    def later(*args: Any) -> None:
        calls.append(str(error_of(args)))
        ours(*args)

    monkeypatch.setattr(module, name, later)
    WAYS[way](ValueError("first"))
    otelog.configure(endpoint=server.endpoint, service_name="test", thread_attributes=True)
    WAYS[way](ValueError("second"))
    assert bodies(flush_records(server)) == ["ValueError: first", "ValueError: second"]
    otelog.shutdown()
    assert getattr(module, name) is later
    WAYS[way](ValueError("third"))
    assert calls == ["first", "second", "third"]
    assert otelog.stats().lost == 0


def test_without_the_option_the_hooks_are_the_interpreters(plain_hooks: None) -> None:
    before = sys.excepthook, threading.excepthook, sys.unraisablehook
    with configured(capture_exceptions=True) as server:
        assert before != (sys.excepthook, threading.excepthook, sys.unraisablehook)
        otelog.configure(endpoint=server.endpoint, service_name="test", capture_exceptions=False)
        assert before == (sys.excepthook, threading.excepthook, sys.unraisablehook)
    assert before == (sys.excepthook, threading.excepthook, sys.unraisablehook)


def test_what_otelogs_own_threads_raise_is_no_record(server: OTLPServer) -> None:
    own_threads.add(threading.get_ident())
    try:
        raise_in_finalizer(ValueError("ours"))
    finally:
        own_threads.discard(threading.get_ident())
    raise_in_finalizer(ValueError("theirs"))
    assert ["theirs" in body for body in bodies(flush_records(server))] == [True]


# What is remembered of an exception.


@pytest.mark.parametrize("kind", [ValueError, MemoryError, type("Own", (Exception,), {})])
def test_what_is_remembered_is_of_this_object_only_and_keeps_nothing_alive(kind: type[Exception]) -> None:
    class Local:
        pass

    def fail() -> Exception:
        local = Local()
        alive.append(weakref.ref(local))
        try:
            raise kind("once")
        except Exception as error:
            with TRACER.start_as_current_span("work") as span:
                exception_notes.remember_span(error, span.get_span_context())
            exception_notes.mark_recorded(error)
            return error

    alive: list[weakref.ref[Local]] = []
    error = fail()
    assert exception_notes.is_recorded(error)
    assert exception_notes.find_span(error) is not None
    copies = [copy.copy(error)]
    if kind.__module__ == "builtins":
        copies.append(pickle.loads(pickle.dumps(error)))
    for other in copies:
        assert not exception_notes.is_recorded(other)
        assert exception_notes.find_span(other) is None
    known = len(exception_notes._references)
    for other in copies:
        exception_notes.mark_recorded(other)
    del error, copies, other
    gc.collect()
    assert alive[0]() is None
    assert len(exception_notes._references) <= known


def test_an_application_that_shows_its_exceptions_attributes_shows_no_more() -> None:
    class Refused(Exception):
        def __init__(self) -> None:
            self.code = 7

        def __setattr__(self, name: str, value: Any) -> None:
            if name != "code":
                raise TypeError(name)
            super().__setattr__(name, value)

    error = Refused()
    exception_notes.mark_recorded(error)
    assert exception_notes.is_recorded(error)
    assert vars(error) == {"code": 7}


def test_the_innermost_span_counts_and_another_trace_begins_anew(server: OTLPServer) -> None:
    error = ValueError("raised twice")

    def fail() -> trace.SpanContext:
        try:
            with TRACER.start_as_current_span("outer"), TRACER.start_as_current_span("inner") as span:
                raise error
        except ValueError:
            return span.get_span_context()

    for _ in range(2):
        inner = fail()
        give_to_hook(error)
        record = flush_records(server)[-1]
        assert (record.trace_id.hex(), record.span_id.hex()) == (f"{inner.trace_id:032x}", f"{inner.span_id:016x}")
    assert len(flush_records(server)) == 2


def test_a_record_that_has_a_trace_keeps_it(server: OTLPServer) -> None:
    try:
        with TRACER.start_as_current_span("first"):
            raise ValueError
    except ValueError as caught:
        error = caught
    with TRACER.start_as_current_span("second") as second:
        log_by_logging(error)
    assert flush_record(server).trace_id.hex() == f"{second.get_span_context().trace_id:032x}"


def test_a_thread_that_has_inherited_a_trace_fails_in_it(server: OTLPServer) -> None:
    instrumentor = pytest.importorskip("opentelemetry.instrumentation.threading").ThreadingInstrumentor()
    instrumentor.instrument()
    try:
        with TRACER.start_as_current_span("request") as span, otelog.bound(order=7):
            raise_in_thread(ValueError("in a thread"))
    finally:
        instrumentor.uninstrument()
    record = flush_record(server)
    assert record.trace_id.hex() == f"{span.get_span_context().trace_id:032x}"
    assert attributes_of(record)["order"] == 7


async def fail_in_task() -> None:
    raise ValueError("in a task")


@pytest.mark.parametrize("tells", [True, False], ids=["as it is", "a task that does not tell its context"])
def test_a_task_is_never_reported_in_the_trace_of_somebody_else(
    server: OTLPServer, monkeypatch: pytest.MonkeyPatch, tells: bool
) -> None:
    if not tells:
        monkeypatch.setattr(asyncio_reports, "context_of", lambda source: None)

    async def main() -> trace.SpanContext:
        with TRACER.start_as_current_span("request") as span:
            task = asyncio.create_task(fail_in_task())
        await asyncio.wait([task])
        with TRACER.start_as_current_span("somebody else's"):
            del task
            gc.collect()
        return span.get_span_context()

    ids = asyncio.run(main())
    record = flush_record(server)
    assert record.event_name == "exception"
    assert record.trace_id.hex() == (f"{ids.trace_id:032x}" if tells else "")


def test_a_loops_own_handler_is_called_in_the_trace_of_the_task(server: OTLPServer) -> None:
    seen: list[int] = []

    async def main() -> int:
        reported = asyncio.Event()

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            seen.append(trace.get_current_span().get_span_context().trace_id)
            reported.set()

        asyncio.get_running_loop().set_exception_handler(handle)
        with TRACER.start_as_current_span("request") as span:
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.wait_for(reported.wait(), 10.0)
        return span.get_span_context().trace_id

    assert [asyncio.run(main())] == seen
    assert flush_records(server) == []


# Hostile ones.


class Loud(Exception):
    def __str__(self) -> str:
        logging.getLogger("loud").info("from __str__")
        return "loud"


class Broken(Exception):
    def __str__(self) -> str:
        raise LookupError("no text")


class Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def make_group() -> BaseException:
    kind: Any = getattr(builtins, "ExceptionGroup", None)
    return kind("group", [ValueError("one"), KeyError("two")]) if kind else ValueError("group (2 sub-exceptions)")


def make_recursion() -> BaseException:
    def dig() -> None:
        dig()

    try:
        dig()
    except RecursionError as error:
        return error
    raise AssertionError


HOSTILE: dict[str, tuple[Callable[[], BaseException], str]] = {
    "logs": (lambda: Loud("x"), "loud"),
    "raises": (lambda: Broken("x"), "<exception str() failed>"),
    "leaves": (lambda: Leaving("x"), "<exception str() failed>"),
    "huge": (lambda: ValueError("x" * 10_000_000), "xxx"),
    "no memory": (lambda: MemoryError(), "MemoryError"),
    "recursion": (make_recursion, "RecursionError: maximum recursion depth exceeded"),
    "group": (make_group, "group (2 sub-exceptions)"),
    "not text": (lambda: ValueError(b"\xff", object), "ValueError"),
    "half a character": (lambda: ValueError("\ud800"), "ValueError"),
}


@each_way
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_exception_is_a_record_too(
    server: OTLPServer, way: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, part = HOSTILE[name]
    WAYS[way](make())
    records = [record for record in flush_records(server) if record.event_name == "exception"]
    (body,) = bodies(records)
    assert part in body
    assert len(body) < 40_000
    err = capfd.readouterr().err
    assert "otelog" not in err.replace(str(ROOT), ""), err


# Ends.

ENDS = """
import os, sys, threading
import otelog
otelog.configure(endpoint=os.environ["ENDPOINT"], service_name="ends", schedule_delay_millis=60_000)

def leave(*_):
    os._exit(5)

if "{how}" == "os._exit in an earlier hook":
    otelog.shutdown()
    sys.excepthook = leave
    otelog.configure(endpoint=os.environ["ENDPOINT"], service_name="ends", schedule_delay_millis=60_000)
if "{how}" == "a daemon thread":
    def fail():
        raise ValueError("last")
    thread = threading.Thread(target=fail, daemon=True)
    thread.start()
    thread.join()
    sys.exit(5)
if "{how}" == "python -i":
    sys.stdin.close()
raise ValueError("last")
"""


@pytest.mark.parametrize(
    ("how", "code", "severity"),
    [("os._exit in an earlier hook", 5, FATAL), ("a daemon thread", 5, ERROR), ("python -i", 0, ERROR)],
)
def test_the_last_one_is_delivered_before_the_process_ends(tmp_path: Path, how: str, code: int, severity: int) -> None:
    with OTLPServer() as server:
        done = run_script(tmp_path, ENDS.replace("{how}", how), server, *(["-i"] if how == "python -i" else []))
        records = server.records
    assert done.returncode == code or how == "python -i", done.stderr
    assert [(to_python(one.body), one.severity_number) for one in records] == [("ValueError: last", severity)]
