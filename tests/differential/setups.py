"""What applications and libraries do to `logging`, each as a function of a few lines.

A set-up is run once `otelog.configure` was called; one that yields is run up to there before. Afterwards `talk` makes
log calls of every kind. Whoever is on a record's way prints what it sees.
"""

from __future__ import annotations

import _thread
import ast
import asyncio
import collections
import collections.abc
import contextlib
import copy
import enum
import functools
import importlib
import io
import logging
import logging.config
import logging.handlers
import os
import pickle
import queue
import sys
import threading
import time
import traceback
import types
import unittest
import unittest.mock
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import SeverityNumber, get_logger

import otelog

log = logging.getLogger("shop.orders")
Options = dict[str, Any]


@dataclass
class Setup:
    """One row of the table."""

    function: Callable[[], Any]
    talks: bool = True
    """Whether `talk` comes after it."""
    options: Options = field(default_factory=dict)
    """Of `otelog.configure`."""
    interpreter: tuple[str, ...] = ()
    """Options of a fresh interpreter; without any, a process is forked that has everything imported."""
    needs: tuple[str, ...] = ()
    """Modules without which it is skipped."""
    versions: tuple[tuple[int, int], tuple[int, int]] = ((3, 10), (3, 99))
    arrives: dict[str, int] = field(default_factory=dict)
    """How many records there must be with a message, however alike the two ways are."""
    shows: dict[str, str] = field(default_factory=dict)
    """What must stand in the "output", the "errors" or the "records", so that the set-up is known to do something."""


SETUPS: dict[str, Setup] = {}


def setup(**options: Any) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Add a function to the table."""

    def add(function: Callable[[], Any]) -> Callable[[], Any]:
        name = function.__name__.strip("_").replace("_", " ")
        assert name not in SETUPS
        SETUPS[name] = Setup(function, **options)
        return function

    return add


# The calls that each set-up is tried with.


def helper(logger: Any, level: int = 2) -> None:
    logger.info("for whoever called", stacklevel=level)


def attempt(call: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    """Call, and print what the application would see of an exception."""
    try:
        call(*arguments, **keywords)
    except Exception:
        traceback.print_exc()


def talk(logger: Any = None) -> None:
    logger = log if logger is None else logger
    attempt(logger.info, "plain")
    attempt(logger.debug, "arguments %s of %d: %.2f", "a", 2, 1.5)
    attempt(logger.warning, "secret=hunter2")
    attempt(logger.error, "fields", extra={"a": 1, "b": "secret=hunter2", "c.d": None, "e": 1.5, "f": True})
    attempt(helper, logger)
    attempt(logger.info, "a list %s", [1])
    attempt(logger.info, "nested", extra={"a": {"b": [1, 2]}})
    attempt(logger.info, "stack", stack_info=True)
    attempt(logger.log, 33, "a level without a name")
    attempt(logger.info, "taken", extra={"message": 1})
    try:
        raise KeyError("no such order")
    except KeyError:
        logger.exception("failed")
    logger.critical("the end")


class Printer(logging.Handler):
    """Prints all of a record that may be compared between two runs."""

    VOLATILE = frozenset({"created", "msecs", "relativeCreated", "thread", "process"})

    def emit(self, record: logging.LogRecord) -> None:
        values = {key: value for key, value in record.__dict__.items() if key not in self.VOLATILE}
        print(type(self).__name__, self.name, values)


def show_stack() -> None:
    """Print who has called, as far as the application can look."""
    print("STACK", *(f"{os.path.basename(one.filename)}:{one.lineno}:{one.name}" for one in traceback.extract_stack()))


def redact(record: logging.LogRecord) -> None:
    record.msg = str(record.msg).replace("hunter2", "***")


def hidden(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that redacts the record, says so, and goes on."""

    def instead(*arguments: Any, **keywords: Any) -> Any:
        for one in arguments:
            if isinstance(one, logging.LogRecord):
                redact(one)
        print("called", method.__name__)
        show_stack()
        return method(*arguments, **keywords)

    return instead


# Nothing unusual.


@setup(shows={"records": "no such order"})
def plain() -> None:
    """Only otelog."""


@setup()
def the_root_logger() -> None:
    talk(logging.getLogger())
    logging.info("by the module %s", "x")
    logging.log(45, "by the module")


@setup()
def a_deep_child() -> None:
    talk(log.getChild("a.b.c"))
    talk(logging.getLogger("elsewhere"))


@setup()
def a_logger_renamed() -> None:
    log.name = "renamed"
    talk()
    log.name = "again"


@setup(options={"thread_attributes": True, "message_template": True})
def with_thread_attributes() -> None:
    """More of otelog's own attributes."""


@setup(options={"code_attributes": False, "max_attributes": 3})
def with_three_attributes() -> None:
    log.info("more", extra={f"k{i}": i for i in range(7)})


@setup(options={"install_handler": False})
def a_handler_by_hand() -> None:
    logging.getLogger().setLevel("DEBUG")
    logging.getLogger().addHandler(otelog.LoggingHandler(logging.INFO))


@setup(options={"level": "WARNING"})
def a_higher_level() -> None:
    """Calls below it are nobody's."""


@setup()
def bound_fields_and_spans() -> None:
    context = trace.SpanContext(7, 8, is_remote=False, trace_flags=trace.TraceFlags(1))
    with otelog.bound(tenant="t-1", a="bound"), trace.use_span(trace.NonRecordingSpan(context)):
        talk()


@setup()
def a_foreign_span_that_raises() -> None:
    class Foreign(trace.NonRecordingSpan):
        def get_span_context(self) -> Any:
            raise ValueError

    with trace.use_span(Foreign(trace.INVALID_SPAN_CONTEXT)):
        talk()


@setup()
def called_from_c() -> None:
    list(map(log.info, ["one", "two"]))
    functools.partial(log.warning, "partial %s")("x")
    sorted([2, 1], key=lambda number: log.info("sorting %d", number) or number)


@setup()
def two_of_ours() -> None:
    log.addHandler(otelog.LoggingHandler())


@setup()
def in_tasks_and_threads() -> None:
    async def work() -> None:
        talk()

    asyncio.run(work())
    thread = threading.Thread(target=talk, name="worker")
    thread.start()
    thread.join()


@setup(options={"thread_attributes": True})
def a_thread_that_threading_does_not_know() -> None:
    done = _thread.allocate_lock()
    done.acquire()

    def work() -> None:
        try:
            log.info("from a raw thread")
            print([type(one).__name__ for one in threading.enumerate() if isinstance(one, threading._DummyThread)])
            log.info("again")
            otelog.flush()
        finally:
            done.release()

    _thread.start_new_thread(work, ())
    done.acquire()


@setup()
def a_forked_child() -> None:
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            talk()
            otelog.flush()
        os._exit(0)
    os.waitpid(child, 0)


# Subclasses.


def use(kind: type[logging.Logger], name: str = "shop.special") -> Any:
    before = logging.getLoggerClass()
    logging.setLoggerClass(kind)
    try:
        return logging.getLogger(name)
    finally:
        logging.setLoggerClass(before)


@setup()
def a_subclass_with_a_level_of_its_own() -> None:
    class Special(logging.Logger):
        def notice(self, message: str, *arguments: Any, **keywords: Any) -> None:
            if self.isEnabledFor(25):
                self._log(25, message, arguments, **keywords)

    logging.addLevelName(25, "NOTICE")
    special = use(Special)

    def inner() -> None:
        special.notice("noticed %s", "x")
        special.notice("noticed", extra={"a": 1}, stacklevel=2)

    inner()
    talk(special)


@setup()
def log_is_called_by_the_application() -> None:
    def trace_call(message: str) -> None:
        log._log(5, message, ())
        log._log(logging.INFO, message, (), extra={"a": 1})

    logging.addLevelName(5, "TRACE")
    log.setLevel(5)
    trace_call("traced")
    exec(compile("log._log(20, 'from a module', ())", "<made>", "exec"), {"log": log})


@setup()
def subclass_with_makeRecord() -> None:
    class Special(logging.Logger):
        def makeRecord(self, *arguments: Any, **keywords: Any) -> Any:
            show_stack()
            record = super().makeRecord(*arguments, **keywords)
            record.tenant = "t-1"
            redact(record)
            return record

    talk(use(Special))


@setup()
def subclass_with_handle() -> None:
    class Special(logging.Logger):
        def handle(self, record: logging.LogRecord) -> None:
            redact(record)
            show_stack()
            super().handle(record)

    talk(use(Special))


@setup()
def subclass_with_filter() -> None:
    class Special(logging.Logger):
        def filter(self, record: logging.LogRecord) -> Any:
            redact(record)
            return "plain" not in str(record.msg)

    talk(use(Special))


@setup()
def subclass_with_callHandlers() -> None:
    class Special(logging.Logger):
        def callHandlers(self, record: logging.LogRecord) -> None:
            print("counted", record.getMessage())
            super().callHandlers(record)

    talk(use(Special))


@setup()
def subclass_with_findCaller() -> None:
    class Special(logging.Logger):
        def findCaller(self, *arguments: Any, **keywords: Any) -> Any:
            show_stack()
            return "somewhere.py", 7, "something", None

    talk(use(Special))


@setup()
def subclass_with_log() -> None:
    class Special(logging.Logger):
        def _log(self, level: Any, msg: Any, args: Any, **keywords: Any) -> None:
            keywords["extra"] = {"special": True, **(keywords.get("extra") or {})}
            super()._log(level, msg, args, **keywords)

    talk(use(Special))


@setup()
def subclass_with_a_property() -> None:
    class Special(logging.Logger):
        @property
        def propagate(self) -> bool:
            print("asked whether it propagates")
            return True

        @propagate.setter
        def propagate(self, value: bool) -> None:
            pass

    talk(use(Special))


@setup()
def subclass_that_is_false() -> None:
    class Special(logging.Logger):
        def __len__(self) -> int:
            print("asked for its length")
            return 0

    special = use(Special)
    talk(special)
    talk(use(logging.Logger, "shop.special.child"))


@setup()
def subclass_that_looks_at_every_attribute() -> None:
    class Special(logging.Logger):
        def __getattribute__(self, name: str) -> Any:
            if name in ("handlers", "filters", "disabled", "findCaller", "handle"):
                print("asked for", name)
            return super().__getattribute__(name)

    talk(use(Special))


@setup()
def a_logger_of_another_class_while_it_lives() -> None:
    class Special(logging.Logger):
        def handle(self, record: logging.LogRecord) -> None:
            redact(record)
            print("handled")
            super().handle(record)

    talk()
    log.__class__ = Special
    talk()
    log.__class__ = logging.Logger


@setup()
def a_subclass_changed_while_it_lives() -> None:
    class Special(logging.Logger):
        pass

    special = use(Special)
    talk(special)
    Special.handle = hidden(logging.Logger.handle)
    talk(special)
    del Special.handle
    talk(special)


# Methods of classes.


def _patch_class(owner: Any, name: str) -> Callable[[], Iterator[None]]:
    def before_and_after() -> Iterator[None]:
        yield
        standard = getattr(owner, name)
        setattr(owner, name, hidden(standard))
        log.addFilter(lambda record: True)
        talk()
        log.filters.clear()
        talk()

    before_and_after.__name__ = f"{owner.__name__}_{name}_patched"
    return before_and_after


for _owner, _name in (
    (logging.Logger, "handle"),
    (logging.Logger, "makeRecord"),
    (logging.Logger, "filter"),
    (logging.Logger, "callHandlers"),
    (logging.Logger, "findCaller"),
    (logging.Logger, "isEnabledFor"),
    (logging.Logger, "_log"),
    (logging.RootLogger, "handle"),
    (logging.Filterer, "filter"),
    (logging.Handler, "handle"),
    (logging.Handler, "filter"),
    (otelog.LoggingHandler, "handle"),
    (otelog.LoggingHandler, "filter"),
    (otelog.LoggingHandler, "format"),
    (otelog.LoggingHandler, "emit"),
    (logging.LogRecord, "getMessage"),
    (logging.LogRecord, "__init__"),
):
    setup()(_patch_class(_owner, _name))


@setup()
def log_wrapped_before() -> Iterator[None]:
    standard = logging.Logger._log

    def wrapped(self: logging.Logger, level: int, msg: object, args: Any, **keywords: Any) -> None:
        standard(self, level, f"[{msg}]", args, **keywords)

    logging.Logger._log = wrapped
    yield


@setup()
def log_wrapped_and_counted_by_its_stacklevel() -> None:
    standard = logging.Logger._log

    def wrapped(self: logging.Logger, level: int, msg: object, args: Any, **keywords: Any) -> None:
        keywords["stacklevel"] = keywords.get("stacklevel", 1) + 1
        standard(self, level, msg, args, **keywords)

    logging.Logger._log = wrapped


@setup()
def a_method_of_the_class_mocked() -> None:
    for name in ("handle", "callHandlers", "makeRecord"):
        with unittest.mock.patch.object(logging.Logger, name) as mocked:
            talk()
        print(name, mocked.call_count)


@setup()
def a_class_that_tells_its_truth() -> None:
    standard = logging.Logger.__dict__
    logging.Logger.__bool__ = lambda self: self.name != "shop"
    talk()
    print(sorted(name for name in standard if not name.startswith("__")))


@setup()
def a_property_on_the_class() -> None:
    def is_disabled(self: logging.Logger) -> bool:
        print("asked")
        return False

    logging.Logger.disabled = property(is_disabled, lambda self, value: None)


# Methods of one object.


def _patch_object(find: Callable[[], Any], where: str, name: str, how: str) -> Callable[[], Iterator[None]]:
    def before_and_after() -> Iterator[None]:
        yield
        talk()
        one = find()
        standard = getattr(one, name)
        if how == "vars":
            vars(one)[name] = hidden(standard)
        else:
            setattr(one, name, hidden(standard))
        talk()
        delattr(one, name)
        talk()

    before_and_after.__name__ = f"{name}_of_{where}_by_{how}"
    return before_and_after


def _our_handler() -> Any:
    return next(one for one in logging.getLogger().handlers if isinstance(one, otelog.LoggingHandler))


for _name in (
    "handle",
    "filter",
    "makeRecord",
    "findCaller",
    "callHandlers",
    "isEnabledFor",
    "_log",
    "getEffectiveLevel",
):
    for _how in ("setattr", "vars"):
        setup()(_patch_object(lambda: log, "one_logger", _name, _how))
for _name in ("handle", "callHandlers", "filter"):
    setup()(_patch_object(logging.getLogger, "the_root_logger", _name, "setattr"))
for _name in ("handle", "filter", "format", "emit", "acquire"):
    for _how in ("setattr", "vars"):
        setup()(_patch_object(_our_handler, "our_handler", _name, _how))


@setup()
def a_method_of_the_logger_mocked() -> None:
    for name in ("handle", "callHandlers", "makeRecord", "filter", "findCaller"):
        with unittest.mock.patch.object(log, name, wraps=getattr(log, name)) as mocked:
            talk()
        print(name, mocked.call_count)


@setup()
def a_method_of_our_handler_mocked() -> None:
    with unittest.mock.patch.object(_our_handler(), "handle") as mocked:
        talk()
    print(mocked.call_count)
    with unittest.mock.patch.object(otelog.LoggingHandler, "handle") as mocked:
        talk()
    print(mocked.call_count)


@setup()
def an_attribute_of_ones_own_on_the_logger() -> None:
    log.tenant = "t-1"
    talk()
    log.handle = hidden(log.handle)


@setup()
def null_handlers() -> None:
    log.addHandler(logging.NullHandler())
    talk()
    log.handlers[0].handle = lambda record: print("null", record.getMessage())
    talk()
    del log.handlers[0].handle
    logging.NullHandler.handle = lambda self, record: print("class", record.getMessage())


@setup()
def a_subclass_of_the_null_handler() -> None:
    class Loud(logging.NullHandler):
        def handle(self, record: logging.LogRecord) -> Any:
            print("loud", record.getMessage())

    log.addHandler(Loud())


# Filters.


@setup()
def a_filter_on_the_logger() -> None:
    log.addFilter(lambda record: "secret" not in record.getMessage())


@setup()
def a_filter_on_our_handler() -> None:
    def shorten(record: logging.LogRecord) -> bool:
        show_stack()
        redact(record)
        record.added = 1
        return record.levelno > logging.DEBUG

    _our_handler().addFilter(shorten)


@setup()
def a_filter_that_returns_another_record() -> None:
    def other(record: logging.LogRecord) -> Any:
        fresh = copy.copy(record)
        redact(fresh)
        return fresh

    log.addFilter(other)
    _our_handler().addFilter(other)


@setup()
def a_filter_that_comes_and_goes() -> None:
    one = logging.Filter("shop.other")
    for _ in range(2):
        log.addFilter(one)
        talk()
        log.removeFilter(one)
        talk()


@setup()
def a_filter_on_the_parent_is_not_asked() -> None:
    logging.getLogger("shop").addFilter(lambda record: print("asked") or False)


@setup()
def a_filter_that_raises() -> None:
    log.addFilter(lambda record: 1 / 0)


# Record factories.


def tenant_factory(*arguments: Any, **keywords: Any) -> logging.LogRecord:
    record = logging.LogRecord(*arguments, **keywords)
    record.tenant = "t-1"
    return record


@setup()
def a_record_factory_from_the_start() -> Iterator[None]:
    logging.setLogRecordFactory(tenant_factory)
    yield


@setup()
def a_record_factory_meanwhile() -> None:
    talk()
    logging.setLogRecordFactory(tenant_factory)
    talk()
    logging.setLogRecordFactory(logging.LogRecord)


@setup()
def a_record_class_of_ones_own() -> None:
    class Braces(logging.LogRecord):
        def getMessage(self) -> str:
            return str(self.msg).replace("hunter2", "***")

    logging.setLogRecordFactory(Braces)


@setup()
def the_module_has_another_record_class() -> None:
    class Other(logging.LogRecord):
        pass

    logging.LogRecord = Other
    talk()
    logging._logRecordFactory = Other


@setup()
def a_factory_that_raises() -> None:
    def fail(*arguments: Any, **keywords: Any) -> Any:
        raise ValueError("no record")

    logging.setLogRecordFactory(fail)


@setup()
def a_factory_that_looks_at_the_stack() -> None:
    def look(*arguments: Any, **keywords: Any) -> logging.LogRecord:
        show_stack()
        return logging.LogRecord(*arguments, **keywords)

    logging.setLogRecordFactory(look)


# Who has called.


@setup()
def find_caller_by_file() -> None:
    def find(self: Any, stack_info: bool = False, stacklevel: int = 1) -> Any:
        frame: Any = sys._getframe(1)
        while frame.f_code.co_filename == logging.__file__:
            frame = frame.f_back
        return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, None

    log.__class__ = type("Special", (logging.Logger,), {"findCaller": find})
    talk()
    log.__class__ = logging.Logger
    logging.Logger.findCaller = find


@setup()
def find_caller_by_module() -> None:
    def find(self: Any, stack_info: bool = False, stacklevel: int = 1) -> Any:
        frame: Any = sys._getframe(1)
        while frame.f_globals["__name__"].startswith("logging"):
            frame = frame.f_back
        return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, None

    log.addHandler(Printer())
    log.__class__ = type("Special", (logging.Logger,), {"findCaller": find})


@setup()
def find_caller_by_depth() -> None:
    def find(self: Any, stack_info: bool = False, stacklevel: int = 1) -> Any:
        frame = sys._getframe(3)
        return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name, None

    logging.Logger.findCaller = find


@setup()
def no_search_for_the_caller() -> None:
    logging._srcfile = None
    talk()
    logging._srcfile = __file__


@setup()
def another_current_frame() -> None:
    logging.currentframe = lambda: sys._getframe(2)


@setup(versions=((3, 11), (3, 99)))
def another_rule_for_internal_frames() -> None:
    standard = logging._is_internal_frame
    logging._is_internal_frame = lambda frame: standard(frame) or frame.f_code.co_name in ("attempt", "talk")


@setup()
def a_caller_that_calls_itself_logging() -> None:
    for name in (logging.__file__, "<frozen importlib._bootstrap>", "/app/importlib_bootstrap/a.py"):
        exec(compile("def f(log):\n log.info('hidden')\n log.info('x', stacklevel=2)", name, "exec"), space := {})
        space["f"](log)


@setup()
def stack_levels() -> None:
    for level in (1, 2, 3, 7, 1000, 0, -1, True, 1.0):
        helper(log, level)
    attempt(log.info, "x", stacklevel="2")
    attempt(log.info, "x", stacklevel=None)


@setup()
def exception_infos() -> None:
    class Falsy(Exception):
        def __bool__(self) -> bool:
            print("asked for its truth")
            return False

    for info in (None, False, 0, True, ValueError("x"), Falsy("x"), (ValueError, ValueError("y"), None), "x", ()):
        attempt(log.info, "with %r", "x", exc_info=info)
        attempt(log.info, "stack", stack_info=info if not isinstance(info, BaseException) else 1)
    try:
        raise ValueError("handled")
    except ValueError:
        log.info("x", exc_info=True)


# Levels and their names.


@setup()
def level_names() -> None:
    logging.addLevelName(33, "NOTICE")
    talk()
    logging.addLevelName(logging.INFO, "Hinweis")
    talk()
    logging.addLevelName(33, "")
    logging.addLevelName(logging.WARNING, 7)


@setup()
def the_table_of_level_names_replaced() -> None:
    talk()
    logging._levelToName = {**logging._levelToName, logging.INFO: "REPLACED"}
    talk()
    logging._levelToName[logging.INFO] = "IN PLACE"


@setup()
def another_get_level_name() -> None:
    logging.getLevelName = lambda level: f"<{level}>"


@setup()
def levels_of_other_types() -> None:
    class Level(enum.IntEnum):
        NOTICE = 25

    # Not where another call is: a handler knows a place by its numbers, and these two are equal.
    log._log(20.0, "by _log", ())  # type: ignore[arg-type]
    for level in (True, Level.NOTICE, 0, -5, 99, 2**40, "INFO", None):
        attempt(log.log, level, "by log")
        attempt(log._log, level, "by _log", ())


@setup()
def levels_are_disabled() -> None:
    logging.disable(logging.INFO)
    talk()
    logging.disable(logging.NOTSET)
    log.manager.disable = logging.ERROR
    talk()
    log.manager.disable = 0
    log.disabled = True
    log._log(logging.INFO, "disabled", ())
    talk()
    log.disabled = False
    _our_handler().setLevel(logging.ERROR)


# Messages, arguments, fields.


class Telling:
    """Its text says who has asked."""

    def __init__(self, text: str = "telling") -> None:
        self.text = text

    def __str__(self) -> str:
        show_stack()
        return self.text


class Text(str):
    def __str__(self) -> str:
        return "another text"


@setup()
def messages_of_every_kind() -> None:
    for message in ("100 %", "%s", "%(a)s", "", Text("x"), Telling(), {"a": 1}, [1], 7, None, b"x", ValueError("x")):
        attempt(log.info, message)
        attempt(log.info, message, "argument")
        attempt(log.info, message, {"a": 1})
    attempt(log.info)


@setup()
def arguments_of_every_kind() -> None:
    for argument in (1, 2**70, True, 1.5, None, "x", "\ud800", Text("x"), Telling(), [1], {}, {"a": 1}, b"x", object):
        log.info("one %s", argument)
        log.info("two %s %r", argument, argument)
        log.info("one too many", argument)  # noqa: PLE1205
    for arguments in ((), None, [1], {"a": 1}, "x", 7, Asked(a=1)):
        attempt(log._log, 20, "given %s", arguments)


@setup()
def fields_of_every_kind() -> None:
    for value in (1, 2**70, True, 1.5, None, "x", "\ud800", "", Text("x"), Telling(), [1], {}, {"a": {"b": 1}}, b"x"):
        log.info("field", extra={"value": value, "z": 1, "a": 2})


class Asked(dict):  # type: ignore[type-arg]
    def __len__(self) -> int:
        print("asked for its length")
        return super().__len__()

    def __iter__(self) -> Any:
        print("asked for its keys")
        return super().__iter__()

    def __getitem__(self, key: str) -> Any:
        print("asked for", key)
        return super().__getitem__(key)


@setup()
def extras_of_every_kind() -> None:
    values = {"b": 1, "a": "x"}
    for extra in (
        values,
        {},
        collections.OrderedDict(values),
        types.MappingProxyType(values),
        collections.ChainMap(values, {"c": 1}),
        collections.UserDict(values),
        collections.defaultdict(int, values),
        Asked(values),
        [("a", 1)],
        "text",
        7,
        {1: 2},
        {None: 1},
        {"": 1},
        {Text("a"): 1, "b": 2},
        {"otel.event.name": "order.paid", "a": 1},
        {"taskName": "mine"},
        {"exception.stacktrace": "x"},
        {"a b": 1, "ключ": 2},
    ):
        attempt(log.info, "extra", extra=extra)


@setup()
def extras_with_names_that_are_taken() -> None:
    for name in (*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName", "getMessage"):
        attempt(log.info, "extra", extra={"a": 1, name: 2})


@setup()
def extras_changed_later() -> None:
    extra: dict[str, Any] = {"a": 1, "b": [1]}
    log.info("first", extra=extra)
    extra["a"] = 2
    extra["b"].append(2)
    log.info("second", extra=extra)
    extra.clear()


@setup()
def extras_beyond_the_limit() -> None:
    for count in (127, 128, 129, 140, 300):
        log.info("many", extra={f"k{number}": number for number in range(count)})
    with otelog.bound(tenant="t-1"):
        log.info("many", extra={f"k{number}": number for number in range(128)})
        log.info("many", extra={f"k{number}": "x" * 100 for number in range(128)})


@setup()
def adapters() -> None:
    class Special(logging.LoggerAdapter):  # type: ignore[type-arg]
        def process(self, msg: Any, kwargs: Any) -> Any:
            kwargs["extra"] = {**self.extra, **(kwargs.get("extra") or {})}
            return f"[{msg}]", kwargs

    talk(logging.LoggerAdapter(log, {"adapted": True}))
    talk(Special(log, {"adapted": 1}))
    talk(Special(logging.LoggerAdapter(log, {"inner": 1}), {"outer": 1}))
    logging.LoggerAdapter(log, types.MappingProxyType({"a": 1})).info("x")


# Handlers beside it.


@setup()
def a_console() -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(pathname)s:%(lineno)d %(funcName)s %(message)s"))
    logging.getLogger().addHandler(handler)


@setup()
def handlers_everywhere() -> None:
    for name in ("", "shop", "shop.orders"):
        handler = Printer()
        handler.name = name
        logging.getLogger(name).addHandler(handler)


@setup()
def a_handler_for_errors() -> None:
    log.addHandler(Printer(logging.ERROR))


@setup()
def handlers_that_come_and_go() -> None:
    handler = Printer()
    for _ in range(2):
        log.addHandler(handler)
        talk()
        log.removeHandler(handler)
        talk()
    log.handlers.append(handler)
    talk()
    log.handlers.clear()
    logging.getLogger().handlers.clear()
    talk()


@setup()
def a_queue_and_its_listener() -> None:
    records: queue.Queue[Any] = queue.Queue()
    logging.getLogger().addHandler(logging.handlers.QueueHandler(records))
    listener = logging.handlers.QueueListener(records, Printer())
    listener.start()
    talk()
    listener.stop()


@setup()
def a_memory_handler() -> None:
    handler = logging.handlers.MemoryHandler(5, logging.ERROR, Printer())
    log.addHandler(handler)
    talk()
    handler.flush()


@setup()
def a_handler_that_fails() -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                raise OSError("disk full")
            except OSError:
                self.handleError(record)

    log.addHandler(Failing())
    talk()
    logging.raiseExceptions = False


@setup()
def a_handler_that_raises() -> None:
    class Raising(logging.Handler):
        def handle(self, record: logging.LogRecord) -> Any:
            raise OSError("disk full")

    log.addHandler(Raising())
    talk = globals()["talk"]
    attempt(log.info, "by a lambda")
    with contextlib.suppress(OSError):
        talk()


@setup()
def a_console_whose_arguments_do_not_fit() -> None:
    log.addHandler(logging.StreamHandler())
    log.info("%d", "x")
    log.info("%s %s", "x")  # noqa: PLE1206


@setup()
def a_formatter_that_looks_at_the_stack() -> None:
    class Looking(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            show_stack()
            traceback.print_stack()
            return super().format(record)

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(Looking())
    log.addHandler(handler)
    talk()
    log.removeHandler(handler)
    _our_handler().setFormatter(Looking())


@setup()
def a_handler_that_logs() -> None:
    class Logging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name != "inner":
                logging.getLogger("inner").info("seen %s", record.getMessage())

    log.addHandler(Logging())


@setup()
def no_handler_at_all() -> None:
    log.propagate = False
    talk()
    logging.lastResort = Printer()  # type: ignore[assignment]
    talk()
    logging.lastResort = None
    talk()
    log.propagate = True


@setup()
def a_logger_that_does_not_propagate() -> None:
    log.propagate = False
    log.addHandler(Printer())
    talk()
    log.propagate = True


@setup()
def unittest_watches() -> None:
    class Case(unittest.TestCase):
        def runTest(self) -> None:
            with self.assertLogs("shop", "INFO") as watched:
                talk()
            print(watched.output)

    unittest.TextTestRunner(stream=io.StringIO()).run(Case())


@setup()
def configured_by_a_dict() -> None:
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"f": {"format": "%(name)s %(lineno)d %(message)s"}},
            "filters": {"g": {"name": "shop"}},
            "handlers": {"h": {"class": "logging.StreamHandler", "formatter": "f", "filters": ["g"]}},
            "root": {"level": "DEBUG", "handlers": ["h"]},
        }
    )


@setup()
def a_loop_of_levels() -> None:
    log.setLevel(logging.WARNING)
    talk()
    log.setLevel(logging.NOTSET)
    logging.getLogger().setLevel(logging.ERROR)


@setup()
def another_parent() -> None:
    other = logging.Logger("other")
    other.handle = hidden(other.handle)
    other.addHandler(Printer())
    log.parent = other
    talk()
    log.parent = logging.getLogger()
    talk()
    apart = logging.Logger("apart")
    apart.parent = log
    talk(apart)
    apart.handle = hidden(apart.handle)
    talk(apart)


@setup()
def a_handler_that_works_out_its_level() -> None:
    class Moody(Printer):
        @property
        def level(self) -> int:
            print("asked for its level")
            return logging.ERROR

        @level.setter
        def level(self, value: int) -> None:
            pass

    log.addHandler(Moody())
    log.handlers[0].acquire = log.handlers[0].release = lambda: None


@setup()
def a_handler_that_is_none() -> None:
    class Anything:
        level = 0

        def handle(self, record: logging.LogRecord) -> None:
            print("anything", record.getMessage())

    log.handlers.append(Anything())  # type: ignore[arg-type]


@setup()
def attributes_are_missing() -> None:
    for name in ("filters", "disabled", "handlers", "parent", "propagate", "name"):
        value = log.__dict__.pop(name)
        attempt(log.info, "without %s", name)
        attempt(log.getChild("below").info, "below one without %s", name)
        log.__dict__["tenant"] = "t-1"
        log.__dict__[name] = value
        log.info("with %s", name)


@setup()
def a_subclass_whose_dict_is_watched() -> None:
    class Watched(logging.Logger):
        @property
        def __dict__(self) -> Any:  # type: ignore[override]
            print("asked for its dict")
            return logging.Filterer.__dict__["__dict__"].__get__(self)

    talk(use(Watched))


# The switches of the module.


@setup(options={"thread_attributes": True})
def fewer_things_are_kept() -> None:
    logging.logThreads = logging.logMultiprocessing = logging.logProcesses = False
    talk()
    log.addHandler(Printer())


@setup()
def warnings_are_captured() -> None:
    logging.captureWarnings(True)
    warnings.simplefilter("always")
    warnings.warn("old", DeprecationWarning, stacklevel=1)


@setup()
def another_clock() -> None:
    with unittest.mock.patch("time.time", side_effect=[1700000000.0, 1700000001.0, ZeroDivisionError]) as clock:
        for name in ("one", "two", "three"):
            attempt(log.info, name)
        print(clock.call_count)
    with unittest.mock.patch("time.time_ns", side_effect=[1700000000 * 10**9, ZeroDivisionError]) as clock:
        for name in ("one", "two"):
            attempt(log.info, name)
        print(clock.call_count)


@setup()
def another_clock_in_the_module_alone() -> None:
    with unittest.mock.patch("logging.time") as clock:
        clock.time.return_value = 1700000000.0
        clock.time_ns.return_value = 1700000000 * 10**9
        for _ in range(2):
            log.info("plain")
    print(clock.time.call_count + clock.time_ns.call_count)


@setup(options={"thread_attributes": True})
def other_ids_of_threads() -> None:
    with unittest.mock.patch("threading.get_ident", return_value=7) as ids:
        for _ in range(2):
            log.info("plain")
    print(ids.call_count > 0)


# Who looks at the interpreter.


@setup()
def a_profiler_of_the_applications_functions() -> None:
    seen: list[str] = []

    def profile(frame: Any, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename == __file__:
            seen.append(frame.f_code.co_name)

    sys.setprofile(profile)
    try:
        talk()
    finally:
        sys.setprofile(None)
    print(seen)


@setup()
def a_tracer_of_logs_lines() -> None:
    seen: list[Any] = []
    first = logging.Logger._log.__code__.co_firstlineno

    def trace_lines(frame: Any, event: str, argument: object) -> Any:
        if frame.f_code.co_name == "_log" and frame.f_code.co_filename == logging.__file__:
            seen.append((event, frame.f_lineno - first))
            return trace_lines
        return None

    log.addFilter(lambda record: True)
    sys.settrace(trace_lines)
    try:
        talk()
    finally:
        sys.settrace(None)
    print(seen)


@setup()
def the_frame_of_log_is_looked_at() -> None:
    def look(record: logging.LogRecord) -> bool:
        frame: Any = sys._getframe()
        while frame.f_code.co_name != "_log":
            frame = frame.f_back
        code = frame.f_code
        print(sorted(frame.f_locals), frame.f_globals is logging.__dict__, frame.f_lineno, frame.f_back.f_code.co_name)
        print(code.co_filename, code.co_firstlineno, code.co_varnames, code.co_argcount, code.co_flags)
        return True

    log.addFilter(look)


@setup()
def the_function_is_looked_at() -> None:
    import inspect

    function: Any = logging.Logger._log
    print(inspect.signature(function), inspect.getsource(function), function.__module__, function.__qualname__)
    print(function.__dict__, function.__closure__, function.__annotations__, function.__kwdefaults__)
    print(function.__globals__ is logging.__dict__, pickle.loads(pickle.dumps(function)) is function)
    print(list(vars(log)), sorted(vars(logging)), list(vars(logging.Logger)))
    print(log, pickle.loads(pickle.dumps(log)) is log, log.__reduce__())


@setup()
def an_audit_hook() -> None:
    counts: collections.Counter[str] = collections.Counter()
    sys.addaudithook(lambda event, arguments: counts.update([event]))
    for _ in range(3):
        log.info("plain")
    print(counts["sys._getframe"])


@setup()
def a_record_is_handled_directly() -> None:
    log.handle(logging.makeLogRecord({"name": "made", "msg": "made", "levelno": 20, "levelname": "INFO", "tenant": 1}))
    log.callHandlers(log.makeRecord("x", 30, "f.py", 1, "m %s", ("a",), None))


# Other libraries.


def _say_it_all(logger: Any) -> None:
    logger.info("greeted", whom="world", number=1)
    logger.warning("careful %s", "x")
    logger.bind(tenant="t-1").error("bound", amounts=[1, 2])
    try:
        raise KeyError("no such order")
    except KeyError:
        logger.exception("failed")
    logging.getLogger("foreign").warning("not by structlog %d", 7, extra={"a": 1})


def _configure_structlog(*processors: Any, **options: Any) -> Any:
    import structlog

    at = structlog.processors.CallsiteParameter
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.CallsiteParameterAdder([at.MODULE, at.FUNC_NAME, at.LINENO]),
            *processors,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        **options,
    )
    return structlog


@setup(needs=("structlog",), talks=False)
def structlog_alone() -> None:
    import structlog

    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    _say_it_all(structlog.get_logger())


@setup(needs=("structlog",), shows={"output": "setups:"})
def structlog_renders() -> None:
    import structlog

    _configure_structlog(structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    logging.basicConfig(
        format="%(module)s:%(lineno)d %(funcName)s %(message)s", stream=sys.stdout, level=10, force=True
    )
    _say_it_all(structlog.get_logger("shop.rendered"))
    talk(logging.getLogger("shop.after"))


@setup(needs=("structlog",))
def structlog_renders_and_nobody_else_is_there() -> None:
    import structlog

    _configure_structlog(structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    _say_it_all(structlog.get_logger("shop.rendered"))
    talk(logging.getLogger("shop.after"))


@setup(needs=("structlog",))
def structlog_hands_on_arguments() -> None:
    import structlog

    _configure_structlog(structlog.stdlib.render_to_log_kwargs)
    log.addHandler(Printer())
    _say_it_all(structlog.get_logger("shop.orders"))
    _say_it_all(structlog.get_logger("shop.kept", bound_at_first=1))


@setup(needs=("structlog",))
def structlog_formats() -> None:
    import structlog

    _configure_structlog(structlog.stdlib.ProcessorFormatter.wrap_for_formatter, cache_logger_on_first_use=True)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(sort_keys=True),
            ],
        )
    )
    logging.getLogger().addHandler(handler)
    _say_it_all(structlog.get_logger("shop.formatted"))


@setup(needs=("structlog",))
def structlog_formats_what_is_foreign() -> None:
    import structlog

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.processors.CallsiteParameterAdder(), structlog.stdlib.ExtraAdder()],
            processor=structlog.dev.ConsoleRenderer(colors=False),
            keep_stack_info=True,
        )
    )
    handler.formatter.foreign_pre_chain.pop(0)  # type: ignore[union-attr]
    logging.getLogger().addHandler(handler)


@setup(needs=("structlog",))
def structlogs_logger_class_from_the_start() -> Iterator[None]:
    import structlog

    structlog.stdlib.LoggerFactory()
    yield
    one = logging.getLogger("made.since")
    print(type(one))
    talk(one)
    one.addHandler(Printer())
    talk(one)


@setup(needs=("loguru",))
def loguru_intercepts() -> None:
    from loguru import logger

    class InterceptHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            frame: Any = sys._getframe(0)
            depth = 0
            while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
                frame = frame.f_back
                depth += 1
            logger.opt(depth=depth, exception=record.exc_info).log("INFO", record.getMessage())

    logger.remove()
    logger.add(sys.stdout, format="{level} {name} {function} {line} {message}", backtrace=False, diagnose=False)
    logging.getLogger().addHandler(InterceptHandler())


@setup(needs=("loguru",))
def loguru_propagates() -> None:
    from loguru import logger

    class PropagateHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logging.getLogger(record.name).handle(record)

    logger.remove()
    logger.add(PropagateHandler(), format="{message}")
    logger.info("by loguru")
    logger.bind(a=1).warning("by loguru, {}", "bound")


@setup(needs=("opentelemetry.instrumentation.logging",))
def the_stock_instrumentation() -> None:
    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    LoggingInstrumentor().instrument(inject_trace_context=True)


# Reloads and second imports.


def _say_all_again() -> None:
    talk()
    otelog.configure(**_last_options(), schedule_delay_millis=900)
    talk()


def _last_options() -> Options:
    from otelog._setup.state import settings_in_force

    settings = settings_in_force()
    assert settings is not None
    return {
        "endpoint": settings.base_endpoint,
        "service_name": "test",
        "level": "DEBUG",
        "direct_logging": settings.direct_logging,
    }


def _reload(module_name: str) -> Callable[[], Iterator[None]]:
    def before_and_after() -> Iterator[None]:
        yield
        options = _last_options()
        talk()
        log.addHandler(Printer())
        log.info("before")
        importlib.reload(importlib.import_module(module_name))
        log.info("after")
        log.handlers.clear()
        talk()
        for _ in range(2):
            otelog.configure(**options, schedule_delay_millis=900)
            log.info("configured again")
        importlib.reload(importlib.import_module(module_name))
        otelog.configure(**options, schedule_delay_millis=800)
        log.info("and again")

    before_and_after.__name__ = f"reload_of_{module_name.replace('.', '_')}"
    return before_and_after


for _name in (
    "otelog",
    "otelog._patches.access_lines",
    "otelog._patches.handlers",
    "otelog._capture.port",
    "otelog._setup.state",
    "otelog._patches.last_resort",
    "otelog._patches.log_calls",
    "otelog._runtime.own_threads",
    "otelog._capture.active_pipeline",
    "otelog._capture.handler",
    "otelog._capture.facade",
    "otelog._pipeline.processor",
    "otelog._setup.configure",
):
    setup(arrives={"before": 1, "after": 1, "configured again": 2, "and again": 1})(_reload(_name))


@setup(arrives={"plain": 1})
def reload_before_it_is_configured() -> Iterator[None]:
    for name in ("_patches.log_calls", "_patches.handlers", "_capture.handler", "_capture.facade", "_setup.configure"):
        importlib.reload(importlib.import_module(f"otelog.{name}"))
    yield


@setup(arrives={"plain": 2, "a list [1]": 2})
def everything_is_reloaded() -> None:
    options = _last_options()
    for name in [name for name in sys.modules if name.partition(".")[0] == "otelog"]:
        importlib.reload(sys.modules[name])
    talk()
    sys.modules["otelog"].configure(**options)


def _import_again() -> Any:
    for name in [name for name in sys.modules if name.partition(".")[0] == "otelog"]:
        del sys.modules[name]
    return importlib.import_module("otelog")


@setup(interpreter=("-B",), arrives={"once": 1, "once more": 1, "of the first": 1, "of the second": 1, "by the API": 1})
def a_second_import() -> None:
    options = _last_options()
    talk()
    second = _import_again()
    talk()
    # Which of two pipelines delivers first would be chance.
    otelog.flush()
    second.configure(**options)
    log.info("once")
    log.warning("once %s", "more", extra={"a": 1})
    second.flush()
    otelog.get_logger("facade").info("of the first")
    otelog.flush()
    get_logger("api").emit(body="by the API", severity_number=SeverityNumber.INFO)
    second.get_logger("facade").info("of the second")
    second.configure(**options, schedule_delay_millis=900)
    second.flush()


@setup(interpreter=("-B",), arrives={"once": 1, "once again by the first": 1, "after the first has ended": 1})
def a_second_import_while_the_first_is_used() -> None:
    options = _last_options()
    second = _import_again()
    otelog.configure(**options, schedule_delay_millis=900)
    talk()
    otelog.flush()
    second.configure(**options)
    log.info("once")
    second.flush()
    otelog.configure(**options)
    log.info("once again by the first")
    otelog.flush()
    second.configure(**options)
    otelog.shutdown()
    log.info("after the first has ended")
    second.flush()


@setup(interpreter=("-B",), arrives={"plain": 3})
def a_second_import_after_the_first_has_ended() -> None:
    options = _last_options()
    talk()
    otelog.shutdown()
    second = _import_again()
    second.configure(**options)
    talk()
    second.flush()


@setup(interpreter=("-B",))
def logging_itself_is_reloaded() -> None:
    talk()
    importlib.reload(logging)
    talk(logging.getLogger("shop.fresh"))
    log.handle = hidden(log.handle)


@setup()
def taken_back_and_configured_again() -> None:
    from otelog._setup import configure

    options = _last_options()
    for _ in range(2):
        otelog.flush()
        configure.reset()
        log.warning("nobody is there")
        otelog.configure(**options)
        talk()


# Other interpreters.


def _in_another_interpreter() -> None:
    talk()
    log.addHandler(Printer())
    log.addFilter(lambda record: show_stack() or True)


for _options in (("-O",), ("-OO",), ("-X", "dev"), ("-X", "no_debug_ranges"), ("-W", "error"), ("-I", "-c")):
    if _options[0] == "-I":
        continue

    def _run() -> None:
        _in_another_interpreter()

    _run.__name__ = "python_" + "_".join(_options).replace("-", "")
    setup(interpreter=_options)(_run)

_ = (ast, collections.abc, Mapping, time)
