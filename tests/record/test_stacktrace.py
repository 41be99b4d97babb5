"""Exceptions are taken cheaply, keep nothing alive, and read as Python prints them."""

from __future__ import annotations

import gc
import io
import logging
import sys
import threading
import traceback
import types
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelog._record import stacktrace as stacktrace_module
from otelog._record.stacktrace import (
    HEAD_FRAMES,
    MAX_CHAIN_LINKS,
    MAX_EXCEPTIONS,
    MAX_FRAME_TEXT_LENGTH,
    MAX_FRAMES,
    MAX_GROUP_DEPTH,
    MAX_GROUP_MEMBERS,
    MAX_NOTES,
    MAX_REMEMBERED_FRAMES,
    MAX_TEXT_LENGTH,
    STR_FAILED,
    TAIL_FRAMES,
    CapturedException,
    capture_exception,
    capture_stack,
    line_number,
    qualified_name,
    render_exception,
    render_stack,
)
from tests import corpus
from tests.sizes import sized

has_groups = pytest.mark.skipif(sys.version_info < (3, 11), reason="groups and notes came with 3.11")
if sys.version_info < (3, 11):
    ExceptionGroup = Any


class Custom(Exception):
    pass


def caught(raising: Callable[[], object]) -> BaseException:
    try:
        raising()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def rendered(error: BaseException) -> str:
    return render_exception(capture_exception(error))[2]


def printed(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def plain() -> None:
    raise ValueError("boom")


def nested() -> None:
    (lambda: plain())()


def without_message() -> None:
    raise Custom


def of_many_lines() -> None:
    raise Custom("one\ntwo")


def chained_by_cause() -> None:
    try:
        nested()
    except ValueError as error:
        raise Custom("outer") from error


def chained_by_context() -> None:
    try:
        chained_by_cause()
    except Custom:
        {}["missing"]


def suppressed() -> None:
    try:
        nested()
    except ValueError:
        raise Custom("alone") from None


def causing_each_other() -> None:
    one, other = Custom("one"), Custom("other")
    one.__cause__, other.__context__ = other, one
    raise one


def causing_in_a_ring() -> None:
    one, two, three = Custom("one"), Custom("two"), Custom("three")
    one.__cause__, two.__cause__, three.__context__ = two, three, two
    raise one


def cause_and_context() -> None:
    try:
        nested()
    except ValueError:
        raise Custom("outer") from KeyError("other")


def recursing(depth: int = 60) -> None:
    if depth:
        recursing(depth - 1)
    else:
        plain()


def endless() -> None:
    endless()


def of_bad_syntax() -> None:
    compile("a = 1\nb = (c d\n", "<somewhere>", "exec")


def of_bad_indentation() -> None:
    compile("if a:\nb", "file.py", "exec")


def of_odd_syntax() -> None:
    raise SyntaxError("odd", ("file.py", 3, None, None))


def of_bare_syntax() -> None:
    raise SyntaxError


def importing() -> None:
    import nothing_of_this_name  # noqa: F401


def in_generated_code() -> None:
    exec("def inner():\n    raise ValueError('generated')\ninner()")


def stopping() -> None:
    raise corpus.Stop("stop")


def with_empty_message() -> None:
    raise ValueError("")


def with_unicode() -> None:
    raise ValueError("h\xe9llo \U0001f600")


PLAIN = [
    plain,
    nested,
    without_message,
    of_many_lines,
    chained_by_cause,
    chained_by_context,
    suppressed,
    causing_each_other,
    causing_in_a_ring,
    cause_and_context,
    recursing,
    endless,
    of_bad_syntax,
    of_bad_indentation,
    of_odd_syntax,
    of_bare_syntax,
    importing,
    in_generated_code,
    stopping,
    with_empty_message,
    with_unicode,
]


@pytest.mark.parametrize("raising", PLAIN)
def test_an_exception_reads_as_python_prints_it(raising: Callable[[], None]) -> None:
    error = caught(raising)
    assert rendered(error) == printed(error)
    assert rendered(error) == printed(error), "the second time comes from what is remembered"


def test_an_exception_that_was_never_raised_has_its_last_line() -> None:
    assert (
        rendered(Custom("not raised"))
        == printed(Custom("not raised"))
        == "tests.record.test_stacktrace.Custom: not raised\n"
    )


@has_groups
def test_notes_read_as_python_prints_them() -> None:
    error = caught(plain)
    error.add_note("first\nand more")
    error.add_note("second")
    assert rendered(error) == printed(error)
    error.__notes__ = corpus.RaisingStr()
    assert rendered(error) == printed(error).rstrip("\n") + "\n", "3.11 forgets this newline"


def raise_group(*members: BaseException) -> BaseException:
    def raising() -> None:
        raise ExceptionGroup("several", list(members))

    return caught(raising)


@has_groups
@pytest.mark.parametrize(
    "make",
    [
        lambda: raise_group(caught(plain)),
        lambda: raise_group(caught(plain), caught(chained_by_cause), Custom("bare")),
        lambda: raise_group(
            caught(chained_by_context), raise_group(caught(nested), raise_group(caught(of_bad_syntax)))
        ),
        lambda: raise_group(raise_group(caught(plain)), caught(of_many_lines)),
        lambda: raise_group(*[caught(plain) for _ in range(MAX_GROUP_MEMBERS)]),
        lambda: raise_group(*[caught(plain) for _ in range(MAX_GROUP_MEMBERS + 1)]),
        lambda: raise_group(*[caught(plain) for _ in range(MAX_GROUP_MEMBERS + 5)]),
    ],
)
def test_a_group_reads_as_python_prints_it(make: Callable[[], BaseException]) -> None:
    error = make()
    assert rendered(error) == printed(error)

    def raising() -> None:
        try:
            raise error
        except BaseException as caught_group:
            raise Custom("after a group") from caught_group

    chained = caught(raising)
    assert rendered(chained) == printed(chained)


def build(plan: Any, depth: int = 0) -> BaseException:
    """An exception from a plan: (message, how it is chained, the plan of what it follows, plans of members)."""
    message, how, before, members = plan
    error: BaseException = Custom(message)
    if members and sys.version_info >= (3, 11):
        error = ExceptionGroup(message, [build(member, depth + 1) for member in members])

    def raising() -> None:
        if before is None:
            raise error
        if how == "cause":
            raise error from build(before, depth + 1)
        try:
            raise build(before, depth + 1)
        except BaseException:
            if how == "suppressed":
                raise error from None
            raise error  # noqa: B904

    return caught(raising)


PLANS: st.SearchStrategy[Any] = st.recursive(
    st.tuples(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), st.just("none"), st.none(), st.just([])),
    lambda inside: st.tuples(
        st.text("ab\n", max_size=5),
        st.sampled_from(["cause", "context", "suppressed"]),
        st.none() | inside,
        st.lists(inside, max_size=3),
    ),
    max_leaves=6,
)


@settings(deadline=None, max_examples=sized(25, full=60))
@given(PLANS)
def test_any_tree_of_exceptions_reads_as_python_prints_it(plan: Any) -> None:
    error = build(plan)
    assert rendered(error) == printed(error)


def test_type_and_message_are_told_apart() -> None:
    assert render_exception(capture_exception(KeyError("k")))[:2] == ("KeyError", "'k'")
    assert render_exception(capture_exception(Custom("m")))[:2] == ("tests.record.test_stacktrace.Custom", "m")


def test_a_type_of_the_main_module_is_qualified_as_such() -> None:
    error = type("Local", (Exception,), {"__module__": "__main__"})("m")
    assert render_exception(capture_exception(error)) == ("__main__.Local", "m", "Local: m\n")


def test_what_cannot_be_encoded_is_escaped() -> None:
    kind, message, text = render_exception(capture_exception(ValueError("\ud800")))
    assert (kind, message, text) == ("ValueError", "\\ud800", "ValueError: \\ud800\n")


class RaisingStr(Exception):
    def __str__(self) -> str:
        raise corpus.Stop("no str")


class LyingAttributes(Exception):
    @property
    def __traceback__(self) -> Any:
        return "no traceback"

    @property
    def __cause__(self) -> Any:
        raise corpus.Stop("no cause")


class Unequal(Exception):
    def __bool__(self) -> bool:
        raise corpus.Stop("no truth")

    def __eq__(self, other: object) -> bool:
        raise corpus.Stop("no equality")

    __hash__ = None


class TextSubclass(Exception):
    def __str__(self) -> str:
        return corpus.HashableEvilStr("evil")


def of_evil_type() -> BaseException:
    # Made here, because pytest asks every class of a module for its attributes.
    class EvilType(type):
        def __getattribute__(cls, name: str) -> Any:
            raise corpus.Stop(name)

    return EvilType("OfEvilType", (Exception,), {})("m")


class LyingSyntax(SyntaxError):
    def __init__(self) -> None:
        super().__init__("m", ("f", 1, 1, "t"))
        self.text = corpus.EvilStr("x")
        self.lineno = object()
        self.offset = 10**30


class RaisingNotes(Exception):
    @property
    def __notes__(self) -> Any:
        raise corpus.Stop("no notes")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (RaisingStr, STR_FAILED),
        (LyingAttributes, STR_FAILED),
        (Unequal, ""),
        (TextSubclass, "evil"),
        (of_evil_type, "m"),
        (LyingSyntax, "m (f)"),
        (RaisingNotes, ""),
        (lambda: ValueError(corpus.RecursingStr()), STR_FAILED),
    ],
)
def test_an_exception_that_lies_is_taken_as_far_as_it_goes(make: Callable[[], BaseException], message: str) -> None:
    kind, text, stacktrace = render_exception(capture_exception(make()))
    assert text == message
    assert stacktrace.endswith("\n")
    assert kind.rpartition(".")[2] in stacktrace


@pytest.mark.parametrize("name", [name for name, _ in corpus.HOSTILE])
def test_a_hostile_argument_does_not_raise(name: str) -> None:
    if name == "list sharing its parts":
        pytest.skip("has 2**40 elements when written out")
    error = ValueError(dict(corpus.HOSTILE)[name]())
    kind, message, stacktrace = render_exception(capture_exception(error))
    assert kind == "ValueError"
    assert len(message) < MAX_TEXT_LENGTH + 100
    stacktrace.encode()


def test_what_stops_the_process_passes() -> None:
    class Stopping(Exception):
        def __str__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture_exception(Stopping())


def reachable(root: object) -> list[object]:
    """Everything that is kept alive by an object, code objects and types as far as their identity only."""
    found: dict[int, object] = {}
    todo = [root]
    while todo:
        value = todo.pop()
        if id(value) in found:
            continue
        found[id(value)] = value
        if not isinstance(value, (types.CodeType, type)):
            todo += gc.get_referents(value)
    return list(found.values())


@pytest.mark.parametrize(
    "raising", [*PLAIN, *([lambda: raise_group(caught(plain))] if sys.version_info >= (3, 11) else [])]
)
def test_a_capture_refers_to_no_exception_traceback_or_frame(raising: Callable[[], object]) -> None:
    captured = capture_exception(caught(raising)) if raising in PLAIN else capture_exception(raising())
    for value in reachable(captured):
        assert not isinstance(value, (BaseException, types.TracebackType, types.FrameType, types.ModuleType))
        assert isinstance(value, (CapturedException, tuple, str, int, types.CodeType, type, type(None)))


def test_a_capture_keeps_nothing_of_the_exception_alive() -> None:
    class Local(Exception):
        pass

    class Owned:
        pass

    def raising() -> None:
        owned = Owned()
        watches.append(weakref.ref(owned))
        error = Local(owned)
        watches.append(weakref.ref(error))
        watches.append(weakref.ref(sys._getframe().f_code))
        try:
            raise error
        except Local:
            raise SyntaxError("m", ("f", 1, 1, owned)) from error

    watches: list[weakref.ref[Any]] = [weakref.ref(Local)]
    try:
        raising()
    except SyntaxError as error:
        captured = capture_exception(error)
        stack = capture_stack(sys._getframe())
        render_exception(captured)
        render_stack(stack)
    raising = Local = Owned = None  # noqa: F811
    gc.collect()
    assert [watch() is None for watch in watches[:3]] == [True, True, True]
    assert captured
    assert stack


def deep_traceback(depth: int) -> BaseException:
    """Raises through as many different functions, so that no frame repeats another."""
    namespace: dict[str, Any] = {}
    lines = ["def f0(): raise ValueError('deep')"]
    lines += [f"def f{number}(): f{number - 1}()" for number in range(1, depth)]
    exec(compile("\n".join(lines), "<deep>", "exec"), namespace)
    return caught(namespace[f"f{depth - 1}"])


@pytest.mark.parametrize("depth", [MAX_FRAMES - 1, MAX_FRAMES, 300])
def test_frames_are_bounded_and_both_ends_kept(depth: int) -> None:
    error = deep_traceback(depth)
    captured = capture_exception(error)
    assert len(captured.links[0].frames) == min(depth + 1, MAX_FRAMES)
    lines = rendered(error).splitlines()
    left_out = depth + 1 - MAX_FRAMES
    if left_out <= 0:
        assert rendered(error) == printed(error)
    else:
        places = [line for line in lines if "<deep>" in line]
        assert f"  ... {left_out} frames left out" in lines
        assert places[HEAD_FRAMES - 2].endswith(f"in f{depth - HEAD_FRAMES + 1}")
        assert places[HEAD_FRAMES - 1].endswith(f"in f{TAIL_FRAMES - 1}")
        assert places[-1].endswith("in f0")


def test_chains_are_bounded() -> None:
    error: BaseException | None = None
    for number in range(MAX_CHAIN_LINKS + 5):
        error, before = Custom(str(number)), error
        error.__cause__ = before
    assert error is not None
    captured = capture_exception(error)
    assert len(captured.links) == MAX_CHAIN_LINKS
    text = rendered(error)
    assert text.startswith("... earlier exceptions left out\n\nThe above exception was the direct cause")
    assert text.endswith(f"Custom: {MAX_CHAIN_LINKS + 4}\n")


@has_groups
def test_groups_are_bounded_in_width_depth_and_all() -> None:
    wide = ExceptionGroup("wide", [Custom(str(number)) for number in range(1000)])
    assert len(capture_exception(wide).links) == 1 + MAX_GROUP_MEMBERS
    assert f"and {1000 - MAX_GROUP_MEMBERS} more exceptions" in rendered(wide)
    deep: Exception = Custom("bottom")
    for number in range(50):
        deep = ExceptionGroup(str(number), [deep])
    assert len(capture_exception(deep).links) == 1 + MAX_GROUP_DEPTH
    assert "and 1 more exception\n" in rendered(deep)
    broad: Exception = Custom("leaf")
    for _ in range(4):
        broad = ExceptionGroup("broad", [broad] * 10)
    assert len(capture_exception(broad).links) == MAX_EXCEPTIONS
    assert "more exceptions" in rendered(broad)


def test_texts_and_notes_are_bounded() -> None:
    error = ValueError("x" * (MAX_TEXT_LENGTH + 7))
    error.__notes__ = [str(number) for number in range(MAX_NOTES + 3)]
    _, message, text = render_exception(capture_exception(error))
    assert message.endswith("x... 7 characters left out")
    assert text.endswith(f"\n{MAX_NOTES - 1}\n... 3 notes left out\n")


def test_the_text_of_a_frame_is_bounded(tmp_path: Any) -> None:
    path = tmp_path / "minified.py"
    path.write_text("x = 1;" * 10_000 + "raise ValueError('long')")
    error = caught(lambda: exec(compile(path.read_text(), str(path), "exec")))
    assert len(rendered(error)) < MAX_FRAME_TEXT_LENGTH + 2000


def test_what_is_remembered_is_bounded() -> None:
    code = plain.__code__
    for offset in range(MAX_REMEMBERED_FRAMES + 10):
        stacktrace_module._describe_frame(code, -offset - 2, False)
        assert len(stacktrace_module._remembered_frames) <= MAX_REMEMBERED_FRAMES


def test_equal_code_of_two_files_is_told_apart() -> None:
    errors = [caught(lambda name=name: exec(compile("raise ValueError", name, "exec"))) for name in ("<one>", "<two>")]
    assert 'File "<one>"' in rendered(errors[0])
    assert 'File "<two>"' in rendered(errors[1])


def test_a_capture_tells_about_how_large_it_is() -> None:
    assert capture_exception(ValueError("x" * 1000)).size_bytes > 1000
    assert capture_exception(deep_traceback(50)).size_bytes > 5000
    assert capture_stack(sys._getframe()).size_bytes > 0


def in_a_thread(work: Callable[[], None]) -> None:
    """Run where the stack begins with `threading`: below a test may stand code that was given to `python -c`."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def test_a_stack_reads_as_logging_prints_it() -> None:
    in_a_thread(_compare_with_logging)


def _compare_with_logging() -> None:
    logger = logging.Logger("tests.stack")
    seen: list[tuple[str | None, str]] = []
    frame = sys._getframe()

    def look(record: logging.LogRecord) -> bool:
        # While `frame` stands at the very call that logs.
        seen.append((record.stack_info, render_stack(capture_stack(frame))))
        return False

    logger.addFilter(look)
    logger.info("m", stack_info=True)
    assert seen[0][0] == seen[0][1]


def test_a_recursing_stack_reads_as_python_prints_it() -> None:
    in_a_thread(_compare_with_traceback)


def _compare_with_traceback() -> None:
    def dig(depth: int) -> tuple[str, str]:
        if depth:
            return dig(depth - 1)
        stream = io.StringIO(); traceback.print_stack(sys._getframe(), file=stream); text = render_stack(capture_stack(sys._getframe()))  # noqa: E501,E702  # fmt: skip
        return stream.getvalue().rstrip("\n"), text.partition("\n")[2]

    expected, text = dig(20)
    assert "Previous line repeated" in text
    assert text == expected


def test_a_stack_is_bounded_to_its_inner_frames() -> None:
    def dig(depth: int) -> str:
        return dig(depth - 1) if depth else render_stack(capture_stack(sys._getframe(), 5))

    text = dig(3)
    assert text.startswith("Stack (most recent call last):\n  ... outer frames left out\n")
    assert len(capture_stack(sys._getframe(), 2).frames) == 2


def test_names_and_lines_come_from_the_code() -> None:
    def inner() -> tuple[str, int, int]:
        frame = sys._getframe(); return qualified_name(frame.f_code), line_number(frame.f_code, frame.f_lasti), frame.f_lineno  # noqa: E501,E702  # fmt: skip

    name, line, expected = inner()
    assert line == expected
    assert name.endswith("inner")
    assert line_number(inner.__code__, -1) == inner.__code__.co_firstlineno
    assert line_number(inner.__code__, 10**9) == inner.__code__.co_firstlineno
    if sys.version_info >= (3, 11):
        assert name == "test_names_and_lines_come_from_the_code.<locals>.inner"
