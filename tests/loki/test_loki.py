"""The client for Loki: its paging against a model, and its errors and tails against a scripted server."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelog.exceptions import ConfigurationError
from otelog.loki import Entry, LokiClient, LokiError
from otelog.loki._http import TooLargeError, TooManyEntriesError
from otelog.loki._pages import FIRST_ENTRIES, Pages
from tests.loki_double import LokiDouble, page
from tools.loopback import find_free_ports
from tools.waiting import wait_until

QUERY = '{service_name="x"}'
MS = 1_000_000
SECOND = 1_000_000_000


def size_of(entries: list[Entry]) -> int:
    return sum(100 + len(entry.line) for entry in entries)


def make_pages(entries: list[Entry], *, most: int, most_bytes: int = 1 << 40) -> Pages:
    """Pages of a Loki that gives no more entries, and no more bytes, than this at a time."""

    def fetch(query: str, start: int, end: int, limit: int, forward: bool) -> tuple[list[Entry], int]:
        if limit > most:
            raise TooManyEntriesError("too many", most, status=400, detail="")
        found = page(entries, query, start, end, limit, forward)
        if size_of(found) > most_bytes:
            raise TooLargeError("too large", status=500)
        return found, size_of(found)

    return Pages(fetch)


LINES = st.one_of(
    st.sampled_from(["", "a", "b", "ab", "aé", "aé😀", "a\nb", "a.b[", "a]^-\\", "paid", "paid 1", "x" * 2100 + "y"]),
    st.text("ab\U0001f600", max_size=3),
)
NAMES = st.dictionaries(st.sampled_from(["part", "trace_id"]), st.sampled_from(["", "a", "ab", "b]", "é"]), max_size=2)
ENTRIES = st.lists(
    st.builds(Entry, st.integers(0, 3), LINES, st.sampled_from([{"n": "1"}, {"n": "2"}, {}]), NAMES), max_size=40
)


@given(ENTRIES, st.integers(2, 5), st.booleans(), st.one_of(st.none(), st.integers(1, 30)), st.integers(0, 4))
def test_every_entry_comes_once_and_in_order_however_few_a_page_has(
    entries: list[Entry], most: int, forward: bool, limit: int | None, end: int
) -> None:
    # What is the same in all, Loki keeps once; an absent label and an empty one are the same to a query.
    held = list({(e.timestamp_ns, e.line, _text(e)): e for e in entries}.values())
    meant = [entry for entry in held if entry.timestamp_ns < end]
    found = list(make_pages(held, most=most).read(QUERY, 0, end, forward=forward, limit=limit))
    assert max(Counter(entry.key for entry in found).values(), default=1) == 1
    times = sorted((entry.timestamp_ns for entry in meant), reverse=not forward)
    assert [entry.timestamp_ns for entry in found] == times[:limit]
    assert {entry.key for entry in found} <= {entry.key for entry in meant}


def _text(entry: Entry) -> str:
    return str(sorted((name, value) for name, value in {**entry.labels, **entry.metadata}.items() if value))


@pytest.mark.parametrize("forward", [True, False])
def test_pages_shrink_to_what_can_be_sent_and_grow_again(forward: bool) -> None:
    entries = [Entry(n // 3, f"{n:04} ".ljust(2000 if 1000 < n < 1300 else 10, "x"), {}) for n in range(4000)]
    found = list(make_pages(entries, most=5000, most_bytes=150_000).read(QUERY, 0, 10_000, forward=forward))
    assert Counter(entry.key for entry in found) == Counter(entry.key for entry in entries)


def test_entries_that_cannot_be_told_apart_are_an_error_and_not_a_loss() -> None:
    entries = [Entry(5, "x", {"n": "1"})] * 6
    with pytest.raises(LokiError, match="all the same to this query"):
        list(make_pages(entries, most=5).read(QUERY, 0, 10, forward=True))
    # So many, one page has.
    assert len(list(make_pages(entries[:4], most=5).read(QUERY, 0, 10, forward=True))) == 4


def test_entries_that_are_the_same_within_pages_all_come() -> None:
    entries = [Entry(n // 3, "x", {}) for n in range(3 * FIRST_ENTRIES)]
    assert len(list(make_pages(entries, most=5000).read(QUERY, 0, 10_000, forward=True))) == len(entries)


@pytest.fixture
def double() -> Iterator[LokiDouble]:
    with LokiDouble() as running:
        yield running


@pytest.fixture
def client(double: LokiDouble) -> Iterator[LokiClient]:
    with LokiClient(double.url, timeout=5.0) as made:
        yield made


def read(client: LokiClient) -> list[Entry]:
    return list(client.query_range(QUERY, start=0, end=10))


def test_a_smaller_limit_of_the_server_is_kept_to(double: LokiDouble, client: LokiClient) -> None:
    double.entries = [Entry(n, f"line {n}", {}) for n in range(10)]

    def answer(path: str, parameters: dict[str, str]) -> tuple[int, bytes] | None:
        words = f"max entries limit per query exceeded, limit > max_entries_limit_per_query ({parameters['limit']} > 3)"
        return (400, words.encode()) if int(parameters["limit"]) > 3 else None

    double.answer = answer
    assert [entry.timestamp_ns for entry in read(client)] == list(range(9, -1, -1))


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, b"parse error at line 1, col 2: no\n", "answered 400: parse error at line 1, col 2: no$"),
        (400, b"a\x1b[2J\nb", r"answered 400: a \[2J b$"),
        (400, b"x" * 1000, "answered 400: x{299}…$"),
        (401, b"", "answered 401; give the credentials"),
        (404, b"page not found", "answered 404: page not found; is this the address of a Loki"),
        (429, b"too many outstanding requests", "answered 429: too many outstanding requests; it has too much to do"),
        (500, b"received message larger than max (9 vs. 4)", "raise server.grpc_server_max_recv_msg_size"),
        (200, b"<html>", "answered what is no answer of Loki's"),
        (200, b"[]", "answered what is no answer of Loki's"),
        (200, b'{"data": {"resultType": "streams", "result": [{"stream": {}}]}}', "no answer of Loki's"),
        (200, b'{"data": {"resultType": "matrix", "result": []}}', "this one gives numbers"),
        (302, b"", "answered 302"),
    ],
)
def test_an_answer_that_is_none_is_told(
    double: LokiDouble, client: LokiClient, status: int, body: bytes, said: str
) -> None:
    double.answer = lambda path, parameters: (status, body)
    with pytest.raises(LokiError, match=said) as caught:
        read(client)
    assert caught.value.status == (None if status == 200 else status)


def test_nobody_there_is_told_with_what_to_do() -> None:
    (port,) = find_free_ports(1)
    with LokiClient(f"http://127.0.0.1:{port}") as client:
        assert not client.is_ready()
        with pytest.raises(LokiError, match=rf"cannot be reached at http://127.0.0.1:{port} .*otelog stack up"):
            read(client)
        with pytest.raises(LokiError, match="otelog stack up"):
            client.tail(QUERY)


def test_a_server_that_says_nothing_is_not_waited_for_beyond_the_timeout() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        LokiClient(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=0.2) as client,
        pytest.raises(LokiError, match=r"did not answer within 0.2 s"),
    ):
        read(client)


@pytest.mark.parametrize(
    "url", ["localhost:3100", "ftp://localhost", "http://", "http://x:99999", "http://x?a=b", "http://[::1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is no address of Loki"):
        LokiClient(url)


def test_headers_and_tenant_go_with_questions_and_tails_and_no_proxy_between(
    double: LokiDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = find_free_ports(1)
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    with LokiClient(f"{double.url}/", headers={"Authorization": "Bearer secret"}, tenant="shop") as client:
        read(client)
        client.tail(QUERY).close()
    assert [path for path, _, _ in double.requests] == ["/loki/api/v1/query_range", "/loki/api/v1/tail"]
    for _, _, headers in double.requests:
        assert (headers["Authorization"], headers["X-Scope-OrgID"]) == ("Bearer secret", "shop")
        assert headers["User-Agent"].startswith("otelog/")


# The live tail.


def now(line: str, **metadata: str) -> Entry:
    return Entry(time.time_ns(), line, {"service_name": "x"}, metadata)


def test_a_cut_connection_loses_nothing_and_doubles_nothing(double: LokiDouble, client: LokiClient) -> None:
    notices: list[str] = []
    lines: list[str] = []
    with client.tail(QUERY, on_notice=notices.append) as tail:

        def came(*wanted: str) -> bool:
            lines.extend(entry.line for entry in tail.poll(0.1))
            return lines == list(wanted)

        wait_until(lambda: double.tails, what="the tail")
        double.entries.append(now("one"))
        double.send(double.entries)
        wait_until(lambda: came("one"), what="the first entry")
        double.cut()
        wait_until(lambda: not double.tails, what="the end of the connection")
        double.entries.append(now("two"))
        wait_until(lambda: came("one", "two"), what="what came meanwhile")
        assert tail.reconnects == 1
        # A sender's second attempt comes through the live stream again.
        double.entries.append(now("three"))
        double.send(double.entries)
        double.send(double.entries)
        wait_until(lambda: came("one", "two", "three"), what="the next entry")
        assert [tail.poll(0.1), tail.recovered] == [[], 1]
    assert [notice.partition("(")[0] for notice in notices] == [
        "the live stream has ended ",
        "connected to Loki again; what came meanwhile follows",
    ]


@pytest.mark.parametrize("dropped", [0, 7])
def test_entries_that_loki_leaves_out_follow_whether_it_tells_or_not(
    double: LokiDouble, client: LokiClient, dropped: int
) -> None:
    notices: list[str] = []
    lines: list[str] = []
    with client.tail(QUERY, on_notice=notices.append) as tail:
        wait_until(lambda: double.tails, what="the tail")
        double.entries = [now(f"line {n}") for n in range(20)]
        double.send(double.entries[:10], dropped=dropped)
        double.send(double.entries[10:13], dropped=dropped)

        def complete() -> bool:
            lines.extend(entry.line for entry in tail.poll(0.1))
            return len(lines) >= 20

        wait_until(complete, what="all entries")
        assert lines == [f"line {n}" for n in range(20)]
        assert (tail.dropped, tail.recovered) == (2 * dropped, 7)
    assert len(notices) == (1 if dropped else 0)


def test_the_past_comes_first_whole_and_is_not_told_twice(double: LokiDouble, client: LokiClient) -> None:
    start = time.time_ns() - 5 * SECOND
    double.entries = [Entry(start + n, f"past {n}", {}) for n in range(3000)]
    found: list[Entry] = []
    with client.tail(QUERY, start=start + 10) as tail:
        wait_until(lambda: found.extend(tail.poll(0.1)) or len(found) >= 2990, what="the past")
        wait_until(lambda: any(path.endswith("/query") for path, _, _ in double.requests) or tail.poll(0.1))
        assert tail.poll(0.1) == []
    assert [entry.line for entry in found] == [f"past {n}" for n in range(10, 3000)]


def test_a_refused_tail_is_an_error_and_one_refused_for_now_is_tried_again(
    double: LokiDouble, client: LokiClient
) -> None:
    statuses = [429, 503, 400]

    def answer(path: str, parameters: dict[str, str]) -> tuple[int, bytes] | None:
        return (statuses.pop(0), b"not now") if path.endswith("/tail") and double.requests[1:] else None

    double.answer = answer
    with client.tail(QUERY) as tail:
        wait_until(lambda: double.tails, what="the tail")
        double.cut()

        def refused() -> bool:
            tail.poll(0.1)
            return False

        with pytest.raises(LokiError, match="answered 400: not now"):
            wait_until(refused, 20.0)
    assert statuses == []


def test_a_tail_is_closed_from_another_thread(double: LokiDouble, client: LokiClient) -> None:
    tail = client.tail(QUERY)
    found: list[Entry] = []
    thread = threading.Thread(target=lambda: found.extend(tail))
    thread.start()
    wait_until(lambda: double.tails, what="the tail")
    tail.close()
    tail.close()
    thread.join(10.0)
    assert (thread.is_alive(), found) == (False, [])


def test_a_message_that_is_none_of_lokis_ends_the_connection_and_not_the_tail(
    double: LokiDouble, client: LokiClient
) -> None:
    notices: list[str] = []
    with client.tail(QUERY, on_notice=notices.append) as tail:
        wait_until(lambda: double.tails, what="the tail")
        double.tails[0].send('{"streams": [5]}')
        wait_until(lambda: tail.poll(0.1) or tail.reconnects, what="another connection")
    assert "what came is no answer of Loki's" in notices[0]


@pytest.mark.parametrize("delay_for", [-1, 6])
def test_a_delay_that_loki_does_not_have_is_refused(client: LokiClient, delay_for: int) -> None:
    with pytest.raises(ConfigurationError, match="delay_for"):
        client.tail(QUERY, delay_for=delay_for)
