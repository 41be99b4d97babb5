"""DuckDB's judgement of a file of lines: what it is certain of it says, every other line it hands back.

Python's reading (`log_files.read_line`, `Filters.matches`) is the truth. DuckDB's JSON differs from it in corners
(duplicate keys, NaN, trailing commas, numbers of any size, lone surrogates, other letter cases), so that a condition is
true, false or unknown here, and a line that lies in such a corner is unknown as a whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb

from otelog.cli.show.filters import Filters, severity_of_level

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A file with a longer line is read."""

FETCHED_ROWS = 2000
MEMORY_LIMIT = "1GB"

Values = tuple[str, ...]

# A key that SQL finds by its plain text: nothing in it could be escaped in one line and not in another.
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.:@ -]+")
# What DuckDB takes for JSON and Python does not: a trailing comma, other spellings of Infinity and NaN.
_NO_NUMBER = r"-?(?:[iI][nN][fF](?:[iI][nN][iI][tT][yY])?|[nN][aA][nN])\s*[,}\]]"
# One pattern for each first letter: where that is one, the search is several times as fast.
_ODD = (rf",\s*(?:[}}\]]|{_NO_NUMBER})", rf":\s*{_NO_NUMBER}", rf"\[\s*{_NO_NUMBER}")
# Keys of lines that are read in another way: older ones, and documents of the Collector.
_OTHER_KEYS = ("attributes", "resourceLogs", "severity_number")
# Python gives up at some depth, and at some number of digits; DuckDB does not.
_LONG, _MANY_BRACKETS, _MANY_DIGITS = 800, 400, 1000
_LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "WARNING", "ERROR", "CRITICAL", "FATAL", "UNSPECIFIED")
_INTEGERS = "'UBIGINT', 'BIGINT'"
_TIMESTAMP = (
    r"[12][0-9]{3}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}[.][0-9]{6}[+-](?:0[0-9]|1[0-4]):[0-5][0-9]"
)
# Letters whose lower case is the same in every version of Unicode, and writing without cases.
_CASED_ALIKE = (
    r"[\x{01}-\x{12f}\x{132}-\x{17f}\x{400}-\x{45f}\x{2010}-\x{2027}"
    r"\x{3000}-\x{9fff}\x{ac00}-\x{d7a3}\x{ff00}-\x{ff20}]*"
)


class DuckError(Exception):
    """The file must be read: DuckDB cannot take it, or not in its memory."""


class Duck:
    """One question to DuckDB, for any number of files.

    Args:
        filters: What is asked of the records.
        fields: What they are grouped by.

    Raises:
        DuckError: The question cannot be put into SQL.

    Thread safety: for one thread.
    """

    def __init__(self, filters: Filters, fields: Values = ()) -> None:
        self._keys = ["message"]
        self._conditions = list(self._make_conditions(filters))
        self._groups = [self._find(field) for field in fields]
        for key in self._keys:
            if not _PLAIN_KEY.fullmatch(key) or key in _OTHER_KEYS:
                raise DuckError(f"the field {key!r} is not plain")
        try:
            "".join(self._conditions).encode()
        except UnicodeEncodeError as error:
            raise DuckError("a filter is no text") from error
        self._connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "memory_limit": MEMORY_LIMIT,
                # Else a folder for what does not fit is made where the command was started.
                "temp_directory": "",
            }
        )

    def select(self, path: Path) -> Iterator[tuple[str, bool]]:
        """Returns the lines that match, with True, and those which it does not know about, with False, in order.

        Raises:
            DuckError: Also after some lines.
        """
        yield from self._run(f"SELECT line, certain FROM ({self._judged()}) WHERE certain IS NOT FALSE", path)

    def group(self, path: Path) -> tuple[dict[Values, int], list[str]]:
        """Returns the counts of the lines that match, by the text of the fields, and the lines it does not know about.

        Raises:
            DuckError: Nothing is known of the file then.
        """
        kinds = [f"json_type({value})" for value in self._groups]
        texts = [f"json_extract_string({value}, '$')" for value in self._groups]
        sure = [_has_sure_text(kind, text) for kind, text in zip(kinds, texts, strict=True)]
        certain = (
            "certain" if not sure else f"CASE WHEN certain AND NOT ({' AND '.join(sure)}) THEN NULL ELSE certain END"
        )
        columns = ", ".join(
            [f"{what} AS c{at}" for at, what in enumerate([*kinds, *texts])] + [f"{certain} AS known", "line"]
        )
        names = [f"c{at}" for at in range(2 * len(self._groups))]
        # One scan for both: what is certain is counted, the rest keeps its text.
        rows = self._run(
            f"SELECT {', '.join([*(f'CASE WHEN known THEN {name} END' for name in names), ''])}"
            f" CASE WHEN known IS NULL THEN line END AS odd, count(*)"
            f" FROM (SELECT {columns} FROM ({self._judged()})) WHERE known IS NOT FALSE GROUP BY ALL",
            path,
        )
        counts: dict[Values, int] = {}
        odd: list[str] = []
        size = len(self._groups)
        for row in rows:
            line, number = row[-2:]
            if line is not None:
                odd += [line] * number
                continue
            values = tuple(_to_text(kind, text) for kind, text in zip(row[:size], row[size:-2], strict=True))
            counts[values] = counts.get(values, 0) + number
        return counts, odd

    def _run(self, sql: str, path: Path) -> Iterator[tuple[Any, ...]]:
        if set("*?[") & set(str(path)):
            raise DuckError("the path would be taken for a pattern")
        try:
            cursor = self._connection.execute(sql, [str(path)])
            while rows := cursor.fetchmany(FETCHED_ROWS):
                yield from rows
        except (duckdb.Error, RuntimeError, UnicodeError, MemoryError) as error:
            # Ctrl-C comes as either of the first two.
            if "interrupt" in str(error).lower():
                raise KeyboardInterrupt from error
            raise DuckError(str(error)) from error

    def _judged(self) -> str:
        """The lines, with their values `v`, and whether they match: true, false or unknown."""
        odd = " OR ".join(f"regexp_matches(line, {_quote(pattern)})" for pattern in _ODD)
        paths = ", ".join(f"""'$."{key}"'""" for key in self._keys)
        keys = _quote_all([*self._keys, *_OTHER_KEYS])
        # A key that comes twice has one value here, and another in Python.
        once = f"len([k FOR k IN json_keys(document) IF k IN ({keys})]) = len([x FOR x IN v IF x IS NOT NULL])"
        verdict = " AND ".join(self._conditions) or "TRUE"
        return f"""
            SELECT line, v, CASE WHEN v[1] IS NULL OR NOT ({once}) THEN NULL ELSE {verdict} END AS certain
            FROM (SELECT line, document, json_extract(document, [{paths}]) AS v FROM (
                SELECT line, CASE WHEN json_valid(line) AND NOT ({odd})
                    AND (length(line) < {_LONG} OR (NOT regexp_matches(line, '[0-9]{{{_MANY_DIGITS}}}')
                        AND length(line) - length(translate(line, '[{{', '')) < {_MANY_BRACKETS}))
                    THEN line END AS document
                FROM read_csv(?, delim=chr(1), quote='', escape='', header=false, columns={{'line': 'VARCHAR'}},
                    auto_detect=false, max_line_size={MAX_LINE_BYTES})
                WHERE line IS NOT NULL))"""

    def _find(self, field: str) -> str:
        """Returns the SQL of a field's JSON; what `value_of` reads."""
        if field == "service":
            return f"coalesce({self._find('service.name')}, {self._value('service')})"
        return self._value(field)

    def _value(self, key: str) -> str:
        if key not in self._keys:
            self._keys.append(key)
        return f"v[{self._keys.index(key) + 1}]"

    def _make_conditions(self, filters: Filters) -> Iterator[str]:
        if filters.level is not None:
            known = {name: severity_of_level(name) >= filters.level for name in _LEVELS}
            level = self._text("level")
            above, below = (_quote_all(name for name in known if known[name] is wanted) for wanted in (True, False))
            yield f"CASE WHEN {level} IN ({above}) THEN TRUE WHEN {level} IN ({below}) THEN FALSE END"
        if filters.service is not None:
            service = self._find("service")
            kind, text = f"json_type({service})", f"json_extract_string({service}, '$')"
            yield (
                f"CASE WHEN {kind} = 'VARCHAR' THEN {text} = {_quote(filters.service)}"
                f" WHEN {service} IS NULL OR {kind} = 'NULL' THEN FALSE END"
            )
        if filters.logger is not None:
            if not filters.logger:
                raise DuckError("every record without a logger has such a one")
            yield self._unless_null("logger", f"starts_with(concat({{}}, '.'), {_quote(filters.logger + '.')})")
        if filters.trace_id is not None:
            if not filters.trace_id:
                raise DuckError("every record has such a trace id")
            yield self._unless_null("trace_id", f"starts_with({{}}, {_quote(filters.trace_id.lower())})")
        if filters.text is not None:
            if not filters.text:
                raise DuckError("every record has such a text")
            yield self._unless_null(
                "message",
                f"CASE WHEN regexp_full_match({{}}, {_quote(_CASED_ALIKE)}, 's')"
                f" THEN contains(lower({{}}), {_quote(filters.text.lower())}) END",
            )
        for field, value in filters.where:
            yield _equals(self._find(field), value)
        for moment, sign in ((filters.since, ">="), (filters.until, "<")):
            if moment is not None:
                yield self._unless_null(
                    "timestamp",
                    f"CASE WHEN regexp_full_match({{}}, '{_TIMESTAMP}')"
                    f" THEN try_cast({{}} AS TIMESTAMPTZ) {sign} {_to_sql(moment)} END",
                )

    def _text(self, key: str) -> str:
        """Returns the SQL of a string, null if it is none."""
        value = self._value(key)
        return f"CASE WHEN json_type({value}) = 'VARCHAR' THEN json_extract_string({value}, '$') END"

    def _unless_null(self, key: str, condition: str) -> str:
        value = self._value(key)
        text = f"json_extract_string({value}, '$')"
        return (
            f"CASE WHEN json_type({value}) = 'VARCHAR' THEN {condition.replace('{}', text)}"
            f" WHEN {value} IS NULL OR json_type({value}) = 'NULL' THEN FALSE END"
        )


def _equals(value: str, wanted: str) -> str:
    kind, text = f"json_type({value})", f"json_extract_string({value}, '$')"
    try:
        # An equal text is an equal number, but not the other way round.
        number = f"CASE WHEN try_cast({text} AS DOUBLE) <> CAST('{float(wanted)}' AS DOUBLE) THEN FALSE END"
    except ValueError:
        number = "FALSE"
    container = "NULL" if wanted.startswith(("[", "{")) else "FALSE"
    return (
        f"CASE WHEN {value} IS NULL OR {kind} = 'NULL' THEN {not wanted}"
        f" WHEN {kind} IN ('VARCHAR', 'BOOLEAN') THEN {text} = {_quote(wanted)}"
        f" WHEN {kind} IN ({_INTEGERS}) THEN CASE WHEN {text} <> '-0' THEN {text} = {_quote(wanted)} END"
        f" WHEN {kind} = 'DOUBLE' THEN {number}"
        f" WHEN {kind} IN ('ARRAY', 'OBJECT') THEN {container} END"
    )


def _has_sure_text(kind: str, text: str) -> str:
    return (
        f"CASE WHEN {kind} IN ('VARCHAR', 'BOOLEAN', 'NULL') OR {kind} IS NULL THEN TRUE"
        f" WHEN {kind} IN ({_INTEGERS}) THEN {text} <> '-0'"
        f" WHEN {kind} = 'DOUBLE' THEN regexp_full_match({text}, '-?[0-9]{{1,15}}[.][0-9]{{1,17}}') ELSE FALSE END"
    )


def _to_text(kind: object, text: object) -> str:
    if kind is None or kind == "NULL":
        return ""
    return json.dumps(float(str(text))) if kind == "DOUBLE" else str(text)


def _to_sql(moment: datetime) -> str:
    return f"TIMESTAMPTZ '{moment.astimezone(timezone.utc).isoformat(sep=' ', timespec='microseconds')}'"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quote_all(texts: Iterable[str]) -> str:
    return ", ".join(_quote(text) for text in texts) or "NULL"
