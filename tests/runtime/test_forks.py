"""A few forks over each way; `python -m tests.forks` makes two thousand."""

from __future__ import annotations

import os

import pytest

from tests.forks import run_row

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@pytest.mark.parametrize(
    ("way", "mode"),
    [("http", "answers"), ("tls", "hangs"), ("grpc", "answers"), ("grpc", "fails"), ("several", "answers")],
)
def test_forks_neither_hang_nor_lose_nor_touch_what_is_not_theirs(way: str, mode: str) -> None:
    result = run_row(way, mode, 9)
    assert result.forks >= 9
