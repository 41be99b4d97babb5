"""Exceptions that interrupt otelog, as opposed to those that a value, a span or a mapping of the application raises.

A signal handler may raise at nearly any instruction. Such an exception is not ours to swallow, however many guards lie
between the instruction and the application.
"""

from __future__ import annotations

import inspect
import sys
from types import CodeType, FrameType, TracebackType
from typing import Any

STOPPING = (KeyboardInterrupt, SystemExit)
"""What passes through every guard of otelog, wherever it comes from."""

_REPEATED = inspect.CO_VARARGS


_OF_THE_INTERPRETER = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


def is_interruption(error: BaseException, *, in_own_code: bool = False) -> bool:
    """Returns whether an exception must pass through a guard that is there for the application's values.

    That is what stops a process, and what a signal handler has raised while otelog, or a value's own code below it,
    happened to run: a handler is called with the frame that it interrupts, and no other function is.

    Args:
        error: What was caught.
        in_own_code: The guarded instructions call hardly any foreign code. Then an exception that was raised by no
            Python function, of a kind that the interpreter itself does not raise here, was thrown into this thread by
            another.

    Never raises. Safe in any thread.
    """
    if issubclass(type(error), STOPPING) or _find_handler(error.__traceback__) is not None:
        return True
    traceback = error.__traceback__
    raised_here = traceback is None or traceback.tb_next is None
    return in_own_code and raised_here and not issubclass(type(error), _OF_THE_INTERPRETER)


def is_foreign() -> bool:
    """Returns whether the exception that is handled was raised by Python code below the function that has caught it.

    It is asked without a variable that holds the exception: with the frame of the function that would be a cycle, and
    what an interruption leaves behind would wait for the cyclic collector.
    """
    traceback = sys.exc_info()[2]
    return traceback is not None and traceback.tb_next is not None


def _find_handler(traceback: TracebackType | None) -> CodeType | None:
    """Returns the code of the signal handler that a traceback leads into, or None."""
    above: FrameType | None = None
    while traceback is not None:
        frame = traceback.tb_frame
        if above is not None and _was_given(frame, above):
            return frame.f_code
        above = frame
        traceback = traceback.tb_next
    return None


def _was_given(frame: FrameType, above: FrameType) -> bool:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount]
    repeated = code.co_flags & _REPEATED
    if not names and not repeated:
        return False
    values: Any = frame.f_locals
    if any(values.get(name) is above for name in names):
        return True
    # The variable of *args comes after those of keyword-only arguments.
    given = values.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount]) if repeated else None
    return type(given) is tuple and any(value is above for value in given)
