"""Every way in which a program makes a record."""

from __future__ import annotations

import logging
import math
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import opentelemetry.attributes
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

import otelog
from tests.chaos.oracle import BELOW, Oracle

log = otelog.get_logger("chaos.facade")
library = logging.getLogger("chaos.library")

LARGE = "x" * 20_000
OTELOG = str(Path(otelog.__file__).parent) + os.sep
OPENTELEMETRY = str(Path(opentelemetry.attributes.__file__).parents[1]) + os.sep


class Foul(BaseException):
    """Not an Exception: what a value may raise as well."""


class RaisesText:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class RaisesFoul:
    def __str__(self) -> str:
        raise Foul

    __repr__ = __str__


class Liar:
    """Its class, length and items are not what they seem."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no class")

    def __len__(self) -> int:
        raise RuntimeError("no length")

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("no items")


class EndlessDict(dict[str, Any]):
    def items(self) -> Any:
        raise KeyError("items")


def _make_hostile() -> list[Any]:
    itself: list[Any] = []
    itself.append(itself)
    deep: Any = 1
    for _ in range(200):
        deep = {"d": deep}
    return [
        RaisesText(),
        RaisesFoul(),
        Liar(),
        EndlessDict(a=1),
        itself,
        deep,
        "\ud800 surrogate \x00 nul \u202e",
        b"\xff\x00",
        math.nan,
        2**200,
        {1: 2, None: 3, ("a",): {"b": {1, 2}}},
        ValueError("\udcff"),
        object,
        range(10**9),
        {f"key{number}": number for number in range(300)},
        memoryview(b"abc"),
    ]


HOSTILE = _make_hostile()
# The standard library itself asks for the class of a call's only argument.
HOSTILE_TO_OTELOG = [value for value in HOSTILE if type(value) is not Liar]


class Logs:
    """Logs while it is converted to text."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __str__(self) -> str:
        self._caller.make("facade", nested=True)
        return "logs"


class Forks:
    """Makes a child while it is converted to text."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def __str__(self) -> str:
        self._caller.on_text()
        return "forks"


class Leaves:
    """Logs when it is collected, in whatever thread that happens to be."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        if finalizing.caller is not None:
            finalizing.caller.make("facade-error", nested=True)


class Finalizing:
    """Who makes the calls of finalizers in this process; None: nobody, since it is ending, or has just been forked."""

    caller: Caller | None = None


finalizing = Finalizing()


class Caller:
    """Makes the calls of one thread, and tells the oracle of each.

    Args:
        oracle: Gives out the ids.
        chance: Chooses values.
        second: The provider of the second pipeline.
        own: Exceptions that the application itself raises in signal handlers.
    """

    def __init__(
        self, oracle: Oracle, chance: random.Random, second: LoggerProvider | None, own: tuple[type[BaseException], ...]
    ) -> None:
        self.oracle = oracle
        self._chance = chance
        self._second = second.get_logger("chaos.second") if second is not None else None
        self._own = own
        self._bound = log.bind(user="bound")
        self.way = ""
        """The call that is being made."""
        self.on_text: Callable[[], object] = str
        """Called in the middle of a call that is made as "forking"."""

    @property
    def has_second(self) -> bool:
        """Whether there is a second pipeline."""
        return self._second is not None

    def make(self, way: str, *, nested: bool = False, around: Any = None) -> None:
        """Make one call; only the application's own exceptions get out.

        Args:
            way: One of `plan.WAYS`, or "second".
            nested: It is made inside another call.
            around: A context manager that is entered for the call itself.
        """
        if way == "finalizer":
            Leaves()
            return
        pipeline = "second" if way == "second" else BELOW if way.endswith("-debug") else "main"
        call: Callable[[str], None] = getattr(self, f"_make_{way.replace('-', '_')}")
        id = self.oracle.begin(pipeline)
        outer = self.way
        self.way = way
        try:
            if around is None:
                call(id)
            else:
                with around:
                    call(id)
        except self._own:
            raise
        except BaseException as error:
            self.oracle.end(id, *describe(error, short=bool(_short)))
        else:
            self.oracle.end(id)
        finally:
            self.way = outer if nested else ""

    def _make_facade(self, id: str) -> None:
        log.info("made", id=id)

    def _make_facade_arguments(self, id: str) -> None:
        log.warning("%s of %d in %s", id, 3, [1, 2], id=id)

    def _make_facade_error(self, id: str) -> None:
        try:
            raise ValueError(id)
        except ValueError:
            log.error("failed", exc_info=True, id=id)

    def _make_facade_stack(self, id: str) -> None:
        log.info("from here", stack_info=True, id=id)

    def _make_facade_large(self, id: str) -> None:
        log.info(LARGE, id=id)

    def _make_facade_debug(self, id: str) -> None:
        log.debug("never", id=id)

    def _make_bind(self, id: str) -> None:
        self._bound.info("bound", id=id)

    def _make_bound(self, id: str) -> None:
        with otelog.bound(request="r", parts=[1, 2]):
            log.info("inside", id=id)

    def _make_track(self, id: str) -> None:
        with otelog.track("work", logger=log, id=id):
            pass

    def _make_event(self, id: str) -> None:
        log.event("order.paid", id=id, amount=12.5)

    def _make_logging(self, id: str) -> None:
        library.info("made", extra={"id": id})

    def _make_logging_arguments(self, id: str) -> None:
        library.warning("%s of %d in %s", id, 3, {"a": 1}, extra={"id": id})

    def _make_logging_error(self, id: str) -> None:
        try:
            raise ValueError(id)
        except ValueError:
            library.exception("failed", extra={"id": id})

    def _make_logging_large(self, id: str) -> None:
        library.info(LARGE, extra={"id": id})

    def _make_logging_debug(self, id: str) -> None:
        library.debug("never", extra={"id": id})

    def _make_opentelemetry(self, id: str) -> None:
        record = LogRecord(body="made", severity_number=SeverityNumber.INFO, attributes={"id": id})
        get_logger("chaos.opentelemetry").emit(record)

    def _make_second(self, id: str) -> None:
        if self._second is not None:
            self._second.emit(LogRecord(body="made", severity_number=SeverityNumber.WARN, attributes={"id": id}))

    def _make_hostile(self, id: str) -> None:
        log.warning("what is %r and %s", self._pick(), self._pick(), id=id, value=self._pick(), other=self._pick())

    def _make_hostile_logging(self, id: str) -> None:
        argument = self._chance.choice(HOSTILE_TO_OTELOG)
        library.error("what is %s", argument, extra={"id": id, "value": self._pick()})

    def _make_nested(self, id: str) -> None:
        log.info("%s", Logs(self), id=id)

    def _make_forking(self, id: str) -> None:
        log.info("%s", Forks(self), id=id)

    def _pick(self) -> Any:
        return self._chance.choice(HOSTILE)


_short: list[None] = []


def describe(error: BaseException, *, short: bool) -> tuple[str, str]:
    """Return the oracle's mark and words for an exception that a call has raised.

    Where memory is short, whatever the application calls may say so; otelog may not.

    Args:
        error: The exception.
        short: Whether memory is short at times in this process: for one thread's call is for all.
    """
    place = error.__traceback__
    names: list[str] = []
    ours = file = ""
    while place is not None:
        code = place.tb_frame.f_code
        if code.co_filename.startswith(OTELOG) and not ours:
            ours = code.co_name
        file = code.co_filename
        names.append(f"{Path(code.co_filename).parent.name}:{code.co_name}:{place.tb_lineno}")
        place = place.tb_next
    # Python itself sometimes forgets which error it was. To bind fields, or to begin to track, is no log call: nothing
    # could be counted.
    forgotten = isinstance(error, SystemError) and "without exception set" in str(error)
    uncounted = ours in ("", "track") or any(":_make_bound:" in name for name in names)
    # What Python says where there is no memory for a lock; the SDK makes one for each record.
    sdks_own = short and not ours and file.startswith(OPENTELEMETRY) and type(error) is RuntimeError
    if sdks_own and str(error) == "can't allocate lock":
        return "~", ""
    if forgotten or (isinstance(error, (MemoryError, SystemError)) and uncounted):
        return "~", ""
    return "!", f"{type(error).__name__}: {error} at {' < '.join(reversed(names[-4:]))}"


class ChaosExporter(LogRecordExporter):
    """Somebody's own exporter: writes the ids that it takes to a file, and fails as it is told, in its own process."""

    def __init__(self, folder: Path, name: str, faults: tuple[str, ...]) -> None:
        self._path = folder / f"foreign-{name}~"
        self._faults = list(faults)
        self._pid = os.getpid()
        self._pending = folder / f"pending-{name}"
        if faults:
            self._pending.touch()

    def export(self, batch: Any) -> Any:
        with open(f"{self._path}{os.getpid()}", "a", encoding="utf-8") as file:
            here = os.getpid() == self._pid
            fault = self._faults.pop(0) if here and self._faults else ""
            if here and not self._faults:
                self._pending.unlink(missing_ok=True)
            mark = "taken" if fault in ("", "slow") else "kept" if fault == "strange" else ""
            lines = [f"fired {fault}\n"] if fault else []
            if mark:
                lines += [f"{mark} {record.log_record.attributes.get('id')}\n" for record in batch]
            file.write("".join(lines))
        if fault == "raise":
            raise RuntimeError("the exporter failed")
        if fault == "slow":
            time.sleep(0.1)
        if fault == "strange":
            return None
        return LogRecordExportResult.FAILURE if fault == "failure" else LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """There is nothing to release."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def prepare() -> Callable[[int, int], Any]:
    """Return a context manager that has some of the process's next allocations fail, from the first-th on.

    Raises:
        ImportError: This Python has no module for it.
    """
    # Now, since it may not be found later, when descriptors are short.
    import _testcapi

    _short.append(None)

    @contextmanager
    def no_memory(first: int, count: int) -> Iterator[None]:
        _testcapi.set_nomemory(first, first + count)
        try:
            yield
        finally:
            _testcapi.remove_mem_hooks()

    return no_memory
