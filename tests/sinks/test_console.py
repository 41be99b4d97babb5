"""The console: readable on a terminal, JSON elsewhere, never a way to break either, and never a trouble to anybody."""

from __future__ import annotations

import io
import logging
import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExportResult, SimpleLogRecordProcessor
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

import otelog
from otelog import BatchLogRecordProcessor
from otelog._runtime import diagnostics
from otelog._runtime.waiting import Stop
from otelog.exceptions import ConfigurationError
from otelog.sinks._readable import describe, level_style, to_plain, to_text
from otelog.sinks._stream import PIECE_BYTES
from otelog.sinks.console import ConsoleLogExporter, replace_console_handlers
from tests.arrivals import configured
from tests.capture.test_hostile import AS_TEXT, ENDLESS_FOR_SDK, ENDLESS_TEXT, WAYS, NotTakenError
from tests.corpus import HOSTILE
from tests.pipelines import check_identity, make_logger, running
from tests.sinks.lines import UNSAFE, parse
from tools.waiting import wait_until

SGR = re.compile(r"\x1b\[[\d;]*m")


class Sink:
    """A text stream over one end of something, whose other end is read here."""

    def __init__(self, reader: int, writer: int, encoding: str = "utf-8") -> None:
        self._reader = reader
        self.stream = open(writer, "w", encoding=encoding)  # noqa: SIM115

    @contextmanager
    def as_stderr(self) -> Iterator[None]:
        """Make it standard error: in the test itself, as pytest has its own between the fixtures and the test."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", self.stream)
            yield

    def read(self, ends_with: bytes = b"\n") -> bytes:
        """Return what has come, when it ends so."""
        found = b""

        def is_whole() -> bool:
            nonlocal found
            while select.select([self._reader], [], [], 0)[0]:
                part = os.read(self._reader, 65536)
                if not part:
                    break
                found += part
            return found.endswith(ends_with)

        wait_until(is_whole, what=f"the end of the output, which is {found[-200:]!r}")
        return found

    def read_some(self) -> bytes:
        """Return a first part of what comes."""
        assert select.select([self._reader], [], [], 10.0)[0]
        return os.read(self._reader, 1000)

    def close_reader(self) -> None:
        if self._reader >= 0:
            os.close(self._reader)
            self._reader = -1

    def close(self) -> None:
        self.close_reader()
        with suppress(OSError):
            self.stream.close()


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(diagnostics, "_last_said", {})


@contextmanager
def a_pipe(encoding: str = "utf-8") -> Iterator[Sink]:
    sink = Sink(*os.pipe(), encoding)
    try:
        yield sink
    finally:
        sink.close()


@pytest.fixture
def pipe() -> Iterator[Sink]:
    with a_pipe() as sink:
        yield sink


@pytest.fixture
def terminal() -> Iterator[Sink]:
    sink = Sink(*os.openpty())
    try:
        yield sink
    finally:
        sink.close()


@contextmanager
def console(**options: Any) -> Iterator[BatchLogRecordProcessor]:
    with running(BatchLogRecordProcessor(ConsoleLogExporter(**options))) as processor:
        yield processor
        check_identity(processor.stats())


def dropped(processor: BatchLogRecordProcessor) -> dict[str, int]:
    return {reason: count for reason, count in processor.stats().dropped.items() if count}


def log_one(processor: BatchLogRecordProcessor, message: str = "hello", **fields: Any) -> bool:
    make_logger(processor, "shop").info(message, **fields)
    return processor.force_flush(10_000)


# What is shown.


def test_a_terminal_shows_coloured_lines_for_people(terminal: Sink) -> None:
    span = NonRecordingSpan(SpanContext(0xABCDEF << 104, 5, True, TraceFlags(1)))
    with terminal.as_stderr(), console() as processor:
        log = make_logger(processor, "shop")
        with use_span(span):
            log.warning("order %s paid", 5, amount=1.5, by="mary ann")
        log.info("next")
        assert processor.force_flush(10_000)
        shown = terminal.read().decode().replace("\r\n", "\n")
    first, second = SGR.sub("", shown).splitlines()
    assert re.fullmatch(
        r'\d\d:\d\d:\d\d\.\d{3} WARNING  shop order 5 paid amount=1\.5 by="mary ann" trace=abcdef00', first
    )
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} INFO     shop next", second)
    # Yellow and green, and the colours end where their text does.
    assert "\x1b[33mWARNING \x1b[0m" in shown and "\x1b[32mINFO    \x1b[0m" in shown


def test_a_pipe_gets_lines_of_json(pipe: Sink) -> None:
    with pipe.as_stderr(), console() as processor:
        assert log_one(processor, "订单", a=1)
        line = pipe.read()
        values = parse(line)
    assert (values["message"], values["logger"], values["a"]) == ("订单", "shop", 1)
    assert "订单".encode() in line


def test_standard_output_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    stdout, stderr = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    with console(stream="stdout", format="readable") as processor:
        assert log_one(processor)
    assert stdout.getvalue().endswith(" INFO     shop hello\n") and stderr.getvalue() == ""


def test_a_format_can_be_chosen_whatever_the_stream_is(terminal: Sink) -> None:
    with terminal.as_stderr(), console(format="json") as processor:
        assert log_one(processor)
        assert parse(terminal.read().replace(b"\r\n", b"\n"))["message"] == "hello"


def test_an_exception_stands_below_its_record_indented(pipe: Sink) -> None:
    with pipe.as_stderr(), console(format="readable") as processor:
        try:
            raise ValueError("bad\x1b[2J\nnews")
        except ValueError:
            make_logger(processor, "shop").exception("failed", a=1)
        assert log_one(processor, "after")
        first, *stack, last = pipe.read().decode().split("\n")[:-1]
    assert first.endswith(" ERROR    shop failed a=1")
    assert stack[0] == "    Traceback (most recent call last):"
    assert stack[-2:] == ["    ValueError: bad\\x1b[2J", "    news"]
    assert last.endswith(" INFO     shop after")


def test_an_event_is_shown_by_its_name(pipe: Sink) -> None:
    with pipe.as_stderr(), console(format="readable") as processor:
        make_logger(processor, "shop").event("order.paid", order=5)
        make_logger(processor, "shop").event("order.paid", "with a text", order=5)
        assert processor.force_flush(10_000)
        first, second = pipe.read().decode().splitlines()
    assert first.endswith("INFO     shop order.paid order=5")
    assert second.endswith("INFO     shop with a text event_name=order.paid order=5")


@pytest.mark.parametrize(("variable", "format_", "is_coloured"), [("NO_COLOR", "auto", False), ("", "auto", True)])
def test_no_color_is_honoured(
    terminal: Sink, monkeypatch: pytest.MonkeyPatch, variable: str, format_: Any, is_coloured: bool
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    with terminal.as_stderr(), console(format=format_) as processor:
        assert log_one(processor, a=1)
        shown = terminal.read().decode()
    # 30 to 37 and 90 to 97 are the foreground colours; dim and bold are none.
    assert bool(re.search(r"\x1b\[(?:\d+;)*[39][0-7]m", shown)) is is_coloured
    assert "hello" in SGR.sub("", shown)


def test_force_color_colours_a_pipe_but_does_not_make_it_a_terminal(
    pipe: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with pipe.as_stderr(), console() as processor:
        assert log_one(processor)
        assert parse(pipe.read())["message"] == "hello"
    with pipe.as_stderr(), console(format="readable") as processor:
        assert log_one(processor)
        assert b"\x1b[32mINFO" in pipe.read()


def test_without_rich_the_lines_are_plain(terminal: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with terminal.as_stderr(), console() as processor:
        assert log_one(processor, a=1)
        assert re.fullmatch(rb"[\d:.]{12} INFO     shop hello a=1\r\n", terminal.read())


def test_a_stream_that_lacks_letters_gets_escapes() -> None:
    with a_pipe("ascii") as sink, sink.as_stderr(), console(format="readable") as processor:
        assert log_one(processor, "订单 é")
        assert sink.read().endswith(b"shop \\u8ba2\\u5355 \\xe9\n")


def test_what_the_application_has_printed_comes_first(pipe: Sink) -> None:
    with pipe.as_stderr(), console(format="readable") as processor:
        pipe.stream.write("printed\n")
        assert log_one(processor)
        first, second = pipe.read().splitlines()
    assert first == b"printed" and second.endswith(b"hello")


# Nothing in a record steers the terminal.


@pytest.fixture(scope="module")
def hostile() -> Iterator[None]:
    options = {"schedule_delay_millis": 60_000, "max_queue_bytes": 512 * 1024 * 1024, "install_handler": False}
    with configured(exporter=ConsoleLogExporter(format="readable"), level="DEBUG", **options):
        yield


@pytest.mark.parametrize(("name", "factory"), HOSTILE, ids=[name for name, _ in HOSTILE])
def test_a_hostile_value_cannot_steer_the_terminal(
    hostile: None, name: str, factory: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 0
    before = otelog.stats()
    for way, send_value in WAYS.items():
        if (name == ENDLESS_TEXT and way in AS_TEXT) or (name in ENDLESS_FOR_SDK and way == "SDK attribute"):
            continue
        try:
            send_value(factory())
            count += 1
        except NotTakenError:
            pass
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    assert otelog.flush(30.0)
    lines = shown.getvalue().split("\n")
    assert lines.pop() == ""
    for line in lines:
        assert UNSAFE.isdisjoint(map(ord, line))
    after = otelog.stats()
    records = [line for line in lines if re.match(r"\d\d:\d\d:\d\d\.\d{3} ", line)]
    assert after.exported - before.exported == len(records) >= count > 0
    assert all(line.startswith("    ") for line in lines if line not in records)


def test_a_readable_line_shows_every_unsafe_character_as_an_escape() -> None:
    text = "".join(map(chr, sorted(UNSAFE)))
    values = {
        "timestamp": text,
        "level": text,
        "logger": text,
        "message": text,
        "trace_id": text,
        text: text,
        "exception.type": text,
        "exception.message": text,
        "code.stacktrace": text,
    }
    shown = to_plain(describe(values))
    assert UNSAFE.isdisjoint(map(ord, shown.replace("\n", "")))
    assert shown.count("\n") == 2


# How a record is described.


def test_fields_may_be_given_apart_and_the_day_be_shown() -> None:
    values = {"timestamp": "2026-11-24T21:29:37.123456+00:00", "level": "WARN", "message": "m", "service": "s"}
    shown = to_plain(describe(values, fields={"a": [1, {"b": None}], "code.x": 1}, date=True))
    assert shown == '2026-11-24 21:29:37.123 WARN     m a=[1, {"b": null}]'


def test_a_record_of_which_nothing_is_known_is_a_line_still() -> None:
    assert to_plain(describe({})) == "- -        "


def test_an_exception_without_its_stack_trace_stands_on_the_line() -> None:
    values = {"message": "m", "exception.type": "E", "exception.message": "text", "exception.stacktrace": "T\nE: text"}
    assert to_plain(describe(values, stacks=False)).endswith(" m E: text")
    assert to_plain(describe(values)).endswith(" m\n    T\n    E: text")


STACK = 'Traceback (most recent call last):\n  File "/app/shop.py", line 1, in pay\nshop.E: text\nand more'


@pytest.mark.parametrize(
    ("fields", "with_stack", "without"),
    [
        # As a record that a queue or another process has brought: its exception is text.
        ({"exception.stacktrace": STACK}, "m", "m shop.E: text\\nand more"),
        ({"exception.message": "text"}, "m text", "m text"),
        ({"exception.type": "E", "exception.stacktrace": "goroutine 1 [running]"}, "m E", "m E"),
        ({"exception.type": "shop.E", "exception.stacktrace": STACK}, "m", "m shop.E"),
        ({"exception.type": "E", "exception.message": 5, "exception.stacktrace": 6}, "m E: 5", "m E: 5"),
        ({"exception.stacktrace": "somewhere"}, "m", "m somewhere"),
        ({"exception.stacktrace": "  at x\n  at y"}, "m", "m at y"),
    ],
)
def test_no_part_of_an_exception_is_hidden(fields: dict[str, Any], with_stack: str, without: str) -> None:
    values = {"message": "m", **fields}
    assert to_plain(describe(values)).split("\n")[0].endswith(f"- {'-':8} {with_stack}")
    assert to_plain(describe(values, stacks=False)) == f"- {'-':8} {without}"


def test_a_level_is_coloured_by_its_name_or_its_ranges() -> None:
    names = ("DEBUG", "WARNING", "WARN", "CRITICAL", "FATAL", "trace", "25", "unheard of")
    assert [level_style(name) for name in names] == [
        "dim",
        "yellow",
        "yellow",
        "bold red",
        "bold red",
        "dim",
        "green",
        "",
    ]


def test_rich_can_have_the_same_text() -> None:
    pieces = describe({"level": "INFO", "message": "[red]m[/red]"})
    assert to_text(pieces).plain == to_plain(pieces)


# Streams that come, go and break.


def test_the_stream_is_the_one_that_is_there_when_a_batch_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with console() as processor:
        for message in ("first", "second"):
            stream = io.StringIO()
            monkeypatch.setattr(sys, "stderr", stream)
            assert log_one(processor, message)
            assert parse(stream.getvalue().encode())["message"] == message


class Raising(io.StringIO):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


def closed_stream() -> Any:
    stream = io.StringIO()
    stream.close()
    return stream


def closed_descriptor() -> Any:
    reader, writer = os.pipe()
    os.close(reader)
    stream = open(writer, "w")  # noqa: SIM115
    stream.close()
    return stream


BROKEN = {
    "none": lambda: None,
    "closed": closed_stream,
    "closed file": closed_descriptor,
    "OSError": lambda: Raising(OSError(28, "No space left on device")),
    "odd error": lambda: Raising(ZeroDivisionError("odd")),
    "no stream": lambda: object(),
}


@pytest.mark.parametrize("make", BROKEN.values(), ids=BROKEN)
def test_a_stream_that_fails_costs_its_records_which_are_counted(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with console() as processor:
        monkeypatch.setattr(sys, "stderr", make())
        log_one(processor)
        assert dropped(processor) == {"export_failed": 1}
        works = io.StringIO()
        monkeypatch.setattr(sys, "stderr", works)
        log_one(processor, "again")
        assert processor.stats().exported == 1
        monkeypatch.undo()
    assert parse(works.getvalue().encode())["message"] == "again"


def test_a_closed_pipe_is_counted_and_warned_of_once(
    pipe: Sink, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pipe.as_stderr(), console() as processor:
        pipe.close_reader()
        for _ in range(3):
            log_one(processor)
        assert dropped(processor) == {"export_failed": 3}
        lines = capfd.readouterr().err.splitlines()
        warnings = [line for line in lines if line.startswith("otelog: records cannot be written to stderr")]
        assert len(warnings) == 1 and "BrokenPipeError" in warnings[0]
        with a_pipe() as other, other.as_stderr():
            log_one(processor, "again")
            assert parse(other.read())["message"] == "again"


def write(exporter: ConsoleLogExporter, lines: list[bytes], seconds: float = 10.0) -> tuple[bool, int]:
    """Returns whether all lines are written, and how many are."""
    told = [0]
    whole = exporter.write(lines, time.monotonic() + seconds, Stop(), lambda: None, told.append)
    return whole, told[-1]


def fill(descriptor: int) -> int:
    """Write into a pipe until it takes no more; returns how many bytes it took."""
    os.set_blocking(descriptor, False)
    count = 0
    try:
        while True:
            count += os.write(descriptor, b"x" * 4096)
    except BlockingIOError:
        return count
    finally:
        os.set_blocking(descriptor, True)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_slow_reader_gets_every_line_whole(pipe: Sink, blocking: bool) -> None:
    os.set_blocking(pipe.stream.fileno(), blocking)
    lengths = [10, PIECE_BYTES, 200_000, 10] * 5
    with pipe.as_stderr(), console() as processor:
        log = make_logger(processor)
        for number, length in enumerate(lengths):
            log.info("%s", number, text="t" * length)
        log.info("last")
        lines = pipe.read(b'"trace_id":null,"span_id":null}\n').splitlines(keepends=True)
        assert processor.force_flush(10_000)
    assert [parse(line)["message"] for line in lines] == [*map(str, range(len(lengths))), "last"]
    assert [len(parse(line)["text"]) for line in lines[:-1]] == lengths


def test_a_pipe_that_nobody_reads_ends_no_later_than_the_shutdown(
    pipe: Sink, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(pipe.stream.fileno())
    with pipe.as_stderr():
        processor = BatchLogRecordProcessor(ConsoleLogExporter())
        make_logger(processor).info("stuck")
        assert not processor.shutdown(200)
    stats = processor.stats()
    check_identity(stats)
    assert sum(stats.dropped.values()) == 1 and stats.exported == 0


def test_nobody_waits_for_the_stream_while_a_write_is_stuck(pipe: Sink) -> None:
    with pipe.as_stderr(), console() as processor:
        make_logger(processor).info("stuck", text="t" * 1_000_000)
        begin = pipe.read_some()
        # It would not end before the reader reads, if the worker had the stream's own lock.
        flush = threading.Thread(target=pipe.stream.flush)
        flush.start()
        flush.join(5.0)
        was_free = not flush.is_alive()
        assert len(parse(begin + pipe.read())["text"]) == 1_000_000
        flush.join()
        assert was_free


def test_short_lines_are_written_whole_so_that_processes_do_not_mix_them() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    # Here each write can be told from the next.
    with ours, open(theirs.detach(), "w", encoding="utf-8") as stream:
        exporter = ConsoleLogExporter(format="json")
        lines = [b"%d" % number + b"y" * (number * 97 % PIECE_BYTES) + b"\n" for number in range(100)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            writer = threading.Thread(target=write, args=(exporter, lines))
            writer.start()
            writes: list[bytes] = []
            while sum(map(len, writes)) < sum(map(len, lines)):
                writes.append(ours.recv(10 * PIECE_BYTES))
            writer.join()
    assert b"".join(writes) == b"".join(lines)
    assert all(one.endswith(b"\n") and len(one) <= PIECE_BYTES for one in writes)
    assert len(writes) < len(lines)


def test_after_a_line_that_was_given_up_the_next_one_begins_a_line(
    pipe: Sink, capfd: pytest.CaptureFixture[str]
) -> None:
    exporter = ConsoleLogExporter(format="json")
    long = b"{" + b"y" * 1_000_000 + b"}\n"
    with pipe.as_stderr():
        assert write(exporter, [b"{}\n", long], seconds=0.3) == (False, 1)
        assert write(exporter, [b"{}\n"], seconds=0.3) == (False, 0)
        before = pipe.read(b"y")
        assert write(exporter, [b"{}\n", b"{}\n"]) == (True, 2)
    assert before.startswith(b"{}\n{yyy")
    assert pipe.read() == b"\n{}\n{}\n"


def test_what_is_written_counts_although_the_rest_comes_to_nothing(
    pipe: Sink, capfd: pytest.CaptureFixture[str]
) -> None:
    with pipe.as_stderr():
        processor = BatchLogRecordProcessor(ConsoleLogExporter(format="readable"))
        log = make_logger(processor)
        try:
            raise ValueError("with a stack trace of several lines")
        except ValueError:
            log.exception("first")
        log.info("second", text="t" * PIECE_BYTES)
        log.info("never whole", text="t" * 1_000_000)
        assert not processor.shutdown(500)
    stats = processor.stats()
    check_identity(stats)
    assert (stats.exported, stats.lost) == (2, 1)


def test_a_record_that_cannot_be_rendered_is_counted_alone(pipe: Sink) -> None:
    # Its span id is longer than one can be.
    broken = tuple.__new__(SpanContext, (1, 2**70, False, TraceFlags(0), None, True))
    with pipe.as_stderr(), console() as processor:
        log = make_logger(processor)
        log.info("first")
        with use_span(NonRecordingSpan(broken)):
            log.info("broken")
        log.info("last")
        processor.force_flush(10_000)
        assert [parse(line)["message"] for line in pipe.read().splitlines(keepends=True)] == ["first", "last"]
        assert dropped(processor) == {"encode_error": 1}
        assert processor.stats().exported == 2


# Under a processor that is not ours.


def test_the_sdks_own_processor_can_use_it(pipe: Sink) -> None:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(ConsoleLogExporter()))
    with pipe.as_stderr():
        provider.get_logger("sdk").emit(body="hello", attributes={"a": 1})
    values = parse(pipe.read())
    provider.shutdown()
    assert (values["logger"], values["message"], values["a"]) == ("sdk", "hello", 1)


def test_it_answers_as_the_sdk_asks(pipe: Sink, capfd: pytest.CaptureFixture[str]) -> None:
    exporter = ConsoleLogExporter()
    with pipe.as_stderr():
        assert exporter.export([]) is LogRecordExportResult.SUCCESS
        # What is no record becomes one that says so.
        assert exporter.export([object()]) is LogRecordExportResult.SUCCESS  # type: ignore[list-item]
        assert "could not be read" in parse(pipe.read())["message"]
        assert exporter.force_flush()
        pipe.close_reader()
        assert exporter.export([object()]) is LogRecordExportResult.FAILURE  # type: ignore[list-item]
        exporter.shutdown()
        exporter.shutdown()
        assert exporter.export([]) is LogRecordExportResult.FAILURE
        assert not pipe.stream.closed


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_writes_although_the_parent_was_writing(pipe: Sink, capfd: pytest.CaptureFixture[str]) -> None:
    taken = fill(pipe.stream.fileno())
    exporter = ConsoleLogExporter(format="json")
    with pipe.as_stderr():
        stuck = threading.Thread(target=write, args=(exporter, [b"{}\n"]))
        stuck.start()
        wait_until(exporter._writing.locked)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                # If it waits for the parent's lock, it is ended.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(10)
                sys.stderr = open(writer, "w")  # noqa: SIM115
                write(exporter, [b"child\n"])
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, "rb") as lines:
            assert lines.read() == b"child\n"
        os.waitpid(child, 0)
        assert pipe.read()[taken:] == b"{}\n"
        stuck.join()


# Set-up.


@pytest.mark.parametrize("options", [{"stream": "stdin"}, {"format": "xml"}])
def test_an_argument_that_is_not_allowed_says_what_is(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        ConsoleLogExporter(**options)
    assert str(caught.value) in (
        "stream='stdin': allowed is stderr, stdout",
        "format='xml': allowed is auto, readable, json",
    )


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = list(logger.handlers)
    yield logger
    logger.handlers[:] = before


def test_console_handlers_are_taken_off_and_others_stay(root: logging.Logger) -> None:
    class Own(logging.StreamHandler):  # type: ignore[type-arg]
        pass

    on_console = [logging.StreamHandler(), logging.StreamHandler(sys.stdout), logging.StreamHandler(sys.__stderr__)]
    last_resort = type(logging.lastResort)(logging.WARNING)  # type: ignore[call-arg,arg-type]
    others = [Own(), logging.StreamHandler(io.StringIO()), logging.NullHandler()]
    # Pytest's own are there, too.
    before = list(root.handlers)
    for handler in (on_console[0], others[0], *on_console[1:], last_resort, *others[1:]):
        root.addHandler(handler)  # type: ignore[arg-type]
    assert replace_console_handlers() == [*on_console, last_resort]
    assert root.handlers == [*before, *others]
    assert replace_console_handlers() == []
