"""Exceptions and stacks: taken in the caller in microseconds, written out as text by the worker.

The caller keeps code objects and instruction offsets only: no exception, traceback, frame, class or local is kept
alive. Line numbers, source lines and the text are the worker's work, and are remembered by place in the code.
"""

from __future__ import annotations

import builtins
import linecache
import sys
import textwrap
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

from otelog._record.values import clean_text, type_names
from otelog._runtime.interruption import is_interruption

HEAD_FRAMES = 20
TAIL_FRAMES = 80
"""Frames of one traceback that are kept: the outermost, and those nearest to the error. Repeats in a row count once."""

MAX_FRAMES = HEAD_FRAMES + TAIL_FRAMES

MAX_CHAIN_LINKS = 20
"""Exceptions of one chain of causes and contexts that are kept, counted from the one that was logged."""

MAX_GROUP_MEMBERS = 15
MAX_GROUP_DEPTH = 10
"""Members of one exception group, and levels of nested groups, that are kept: as many as Python prints."""

MAX_EXCEPTIONS = 64
"""Exceptions kept in all, over chains and groups."""

MAX_NOTES = 16
"""Notes of one exception that are kept."""

MAX_TEXT_LENGTH = 16_384
"""Characters of a message or note that are kept."""

MAX_FRAME_TEXT_LENGTH = 2_000
"""Characters that the text of one frame, its source lines included, may have: a line may be a whole minified file."""

MAX_REMEMBERED_FRAMES = 4096
"""Places in the code whose text is remembered."""

STR_FAILED = "<exception str() failed>"
"""The message of an exception whose `str()` fails."""

_REPEATS_SHOWN = 3  # as many as Python prints before "Previous line repeated"

_CAUSE_LINE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT_LINE = "\nDuring handling of the above exception, another exception occurred:\n\n"

# Where (code, f_lasti) stands, and how often in a row.
_Place = tuple[CodeType, int, int]


class _Link(NamedTuple):
    """One exception: what was taken of itself, and the indexes of those it leads to."""

    module: str
    name: str
    message: str
    frames: tuple[_Place, ...]
    frames_left_out: int
    notes: tuple[str, ...]
    syntax: tuple[Any, ...] | None  # file name, line, offset, text, end line, end offset, message
    earlier: int = -1  # index of the cause or context
    is_cause: bool = False
    chain_left_out: bool = False
    members: tuple[int, ...] | None = None  # indexes of a group's members
    members_left_out: int = 0


class CapturedException(NamedTuple):
    """What was taken of an exception, its chain and its group.

    Args:
        links: The exceptions, the one that was logged first.
        size_bytes: About what it takes in memory.
    """

    links: tuple[_Link, ...]
    size_bytes: int


class CapturedStack(NamedTuple):
    """What was taken of a running stack.

    Args:
        frames: Places in the code, outermost first.
        is_cut: Whether outer frames were left out.
        size_bytes: About what it takes in memory.
    """

    frames: tuple[_Place, ...]
    is_cut: bool
    size_bytes: int


# In the caller's thread.


def capture_exception(error: BaseException) -> CapturedException:
    """Take from an exception what `render_exception` needs, and nothing that keeps anything else alive.

    Args:
        error: The exception, with its traceback, notes, chain and members as far as this module's bounds allow.

    Returns:
        What was taken.

    Never raises, but lets an interruption pass. Runs the exception's own `__str__`, reads no file and
    takes no lock. Safe in any thread.
    """
    try:
        link = _take(error)
        cause = error.__cause__
        if cause is None and (error.__suppress_context__ or error.__context__ is None) and not _is_group(type(error)):
            return CapturedException((link,), _size_of(link))
        links = _take_related(error, link)
        return CapturedException(links, sum(map(_size_of, links)))
    except BaseException as failure:
        if is_interruption(failure):
            raise
        module, name = type_names(type(error))
        return CapturedException((_Link(module, name, STR_FAILED, (), 0, (), None),), 512)


def capture_stack(frame: FrameType, limit: int = MAX_FRAMES) -> CapturedStack:
    """Take from a running stack what `render_stack` needs, and nothing that keeps anything else alive.

    Args:
        frame: The innermost frame that is to be shown.
        limit: How many frames are kept, the innermost ones.

    Returns:
        What was taken.

    Never raises. Safe in any thread.
    """
    places: list[_Place] = []
    current: FrameType | None = frame
    while current is not None and len(places) < limit:
        places.append((current.f_code, current.f_lasti, 1))
        current = current.f_back
    places.reverse()
    return CapturedStack(tuple(places), current is not None, 200 + 100 * len(places))


def _take(error: BaseException) -> _Link:
    kind = type(error)
    module, name = type_names(kind)
    try:
        message = str(error)
        if type(message) is not str:
            message = str.__str__(message)
        if len(message) > MAX_TEXT_LENGTH:
            message = _shorten_text(message)
    except BaseException as failure:
        if is_interruption(failure):
            raise
        message = STR_FAILED
    frames: list[_Place] = []
    left_out = 0
    notes: tuple[str, ...] = ()
    syntax: tuple[Any, ...] | None = None
    try:
        step: Any = error.__traceback__
        for _ in range(MAX_FRAMES):
            if step is None:
                break
            frames.append((step.tb_frame.f_code, step.tb_lasti, 1))
            step = step.tb_next
        else:
            if step is not None:
                frames, left_out = _take_long(error.__traceback__)
        found = getattr(error, "__notes__", None)
        if found is not None:
            notes = _take_notes(found)
        if issubclass(kind, SyntaxError):
            syntax = _take_syntax(error)
    except BaseException as failure:
        # An attribute that lies: what was taken so far is kept.
        if is_interruption(failure):
            raise
    return _Link(module, name, message, tuple(frames), left_out, notes, syntax)


def _take_long(step: TracebackType | None) -> tuple[list[_Place], int]:
    head: list[_Place] = []
    tail: deque[_Place] = deque()
    left_out = 0
    code: CodeType | None = None
    offset = count = 0
    while True:
        if step is not None and step.tb_frame.f_code is code and step.tb_lasti == offset:
            count += 1
        else:
            if code is not None:
                if len(head) < HEAD_FRAMES:
                    head.append((code, offset, count))
                else:
                    tail.append((code, offset, count))
                    if len(tail) > TAIL_FRAMES:
                        left_out += tail.popleft()[2]
            if step is None:
                return [*head, *tail], left_out
            code, offset, count = step.tb_frame.f_code, step.tb_lasti, 1
        step = step.tb_next


def _take_notes(found: object) -> tuple[str, ...]:
    if type(found) is not list and type(found) is not tuple:
        return (_guarded(repr, found, "<__notes__ repr() failed>"),)
    notes = [_guarded(str, note, "<note str() failed>") for note in islice(found, MAX_NOTES)]
    if len(found) > MAX_NOTES:
        notes.append(f"... {len(found) - MAX_NOTES} notes left out")
    return tuple(notes)


def _take_syntax(error: Any) -> tuple[Any, ...]:
    taken = (
        error.filename,
        error.lineno,
        error.offset,
        error.text,
        getattr(error, "end_lineno", None),
        getattr(error, "end_offset", None),
        error.msg,
    )
    # Anybody may set these: only what is exactly text or a number is kept, so that nothing is kept alive.
    return tuple(
        _shorten_text(value) if type(value) is str else value if type(value) is int else None for value in taken
    )


def _take_related(error: BaseException, link: _Link) -> tuple[_Link, ...]:
    links = [link]
    seen = {id(error)}
    todo: list[tuple[int, BaseException, int, int]] = [(0, error, 1, 0)]
    while todo:
        index, error, chained, depth = todo.pop()
        earlier = error.__cause__
        is_cause = earlier is not None and id(earlier) not in seen
        if not is_cause:
            earlier = None if error.__suppress_context__ else error.__context__
        changes: dict[str, Any] = {}
        later: list[tuple[int, BaseException, int, int]] = []
        if earlier is not None and id(earlier) not in seen:
            if chained >= MAX_CHAIN_LINKS or len(links) >= MAX_EXCEPTIONS:
                changes.update(chain_left_out=True, is_cause=is_cause)
            else:
                seen.add(id(earlier))
                changes.update(earlier=len(links), is_cause=is_cause)
                later.append((len(links), earlier, chained + 1, depth))
                links.append(_take(earlier))
        if _is_group(type(error)):
            members: Any = error.exceptions  # type: ignore[attr-defined]
            if type(members) is not tuple:
                members = ()
            room = min(MAX_GROUP_MEMBERS, MAX_EXCEPTIONS - len(links)) if depth < MAX_GROUP_DEPTH else 0
            kept = members[: max(room, 0)]
            changes.update(
                members=tuple(range(len(links), len(links) + len(kept))), members_left_out=len(members) - len(kept)
            )
            for member in kept:
                seen.add(id(member))
                later.append((len(links), member, 1, depth + 1))
                links.append(_take(member))
        links[index] = links[index]._replace(**changes)
        todo += later
    return tuple(links)


if sys.version_info >= (3, 11):

    def _is_group(kind: type) -> bool:
        return issubclass(kind, builtins.BaseExceptionGroup)

else:

    def _is_group(kind: type) -> bool:
        # Python 3.10 has no groups of its own, but code that runs on it may use those of a well-known package.
        backport = getattr(sys.modules.get("exceptiongroup"), "BaseExceptionGroup", None)
        return backport is not None and issubclass(kind, backport)


def _guarded(convert: Callable[[object], str], value: object, failed: str) -> str:
    try:
        return _shorten_text(str.__str__(convert(value)))
    except BaseException as failure:
        if is_interruption(failure):
            raise
        return failed


def _shorten_text(text: str) -> str:
    if len(text) <= MAX_TEXT_LENGTH:
        return text
    return f"{text[:MAX_TEXT_LENGTH]}... {len(text) - MAX_TEXT_LENGTH} characters left out"


def _size_of(link: _Link) -> int:
    return 500 + 100 * len(link.frames) + len(link.message) + sum(map(len, link.notes))


# In the worker.


def qualified_name(code: CodeType) -> str:
    """Return a code object's qualified name, or its bare name before Python 3.11, which does not know it.

    Never raises. Safe in any thread.
    """
    if sys.version_info >= (3, 11):
        return code.co_qualname
    return code.co_name


def line_number(code: CodeType, offset: int) -> int:
    """Return the line that an instruction of a code object stands on.

    Args:
        code: The code object.
        offset: The instruction's offset, as `f_lasti` or `tb_lasti`; -1 is the beginning.

    Returns:
        The line's number, or that of the first line if the code does not tell.

    Never raises. Safe in any thread.
    """
    for start, stop, line in code.co_lines():
        if start <= offset < stop:
            return code.co_firstlineno if line is None else line
    return code.co_firstlineno


def render_exception(captured: CapturedException) -> tuple[str, str, str]:
    """Write out a captured exception as Python's `traceback` would.

    The text is that of `traceback.format_exception`, carets included, with these differences: what is beyond the bounds
    is left out and said so; suggestions ("Did you mean") are not made; source lines of modules in archives are not
    shown; notes are shown on Python 3.10 too.

    Args:
        captured: From `capture_exception`.

    Returns:
        The type as "module.Type" (built-in ones bare), the message, and the stack trace.

    Never raises. Reads source files through `linecache`; safe in any thread.

    Source: OpenTelemetry semantic conventions, "Exceptions".
    """
    link = captured.links[0]
    kind = clean_text(link.name if link.module == "builtins" else f"{link.module}.{link.name}")
    message = clean_text(link.message)
    try:
        printer = _Printer(captured.links)
        printer.print_chain(0)
        return kind, message, clean_text("".join(printer.parts))
    except Exception:
        return kind, message, f"{kind}: {message}\n"


def render_stack(captured: CapturedStack) -> str:
    """Write out a captured stack as `logging` does for `stack_info`.

    Args:
        captured: From `capture_stack`.

    Returns:
        The text, without a newline at its end.

    Never raises. Reads source files through `linecache`; safe in any thread.
    """
    parts = ["Stack (most recent call last):\n"]
    if captured.is_cut:
        parts.append("  ... outer frames left out\n")
    try:
        parts += _frame_texts(captured.frames, 0, with_columns=False)
    except Exception:
        parts.append("  ... frames could not be shown\n")
    return clean_text("".join(parts).rstrip("\n"))


class _Printer:
    """Prints links into `parts`, with the margins that members of groups have."""

    def __init__(self, links: tuple[_Link, ...]) -> None:
        self.parts: list[str] = []
        self._links = links
        self._depth = 0
        self._must_close = False

    def print_chain(self, index: int) -> None:
        chain = [self._links[index]]
        while chain[-1].earlier >= 0:
            chain.append(self._links[chain[-1].earlier])
        if chain[-1].chain_left_out:
            self._print("... earlier exceptions left out\n")
        for position, link in reversed(list(enumerate(chain))):
            if position + 1 < len(chain) or link.chain_left_out:
                self._print(_CAUSE_LINE if link.is_cause else _CONTEXT_LINE)
            if link.members is None:
                self._print_one(link, "Traceback (most recent call last):\n")
            else:
                self._print_group(link, link.members)

    def _print_one(self, link: _Link, header: str, margin: str = "|") -> None:
        if link.frames:
            self._print(header, margin)
            for text in _frame_texts(link.frames, link.frames_left_out):
                self._print(text)
        for text in _final_lines(link):
            self._print(text)

    def _print_group(self, link: _Link, members: tuple[int, ...]) -> None:
        is_outermost = self._depth == 0
        if is_outermost:
            self._depth = 1
        self._print_one(link, "Exception Group Traceback (most recent call last):\n", "+" if is_outermost else "|")
        boxes: list[int | None] = list(members)
        if link.members_left_out:
            boxes.append(None)
        self._must_close = False
        for number, member in enumerate(boxes, 1):
            is_last = number == len(boxes)
            if is_last:
                self._must_close = True  # a nested group may close the box for us
            title = "..." if member is None else str(number)
            self.parts.append(
                f"{self._indent()}{'+-' if number == 1 else '  '}+---------------- {title} ----------------\n"
            )
            self._depth += 1
            if member is None:
                plural = "s" if link.members_left_out > 1 else ""
                self._print(f"and {link.members_left_out} more exception{plural}\n")
            else:
                self.print_chain(member)
            if is_last and self._must_close:
                self.parts.append(f"{self._indent()}+------------------------------------\n")
                self._must_close = False
            self._depth -= 1
        if is_outermost:
            self._depth = 0

    def _indent(self) -> str:
        return "  " * self._depth

    def _print(self, text: str, margin: str = "|") -> None:
        if self._depth:
            text = textwrap.indent(text, f"{self._indent()}{margin} ", lambda _line: True)
        self.parts.append(text)


def _final_lines(link: _Link) -> Iterable[str]:
    name = link.name if link.module in ("__main__", "builtins") else f"{link.module}.{link.name}"
    if link.syntax is not None:
        file_name, line, offset, text, end_line, end_offset, message = link.syntax
        # An error of the same content, without the user's class, makes Python do the caret's arithmetic.
        plain = SyntaxError(message, (file_name, line, offset, text, end_line, end_offset))
        *lines, last = traceback.format_exception_only(SyntaxError, plain)
        yield from lines
        yield name + last.removeprefix("SyntaxError")
    else:
        yield f"{name}: {link.message}\n" if link.message else f"{name}\n"
    for note in link.notes:
        for line_of_note in note.split("\n"):
            yield f"{line_of_note}\n"


def _frame_texts(places: tuple[_Place, ...], left_out: int, *, with_columns: bool = True) -> list[str]:
    texts: list[str] = []
    last: tuple[str, int, str] | None = None
    count = 0

    def end_run() -> None:
        repeats = count - _REPEATS_SHOWN
        if repeats > 0:
            texts.append(f"  [Previous line repeated {repeats} more time{'s' if repeats > 1 else ''}]\n")

    for position, (code, offset, times) in enumerate(places):
        if left_out and position == HEAD_FRAMES:
            end_run()
            last = None
            texts.append(f"  ... {left_out} frames left out\n")
        frame = _describe_frame(code, offset, with_columns)
        if frame.identity != last:
            if last is not None:
                end_run()
            last = frame.identity
            count = 0
        shown = max(0, min(times, _REPEATS_SHOWN - count))
        texts += [frame.text] * shown
        count += times
    if last is not None:
        end_run()
    return texts


class _Frame(NamedTuple):
    code: CodeType  # held, so that its id in the key stays its own
    identity: tuple[str, int, str]
    text: str


_remembered_frames: dict[tuple[int, int, bool], _Frame] = {}


def _describe_frame(code: CodeType, offset: int, with_columns: bool) -> _Frame:
    # By identity: code objects that compare equal may come from different files.
    key = (id(code), offset, with_columns)
    frame = _remembered_frames.get(key)
    if frame is None:
        line = line_number(code, offset)
        columns: dict[str, Any] = {}
        if with_columns and sys.version_info >= (3, 11) and offset >= 0:
            _, end_line, column, end_column = next(islice(code.co_positions(), offset // 2, None), (None,) * 4)
            columns = {"end_lineno": end_line, "colno": column, "end_colno": end_column}
        linecache.checkcache(code.co_filename)
        summary = traceback.FrameSummary(code.co_filename, line, code.co_name, **columns)
        text = "".join(traceback.StackSummary.from_list([summary]).format())
        if len(text) > MAX_FRAME_TEXT_LENGTH:
            text = f"{text[:MAX_FRAME_TEXT_LENGTH]}...\n"
        if len(_remembered_frames) >= MAX_REMEMBERED_FRAMES:
            _remembered_frames.clear()
        frame = _remembered_frames[key] = _Frame(code, (code.co_filename, line, code.co_name), text)
    return frame


def find_exception(exc_info: Any) -> BaseException | None:
    """Returns the exception that an `exc_info` argument means, or None. Never raises."""
    try:
        if isinstance(exc_info, BaseException):
            return exc_info
        if type(exc_info) is tuple:
            return exc_info[1] if len(exc_info) == 3 and isinstance(exc_info[1], BaseException) else None
        return sys.exc_info()[1] if is_true(exc_info) else None
    except BaseException as failure:
        if is_interruption(failure):
            raise
        # It lies about its class.
        return None


def is_true(value: Any) -> bool:
    """Returns a value's truth; one that has none is not true. Never raises, but lets an interruption pass."""
    try:
        return bool(value)
    except BaseException as failure:
        if is_interruption(failure):
            raise
        return False
