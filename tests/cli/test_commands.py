"""The `otelog` command itself, and `otelog dev`, as processes."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.cli.test_receiver import PROTOBUF, make_request

if TYPE_CHECKING:
    from collections.abc import Iterator

OTELOG = [sys.executable, "-m", "otelog.cli"]


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    command = OTELOG if code is None else [sys.executable, "-c", code]
    return subprocess.run([*command, *arguments], capture_output=True, encoding="utf-8", timeout=60, check=False)


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*OTELOG, "dev", "--port", "0", "--folder", str(tmp_path / "dev")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_help_names_every_command() -> None:
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert {"demo", "dev"} <= set(re.findall(r"^  (\w+) ", done.stdout, re.MULTILINE))


def test_version_is_told() -> None:
    assert run("--version").stdout.startswith("otelog ")


def test_an_unknown_command_is_refused() -> None:
    done = run("nothing")
    assert done.returncode == 2
    assert "No such command" in done.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("click", [], "otelog[dev]"),
        ("flask", ["demo"], "otelog[demo]"),
    ],
)
def test_a_missing_extra_is_told_with_what_to_install(module: str, arguments: list[str], extra: str) -> None:
    # None in sys.modules is how Python itself marks a module that cannot be imported; the finder hides it too.
    code = f"""
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if f"{{name}}.".startswith({module + "."!r}):
            raise ModuleNotFoundError(f"No module named {{name}}", name=name)
sys.meta_path.insert(0, Hidden())
from otelog.cli import main
main()
"""
    done = run(*arguments, code=code)
    assert done.returncode == 2
    assert f"python -m pip install '{extra}'" in done.stderr
    assert "Traceback" not in done.stderr


def test_dev_receives_until_it_is_interrupted(dev: subprocess.Popen[str], tmp_path: Path) -> None:
    assert dev.stdout is not None
    first = dev.stdout.readline()
    url = re.search(r"listening on (http://127\.0\.0\.1:\d+)", first)
    assert url, first
    connection = http.client.HTTPConnection(urlsplit(url[1]).netloc, timeout=10)
    connection.request("POST", "/v1/logs", make_request(7), {"Content-Type": PROTOBUF})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"")
    connection.close()
    dev.send_signal(signal.SIGINT)
    output = dev.communicate(timeout=20)[0]
    assert dev.returncode == 0
    assert f"7 records written to {tmp_path / 'dev'}" in output
    lines = (tmp_path / "dev" / "app.log").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["message"] for line in lines] == [f"message {n}" for n in range(7)]


def test_dev_says_that_its_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("dev", "--port", str(port), "--folder", str(tmp_path / "dev"))
    assert done.returncode == 1
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_dev_says_that_its_folder_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("dev", "--port", "0", "--folder", str(tmp_path / "file" / "dev"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr


def test_dev_as_a_child_stops_when_its_input_ends(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*OTELOG, "dev", "--port", "0", "--folder", str(tmp_path / "dev"), "--stop-on-eof"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert "listening on" in process.stdout.readline()
    process.stdin.close()
    assert "0 records written" in process.stdout.read()
    assert process.wait(20) == 0
    process.stdout.close()
