"""A method that is made anew with a question before it is the same method in everything that can be seen of it."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from otelog._patches.call_preface import compile_with_question

SOURCE = '''\
import sys

SWITCH = True


class Place:
    def plain(self, one, two=2, *, three=3):
        found = sys.exc_info()
        return self, one, two, three, found

    def told(self, one):
        """What it does."""
        values = [one for one in (one, (1 /
            one))]
        return values

    def twice(self, one):
        def twice(other):
            return other, one
        return twice(self)
'''


SEEN = (
    *("co_name", "co_qualname", "co_filename", "co_firstlineno", "co_flags", "co_names"),
    *(
        "co_argcount",
        "co_posonlyargcount",
        "co_kwonlyargcount",
        "co_nlocals",
        "co_varnames",
        "co_freevars",
        "co_cellvars",
    ),
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "a_library.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("a_library")
    del sys.modules["a_library"]


def refuse(*arguments: Any) -> bool:
    return False


def with_question(method: Any, condition: str, **values: Any) -> Any:
    code = compile_with_question(method.__code__, condition, values)
    assert code is not None
    method.__code__ = code
    return method


@pytest.mark.parametrize("name", ["plain", "told", "twice"])
def test_all_that_can_be_seen_stays(module: ModuleType, name: str) -> None:
    method = getattr(module.Place, name)
    before = method.__code__
    code = with_question(method, "ASK(self, one)", ASK=refuse).__code__
    for attribute in SEEN:
        assert getattr(code, attribute, None) == getattr(before, attribute, None), attribute
    assert {line for *_, line in code.co_lines()} == {line for *_, line in before.co_lines()}
    assert method.__doc__ == (before.co_consts[0] if name == "told" else None)


@pytest.mark.filterwarnings("error")
def test_it_returns_none_where_the_condition_holds(module: ModuleType) -> None:
    asked = []
    method = with_question(
        module.Place.plain,
        "one is MARK and SWITCH and ASK(self, one)",
        MARK="x",
        ASK=lambda *given: not asked.append(given),
    )
    assert method("self", "y") == ("self", "y", 2, 3, (None, None, None))
    assert asked == []
    assert method("self", "x") is None
    assert asked == [("self", "x")]
    module.SWITCH = False
    assert method("self", "x") == ("self", "x", 2, 3, (None, None, None))


def test_a_traceback_shows_what_it_showed(module: ModuleType) -> None:
    shown = []
    for condition in (None, "ASK(self, one)"):
        method = module.Place.told if condition is None else with_question(module.Place.told, condition, ASK=refuse)
        try:
            method(None, 0)
        except ZeroDivisionError:
            shown.append(traceback.format_exc().partition("a_library")[2])
    assert shown[0] == shown[1] != ""


def test_a_source_that_is_another_or_not_there_is_not_used(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = module.Place.plain.__code__
    path = tmp_path / "a_library.py"
    for text in (
        SOURCE.replace("two=2", "two=2, more=0"),
        SOURCE.replace("found = sys", "\n        found = sys"),
        SOURCE.replace("class Place", "\nclass Place"),
        SOURCE.replace("def plain(", "def plain(("),
        "",
    ):
        path.write_text(text)
        assert compile_with_question(code, "ASK()", {"ASK": refuse}) is None
    path.unlink()
    assert compile_with_question(code, "ASK()", {"ASK": refuse}) is None
    path.write_text(SOURCE)
    assert compile_with_question(code, "ASK()", {"ASK": refuse}) is not None
    monkeypatch.setattr(module, "__spec__", None)
    assert compile_with_question(code, "ASK()", {"ASK": refuse}) is None
    assert compile_with_question(refuse.__code__.replace(co_filename="<made>"), "ASK()", {"ASK": refuse}) is None
