"""The client, `otelog query` and `otelog tail` against a real Loki, and Loki as the direct target of OTLP."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from click.testing import CliRunner

from otelog.cli.commands import otelog
from otelog.loki import Entry, LokiClient, LokiError
from tests.stack.conftest import build
from tests.stack.loki_server import LokiServer
from tools.waiting import wait_until

SENDER = Path(__file__).with_name("loki_sender.py")
SENDER_SECONDS = 120
MS = 1_000_000
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def loki_binary() -> Path:
    """Loki's executable: the one that is named, or the one of the stack."""
    named = os.environ.get("OTELOG_TEST_LOKI")
    return Path(named) if named else build("loki")


@pytest.fixture(scope="module")
def loki(loki_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LokiServer]:
    """One Loki for all tests here; each has services of its own."""
    server = LokiServer(loki_binary, tmp_path_factory.mktemp("loki"))
    yield server
    server.kill()


@pytest.fixture
def client(loki: LokiServer) -> Iterator[LokiClient]:
    with LokiClient(loki.url) as made:
        yield made


def a_second_ago() -> int:
    """A whole millisecond, a little in the past."""
    return (time.time_ns() - SECOND) // MS * MS


# The client.


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_all_entries_come_once_though_pages_end_in_a_nanosecond_of_several_streams(
    loki: LokiServer, client: LokiClient, direction: Literal["forward", "backward"]
) -> None:
    name, start = f"pages-{direction}", a_second_ago()
    wanted = 0
    for stream in ("a", "b", "c"):
        # 2,100 entries of 700 moments, 7,500 of one moment, 2,100 of 700 moments more.
        values = [(start + n, f"before {n}", {}) for n in range(700)]
        values += [(start + 1000, f"same {n}" if n % 2 else f"é😀\n{n}", {}) for n in range(2500)]
        values += [(start + 2000 + n, "after", {}) for n in range(700)]
        loki.push(values, service_name=name, part=stream)
        wanted += len(values)
    # Equal but for their metadata.
    loki.push([(start + 1001, "equal", {"id": f"x{n}"}) for n in range(5500)], service_name=name)
    wanted += 5500
    found = list(
        client.query_range(f'{{service_name="{name}"}} # all', start=start, end=start + MS, direction=direction)
    )
    assert (len(found), max(Counter(entry.key for entry in found).values())) == (wanted, 1)
    times = [entry.timestamp_ns for entry in found]
    assert times == sorted(times, reverse=direction == "backward")


def test_a_start_is_included_and_an_end_is_not_in_entries_and_counts(loki: LokiServer, client: LokiClient) -> None:
    start = a_second_ago()
    offsets = [0, 1, 2, MS - 1, MS, MS + 1, 5 * MS, 5 * MS + 7]
    loki.push([(start + offset, f"at {offset}", {"kind": "edge"}) for offset in offsets], service_name="edges")
    query = '{service_name="edges"}'
    borders = sorted({offset + more for offset in offsets for more in (0, 1)})
    for first in borders:
        for last in borders:
            expected = [offset for offset in offsets if first <= offset < last]
            bounds = {"start": start + first, "end": start + last}
            found = [entry.timestamp_ns - start for entry in client.query_range(query, **bounds, direction="forward")]
            assert found == expected
            assert client.count(query, **bounds) == len(expected)
    assert client.count_by(query, ["kind", "none"], start=start, end=start + SECOND) == {("edge", ""): len(offsets)}


def test_counts_by_more_values_than_loki_gives_series_are_right(loki: LokiServer, client: LokiClient) -> None:
    start = a_second_ago()
    loki.push([(start + n, "x", {"id": f"n{n % 700}"}) for n in range(1400)], service_name="many")
    counts = client.count_by('{service_name="many"}', ["id"], start=start, end=start + SECOND)
    assert counts == {(f"n{n}",): 2 for n in range(700)}


def test_large_entries_come_in_smaller_pages(loki: LokiServer, client: LokiClient) -> None:
    start = a_second_ago()
    loki.push([(start + n, f"{n} ".ljust(20_000, "x"), {}) for n in range(1500)], service_name="large")
    found = client.query_range('{service_name="large"}', start=start, end=start + SECOND, direction="forward")
    assert [int(entry.line.split()[0]) for entry in found] == list(range(1500))


def test_what_an_entry_has_is_told_apart(loki: LokiServer, client: LokiClient) -> None:
    start = a_second_ago()
    loki.push([(start, '{"n": 5}', {"trace_id": "abc"})], service_name="parts")
    (entry,) = client.query_range('{service_name="parts"} | json', start=start, end=start + 1)
    assert entry == Entry(
        start,
        '{"n": 5}',
        {"service_name": "parts"},
        {"trace_id": "abc", "detected_level": "unknown"},
        {"n": "5"},
    )
    assert "service_name" in client.labels()
    (sample,) = client.query_instant(f'sum by (service_name) (count_over_time({{service_name="parts"}}[{MS}ms]))')
    assert (sample.labels, sample.value) == ({"service_name": "parts"}, 1.0)


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ('{service_name="x"', r"answered 400: parse error at line 1"),
        ('sum(count_over_time({service_name="x"}[5m]))', "a query that gives lines is needed here"),
    ],
)
def test_a_query_that_loki_cannot_answer_is_told(client: LokiClient, query: str, said: str) -> None:
    with pytest.raises(LokiError, match=said):
        list(client.query_range(query, start=a_second_ago(), end=time.time_ns()))


# The live tail.


def take(tail: Iterator[Entry] | Any, count: int, seconds: float = 30.0) -> list[Entry]:
    """What a tail gives until there are so many entries."""
    found: list[Entry] = []

    def enough() -> bool:
        found.extend(tail.poll(0.5))
        return len(found) >= count

    wait_until(enough, seconds, what=f"{count} entries of a live tail")
    # And no more than these.
    found.extend(tail.poll(0.5))
    return found


def test_a_burst_that_the_live_stream_cannot_carry_comes_whole(loki: LokiServer, client: LokiClient) -> None:
    count = 30_000
    start = a_second_ago()
    loki.push([(start + n, f"past {n}", {}) for n in range(10)], service_name="burst")
    notices: list[str] = []
    with client.tail('{service_name="burst"}', start=start, on_notice=notices.append) as tail:
        assert [entry.line for entry in take(tail, 10)] == [f"past {n}" for n in range(10)]
        for first in range(0, count, 1000):
            now = time.time_ns()
            loki.push([(now + n, f"line {first + n}", {"n": str(n)}) for n in range(1000)], service_name="burst")
        lines = [entry.line for entry in take(tail, count)]
        assert Counter(lines) == Counter(f"line {n}" for n in range(count))
        assert tail.recovered > 0, "so few that the live stream carried them all: this tests nothing"
        assert set(notices) <= {"too much for the live stream: Loki has left entries out; they follow"}


def test_only_as_much_of_the_past_as_is_wanted(loki: LokiServer, client: LokiClient) -> None:
    start = a_second_ago()
    loki.push([(start + n * MS, f"past {n}", {}) for n in range(50)], service_name="past")
    with client.tail('{service_name="past"}', start=start, limit=5) as tail:
        assert [entry.line for entry in take(tail, 5)] == [f"past {n}" for n in range(45, 50)]
        loki.push([(time.time_ns(), "now", {})], service_name="past")
        lines: list[str] = []
        # Until after the first count of what Loki holds.
        deadline = time.monotonic() + 4.0
        while time.monotonic() < deadline:
            lines += [entry.line for entry in tail.poll(0.5)]
        assert lines == ["now"]


def test_a_tail_survives_a_loki_that_is_killed_and_comes_again(loki: LokiServer, client: LokiClient) -> None:
    notices: list[str] = []
    with client.tail('{service_name="killed"}', on_notice=notices.append) as tail:
        loki.push([(time.time_ns(), "before", {})], service_name="killed")
        assert [entry.line for entry in take(tail, 1)] == ["before"]
        loki.kill()
        wait_until(lambda: tail.poll(0.1) or notices, what="the notice of the loss")
        loki.start()
        # Before the tail is back: only Loki's store has it.
        loki.push([(time.time_ns(), "meanwhile", {})], service_name="killed")
        assert [entry.line for entry in take(tail, 1)] == ["meanwhile"]
        wait_until(lambda: tail.poll(0.1) or tail.reconnects, what="the connection")
        loki.push([(time.time_ns(), "after", {})], service_name="killed")
        assert [entry.line for entry in take(tail, 1)] == ["after"]
    assert [notice.partition("(")[0] for notice in notices] == [
        "the live stream has ended ",
        "connected to Loki again; what came meanwhile follows",
    ]


def test_a_tail_of_a_bad_query_ends_at_once(client: LokiClient) -> None:
    with pytest.raises(LokiError, match="answered 400: parse error"):
        client.tail("{x=")


# OTLP straight to Loki.


def send(
    loki: LokiServer,
    name: str,
    folder: Path | None = None,
    *,
    count: int = 20,
    long_line: int = 0,
    bisect: bool = False,
    **environ: str,
) -> Any:
    """Run the sender; returns its books and what it wrote on standard error."""
    done = subprocess.run(
        [sys.executable, SENDER, f"{loki.url}/otlp", name, str(folder or ""), str(count), str(long_line), str(bisect)],
        env={**os.environ, "OTEL_METRICS_EXPORTER": "none", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=SENDER_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def entries_of(client: LokiClient, name: str) -> list[Entry]:
    now = time.time_ns()
    found = client.query_range(
        f'{{service_name="{name}"}}', start=now - 600 * SECOND, end=now + SECOND, direction="forward"
    )
    return list(found)


def test_records_arrive_whole_and_are_counted_exactly(loki: LokiServer, client: LokiClient) -> None:
    count = 20_000
    books, said = send(loki, "direct", count=count)
    assert (books["delivered"], said) == (True, "")
    assert (books["created"], books["exporters"]["otlp"]["exported"]) == (count + 4, count + 4)
    entries = entries_of(client, "direct")
    assert len(entries) == count + 4
    assert [entry.line for entry in entries[:count]] == [f"user {n} paid" for n in range(count)]
    first, failed = entries[0], entries[-1]
    assert first.labels == {"service_name": "direct"}
    wanted = {
        "severity_text": "INFO",
        "severity_number": "9",
        "scope_name": "shop.orders",
        "number": "0",
        "vip": "true",
        "amount": "12.5",
        "trace_id": books["trace_id"],
        "code_function_name": "main",
    }
    assert {name: first.metadata.get(name) for name in wanted} == wanted
    assert {entry.metadata["trace_id"] for entry in entries[:count]} == {books["trace_id"]}
    assert (failed.metadata["severity_number"], failed.metadata["exception_type"]) == ("17", "KeyError")


def test_a_batch_that_loki_answers_with_400_is_rejected_in_the_books_and_kept_but_for_the_bad_record(
    loki: LokiServer, client: LokiClient
) -> None:
    books, said = send(loki, "too-long", long_line=300_000)
    otlp = books["exporters"]["otlp"]
    assert (books["created"], otlp["exported"], otlp["dropped"]["rejected"]) == (25, 0, 25)
    assert "max entry size" in said
    assert len(entries_of(client, "too-long")) == 24


def test_with_bisection_the_books_and_loki_agree_to_the_record(loki: LokiServer, client: LokiClient) -> None:
    books, _ = send(loki, "bisected", long_line=300_000, bisect=True)
    (otlp,) = books["exporters"].values()
    assert (books["created"], otlp["exported"], otlp["dropped"]["rejected"]) == (25, 24, 1)
    assert otlp["resent"] > 0
    # What was sent again is equal to what was there, and kept once.
    assert len(entries_of(client, "bisected")) == 24


def test_metrics_that_loki_does_not_take_are_told_of_once(loki: LokiServer) -> None:
    environ = {"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "10"}
    books, said = send(loki, "with-metrics", count=20_000, **environ)
    assert books["exporters"]["otlp"]["exported"] == 20_004
    (line,) = said.splitlines()
    assert line.endswith("/otlp/v1/metrics answered 404; OTEL_METRICS_EXPORTER=none turns them off")


def test_a_request_of_more_than_four_megabytes_is_taken(loki: LokiServer, client: LokiClient) -> None:
    start = a_second_ago()
    values = [(start + n, f"{n} ".ljust(2000, "x"), {}) for n in range(5000)]
    loki.push(values, service_name="ten-megabytes")
    assert client.count('{service_name="ten-megabytes"}', start=start, end=start + SECOND) == 5000


# The commands.

FILTERS = [
    [],
    ["--level", "warning"],
    ["--level", "error"],
    ["--logger", "shop.tickets"],
    ["--logger", "shop"],
    ["--text", "USER 1"],
    ["--text", 'sold "out"'],
    ["--text", "["],
    ["--text", "é gone"],
    ["--where", "number=7"],
    ["--where", "vip=true"],
    ["--where", "amount=12.5", "--where", "vip=false"],
    ["--where", "item.name=tea (green)"],
    ["--where", "number="],
    ["--where", "level=CRITICAL"],
    ["--where", "message=stock.low"],
    ["--where", 'message=sold "out"\n[of all]'],
    ["--where", "module=loki_sender"],
    ["--where", "module=sender"],
    ["--where", "function=main"],
    ["--where", "logger=shop.orders"],
    ["--where", "exception.type=KeyError"],
    ["--where", "service=nobody"],
    ["--service", "nobody"],
    ["--last", "3"],
    ["--since", "1h", "--level", "20"],
    ["--until", "1h"],
]


@pytest.fixture(scope="module")
def filed(loki: LokiServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of records that Loki has, too."""
    folder = tmp_path_factory.mktemp("filed")
    books, said = send(loki, "filed", folder)
    assert (books["delivered"], said) == (True, "")
    return folder, books


def query(*words: object, code: int = 0) -> list[str]:
    done = CliRunner().invoke(otelog, ["query", *map(str, words)])
    assert done.exit_code == code, done.output
    return done.stdout.splitlines()


@pytest.mark.parametrize("words", FILTERS, ids=" ".join)
def test_filters_find_the_same_in_loki_as_in_files(
    loki: LokiServer, filed: tuple[Path, dict[str, Any]], words: list[str]
) -> None:
    # Which service it is, the application's own files do not say.
    service = [] if "--service" in words else ["--service", "filed"]
    in_loki = [*words, *service, "--loki", loki.url]
    there = [json.loads(line) for line in query(*in_loki, "--json")]
    here = [json.loads(line) for line in query(filed[0], *words, "--json")]
    keys = ("timestamp", "level", "logger", "message", "module", "function", "line", "trace_id", "span_id")
    assert [[one[key] for key in keys] for one in there] == [[one[key] for key in keys] for one in here]
    assert query(*in_loki, "--count") == [str(len(here))]
    grouped = ["--group-by", "level", "--group-by", "logger"]
    assert query(*in_loki, *grouped) == query(filed[0], *words, *grouped)


def test_a_trace_is_found_by_the_beginning_of_its_id(loki: LokiServer, filed: tuple[Path, dict[str, Any]]) -> None:
    trace_id = filed[1]["trace_id"]
    assert query("--loki", loki.url, "--trace-id", trace_id[:12].upper(), "--count") == ["20"]


def test_logql_is_narrowed_by_filters(
    loki: LokiServer, filed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTELOG_LOKI", loki.url)
    logql = '{service_name="filed"} |= "paid" # all of them'
    assert query(logql, "--where", "vip=true", "--service", "filed", "--count") == ["10"]
    assert query(logql, "--group-by", "module") == ["module           count", "loki_sender         20"]
    assert query('sum by (service_name) (count_over_time({service_name="filed"}[1h]))') == [
        "          24  service_name=filed"
    ]
    assert query('sum(count_over_time({service_name="filed"}[1h]))', "--json") == ['{"value": 24.0}']


def test_tail_follows_loki_until_it_is_interrupted(loki: LokiServer, tmp_path: Path) -> None:
    loki.push([(a_second_ago(), "past", {})], service_name="followed")
    output = tmp_path / "output"
    words = ["tail", '{service_name="followed"}', "--loki", loki.url, "--since", "5m", "--json"]
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-m", "otelog.cli", *words], stdout=file, stderr=file)
    try:

        def messages() -> list[str]:
            return [json.loads(line)["message"] for line in output.read_text().splitlines()]

        wait_until(lambda: messages() == ["past"], what="the past")
        loki.push([(time.time_ns(), "now", {})], service_name="followed")
        wait_until(lambda: messages() == ["past", "now"], what="what comes")
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert messages() == ["past", "now"]
    finally:
        process.kill()
        process.wait()


def test_a_client_is_for_many_threads(loki: LokiServer, client: LokiClient) -> None:
    start = a_second_ago()
    loki.push([(start + n, f"line {n}", {}) for n in range(3000)], service_name="threads")
    counts: list[int] = []

    def ask() -> None:
        bounds = {"start": start, "end": start + SECOND}
        counts.append(len(list(client.query_range('{service_name="threads"}', **bounds))))
        counts.append(client.count('{service_name="threads"}', **bounds))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [3000] * 12
