"""What otelog has put in place is known again, whoever copies or wraps it."""

from __future__ import annotations

import functools
from collections.abc import Callable

from otelog._runtime.replacing import find_original, is_ours, keep, mark


def original() -> str:
    return "original"


def put_in_place(below: Callable[[], str]) -> Callable[[], str]:
    def ours() -> str:
        return f"ours({below()})"

    mark(ours, below)
    return ours


def test_what_is_nobodys_is_its_own_original() -> None:
    for one in (original, len, 7, None, print, object()):
        assert find_original(one) is one
        assert not is_ours(one)


def test_the_original_is_found_below_several_copies() -> None:
    once = put_in_place(original)
    twice = put_in_place(once)
    assert find_original(once) is find_original(twice) is original
    assert is_ours(once) and is_ours(twice)


def test_a_wrapper_of_somebody_else_is_not_ours() -> None:
    ours = put_in_place(original)

    @functools.wraps(ours)
    def theirs() -> str:
        return f"theirs({ours()})"

    # wraps copies all attributes.
    assert theirs.__dict__.keys() >= ours.__dict__.keys()
    assert not is_ours(theirs)
    assert find_original(theirs) is theirs


def test_a_method_is_known_by_its_function() -> None:
    class Library:
        method = put_in_place(original)

    assert is_ours(Library().method)
    assert is_ours(Library.method)


def test_what_is_kept_is_the_same_when_a_module_is_loaded_again() -> None:
    namespace: dict[str, object] = {}
    for make in (set, list):
        namespace["known"] = keep(namespace, "known", make)
    assert type(namespace["known"]) is set
