"""Values that JSON can say, hostile ones among them, from a seed; and what of them arrives."""

from __future__ import annotations

import random
import string
from typing import Any


def make_text(chance: random.Random) -> str:
    """Returns a text of up to 60 characters of any kind."""
    kinds = (
        string.printable,
        "äßλ漢字\u2028\x00\x1b\x7f",
        "😀\udfff\udc80",
        '"\\/{}%s%(x)s$',
    )
    letters = "".join(kinds[: chance.randrange(1, 5)])
    return "".join(chance.choice(letters) for _ in range(chance.choice((0, 1, 3, 8, 60))))


def make_value(chance: random.Random, depth: int = 0) -> Any:
    """Returns a scalar or a nested container."""
    kind = chance.randrange(10 if depth < 5 else 7)
    if kind == 0:
        return None
    if kind == 1:
        return chance.random() < 0.5
    if kind == 2:
        return chance.choice((0, -1, 2**31, -(2**63), 2**63 - 1, 2**63, 10**60, chance.randrange(-(2**40), 2**40)))
    if kind == 3:
        return chance.choice((0.0, -0.5, 1e300, 1e-320, chance.random()))
    if kind < 7:
        return make_text(chance)
    size = chance.randrange(5)
    if kind == 7:
        return [make_value(chance, depth + 1) for _ in range(size)]
    if kind == 8:
        return tuple(make_value(chance, depth + 1) for _ in range(size))
    return {make_text(chance)[:20] or "key": make_value(chance, depth + 1) for _ in range(size)}


def as_it_arrives(value: Any) -> Any:
    """Returns what JSON says, as far as OTLP can."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {as_it_arrives(key): as_it_arrives(one) for key, one in value.items()}
    if isinstance(value, list):
        return [as_it_arrives(one) for one in value]
    if type(value) is int and not -(2**63) <= value < 2**63:
        return str(value)
    return value
