"""`otelog stack up` and `status` around a build: what is checked before it, how it goes, and a stack that lacks some.

The servers are stand-ins, "built" by a stand-in for Go: nothing real is built here.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from otelog.cli.stack.native import NativeStack
from otelog.cli.stack.ports import choose_free_ports
from otelog.cli.stack.settings import PORTS, Running, Settings, State
from tests.cli.test_stack_building import FAKE_GO, THEIRS, has_ended
from tools.loopback import FIRST_PORT, LAST_PORT, find_free_ports
from tools.waiting import wait_until

# What the stand-in for Go "builds": a server that answers 200 on the ports that its environment or arguments name.
SERVER = """#!{python}
import http.server, os, re, signal, sys, threading
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b'{{"data": {{"result": []}}}}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments):
        pass
words = [*sys.argv, ":" + os.environ.get("OTELOG_LOKI_PORT", "")]
words += [os.environ.get(f"OTELOG_{{name}}_HEALTH", "") for name in ("COLLECTOR", "JAEGER")]
ports = {{found[1] for word in words if (found := re.search(r"(?:address=127.0.0.1)?:([0-9]+)$", word))}}
servers = [http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler) for port in ports]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
signal.sigwait([signal.SIGTERM])
"""
# It builds when the file is there, and says meanwhile that it compiles.
BUILDING = """echo one >&2; echo two >&2
    while [ ! -e {go_on} ]; do sleep 0.05; done
    while [ "$1" != -o ]; do shift; done
    cp {server} "$2"; chmod +x "$2"; exit 0
"""


class Place:
    """A folder for a stack, a cache of its own, and a stand-in for Go; no server's program is on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "stack"
        self.go_on = folder / "go-on"
        self.started: list[subprocess.Popen[str]] = []
        self.calls = folder / "calls"
        (folder / "bin").mkdir()
        (folder / "server").write_text(SERVER.format(python=sys.executable))
        (folder / "theirs.json").write_text(THEIRS)
        go = folder / "bin" / "go"
        building = BUILDING.format(go_on=self.go_on, server=folder / "server")
        go.write_text(
            FAKE_GO.format(
                version="1.30.1", calls=self.calls, status=0, building=building, theirs=folder / "theirs.json"
            )
        )
        go.chmod(0o755)
        self.environ = {
            **os.environ,
            "PATH": f"{go.parent}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "COLUMNS": "200",
        }
        self.cache = folder / "cache" / "otelog"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        command, *rest = arguments
        pipe = subprocess.PIPE
        # Programs are the machine's, not one folder's.
        folder = [] if command == "build" else ["--data-dir", str(self.folder)]
        words = [sys.executable, "-m", "otelog.cli", "stack", command, *folder, *rest]
        process = subprocess.Popen(words, env=self.environ, stdout=pipe, stderr=pipe, text=True)
        self.started.append(process)
        return process

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit code, and all that was printed."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=90)
        return process.returncode, output + errors

    def up(self, *arguments: str) -> tuple[int, str]:
        return self.run("up", "--native", *arguments)

    def status(self) -> tuple[int, dict[str, Any]]:
        code, text = self.run("status", "--json")
        return code, json.loads(text)

    def built(self) -> int:
        return self.calls.read_text().count("build ") if self.calls.exists() else 0

    def read_progress(self) -> dict[str, Any] | None:
        for path in (self.cache / "progress").glob("*.json"):
            document: dict[str, Any] = json.loads(path.read_text())
            return document
        return None


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path)
    yield one
    # Of a test that has failed in the middle nothing stays.
    one.go_on.touch()
    for process in one.started:
        process.terminate()
        process.communicate(timeout=60)
    one.run("down", "--volumes")


def wait_for_compiling(place: Place) -> dict[str, Any]:
    def compiling() -> dict[str, Any] | None:
        progress = place.read_progress()
        return progress if progress and progress["text"] == "compiling" and progress["packages"] == 2 else None

    found = wait_until(compiling, 30, what="the compiler")
    assert found
    return found


# Before a build.


def test_all_that_is_wrong_is_said_at_once_and_nothing_is_built(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        first, second = (taken.getsockname()[1] for taken in (one, other))
        code, said = place.up(
            *("--free-ports", "--port", f"loki={first}", "--port", f"prometheus={second}"),
            *("--webhook", "hooks.example.org/secret", "--scrape", "http://127.0.0.1:9000/metrics"),
            *("--scrape", "127.0.0.1", "--scrape", "app:0"),
        )
    assert code == 1
    assert f"port {first} (loki) is taken by" in said
    assert f"port {second} (prometheus) is taken by" in said
    assert f"process {os.getpid()}: end that, choose another with --port prometheus=NUMBER" in said
    assert "--webhook is no URL that alerts can be sent to (it does not begin with http:// or https://)" in said
    assert "secret" not in said
    assert "--scrape 'http://127.0.0.1:9000/metrics' has more than a host and a port: give HOST:PORT" in said
    assert "--scrape '127.0.0.1' is not a host and a port" in said
    assert "--scrape 'app:0' has no port between 1 and 65535" in said
    assert said.count("\n- ") == 6
    assert place.built() == 0
    assert not (place.folder / "state.json").exists()


def test_a_port_that_two_servers_want_is_said(place: Place) -> None:
    [port] = find_free_ports(1)
    code, said = place.up("--free-ports", "--port", f"loki={port}", "--port", f"prometheus={port}")
    assert code == 1
    assert f"port {port} is wanted for loki and prometheus: choose another with --port prometheus=NUMBER" in said
    assert place.built() == 0


def test_a_folder_that_cannot_be_written_is_said_with_the_rest(place: Place) -> None:
    place.folder.write_text("a file")
    process = place.start("up", "--native", "--free-ports", "--webhook", "x")
    process.communicate(timeout=60)
    place.folder.unlink()
    (place.folder.parent / "file").write_text("")
    place.folder = place.folder.parent / "file" / "stack"
    code, said = place.up("--free-ports", "--webhook", "x")
    assert code == 1
    assert "cannot be written" in said and "--data-dir" in said
    assert "--webhook is no URL" in said
    assert place.built() == 0


def test_a_folder_in_which_another_stack_is_running_is_said_with_the_rest(place: Place) -> None:
    place.folder.mkdir()
    with (place.folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, said = place.up("--free-ports", "--webhook", "x")
    assert code == 1
    assert "another `otelog stack` is running in" in said
    assert "--webhook is no URL" in said
    assert place.built() == 0


def test_an_option_that_needs_what_is_left_out_is_said(place: Place) -> None:
    options = ("--webhook", "http://127.0.0.1:1/", "--scrape", "127.0.0.1:1", "--without", "prometheus")
    code, said = place.up("--free-ports", *options)
    assert code == 1
    assert "--webhook needs the Alertmanager" in said
    assert "--scrape needs Prometheus" in said
    assert place.built() == 0


def test_what_was_asked_for_earlier_waits_for_what_is_left_out(place: Place) -> None:
    place.go_on.touch()
    assert place.up("--free-ports", "--webhook", "http://127.0.0.1:1/")[0] == 0
    assert place.up("--without", "prometheus")[0] == 0
    code, said = place.up()
    assert (code, "sent to http://127.0.0.1:1/" in said) == (0, True)


@pytest.mark.parametrize("names", ["loki", "collector,prometheus", "grafana"])
def test_what_cannot_be_left_out_is_named(place: Place, names: str) -> None:
    code, said = place.up("--without", names)
    assert code == 2
    assert "what may be left out is prometheus, alertmanager" in said


def test_what_cannot_be_added_is_named(place: Place) -> None:
    code, said = place.up("--with", "grafana")
    assert code == 2
    assert "what may be added is jaeger" in said


# During a build.


def test_a_build_is_seen_and_followed_in_another_terminal(place: Place) -> None:
    code, said = place.run("status")
    assert (code, "otelog stack up" in said) == (1, True)
    up = place.start("up", "--native", "--free-ports")
    wait_for_compiling(place)
    code, said = place.run("status")
    assert code == 1
    assert (
        f"process {up.pid} builds or starts: loki: compiling, 2 of 4 packages; program 1 of 4 to build, since" in said
    )
    assert " left" in said
    code, body = place.status()
    assert (code, body["servers"], body["mode"]) == (1, [], None)
    [building] = body["building"]
    assert (building["pid"], building["current"], building["programs"]) == (
        up.pid,
        "loki",
        ["loki", "alertmanager", "prometheus", "otelog-collector"],
    )
    assert building["left_seconds"] > 0
    follower = place.start("status", "--follow")
    assert follower.stderr is not None
    first = follower.stderr.readline()
    assert first.startswith(f"process {up.pid}: loki: compiling")
    place.go_on.touch()
    output, errors = follower.communicate(timeout=90)
    # It has waited until all was built and started.
    assert follower.returncode == 0, output + errors
    assert output.count(" ready ") == 4
    said, _ = up.communicate(timeout=90)
    assert up.returncode == 0
    assert "4 programs are built first, once on this machine" in said
    assert "took 12 minutes on 2 quiet cores, and 46 on 2 busy ones" in said
    assert "otelog stack status --follow" in said
    assert "--without prometheus" in said
    assert place.read_progress() is None


def test_a_build_that_was_killed_is_not_seen(place: Place) -> None:
    build = place.start("build")
    wait_for_compiling(place)
    children = psutil.Process(build.pid).children(recursive=True)
    build.kill()
    build.communicate(timeout=30)
    for child in children:
        child.kill()
    assert place.read_progress() is not None, "nobody has tidied up"
    code, said = place.run("status")
    assert code == 1
    assert "builds" not in said
    assert "otelog stack up" in said


def test_what_a_build_took_is_the_estimate_of_the_next(place: Place) -> None:
    place.go_on.touch()
    assert place.run("build")[0] == 0
    took = json.loads((place.cache / "build-seconds.json").read_text())
    assert len(took) == 4
    (place.cache / "build-seconds.json").write_text(json.dumps(dict.fromkeys(took, 600.0)))
    for path in (place.cache / "programs").glob("*/*"):
        path.unlink()
    place.go_on.unlink()
    build = place.start("build", "loki", "prometheus")
    found = wait_for_compiling(place)
    assert found["left_seconds"] > 600, "the second one takes ten minutes, and the first is not done"
    assert (found["programs"], found["done"]) == (["loki", "prometheus"], [])
    assert build.stderr is not None
    build.stderr.readline()
    assert build.stderr.readline() == "loki, prometheus. About 20 min.\n"
    place.go_on.touch()
    build.communicate(timeout=60)
    assert build.returncode == 0


def test_a_cache_that_cannot_be_written_keeps_nobody_from_starting(place: Place) -> None:
    place.go_on.touch()
    assert place.up("--free-ports")[0] == 0
    place.run("down")
    (place.cache / "progress").rmdir()
    (place.cache / "progress").write_text("a file")
    assert place.up("--free-ports")[0] == 0


# A stack that lacks some.


def test_a_stack_without_prometheus_is_whole_and_is_completed_later(place: Place) -> None:
    place.go_on.touch()
    code, said = place.up("--free-ports", "--without", "prometheus,alertmanager")
    assert code == 0, said
    assert place.built() == 2
    assert "otelog query" in said
    code, body = place.status()
    assert (code, [one["name"] for one in body["servers"]]) == (0, ["loki", "collector"])
    assert body["without"] == ["prometheus", "alertmanager"]
    code, said = place.run("status")
    assert "left out: prometheus, alertmanager; `otelog stack up` adds them; till then nobody watches" in said
    code, said = place.run("config")
    assert "prometheus:" not in said
    code, said = place.run("logs")
    assert code == 0 and "No such file" not in said
    first = {one["name"]: one["pid"] for one in body["servers"]}

    assert "nothing was changed" in place.up("--without", "alertmanager,prometheus")[1]
    code, said = place.up()
    assert code == 0, said
    assert place.built() == 4
    code, body = place.status()
    second = {one["name"]: one["pid"] for one in body["servers"]}
    # That they answer does not say that Prometheus sees them.
    assert body["notes"] == [
        "Prometheus has not seen otelog-collector yet: alerts are silent",
        "Prometheus has not seen loki yet: alerts are silent",
    ]
    assert "note: Prometheus has not seen loki yet" in place.run("status")[1]
    assert set(second) == {"loki", "alertmanager", "prometheus", "collector"}
    assert body["without"] == []
    assert {name: second[name] for name in first} == first, "what was used is not started anew"

    code, said = place.up("--without", "alertmanager")
    assert code == 0, said
    assert has_ended(second["alertmanager"])
    targets = place.folder / "prometheus" / "config" / "targets"
    assert json.loads((targets / "alertmanager.yaml").read_text()) == []
    assert json.loads((targets / "collector.yaml").read_text()) != []
    place.run("down")
    assert all(has_ended(pid) for pid in first.values())


def test_jaeger_is_built_and_started_only_when_it_is_asked_for_and_stays_until_down(place: Place) -> None:
    place.go_on.touch()
    assert place.up("--free-ports", "--without", "prometheus")[0] == 0
    configuration = place.folder / "collector" / "config"
    assert [path.name for path in configuration.iterdir()] == ["otelcol.yaml"]
    assert not list((place.cache / "programs").glob("jaeger-*"))
    before = {one["name"]: one["pid"] for one in place.status()[1]["servers"]}
    assert set(before) == {"loki", "collector"}

    code, said = place.up("--with", "jaeger")
    assert code == 0, said
    after = {one["name"]: one["pid"] for one in place.status()[1]["servers"]}
    assert set(after) == {"loki", "collector", "jaeger", "prometheus", "alertmanager"}
    assert {name for name in before if before[name] != after[name]} == {"collector"}, "it sends traces there now"
    assert {path.name for path in configuration.iterdir()} == {"otelcol.yaml", "jaeger.yaml"}
    targets = place.folder / "prometheus" / "config" / "targets" / "jaeger.yaml"
    ports = json.loads((place.folder / "state.json").read_text())["settings"]["ports"]
    assert json.loads(targets.read_text()) == [{"targets": [f"127.0.0.1:{ports['jaeger-metrics']}"]}]

    assert "nothing was changed" in place.up()[1]
    place.run("down")
    assert all(has_ended(pid) for pid in after.values())
    assert place.up()[0] == 0
    assert "jaeger" not in {one["name"] for one in place.status()[1]["servers"]}


def test_a_native_stack_says_that_it_has_no_grafana_and_has_a_folder_for_ones_own(place: Place) -> None:
    yaml = pytest.importorskip("yaml")
    place.go_on.touch()
    code, up = place.up("--free-ports")
    assert code == 0
    folder = place.folder.resolve() / "grafana" / "provisioning"
    for said in (up, place.run("status")[1]):
        assert re.search(r"^grafana +not here", said, re.MULTILINE)
        assert "otelog stack up --docker" in said
        assert f"GF_PATHS_PROVISIONING={folder}\n" in said
    ports = json.loads((place.folder / "state.json").read_text())["settings"]["ports"]
    sources = yaml.safe_load((folder / "datasources" / "otelog.yaml").read_text())["datasources"]
    assert {one["uid"]: one["url"] for one in sources} == {
        f"otelog-{name}": f"http://127.0.0.1:{ports[name]}" for name in ("loki", "prometheus", "jaeger")
    }
    [provider] = yaml.safe_load((folder / "dashboards" / "otelog.yaml").read_text())["providers"]
    assert list(Path(provider["options"]["path"]).glob("otelog-*.json"))
    # What to open is said in the end.
    last = up.partition("Then open:")[2]
    assert f"otelog query '{{service_name=~\".+\"}}' --since 10m --loki http://127.0.0.1:{ports['loki']}" in last
    assert "otelog stack up --with jaeger" in last
    assert f"http://127.0.0.1:{ports['jaeger']}/api/traces/ID" in place.up("--with", "jaeger")[1]


def test_the_audit_asks_nobody_who_is_left_out(place: Place) -> None:
    place.go_on.touch()
    place.up("--free-ports", "--without", "prometheus")
    words = [sys.executable, "-m", "otelog.cli", "audit", "--data-dir", str(place.folder), "--wait", "0", "--json"]
    done = subprocess.run(words, env=place.environ, capture_output=True, text=True, timeout=60, check=False)
    body = json.loads(done.stdout)
    assert body["sources"]["prometheus"] is None
    assert "prometheus" not in body["missing"]
    assert any("without Prometheus" in note for note in body["notes"])


HALF_ENDED = """
import ctypes, os, sys, threading
def serve():
    while os.read(0, 1):
        pass
    os._exit(0)
threading.Thread(target=serve).start()
print(flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_server_of_which_a_thread_still_runs_has_not_ended(tmp_path: Path) -> None:
    # The first thread ends first, and is a zombie; the ports are free when the last one has ended.
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HALF_ENDED], stdin=pipe, stdout=pipe) as child:
        assert child.stdin is not None and child.stdout is not None
        child.stdout.readline()
        process = psutil.Process(child.pid)
        wait_until(lambda: process.status() == psutil.STATUS_ZOMBIE)
        state = State("native", Settings(), {"loki": Running(child.pid, process.create_time(), "")})
        stack = NativeStack(tmp_path, state, lambda *_: None)
        assert stack.find_process("loki") == process
        child.stdin.close()
        wait_until(lambda: stack.find_process("loki") is None)


def test_free_ports_are_no_port_of_a_connection_and_none_that_a_server_is_known_by() -> None:
    ports = [port for _ in range(20) for port in choose_free_ports().values()]
    assert min(ports) >= FIRST_PORT and max(ports) <= LAST_PORT
    assert not set(ports) & set(PORTS.values())
    assert len(set(ports)) > len(PORTS)
