"""Records that Loki would refuse, mix up, or show as an empty line: in one form by both ways, and none of them lost.

The ways are a Collector with collector/otelcol.yaml in front of Loki, and otelog straight to Loki.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from otelog._otlp.loki_form import loki_name, odd_name
from otelog.cli.commands import otelog
from otelog.loki import Entry, LokiClient
from tests.stack.conftest import Collector, build, start_collector
from tests.stack.loki_server import LokiServer
from tests.stack.odd_sender import COUNTS, LENGTHS
from tests.stack.running import ROOT
from tools.waiting import wait_until

SECOND = 1_000_000_000
SENDER_SECONDS = 240
STOCK = {"OTELOG_LOKI_METADATA_ENTRIES": "128", "OTELOG_LOKI_METADATA_BYTES": "65536"}
"""What a Loki takes that nobody has configured otherwise, and what otelog keeps to where it sends to Loki itself."""

PLACE = ("code.file.path", "code.function.name", "code.line.number")
"""The last attributes of a record."""

# What is another's on every way, and of every process.
OF_THE_WAY = ("observed_timestamp", "process_pid", "service_instance_id", "trace_id", "span_id")

open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Ways(NamedTuple):
    """A Loki, and a Collector in front of it."""

    loki: LokiServer
    collector: Collector

    @property
    def endpoints(self) -> dict[str, str]:
        return {"collector": self.collector.endpoint, "direct": f"{self.loki.url}/otlp"}

    def discarded(self) -> int:
        """How many lines Loki has refused."""
        with open_url(f"{self.loki.url}/metrics", timeout=10) as answer:
            found = re.findall(r"^loki_discarded_samples_total\{.*\} (\S+)$", answer.read().decode(), re.MULTILINE)
        return int(sum(map(float, found)))

    def failed(self) -> int:
        """How many records the Collector has given up."""
        return self.collector.metric("otelcol_exporter_send_failed_log_records_total")


def start(folder: Path, environ: Mapping[str, str]) -> Iterator[Ways]:
    loki = LokiServer(build("loki"), folder, environ)
    with ExitStack() as stack:
        stack.callback(loki.kill)
        environ = {**environ, "OTELOG_LOKI_OTLP": f"{loki.url}/otlp"}
        yield Ways(loki, stack.enter_context(start_collector(build("otelog-collector"), folder, environ=environ)))


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Both with the limits of a Loki that nobody has configured."""
    yield from start(tmp_path_factory.mktemp("stock"), STOCK)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ways]:
    """Both as they come."""
    yield from start(tmp_path_factory.mktemp("ours"), {})


def send(ways: Ways, way: str, kind: str, **environ: str) -> tuple[str, list[Entry]]:
    """Send records of a kind one way; returns the service's name, and what Loki then has of it, oldest first."""
    name = f"{kind}-{way}-{time.time_ns()}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.stack.odd_sender", ways.endpoints[way], name, kind],
        cwd=ROOT,
        env={**os.environ, "OTEL_METRICS_EXPORTER": "none", **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=SENDER_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    books = json.loads(done.stdout)
    assert (books["delivered"], books["exported"], books["lost"]) == (True, books["created"], 0), done.stderr

    def arrived() -> list[Entry]:
        now = time.time_ns()
        with LokiClient(ways.loki.url) as client:
            found = list(
                client.query_range(
                    f'{{service_name="{name}"}}', start=now - 600 * SECOND, end=now + SECOND, direction="forward"
                )
            )
        return found if len(found) >= books["created"] else []

    entries = wait_until(arrived, 60, what=f"{books['created']} records in Loki")
    assert len(entries) == books["created"]
    return name, entries


def form_of(entry: Entry) -> tuple[str, dict[str, str]]:
    return entry.line, {name: value for name, value in entry.metadata.items() if name not in OF_THE_WAY}


def send_both_ways(ways: Ways, kind: str, **environ: str) -> list[Entry]:
    """Send records both ways; they arrive in one form. Returns those that came by the Collector."""
    _, by_collector = send(ways, "collector", kind, **environ)
    _, directly = send(ways, "direct", kind, **environ)
    for one, other in zip(by_collector, directly, strict=True):
        assert form_of(one) == form_of(other)
    assert ways.collector.complaints() == []
    return by_collector


def field(entry: Entry, name: str) -> str | None:
    """The value of a field, whatever its name is in Loki."""
    given = json.loads(entry.metadata.get("otelog_names", "{}"))
    (held,) = [held for held, one in given.items() if one == name] or [re.sub(r"[^0-9A-Za-z]+", "_", name)]
    return entry.metadata.get(held)


def test_names_have_one_form_by_both_ways_and_no_value_takes_anothers_place(stock: Ways) -> None:
    entries = send_both_ways(stock, "names")
    assert (stock.discarded(), stock.failed()) == (0, 0)
    assert len(entries) > 400
    by_number = {int(entry.metadata["number"]): entry for entry in entries}
    alone = by_number[2]
    assert (alone.metadata[odd_name("ключ")], json.loads(alone.metadata["otelog_names"])) == (
        "1",
        {odd_name("ключ"): "ключ"},
    )
    pairs = [entry for entry in entries if field(entry, "a-b") == "2" and field(entry, "a_b") == "3"]
    assert [field(entry, "a.b") for entry in pairs] == ["1"]
    assert [(field(entry, "ключ"), field(entry, "名前")) for entry in entries if field(entry, "名前") == "2"] == [
        ("1", "2")
    ]


def test_one_odd_name_among_a_thousand_records_costs_none(stock: Ways) -> None:
    entries = send_both_ways(stock, "neighbours")
    assert [entry.metadata["number"] for entry in entries] == [str(number) for number in range(1001)]
    assert entries[500].metadata[odd_name("ключ")] == "значение"


def test_odd_names_of_a_resource_and_of_a_scope_cost_no_record_and_take_no_place(stock: Ways) -> None:
    resource = {"страна": "рубль", "_": "x", "region": "eu", "host.name": "h", "host-name": "i", "long": "y" * 9000}
    given = ",".join(f"{name}={value}" for name, value in resource.items())
    entries = send_both_ways(stock, "places", OTEL_RESOURCE_ATTRIBUTES=given)
    assert (stock.discarded(), stock.failed()) == (0, 0)
    assert len(entries) == 8
    by_number = {int(entry.metadata["number"]): entry for entry in entries}
    for number, entry in by_number.items():
        names = json.loads(entry.metadata["otelog_resource_names"])
        assert sorted(names.values()) == ["_", "host-name", "host.name", "страна"]
        held = {name: entry.metadata[key] for key, name in names.items()}
        assert held == {name: resource[name] for name in held}
        assert (entry.metadata["region"], entry.metadata["long"]) == ("eu", "y" * 1016 + "…[cut]")
        if number < 4:
            assert entry.metadata[odd_name("ключ", "scope_")] == "1"
            assert {entry.metadata[odd_name(name, "scope_")] for name in ("a.b", "a_b")} == {"2", "3"}
    assert [field(by_number[number], "c") for number in (1, 5)] == ["6", "6"]
    assert [[field(by_number[n], name) for name in ("host.name", "region", "страна")] for n in (2, 6)] == [
        ["7", "8", "9"]
    ] * 2
    name = entries[0].labels["service_name"]
    done = CliRunner().invoke(
        otelog, ["query", "--loki", stock.loki.url, "--service", name, "--where", "страна=рубль", "--count"]
    )
    assert done.stdout.split() == ["8"]


@pytest.mark.parametrize("way", ["collector", "direct"])
def test_query_finds_fields_by_their_own_names(stock: Ways, way: str) -> None:
    name, _ = send(stock, way, "names")

    def query(*where: str) -> list[dict[str, Any]]:
        words = ["query", "--loki", stock.loki.url, "--service", name, "--json", "--since", "1h"]
        done = CliRunner().invoke(otelog, [*words, *(part for one in where for part in ("--where", one))])
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    (found,) = query("ключ=1", "名前=2")
    assert (found["ключ"], found["名前"]) == ("1", "2")
    assert not {name for name in found if name.startswith("odd_") or name == "otelog_names"}
    (found,) = query("a.b=1", "a-b=2", "a_b=3")
    assert {name: found[name] for name in ("a.b", "a-b", "a_b")} == {"a.b": "1", "a-b": "2", "a_b": "3"}
    assert len(query("order_id=text")) > 1
    assert query("ключ=nothing") == []


def test_an_event_without_a_body_has_its_name_and_fields_for_a_line(stock: Ways) -> None:
    entries = send_both_ways(stock, "events")
    lines = [entry.line for entry in entries]
    assert lines[0] == "order.paid number=0 amount=12.5 currency=EUR"
    assert lines[1] == (r'order.shipped number=1 to="a b" note="say \"no\"" items=[1,{\"a\":\"<b>\"}] user={\"id\":5}')
    assert lines[2].startswith(f"order.long number=2 text={'é' * 62}… field0=0 ")
    assert len(lines[2].encode()) < 500
    assert lines[3:] == ["order.counted number=3", "order 4 has a body"]
    assert [entry.metadata["event_name"] for entry in entries[:2]] == ["order.paid", "order.shipped"]
    assert entries[1].metadata["user_id"] == "5"
    with LokiClient(stock.loki.url) as client:
        name, now = entries[0].labels["service_name"], time.time_ns()
        assert client.count(f'{{service_name="{name}"}} |= "paid"', start=now - 600 * SECOND, end=now) == 1
    done = CliRunner().invoke(otelog, ["query", "--loki", stock.loki.url, "--service", name])
    shown = [line.partition(" odd ")[2] for line in done.stdout.splitlines()]
    assert shown[0].startswith("order.paid ")
    assert shown[0].count("order.paid") == shown[0].count("amount=12.5") == 1
    assert shown[4].startswith("order 4 has a body ")


def test_what_is_over_the_limits_is_cut_and_named_and_what_is_not_is_whole(stock: Ways) -> None:
    entries = send_both_ways(stock, "sizes")
    assert (stock.discarded(), stock.failed()) == (0, 0)
    assert max(len(entry.metadata) for entry in entries) <= 128
    for entry, count in zip(entries, COUNTS, strict=False):
        names = ["number", *(f"f{number}" for number in range(count)), *PLACE]
        held = [name for name in names if loki_name(name) in entry.metadata]
        left = names[len(held) :]
        assert held == names[: len(held)]
        assert len(held) >= 100 or not left
        # Those that are left out are counted, and named as far as there is room.
        assert int(entry.metadata.get("dropped_attributes_count", "0")) == len(left)
        named = json.loads(entry.metadata.get("otelog_truncated", "[]"))
        assert named == left or (named[-1] == "..." and named[:-1] == left[: len(named) - 1])
    answers = [entry for entry in entries if "after" in entry.metadata]
    for entry, length in zip(answers, LENGTHS, strict=True):
        answer = entry.metadata["gen_ai_answer"]
        assert len(answer) == length or (length > 60_000 and len(answer) > 40_000 and answer.endswith("…[cut]"))
        assert json.loads(entry.metadata.get("otelog_truncated", "[]")) == ["gen_ai.answer"] * (len(answer) < length)
    # All together: the longest are shortened.
    (rising,) = [entry for entry in entries if len(entry.metadata.get("v1", "")) == 500]
    assert [len(rising.metadata.get(f"v{number}", "")) for number in range(5)] == [0, 500, 1000, 1500, 2000]
    assert "v29" in json.loads(rising.metadata["otelog_truncated"])


def test_our_own_loki_and_collector_have_more_room(ours: Ways) -> None:
    _, entries = send(ours, "collector", "sizes")
    assert (ours.discarded(), ours.failed(), ours.collector.complaints()) == (0, 0, [])
    cut = [entry for entry in entries if "otelog_truncated" in entry.metadata]
    assert [json.loads(entry.metadata["otelog_truncated"])[0] for entry in cut] == ["f490", *["gen_ai.answer"] * 2]
    assert int(cut[0].metadata["dropped_attributes_count"]) == 600 - 490 + len(PLACE)
    answers = [len(entry.metadata["gen_ai_answer"]) for entry in entries if "after" in entry.metadata]
    assert answers[:-2] == list(LENGTHS[:-2])
    assert all(800_000 < length < 1_000_000 for length in answers[-2:])
