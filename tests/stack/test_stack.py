"""`otelog stack`: what it starts, what it leaves alone, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import trustme

from tests.stack.conftest import build
from tests.stack.running import ROOT, RunningStack, Sender

SERVERS = {"collector", "loki", "prometheus", "alertmanager"}
# A program that says it is new, is up, and never answers; or that ends at once.
SILENT = "#!/bin/sh\ncase $1 in --version) echo version 9.9.9 ;; *) exec tail -f /dev/null ;; esac\n"
BROKEN = "#!/bin/sh\ncase $1 in --version) echo version 9.9.9 ;; *) echo the disk is made of cheese; exit 3 ;; esac\n"


@pytest.fixture(scope="module", autouse=True)
def programs() -> None:
    for name in ("otelog-collector", "loki", "prometheus", "alertmanager", "promtool", "amtool"):
        build(name)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[RunningStack]:
    """A stack that is not started yet."""
    one = RunningStack(tmp_path / "stack")
    yield one
    one.down("--volumes")
    assert not one.folder.exists()


def with_program(folder: Path, name: str, text: str) -> dict[str, str]:
    """An environment with a program of our own in front."""
    folder.mkdir()
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def find_processes(folder: Path) -> list[psutil.Process]:
    """The processes that have to do with a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and any(str(folder) in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_it_starts_once_mends_what_has_died_and_ends_all(stack: RunningStack) -> None:
    said = stack.up()
    first = stack.statuses()
    assert set(first) == SERVERS
    assert all(server["ready"] for server in first.values())
    assert stack.endpoint in said

    assert "nothing was changed" in stack.up()
    assert {name: server["pid"] for name, server in stack.statuses().items()} == {
        name: server["pid"] for name, server in first.items()
    }

    stack.kill("prometheus")
    done = stack.run("status", check=False)
    assert done.returncode == 1
    assert "ended by itself" in done.stdout
    stack.up()
    again = stack.statuses()
    assert all(server["ready"] for server in again.values())
    assert {name for name in SERVERS if again[name]["pid"] != first[name]["pid"]} == {"prometheus"}

    stack.down()
    assert find_processes(stack.folder) == []
    assert (stack.folder / "loki" / "data").is_dir(), "the data stay"
    done = stack.run("status", check=False)
    assert done.returncode == 1
    assert "otelog stack up" in done.stderr


def test_another_option_starts_anew_only_what_it_concerns(stack: RunningStack, tmp_path: Path) -> None:
    stack.up()
    first = stack.statuses()
    (tmp_path / "token").write_text("secret")
    stack.up("--token-file", str(tmp_path / "token"))
    second = stack.statuses()
    assert {name for name in SERVERS if second[name]["pid"] != first[name]["pid"]} == {"collector"}
    # What was chosen once holds until `down`.
    assert "nothing was changed" in stack.up()


def test_senders_need_the_token_and_a_certificate_that_was_asked_for(stack: RunningStack, tmp_path: Path) -> None:
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client@example.org")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server.private_key_pem.write_to_path(tmp_path / "server.key")
    server.cert_chain_pems[0].write_to_path(tmp_path / "server.pem")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    (tmp_path / "token").write_text("secret")
    said = stack.up(
        *("--token-file", str(tmp_path / "token"), "--tls-client-ca", str(tmp_path / "ca.pem")),
        *("--tls-certificate", str(tmp_path / "server.pem"), "--tls-key", str(tmp_path / "server.key")),
    )
    endpoint = stack.endpoint.replace("http://", "https://")
    assert endpoint in said
    whole = {
        "certificate_file": str(tmp_path / "ca.pem"),
        "client_certificate_file": str(tmp_path / "client.pem"),
        "headers": {"authorization": "Bearer secret"},
        "export_timeout_millis": 500,
    }
    lacking = [{name: value for name, value in whole.items() if name != left_out} for left_out in list(whole)[1:3]]
    for options in lacking:
        books = Sender(endpoint, "shop", 10, options).finish()
        assert (books["exported"], books["lost"]) == (0, 10)
    books = Sender(endpoint, "shop", 10, {**whole, "export_timeout_millis": 30_000}).finish()
    assert (books["exported"], books["lost"]) == (10, 0)
    assert stack.sum("collector-metrics", "otelcol_receiver_accepted_log_records_total") == 10


def test_logs_are_the_servers_own(stack: RunningStack) -> None:
    stack.up()
    lines = stack.run("logs", "--lines", "1000", "collector").stdout.splitlines()
    assert any("Everything is ready" in line for line in lines)
    assert {line.split(" | ")[0] for line in lines} == {"collector"}
    done = stack.run("logs", "grafana", check=False)
    assert done.returncode == 1
    assert "there is no grafana" in done.stderr


def test_a_port_that_is_taken_is_named_with_its_owner_and_nothing_is_left(stack: RunningStack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = stack.run("up", "--native", "--free-ports", "--port", f"prometheus={port}", check=False)
    assert done.returncode == 1
    assert f"port {port} (prometheus) is taken by" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    assert "--port prometheus=NUMBER" in done.stderr
    assert find_processes(stack.folder) == []
    assert not (stack.folder / "state.json").exists()


def test_a_server_that_ends_at_once_is_shown_with_its_words_and_nothing_is_left(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path / "stack", with_program(tmp_path / "bin", "prometheus", BROKEN))
    done = stack.run("up", "--native", "--free-ports", check=False)
    assert done.returncode == 1
    assert "the prometheus ended at once with code 3" in done.stderr
    assert "made of cheese" in done.stderr
    assert find_processes(stack.folder) == []
    assert not (stack.folder / "state.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_while_starting_it_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    stack = RunningStack(tmp_path / "stack", with_program(tmp_path / "bin", "prometheus", SILENT))
    command = [sys.executable, "-m", "otelog.cli", "stack", "up", "--native", "--free-ports"]
    with subprocess.Popen(
        [*command, "--data-dir", str(stack.folder)],
        env=stack.environ,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("loki: ready"):
                break
        assert find_processes(stack.folder / "loki")
        process.send_signal(number)
        for line in process.stdout:
            if line.startswith("prometheus: ending"):
                # Once more, in the middle of what the first one began.
                process.send_signal(number)
    assert process.returncode == 130
    assert find_processes(stack.folder) == []
    assert not (stack.folder / "state.json").exists()


def test_two_at_once_do_not_disturb_each_other(stack: RunningStack) -> None:
    stack.up()
    with (stack.folder / "lock").open("w") as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        done = stack.run("up", "--native", check=False)
    assert done.returncode == 1
    assert "another `otelog stack` is running" in done.stderr


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = RunningStack(tmp_path / "file" / "stack").run("up", "--native", check=False)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "--data-dir" in done.stderr


def test_a_state_that_is_damaged_is_an_error_not_a_guess(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path)
    (tmp_path / "state.json").write_text("{")
    for command in ("up", "down", "status"):
        done = stack.run(command, check=False)
        assert done.returncode == 1
        assert "is damaged" in done.stderr


def test_a_process_of_another_time_with_the_same_id_is_left_alone(stack: RunningStack) -> None:
    stack.up()
    stack.down()
    stack.folder.mkdir(exist_ok=True)
    with subprocess.Popen(["sleep", "60"]) as other:
        server = {"pid": other.pid, "created": psutil.Process(other.pid).create_time() - 60, "digest": ""}
        state = {"mode": "native", "settings": {"ports": stack.ports}, "servers": {"loki": server}}
        (stack.folder / "state.json").write_text(json.dumps(state))
        stack.down()
        assert other.poll() is None
        other.kill()


def test_docker_is_not_needed_but_may_be_insisted_on(tmp_path: Path) -> None:
    folder = tmp_path / "bin"
    environ = with_program(folder, "docker", "#!/bin/sh\necho no engine here >&2; exit 1\n")
    done = RunningStack(tmp_path / "stack", environ).run("up", "--docker", check=False)
    assert done.returncode == 1
    assert "no Docker engine answers (no engine here)" in done.stderr


def test_every_configuration_is_valid_by_the_servers_own_programs(tmp_path: Path) -> None:
    said = RunningStack(tmp_path).run("config", "--check").stdout.splitlines()
    assert sorted(said) == sorted(f"{name}: valid" for name in SERVERS)


def test_a_configuration_that_is_not_valid_is_shown(tmp_path: Path) -> None:
    stack = RunningStack(tmp_path, {"OTELOG_COLLECTOR_MEMORY_MIB": "much"})
    done = stack.run("config", "--check", check=False)
    assert done.returncode == 1
    assert "collector: not valid" in done.stdout
    assert "limit_mib" in done.stderr


def test_an_installed_wheel_has_the_files(tmp_path: Path) -> None:
    build_wheel = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build_wheel, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    stack = RunningStack(tmp_path / "stack", {"PYTHONPATH": str(tmp_path / "installed")})
    command = [sys.executable, "-P" if sys.version_info >= (3, 11) else "-E", "-c"]
    code = "from otelog.cli.stack.files import find_files; print(find_files())"
    done = subprocess.run([*command, code], env=stack.environ, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == tmp_path / "installed" / "otelog" / "cli" / "stack" / "files"
    names = {path.name for path in (Path(done.stdout.strip()) / "collector").rglob("*.yaml")}
    files = tmp_path / "installed" / "otelog" / "cli" / "stack" / "files"
    assert (files / "docker-compose.yml").is_file()
    assert (files / "dashboards" / "otelog-ledger.json").is_file()
    assert names >= {"otelcol.yaml", "token.yaml", "tls.yaml", "loki.yaml", "prometheus.yaml", "alertmanager.yaml"}
    assert names >= {"jaeger.yaml", "jaeger-config.yaml"}
