"""`otelog tail` and which of the two, Loki or files, `otelog query` and it ask."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from otelog.cli.commands import otelog
from otelog.cli.search.following import Following
from otelog.loki import Entry
from tests.loki_double import LokiDouble
from tools.loopback import find_free_ports
from tools.waiting import wait_until


def line(message: str, **more: Any) -> str:
    record = {
        "timestamp": "2026-11-24T20:00:00.000000+00:00",
        "level": "INFO",
        "logger": "shop",
        "message": message,
        **more,
    }
    return json.dumps(record) + "\n"


def append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


class Tail:
    """The command as a process; what it printed is read while it runs."""

    def __init__(self, folder: Path, *words: object, **environ: str) -> None:
        self._output, self._errors = folder / "out", folder / "err"
        (port,) = find_free_ports(1)
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "otelog.cli", "tail", *map(str, words)],
                env={**os.environ, "OTELOG_LOKI": f"http://127.0.0.1:{port}", **environ},
                stdout=output,
                stderr=errors,
                cwd=folder,
            )

    def lines(self) -> list[str]:
        return self._output.read_text(encoding="utf-8").splitlines()

    def said(self) -> str:
        return self._errors.read_text(encoding="utf-8")

    def messages(self) -> list[str]:
        return [json.loads(one)["message"] for one in self.lines()]

    def wait_for(self, *messages: str) -> None:
        wait_until(lambda: self.messages() == list(messages), what=f"{messages}")

    def end(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)


@pytest.fixture
def run_tail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Tail]]:
    started: list[Tail] = []

    def run(*words: object, **environ: str) -> Tail:
        started.append(Tail(tmp_path_factory.mktemp("tail"), *words, **environ))
        return started[-1]

    yield run
    for one in started:
        one.process.kill()
        one.process.wait()


def test_files_are_followed_through_rotation_from_the_past_on(tmp_path: Path, run_tail: Callable[..., Tail]) -> None:
    app = tmp_path / "app.log"
    (tmp_path / "app.20261124-200000-0001.log.gz").write_bytes(gzip.compress(line("packed").encode()))
    (tmp_path / "app.20261124-200001-0001.log").write_text(line("rotated"))
    app.write_text(line("past") + line("no", level="DEBUG"))
    (tmp_path / "errors.log").write_text(line("past"))
    tail = run_tail(tmp_path, "--json", "--since", "2026-11-24T00:00Z", "--level", "info")
    seen = ["packed", "rotated", "past"]
    tail.wait_for(*seen)
    append(app, line("one") + "no record\n" + line("two")[:20])
    append(tmp_path / "errors.log", line("one"))
    tail.wait_for(*seen, "one")
    append(app, line("two")[20:])
    append(app, line("three"))
    app.rename(tmp_path / "app.20261124-200002-0001.log")
    app.write_text(line("four"))
    append(tmp_path / "app.20261124-200002-0001.log", line("late"))
    wait_until(lambda: len(tail.messages()) == len(seen) + 5, what="what came around the rotation")
    assert sorted(tail.messages()[4:]) == ["four", "late", "three", "two"]
    append(app, line("five"))
    wait_until(lambda: tail.messages()[-1] == "five", what="what came afterwards")
    assert (tail.end(), tail.said()) == (0, "1 lines are no records\n")


def test_without_since_only_what_comes_is_shown_in_readable_lines(
    tmp_path: Path, run_tail: Callable[..., Tail]
) -> None:
    app = tmp_path / "x.jsonl"
    app.write_text(line("past"))
    tail = run_tail(app)

    def came() -> list[str]:
        # Until it has begun, everything is past.
        append(app, line("now", n=1))
        return tail.lines()

    wait_until(came, 20.0, what="a line")
    assert set(tail.lines()) == {"2026-11-24 20:00:00.000 INFO     shop now n=1"}
    assert tail.end() == 0


def test_the_usual_folder_is_followed_where_no_loki_answers(run_tail: Callable[..., Tail], tmp_path: Path) -> None:
    done = CliRunner().invoke(otelog, ["tail", "--loki", "http://127.0.0.1:1"])
    assert (done.exit_code, "otelog stack up" in done.stderr) == (1, True)
    tail = run_tail(tmp_path / "nowhere")
    assert tail.process.wait(20) == 1
    assert "nowhere does not exist" in tail.said()


# The lines of files that grow.


@contextmanager
def following(*paths: Path, streams: tuple[str, ...] = ("app",)) -> Iterator[Callable[[], list[str]]]:
    files = Following(list(paths), streams)
    try:
        yield lambda: [one.decode() for one in files.read()]
    finally:
        files.close()


def test_a_line_is_given_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("past\nbegun")
    with following(path) as read:
        assert read() == []
        append(path, " and ended\nnext")
        assert read() == ["begun and ended"]
        assert read() == []
        append(path, "\n")
        assert read() == ["next"]


def test_a_file_that_is_emptied_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("a long line of the past\n")
    with following(path) as read:
        path.write_text("new\n")
        assert read() == ["new"]


def test_several_rotations_at_once_lose_nothing(tmp_path: Path) -> None:
    app = tmp_path / "app.log"
    app.write_text("past\n")
    with following(tmp_path) as read:
        for number in range(1, 4):
            append(app, f"end of {number}\n")
            app.rename(tmp_path / f"app.20261124-200000-000{number}.log")
            app.write_text(f"beginning of {number + 1}\n")
        assert read() == [
            "end of 1",
            "beginning of 2",
            "end of 2",
            "beginning of 3",
            "end of 3",
            "beginning of 4",
        ]


def test_a_rotated_file_that_was_removed_is_read_to_its_end_and_let_go(tmp_path: Path) -> None:
    app = tmp_path / "app.log"
    app.write_text("past\n")
    with following(tmp_path) as read:
        append(app, "last\n")
        app.unlink()
        assert read() == ["last"]
        app.write_text("first\n")
        assert read() == ["first"]


def test_files_of_other_streams_and_packed_ones_are_not_followed(tmp_path: Path) -> None:
    with following(tmp_path, streams=("errors",)) as read:
        (tmp_path / "app.log").write_text("app\n")
        (tmp_path / "errors.log").write_text("errors\n")
        (tmp_path / "collector.jsonl").write_text("collector\n")
        (tmp_path / "notes.txt").write_text("notes\n")
        (tmp_path / "errors.20261124-200000-0001.log.gz").write_bytes(b"x\n")
        assert sorted(read()) == ["collector", "errors"]


# Which of the two is asked.


@pytest.fixture
def double() -> Iterator[LokiDouble]:
    with LokiDouble() as running:
        running.entries = [Entry(time.time_ns() - 10**9, "from Loki", {"service_name": "shop"})]
        yield running


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "otelog-dev").mkdir()
    (tmp_path / "otelog-dev" / "app.log").write_text(line("from files"))
    return tmp_path


def query(*words: str) -> Result:
    return CliRunner().invoke(otelog, ["query", *words])


NOBODY = "http://127.0.0.1:1"
LOGQL = '{service_name="shop"}'


@pytest.mark.parametrize(
    ("words", "environment", "expected"),
    [
        ([], "double", "Loki"),
        ([], NOBODY, "error"),
        (["--loki", "double"], None, "Loki"),
        (["--loki", NOBODY], None, "error"),
        ([LOGQL], "double", "Loki"),
        ([LOGQL, "--loki", "double"], NOBODY, "Loki"),
        ([LOGQL], NOBODY, "error"),
        (["otelog-dev"], "double", "files"),
        (["otelog-dev"], NOBODY, "files"),
        (["otelog-dev", "--loki", "double"], None, "Loki"),
        (["otelog-dev", "--loki", NOBODY], None, "files, and says so"),
        (["--stream", "app"], None, "files"),
    ],
)
def test_what_is_named_is_asked(
    double: LokiDouble,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    environment: str | None,
    expected: str,
) -> None:
    if environment is not None:
        monkeypatch.setenv("OTELOG_LOKI", environment.replace("double", double.url))
    done = query(*[word.replace("double", double.url) for word in words])
    if expected == "error":
        assert done.exit_code == 1
        assert "Loki cannot be reached at http://127.0.0.1:1" in done.stderr
        assert "otelog stack up" in done.stderr
        return
    assert done.exit_code == 0, done.stderr
    assert f"from {expected.partition(',')[0]}" in done.stdout
    said = f"no Loki answers at {NOBODY}; this is from otelog-dev\n" if expected.endswith("says so") else ""
    assert done.stderr == said


def test_a_token_goes_from_its_file_to_loki_and_a_file_without_one_is_told(double: LokiDouble, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    assert query(LOGQL, "--loki", double.url, "--loki-token-file", str(token)).exit_code == 0
    assert double.requests[-1][2]["Authorization"] == "Bearer secret"
    for content in (b"", b"a\nb", b"\xff", "é".encode()):
        token.write_bytes(content)
        done = query(LOGQL, "--loki", double.url, "--loki-token-file", str(token))
        assert (done.exit_code, str(token) in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([LOGQL, "otelog-dev"], "LogQL is for Loki"),
        ([LOGQL, LOGQL], "one query at a time"),
        ([LOGQL, "--where", "timestamp=5"], "--since and --until"),
        ([f"sum(count_over_time({LOGQL}[5m]))", "--last", "3"], "a metric query has its time and filters in itself"),
        (["--loki", "nowhere"], "'nowhere' is no address of Loki"),
    ],
)
def test_what_does_not_go_together_is_said(folder: Path, words: list[str], said: str) -> None:
    done = query(*words)
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.split())


def test_a_broken_pipe_is_no_error_to_see(double: LokiDouble) -> None:
    double.entries = [Entry(time.time_ns() - 10**9 + n, f"line {n}" * 100, {}) for n in range(2000)]
    command = [sys.executable, "-m", "otelog.cli", "query", LOGQL, "--loki", double.url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(20)
