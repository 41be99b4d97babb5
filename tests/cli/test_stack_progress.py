"""What is known of a build: how long it will take, what it needs, and how it is shown. Pure."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from otelog.cli.stack.display import Display
from otelog.cli.stack.health import find_notes
from otelog.cli.stack.preflight import find_disk_problems, find_option_problems
from otelog.cli.stack.programs import PROGRAMS, USUAL_PROGRAMS
from otelog.cli.stack.progress import Durations, Progress, ProgressFile, estimate_seconds, find_progress, show_minutes
from otelog.cli.stack.settings import Settings
from tests.cli.test_audit import Server, result

ALL = USUAL_PROGRAMS
USUAL = {name: PROGRAMS[name].minutes * 60 for name in ALL}


def test_without_any_knowledge_it_takes_what_is_usual_for_so_many_cores() -> None:
    assert estimate_seconds(ALL, {}, {}, None, 2) == pytest.approx(sum(USUAL.values()))
    assert estimate_seconds(ALL, {}, {}, None, 1) == pytest.approx(2 * sum(USUAL.values()))
    assert estimate_seconds(ALL, {}, {}, None, 64) == estimate_seconds(ALL, {}, {}, None, 8)


def test_what_was_built_here_before_is_known() -> None:
    remembered = dict.fromkeys(ALL, 1000.0)
    assert estimate_seconds(ALL, {}, remembered, None, 2) == 4000
    assert estimate_seconds(ALL, {"loki": 10.0}, remembered, None, 2) == 3000


@pytest.mark.parametrize("factor", [0.5, 1, 4])
def test_one_that_was_not_is_as_slow_as_the_others_here(factor: float) -> None:
    took = {"loki": USUAL["loki"] * factor}
    expected = (sum(USUAL.values()) - USUAL["loki"]) * factor
    assert estimate_seconds(ALL, took, {}, None, 2) == pytest.approx(expected)
    assert estimate_seconds(ALL[1:], {}, took, None, 2) == pytest.approx(expected)


def test_a_program_that_is_slow_from_the_beginning_makes_the_rest_as_slow() -> None:
    """Half of Loki took four times what it takes alone: the machine is busy."""
    elapsed = USUAL["loki"] * 0.5 * 4
    left = estimate_seconds(ALL, {}, {}, ("loki", elapsed, 0.5), 2)
    assert left == pytest.approx(elapsed + 4 * (sum(USUAL.values()) - USUAL["loki"]))


def test_what_takes_longer_than_expected_is_never_said_to_be_over() -> None:
    assert estimate_seconds(("loki",), {}, {"loki": 100.0}, ("loki", 500.0, 0.0), 2) > 0
    told = Progress(1, 0.0, 0.0, ("loki",), (), "loki", "compiling", 2, 4, 100.0, 0.0)
    assert told.describe(60.0).endswith("about 40 s left")
    assert told.describe(600.0).endswith("about 5 s left")


def test_lengths_of_time_are_no_more_exact_than_they_are_known() -> None:
    assert [show_minutes(seconds) for seconds in (-1, 59, 60, 89, 91, 3600)] == [
        "0 s",
        "59 s",
        "1 min",
        "1 min",
        "2 min",
        "60 min",
    ]


def test_a_memory_that_is_damaged_is_none(tmp_path: Path) -> None:
    durations = Durations(tmp_path)
    for text in ("", "[]", "nothing", '{"loki v3.7.8": "x"}'):
        (tmp_path / "build-seconds.json").write_text(text)
        assert durations.read() == {}
        durations.remember("loki", 5.0)
        assert durations.read() == {"loki": 5.0}


def test_a_process_of_another_time_with_the_same_id_builds_nothing(tmp_path: Path) -> None:
    with ProgressFile(tmp_path, lambda *_: None) as file:
        file.plan(ALL)
        [found] = find_progress(tmp_path)
        assert (found.pid, found.programs) == (os.getpid(), ALL)
        path = tmp_path / "progress" / f"{os.getpid()}.json"
        created = psutil.Process().create_time()
        path.write_text(path.read_text().replace(str(created), str(created - 60)))
        assert find_progress(tmp_path) == []
    (tmp_path / "progress" / "1.json").write_text("damaged")
    assert find_progress(tmp_path) == []


def test_the_whole_is_told_program_by_program(tmp_path: Path) -> None:
    seconds = [0.0]
    with ProgressFile(tmp_path, lambda *_: None, lambda: seconds[0]) as file:
        file.plan(ALL)
        for name in ALL[:2]:
            file.report(name, "compiling", 1, 10)
            seconds[0] += USUAL[name]
            file.report(name, "built", 0, 0)
        [found] = find_progress(tmp_path)
        assert found.done == ALL[:2]
        assert found.left_seconds == pytest.approx(USUAL[ALL[2]] + USUAL[ALL[3]])
        file.report(ALL[2], "compiling", 5, 10)
        [found] = find_progress(tmp_path)
        assert "program 3 of 4 to build" in found.describe(seconds[0])
        for name in ALL[2:]:
            file.report(name, "built", 0, 0)
        [found] = find_progress(tmp_path)
        assert found.left_seconds is None


def test_on_a_terminal_the_whole_has_a_line_of_its_own(tmp_path: Path) -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120, color_system=None)
    with Display(console) as display, ProgressFile(tmp_path, display.show) as file:
        display.announce(file.plan(ALL))
        for name in ALL:
            file.report(name, "compiling", 5, 10)
            file.report(name, "built", 0, 0)
    text = output.getvalue()
    assert "3 of 4 built, about" in text
    assert "4 of 4 built" in text


# Room.


def measure_by(free: Mapping[str, float], path: Path) -> tuple[int, int]:
    """A disk for each of the folders."""
    for number, (folder, gigabytes) in enumerate(free.items()):
        if path.is_relative_to(folder):
            return number, round(gigabytes * 1e9)
    raise AssertionError(path)


def test_a_disk_that_is_too_small_for_a_build_is_named_with_what_it_is_for(tmp_path: Path) -> None:
    environ = {"GOMODCACHE": "/modules", "GOCACHE": "/packages"}

    def look(to_build: tuple[str, ...], **free: float) -> list[str]:
        disks = {"/modules": 99.0, "/packages": 99.0, "/cache": 99.0, "/data": 99.0}
        disks |= {f"/{name}": size for name, size in free.items()}
        return find_disk_problems(
            Path("/data/stack"), to_build, environ, Path("/cache/otelog"), measure=lambda path: measure_by(disks, path)
        )

    assert look(ALL) == []
    assert look((), modules=0, packages=0, cache=0) == []
    [problem] = look(ALL, packages=1)
    assert problem.startswith("about 2.5 GB are needed for /packages, and 1.0 GB are free: free some, or choose")
    assert "GOCACHE" in problem
    [problem] = look((), data=0.1)
    assert problem == (
        "about 0.5 GB are needed for /data/stack, and 0.1 GB are free: "
        "free some, or choose another disk with --data-dir"
    )
    assert len(look(ALL, modules=0, packages=0, cache=0, data=0)) == 4


def test_what_shares_a_disk_is_added_up(tmp_path: Path) -> None:
    def look(free: float) -> list[str]:
        return find_disk_problems(
            tmp_path, ALL, {"HOME": str(tmp_path)}, tmp_path / "cache", measure=lambda _: (1, round(free * 1e9))
        )

    gigabytes = 0.5 + sum(PROGRAMS[name].gigabytes for name in ALL)
    assert len(look(gigabytes - 0.01)) == 1
    assert look(gigabytes + 0.01) == []


def test_modules_that_are_there_need_no_room_again(tmp_path: Path) -> None:
    program = PROGRAMS["loki"]
    there = tmp_path / "go" / "pkg" / "mod" / "cache" / "download" / program.module / "@v" / f"{program.version}.zip"

    def look() -> list[str]:
        return find_disk_problems(
            tmp_path, ["loki"], {"HOME": str(tmp_path)}, tmp_path / "cache", measure=lambda _: (1, 1_100_000_000)
        )

    assert len(look()) == 1
    there.parent.mkdir(parents=True)
    there.touch()
    assert look() == []


def test_the_real_disks_are_asked_where_nothing_is_yet(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "no" / "home")}
    assert find_disk_problems(tmp_path / "not" / "yet", (), environ, tmp_path / "cache") == []


# Options.


@pytest.mark.parametrize(
    ("target", "good"),
    [
        ("127.0.0.1:8000", True),
        ("app.example.org:80", True),
        ("my_app:9", True),
        ("[::1]:9000", True),
        ("::1:9000", False),
        ("app", False),
        (":80", False),
        ("app:", False),
        ("app:65536", False),
        ("app:80/metrics", False),
        ("http://app:80", False),
        ("app :80", False),
    ],
)
def test_a_target_is_a_host_and_a_port(target: str, good: bool) -> None:
    assert bool(find_option_problems(Settings(scrape=(target,)))) is not good


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://hooks.example.org/T0/secret", True),
        ("http://127.0.0.1:5001/", True),
        ("hooks.example.org", False),
        ("ftp://example.org/", False),
        ("http://", False),
        ("http://example.org:99999/", False),
        ("http://exa mple.org/", False),
        ("http://example.org/a\nb", False),
    ],
)
def test_a_webhook_is_a_url(url: str, good: bool) -> None:
    assert bool(find_option_problems(Settings(webhook=url))) is not good


def test_a_file_that_was_remembered_and_is_gone_is_named(tmp_path: Path) -> None:
    gone = str(tmp_path / "token")
    assert find_option_problems(Settings(token_file=gone)) == [f"{gone} is not a file: put it there, or give another"]


# What is wrong although everything answers.


def test_what_prometheus_does_not_reach_and_alerts_that_fire_are_said() -> None:
    def answer(query: dict[str, str]) -> Any:
        if query["query"] == "up":
            targets = [("otelog-collector", "127.0.0.1:8888", 0), ("prometheus", "127.0.0.1:9090", 1)]
            return result(*(({"job": job, "instance": where}, value) for job, where, value in targets))
        return result(({"alertname": "OtelogTargetDown"}, 1), ({"alertname": "OtelogTargetDown"}, 1))

    prometheus = Server()
    prometheus.pages["/api/v1/query"] = answer
    try:
        assert find_notes(prometheus.url) == [
            "Prometheus does not reach otelog-collector at 127.0.0.1:8888: alerts about that are silent",
            "Prometheus has not seen loki yet: alerts are silent",
            f"an alert fires: OtelogTargetDown ({prometheus.url}/alerts)",
        ]
        prometheus.pages["/api/v1/query"] = "<html>"
        [note] = find_notes(prometheus.url)
        assert note.startswith("Prometheus answers no query, so alerts are not known")
        healthy = [({"job": job, "instance": ""}, 1) for job in ("otelog-collector", "loki")]
        prometheus.pages["/api/v1/query"] = lambda query: result(*healthy) if query["query"] == "up" else result()
        assert find_notes(prometheus.url) == []
    finally:
        prometheus.close()
