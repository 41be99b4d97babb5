"""DuckDB and reading give the same answer to every question, whatever is in the files."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelog.cli.search.search import Search
from otelog.cli.show.filters import Filters, Record

pytest.importorskip("duckdb")

from otelog.cli.search.duck import MAX_LINE_BYTES, Duck
from tests.sizes import sized

NOW = datetime(2026, 11, 24, 20, 0, tzinfo=timezone.utc)
FIRST = {"timestamp": NOW.isoformat(timespec="microseconds"), "level": "INFO", "message": "paid"}
FILTERS = [
    Filters(),
    Filters(level=17),
    Filters(level=10),
    Filters(level=1),
    Filters(since=NOW, until=NOW + timedelta(hours=1)),
    Filters(until=NOW),
    Filters(logger="shop"),
    Filters(logger="None"),
    Filters(service="shop"),
    Filters(service=""),
    Filters(trace_id="0AF7"),
    Filters(text="PAID"),
    Filters(text="订单"),
    Filters(text="ss"),
    Filters(text="\u0131"),
    Filters(text="i̇"),
    Filters(text="\u03c3"),
    Filters(text="null"),
    *(
        Filters(where=(("n", value),))
        for value in ("7", "7.0", "0", "-0", "-0.0", "1e22", "1e+22", "NaN", "Infinity", "true", "", "x", "[1]", "[]")
    ),
    *(
        Filters(where=(("n", str(number)),))
        for number in (2**63 - 1, 2**64 - 1, 2**64, 2**70, 10**22, 1.5, 1e-7, 1e308)
    ),
    Filters(where=(("n", '{"a": 1}'),)),
    Filters(where=(("a.b", "it's"), ("level", "INFO"))),
    Filters(where=(("service", "shop"),)),
    Filters(where=(("attributes", "{}"),)),
    Filters(where=(("größe", "1"),)),
    Filters(where=(('quo"te', "1"),)),
    Filters(level=9, text="paid", logger="shop", where=(("n", "7"),), since=NOW - timedelta(days=1)),
]
GROUPS: list[tuple[str, ...]] = [(), ("level",), ("n",), ("service",), ("a.b", "message"), ("größe",), ("attributes",)]

NUMBERS = [
    *("7", "7.0", "-0", "0", "-0.0", "0.0", "1e22", "1E+2", "1.10", "1.5", "1e-7", "1e308", "1e999", "-1e999"),
    *("NaN", "Infinity", "-Infinity", "nan", "inf", "INF", "-nan", "nAn", "infinity", "01", "+1", ".5", "5.", "0x10"),
    *("9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551615", "1_0"),
    *("18446744073709551616", "1180591620717411303424", "10000000000000000000000", "12345678901234567890.5"),
    "0.1234567890123456789",
]
VALUES = [
    *NUMBERS,
    "9" * 4000,
    "9" * 5000,
    *(
        "true",
        "false",
        "null",
        '""',
        '"7"',
        '"true"',
        '"x"',
        '"it\'s"',
        '"\\u0078"',
        '"\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\/"',
    ),
    *(
        "[1]",
        "[]",
        "[1,]",
        "{}",
        '{"a": 1}',
        '{"a": 1, "a": 2}',
        '{"message": 1}',
        "[NaN]",
        "[nan ]",
        "[[nan]]",
        '["a", ]',
    ),
    "[" * 300 + "]" * 300,
    "[" * 3000 + "]" * 3000,
    '{"a":' * 3000 + "1" + "}" * 3000,
]
MESSAGES = [
    "paid", "PAID", "订单 PAID", "Straße", "STRASSE", "İstanbul", "Kelvin K paid", "ΟΔΟΣ", "Σ", "ᏸ paid", "🎉 paid",
    "x: nan, y", "a [inf] b", "tail ,}", '"level": "ERROR"', "two\nlines\u2028", "\x7f\x9b", "\x00nul", "attributes",
    "\U0001e921 paid",
]  # fmt: skip
TIMES = [
    "2026-11-24T20:00:00.000000+00:00", "2026-11-24T20:59:59.999999+00:00", "2026-11-24T21:00:00.000000+00:00",
    "2026-11-25T01:30:00.000000+05:30", "2026-11-24T20:00:00+00:00", "2026-11-24T20:00:00.000000", "2026-11-24",
    "2026-02-31T20:00:00.000000+00:00", "2026-11-24T24:00:00.000000+00:00", "0000-01-01T00:00:00.000000+00:00",
    "2026-11-24T20:00:60.000000+00:00", "2026-11-24 20:00:00.000000+00:00", "2026-11-24T20:00:00.000000Z", "soon", "",
    "1969-12-31T23:59:59.000000-14:59", "2026-11-24T20:00:00.000000+23:59", "0001-01-01T00:00:00.000000+01:00",
]  # fmt: skip
LEVELS = ["INFO", "info", "ERROR", "CRITICAL", "TRACE", "Level 25", "NOTICE", "40", "", "UNSPECIFIED", "Warning"]


def line(**more: Any) -> str:
    return json.dumps({**FIRST, **more}, ensure_ascii=False)


def hostile_lines() -> list[str]:
    lines = [line(n=7, logger="shop.web", **{"service.name": "shop", "a.b": "it's"})] * 3
    lines += [f'{line()[:-1]}, "n": {value}}}' for value in VALUES]
    lines += [line(message=message, n=at) for at, message in enumerate(MESSAGES)]
    lines += [json.dumps({**FIRST, "message": message}) for message in MESSAGES]
    lines += [line(timestamp=moment) for moment in TIMES]
    lines += [line(level=level) for level in LEVELS]
    for key in ("level", "timestamp", "message", "logger", "trace_id", "service.name", "service", "severity_number"):
        lines += [
            f'{line()[:-1]}, "{key}": {value}}}'
            for value in ("null", "7", '"ERROR"', '"shop"', "[1]", '{"a": 1}', "true")
        ]
        lines.append(line(**{key: "x"})[:-1] + ', "\\u00' + f'{ord(key[0]):02x}{key[1:]}": "shop"}}')
    lines += [
        line(trace_id="0af7651916cd43dd8448eb211c80319c"),
        line(logger="shop"),
        line(logger="shopping"),
        line(logger="None"),
        line(service="shop"),
        line(**{"service.name": "box", "service": "shop"}),
        line(**{"größe": 1, 'quo"te': 1}),
        line(attributes={"n": 7, "a.b": "it's"}, severity_number=17, service="shop"),
        line(attributes="mine", n=7),
        '{"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "paid"}}]}]}]}',
        '{"resourceLogs": 5}',
        *(
            "",
            "   ",
            "\t",
            "{}",
            "[]",
            "null",
            "7",
            '"x"',
            '"message"',
            '["message"]',
            '{"message"',
            '{"message": 1} {}',
            "\x0c",
        ),
        '{"timestamp": "2026-',
        line() + ",",
        line() + " \t",
        " " + line(),
        line()[:-1] + ",}",
        line()[:-1] + ', "x": [1, ] }',
        "// " + line(),
        line(text='a"}\\'),
    ]
    return lines


def ask(path: Path, filters: Filters, duckdb_from_bytes: int | None, groups: list[tuple[str, ...]]) -> list[Any]:
    search = Search([path], filters, duckdb_from_bytes=duckdb_from_bytes)
    answers: list[Any] = [[json.dumps(record) for record in search.records()], search.unreadable]
    for fields in groups:
        search = Search([path], filters, duckdb_from_bytes=duckdb_from_bytes)
        answers += [search.group(fields), search.unreadable]
    return answers


def assert_same(path: Path, filters: Filters) -> None:
    groups = [("level", "n")] if filters else GROUPS
    by_reading, by_duckdb = ask(path, filters, None, groups), ask(path, filters, 0, groups)
    for read, found in zip(by_reading, by_duckdb, strict=True):
        assert found == read


def write(path: Path, lines: list[str]) -> Path:
    path.write_bytes("\n".join([line(), *lines]).encode("utf-8", "surrogatepass"))
    return path


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_every_question_has_the_same_answer_over_hostile_lines(tmp_path: Path, filters: Filters) -> None:
    assert_same(write(tmp_path / "app.log", hostile_lines()), filters)


KEYS = st.sampled_from(
    ["n", "level", "message", "timestamp", "logger", "service", "service.name", "trace_id", "a.b", "x"]
)
TEXTS = st.text(max_size=8) | st.sampled_from([*MESSAGES, *TIMES, *LEVELS])
ANY = (
    st.sampled_from(VALUES[:-2]) | TEXTS.map(json.dumps) | TEXTS.map(lambda text: json.dumps(text, ensure_ascii=False))
)
OBJECTS = st.lists(st.tuples(KEYS, ANY), max_size=6).map(
    lambda pairs: "{" + ", ".join(f'"{key}": {value}' for key, value in [*pairs, ("message", '"paid"')]) + "}"
)


@given(
    lines=st.lists(
        OBJECTS | st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\n\r\x01"), max_size=30),
        max_size=12,
    ),
    filters=st.sampled_from(FILTERS),
)
@settings(max_examples=sized(15, full=30))
def test_every_question_has_the_same_answer_over_any_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], filters: Filters
) -> None:
    assert_same(write(tmp_path_factory.mktemp("any") / "app.log", lines), filters)


@pytest.mark.parametrize(
    "tail",
    [
        b"\xff\xfe broken\n",
        b"a\x01b\n",
        b"a\x00b\n",
        b'{"message": "a\x00b"}\n',
        b'{"message": 1}\r{"message": 2}\n',
        b'{"message": 1}\r\n{"message": 2}\r\n',
        b'{"message": "\xed\xa0\x80"}\n',
        b"\xef\xbb\xbf" + line().encode() + b"\n",
        b'{"message": "' + b"x" * (MAX_LINE_BYTES + 10) + b'"}\n',
        line().encode(),
        line().encode()[:-9],
    ],
    ids=lambda tail: repr(tail[:30]),
)
def test_a_file_that_duckdb_cannot_take_is_read(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "app.log"
    # More than DuckDB gives at once: some lines are given before it fails.
    path.write_bytes(b"".join(line(n=n, level="ERROR").encode() + b"\n" for n in range(3_000)) + tail)
    for filters in (Filters(level=17), Filters(text="paid", where=(("n", "2999"),))):
        assert ask(path, filters, 0, [()]) == ask(path, filters, None, [()])


@pytest.mark.parametrize("name", ["a[1].log", "a*.log", "it's.log", "a b.log", "größe.log"])
def test_any_name_of_a_file_is_taken(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a1.log", [line()])
    assert_same(write(tmp_path / name, [line(n=7)]), Filters(where=(("n", "7"),)))


def test_packed_files_are_searched_too(tmp_path: Path) -> None:
    plain = "\n".join([line(), *hostile_lines()]).encode("utf-8", "surrogatepass")
    (tmp_path / "app.log.gz").write_bytes(gzip.compress(plain[:500]) + gzip.compress(plain[500:]))
    assert_same(tmp_path / "app.log.gz", Filters(level=9))
    zstandard = pytest.importorskip("zstandard")
    (tmp_path / "app.log.zst").write_bytes(zstandard.compress(plain))
    assert_same(tmp_path / "app.log.zst", Filters(level=9))


@pytest.mark.parametrize("duckdb_from_bytes", [None, 0])
def test_a_file_that_was_packed_after_it_was_found_is_still_searched(
    tmp_path: Path, duckdb_from_bytes: int | None
) -> None:
    (tmp_path / "app.20261124-212937-0001.log.gz").write_bytes(gzip.compress(line().encode()))
    search = Search([tmp_path / "app.20261124-212937-0001.log"], Filters(), duckdb_from_bytes=duckdb_from_bytes)
    assert (search.count(), len(list(search.records()))) == (1, 1)


def test_what_is_usual_is_certain_to_duckdb(tmp_path: Path) -> None:
    usual: Record = {"logger": "shop", "n": 7, "real": 1.5, "flag": True, "none": None, "list": [], "map": {"a": [1]}}
    path = write(
        tmp_path / "app.log", [line(**usual, message="Straße 订单 ✓ paid" if n % 2 else "paid") for n in range(10)]
    )
    filters = Filters(level=9, since=NOW, logger="shop", where=(("n", "7"),))
    counts, lines = Duck(filters, ("level", "real", "flag", "none")).group(path)
    assert (Counter(counts), lines) == (Counter({("INFO", "1.5", "true", ""): 10}), [])
    assert all(certain for _, certain in Duck(filters).select(path))


def test_where_many_records_match_they_are_read_and_else_left_to_duckdb(tmp_path: Path) -> None:
    lines = [line(level="INFO" if number % 10 else "ERROR", n=number) for number in range(500)]
    path = write(tmp_path / "app.log", lines)
    for level, many in ((9, True), (17, False)):
        search = Search([path], Filters(level=level), duckdb_from_bytes=1)
        assert search._match_many(path) is many
        assert len(list(search.records())) == len(list(Search([path], Filters(level=level)).records()))
