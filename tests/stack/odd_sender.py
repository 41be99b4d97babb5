"""Logs records that a store may stumble over, each with a number; prints its books as one JSON line.

python -m tests.stack.odd_sender ENDPOINT NAME KIND

The kinds are the functions below.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber, get_logger_provider

import otelog
from tests.corpus import HOSTILE

Fields = dict[str, Any]

NAMES = [
    *("_", "-", "ключ", "名前", "\U0001f600", "", "__", "____", "__a__", "__error__", "заказ.id", "a ключ", "имя.id"),
    *("a.b", "a-b", "a_b", "a..b", "1a", "key_1a", "key.1a", "1", "\u0661", "_private", "@timestamp", "a\nb", 'q"q'),
    *("trace_id", "trace.id", "span_id", "flags", "severity_text", "severity.number", "event_name", "scope_name"),
    *("observed_timestamp", "detected_level", "dropped_attributes_count", "host.name", "service.name", "service_name"),
    *("code_file_path", "code.file.path", "thread_id", "odd_0123456789abcdef", "odd_x", "a<b>&c", "a,b", "[0]"),
    *("order_id", "user.name", "region", "http.request.header.content-type", "%s", "$0", "a#2", "a:b", "a/b"),
    *("a(b)c*", "b\\c", "a\tb", "otelog.x"),
]
VALUES = [
    *(1, -5, 12.5, 1e20, 1e-7, True, None, "", "text", "a b=c", 'q"', "line\nend", b"\xff\x00", [], {}, [1, 2], "{}"),
    *({"b": 1}, {"b": {"c": "x", "d": [1]}}, {"ключ": 1}, {"a": {}}, {"b": 1, "b.c": 2}, {"b.c": 1, "b": {"c": 2}}),
    *(["a", {"b": 1}], {"b": "<&>"}, [[1], [2, 3]], "é" * 100, 2**63 - 1, float("inf"), {"": 1}, "\u2028", "\x01"),
]
"""Odd and usual names, alone and beside each other, and values for them."""

COUNTS = (80, 90, *range(95, 125), 128, 140, 300, 600)
LENGTHS = (57_000, *range(58_000, 66_000, 250), 70_000, 400_000, 1_000_000, 1_100_000, 2_000_000)
"""Around the limits: numbers of fields, and lengths of one."""


def names(log: Any) -> Iterator[None]:
    """Each name alone, all in pairs that Loki makes one of, and many at random; each fourth a record without a body."""
    chance = random.Random(13)
    sets: list[Fields] = [{name: 1} for name in NAMES]
    sets += [
        {"a.b": 1, "a-b": 2, "a_b": 3},
        {"ключ": 1, "名前": 2},
        {"заказ.id": 1, "имя.id": 2},
        {"a": {"b": 1}, "a.b": 2},
    ]
    sets += [{name: chance.choice(VALUES) for name in chance.sample(NAMES, 5)} for _ in range(300)]
    sets += [{name: chance.choice(VALUES) for name in ("order_id", "user.name", "amount")} for _ in range(50)]
    tracer = trace.get_tracer(__name__)
    for number, fields in enumerate(sets):
        with tracer.start_as_current_span("work") if number % 2 else trace.use_span(trace.INVALID_SPAN):
            if number % 4 == 3:
                log.event("order.paid", number=number, **fields)
            else:
                log.info("record", number=number, **fields)
        yield


def neighbours(log: Any) -> Iterator[None]:
    """One odd record among a thousand."""
    for number in range(1001):
        log.info("record", **({"ключ": "значение", "number": number} if number == 500 else {"number": number}))
        yield


def events(log: Any) -> Iterator[None]:
    """Events without a body."""
    log.event("order.paid", number=0, amount=12.5, currency="EUR")
    yield
    log.event("order.shipped", number=1, to="a b", note='say "no"', items=[1, {"a": "<b>"}], user={"id": 5})
    yield
    log.event("order.long", number=2, text="é" * 500, **{f"field{n}": n for n in range(40)})
    yield
    log.event("order.counted", number=3)
    yield
    log.event("order.noted", "order %s has a body", 4, number=4)
    yield


def sizes(log: Any) -> Iterator[None]:
    """Fields in numbers and sizes around the limits of Loki's."""
    sets: list[Fields] = [{f"f{n}": n for n in range(count)} for count in COUNTS]
    sets += [{"gen_ai.answer": "x" * length, "after": 1} for length in LENGTHS]
    sets += [{"gen_ai.answer": "é" * 40_000}, {f"v{n}": "x" * 5_000 for n in range(30)}]
    sets += [{f"v{n}": "x" * (500 * n) for n in range(30)}, {f"{n}".rjust(900, "n"): "x" * 700 for n in range(100)}]
    sets += [{"inside": {f"k{n}": n for n in range(200)}}, {"inside": list(range(500)), "other": {"a": 1}}]
    sets += [{"ключ" * 250: "x", "名前" * 500: "y", **{f"f{n}": "x" * 600 for n in range(100)}}]
    for number, fields in enumerate(sets):
        log.info("record", number=number, **fields)
        yield


def places(log: Any) -> Iterator[None]:
    """Odd names in a scope, and fields beside those of the scope and the resource."""
    scope: Fields = {"ключ": 1, "a.b": 2, "a_b": 3, "c": "x" * 5000, "_": 4}
    logger = get_logger_provider().get_logger("places", "1.0", attributes=scope)
    fields: list[Fields] = [{}, {"ключ": 5, "c": 6}, {"host.name": 7, "region": 8, "страна": 9}, {"a.b": {"c": 10}}]
    for number, one in enumerate(fields):
        attributes = {"number": number, **one}
        logger.emit(LogRecord(body="record", severity_number=SeverityNumber.INFO, attributes=attributes))
        log.info("record", **{**attributes, "number": number + len(fields)})
        yield


def hostile(log: Any) -> Iterator[None]:
    """Every value of the corpus in every place, each with a neighbour that has the number after its own."""
    number = 0
    for name, make in HOSTILE:
        ways: list[Callable[[Any, Fields], object]] = [
            lambda value, fields: log.info("record", value=value, **fields),
            lambda value, fields: log.info("record", inside={"value": value}, **fields),
            lambda value, fields: log.event("case.tried", value=value, **fields),
        ]
        # Its text would have no end.
        if name != "list sharing its parts":
            ways += [lambda value, fields: log.info("record %s", value, **fields)]
            ways += [lambda value, fields: log.info(value, **fields)]
        for way in ways:
            way(make(), {"number": number, "case": name})
            log.info("neighbour", number=number + 1)
            number += 2
            yield


def main(endpoint: str, name: str, kind: str) -> None:
    otelog.configure(
        service_name=name,
        endpoint=endpoint,
        when_full="block",
        block_timeout=60.0,
        export_timeout_millis=60_000,
        max_attributes=1000,
    )
    otelog.get_logger("tests.corpus")
    log = otelog.get_logger("odd")
    kinds = (names, neighbours, events, sizes, places, hostile)
    for _ in {one.__name__: one for one in kinds}[kind](log):
        pass
    delivered = otelog.shutdown(timeout=60.0)
    stats = otelog.stats()
    books = {"delivered": delivered, "created": stats.created, "exported": stats.exported, "lost": stats.lost}
    print(json.dumps(books))


if __name__ == "__main__":
    main(*sys.argv[1:])
