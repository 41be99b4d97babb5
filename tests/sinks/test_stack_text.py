"""Stack traces for a person's eyes: whose frame a line belongs to, and what is left when there is little room."""

from __future__ import annotations

import builtins
import textwrap
import traceback
from typing import Any

import pytest

from otelog._record.stacktrace import capture_exception, render_exception
from otelog.sinks._readable import describe
from otelog.sinks._stack_text import fold_stack, read_stack

CHAINED = """\
Traceback (most recent call last):
  File "/app/.venv/lib/python3.11/site-packages/sqlalchemy/engine/base.py", line 1969, in _exec
    self.dialect.do_execute(
    ^^^^^^^^^^^^^^^^^^^^^^^^
  File "/usr/lib/python3.11/sqlite3/dbapi2.py", line 3, in connect
    raise OperationalError(message)
sqlite3.OperationalError: no such table: orders
and a second line of it

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "/app/shop/orders.py", line 12, in pay
    raise PaymentError("not paid") from error
  [Previous line repeated 7 more times]
  File "<frozen importlib._bootstrap>", line 241, in _call
shop.PaymentError: not paid
"""


def kinds(text: Any) -> list[str]:
    return [line.kind for line in read_stack(text)]


def test_whose_a_frame_is_is_told_by_its_file() -> None:
    assert kinds(CHAINED) == [
        "between",
        *["library"] * 5,
        *["error"] * 2,
        "",
        "between",
        "",
        "between",
        *["own"] * 3,
        "library",
        "error",
    ]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/app/shop.py", "own"),
        ("shop.py", "own"),
        ("/srv/python3/shop.py", "own"),
        ("/home/me/lib/shop.py", "own"),
        ("<string>", "own"),
        ("C:\\work\\shop.py", "own"),
        ("C:\\work\\venv\\Lib\\site-packages\\flask\\app.py", "library"),
        ("C:\\Python311\\Lib\\json\\decoder.py", "library"),
        ("/usr/lib/python3/dist-packages/yaml.py", "library"),
        ("/opt/python/lib64/python3.13/json/decoder.py", "library"),
        ("<frozen runpy>", "library"),
    ],
)
def test_a_path_is_the_applications_or_a_librarys(path: str, kind: str) -> None:
    own = '  File "/app/main.py", line 1, in main'
    assert kinds(f'{own}\n  File "{path}", line 7, in f\n    call()')[1:] == [kind, kind]


def test_where_all_frames_are_libraries_none_is_dim() -> None:
    assert "library" not in kinds('  File "/usr/lib/python3.11/json/decoder.py", line 7, in f\n    call()\nE: x')


def test_what_otelog_writes_of_a_real_exception_is_known_to_its_last_line() -> None:
    def fail() -> None:
        try:
            textwrap.dedent(5)  # type: ignore[type-var]
        except TypeError as error:
            raise RuntimeError("a\nb") from error

    with pytest.raises(RuntimeError) as caught:
        fail()
    text = render_exception(capture_exception(caught.value))[2]
    found = read_stack(text)
    assert [line.text for line in found] == text.rstrip("\n").split("\n")
    assert {line.kind for line in found if "textwrap.py" in line.text} == {"library"}
    assert {line.kind for line in found if "test_stack_text.py" in line.text} == {"own"}
    assert [line.text for line in found if line.kind == "error"][-2:] == ["RuntimeError: a", "b"]


def test_the_members_of_a_group_keep_their_margins() -> None:
    group = getattr(builtins, "ExceptionGroup", None)
    if group is None:
        pytest.skip("needs Python 3.11, for exception groups")
    try:
        raise group("two", [ValueError("one"), KeyError("other")])
    except Exception:
        found = read_stack(traceback.format_exc())
    assert {line.kind for line in found if "File" in line.text} == {"own"}
    assert [line.text.lstrip(" |") for line in found if line.kind == "error"] == [
        "ExceptionGroup: two (2 sub-exceptions)",
        "ValueError: one",
        "KeyError: 'other'",
    ]


@pytest.mark.parametrize("text", [None, 5, "", " \n", ["x"], {"a": 1}])
def test_what_is_no_stack_trace_has_no_lines(text: Any) -> None:
    assert read_stack(text) == []


def test_another_languages_trace_and_hostile_text_are_shown_harmless() -> None:
    java = "java.lang.IllegalStateException: no\n\tat shop.Order.pay(Order.java:12)\n\x1b[2J\u202e\r"
    assert [line.text for line in read_stack(java)] == [
        "java.lang.IllegalStateException: no",
        "    at shop.Order.pay(Order.java:12)",
        "\\x1b[2J\\u202e\\r",
    ]


def test_little_room_costs_a_librarys_frames_first_and_the_end_is_kept() -> None:
    lines = read_stack(CHAINED)
    assert [line.text for line in fold_stack(lines, 99)] == [line.text for line in lines]
    assert [line.text for line in fold_stack(lines, 14)] == [
        "Traceback (most recent call last):",
        "  ... 2 library frames",
        "sqlite3.OperationalError: no such table: orders",
        "and a second line of it",
        "",
        "The above exception was the direct cause of the following exception:",
        "",
        "Traceback (most recent call last):",
        '  File "/app/shop/orders.py", line 12, in pay',
        '    raise PaymentError("not paid") from error',
        "  [Previous line repeated 7 more times]",
        "  ... 1 library frame",
        "shop.PaymentError: not paid",
    ]
    assert [line.text for line in fold_stack(lines, 3)] == [
        "... 11 lines above",
        "  ... 1 library frame",
        "shop.PaymentError: not paid",
    ]
    assert [line.text for line in fold_stack(lines, 1)] == ["shop.PaymentError: not paid"]


def test_a_librarys_frames_are_dim_on_the_console_and_what_was_raised_is_red() -> None:
    pieces = describe({"message": "m", "exception.type": "E", "exception.stacktrace": CHAINED})
    styles = {text.strip(): style for text, style in pieces}
    assert styles["self.dialect.do_execute("] == "dim"
    assert styles['File "/app/shop/orders.py", line 12, in pay'] == ""
    assert styles["shop.PaymentError: not paid"] == "red"
