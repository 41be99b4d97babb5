"""`otelog run` as a person uses it: programs that know nothing of otelog, and what arrives from them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otelog.testing import OTLPServer
from tests.sizes import without_instrumentations

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

pytest.importorskip("flask")

RUN = [sys.executable, "-m", "otelog.cli", "run"]

SHOP = """
import logging
from flask import Flask

shop = Flask("shop")
log = logging.getLogger("orders")

@shop.get("/order/<int:number>")
def order(number):
    log.info("order %d taken", number)
    log.info("order %d paid", number)
    return "ok"

for number in range(3):
    with shop.test_client() as client:
        client.get(f"/order/{number}")
"""


@pytest.fixture
def server() -> Iterator[OTLPServer]:
    with OTLPServer() as server:
        yield server


def run(
    server: OTLPServer, folder: Path, *arguments: str, starter: list[str] = RUN, **environ: str
) -> subprocess.CompletedProcess[str]:
    # Without the folder of the tests: a program finds only what is installed.
    return subprocess.run(
        [*starter, *arguments],
        cwd=folder,
        env={
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint,
            **without_instrumentations("flask"),
            **environ,
        },
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def bodies(server: OTLPServer) -> Counter[str]:
    return Counter(record.body.string_value for record in server.records)


def attribute(record: LogRecord, name: str) -> Any:
    return next((pair.value.string_value for pair in record.attributes if pair.key == name), None)


def resources(server: OTLPServer, name: str) -> set[str]:
    return {
        pair.value.string_value
        for request in server.requests
        for resource_logs in request.decode().resource_logs
        for pair in resource_logs.resource.attributes
        if pair.key == name
    }


def test_an_unchanged_flask_application_has_its_requests_traces_in_every_record(
    server: OTLPServer, tmp_path: Path
) -> None:
    write(tmp_path, "shop.py", SHOP)
    done = run(server, tmp_path, "--", "python", "shop.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert bodies(server) == {f"order {n} {what}": 1 for n in range(3) for what in ("taken", "paid")}
    traces = {record.body.string_value.split()[1]: record.trace_id.hex() for record in server.records}
    assert len(set(traces.values())) == 3
    assert all(record.span_id.strip(b"\0") for record in server.records)
    assert {(record.body.string_value.split()[1], record.trace_id.hex()) for record in server.records} == set(
        traces.items()
    )


def test_opentelemetry_instrument_picks_otelog_up(server: OTLPServer, tmp_path: Path) -> None:
    write(tmp_path, "shop.py", SHOP)
    starter = [sys.executable, "-c", "from opentelemetry.instrumentation.auto_instrumentation import run; run()"]
    done = run(server, tmp_path, sys.executable, "shop.py", starter=starter)
    assert (done.returncode, done.stderr) == (0, "")
    assert bodies(server) == {f"order {n} {what}": 1 for n in range(3) for what in ("taken", "paid")}
    assert all(record.trace_id.strip(b"\0") for record in server.records)


def test_the_console_shows_what_it_shows_without_otelog(server: OTLPServer, tmp_path: Path) -> None:
    write(
        tmp_path,
        "shown.py",
        """
import logging
from flask import Flask
logging.getLogger("plain").warning("by logging")
shop = Flask("shop")
shop.logger.warning("by flask")
logging.basicConfig(format="%(message)s")
logging.getLogger("plain").warning("by the console")
""",
    )
    done = run(server, tmp_path, "--", "python", "shown.py")
    shown = [line.partition("] ")[2] or line for line in done.stderr.splitlines()]
    assert shown == ["by logging", "WARNING in shown: by flask", "by the console"]
    assert bodies(server) == {"by logging": 1, "by flask": 1, "by the console": 1}


def test_a_configuration_that_disables_existing_loggers_spares_those_that_only_otelog_has_loaded(
    server: OTLPServer, tmp_path: Path
) -> None:
    write(
        tmp_path,
        "disabling.py",
        """
import logging, logging.config
logging.getLogger("mine")
logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})
import werkzeug, flask
logging.getLogger("werkzeug").info("by a library")
logging.getLogger("asyncio").info("by another")
logging.getLogger("mine").info("disabled, as without otelog")
for name in ("werkzeug", "asyncio"):
    assert not logging.getLogger(name).disabled
""",
    )
    done = run(server, tmp_path, "--", "python", "disabling.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert bodies(server) == {"by a library": 1, "by another": 1}


def test_calls_go_the_short_way(server: OTLPServer, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.logging")
    code = "import logging; assert logging.getLogRecordFactory() is logging.LogRecord; logging.info('hello')"
    done = run(server, tmp_path, "--", "python", "-c", code)
    assert (done.returncode, done.stderr) == (0, "")
    assert bodies(server) == {"hello": 1}


def test_log_correlation_puts_trace_ids_into_records_and_delivers_them_once(server: OTLPServer, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.logging")
    write(tmp_path, "shop.py", SHOP)
    done = run(server, tmp_path, "--", "python", "shop.py", OTEL_PYTHON_LOG_CORRELATION="true")
    assert done.returncode == 0, done.stderr
    assert bodies(server) == {f"order {n} {what}": 1 for n in range(3) for what in ("taken", "paid")}
    assert all(any(record.trace_id) for record in server.records)
    # They are the record's own ids, and no attributes.
    keys = {pair.key for record in server.records for pair in record.attributes}
    assert not any(key.startswith("otel") for key in keys)


def test_processes_that_the_command_starts_are_set_up_too(server: OTLPServer, tmp_path: Path) -> None:
    write(
        tmp_path,
        "many.py",
        """
import logging, multiprocessing, subprocess, sys

def work(name):
    logging.info("from %s", name)

if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        child = multiprocessing.get_context(method).Process(target=work, args=(method,))
        child.start()
        child.join()
    subprocess.run([sys.executable, "-c", "import logging; logging.info('from a program')"], check=True)
    work("itself")
""",
    )
    done = run(server, tmp_path, "--", "python", "many.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert bodies(server) == {f"from {n}": 1 for n in ("fork", "spawn", "forkserver", "a program", "itself")}
    assert len(resources(server, "service.instance.id")) == 5


def test_options_win_against_the_environment(server: OTLPServer, tmp_path: Path) -> None:
    done = run(
        server,
        tmp_path,
        *(
            "--service-name",
            "shop",
            "--endpoint",
            server.endpoint,
            "python",
            "-c",
            "import logging; logging.info('hi')",
        ),
        OTEL_SERVICE_NAME="other",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="http://127.0.0.1:1/v1/logs",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (bodies(server), resources(server, "service.name")) == ({"hi": 1}, {"shop"})


def test_a_configuration_file_is_found_from_another_folder(server: OTLPServer, tmp_path: Path) -> None:
    write(tmp_path, "otelog.yaml", "service_name: from-file\n")
    command = "cd /; exec python -c 'import logging; logging.info(\"hi\")'"
    done = run(
        server,
        tmp_path,
        *("--config", "otelog.yaml", "sh", "-c", command),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (bodies(server), resources(server, "service.name")) == ({"hi": 1}, {"from-file"})


def test_arguments_and_exit_code_are_the_commands_own(server: OTLPServer, tmp_path: Path) -> None:
    code = "import sys; print(sys.argv[1:]); sys.exit(3)"
    done = run(server, tmp_path, "python", "-c", code, "--help", "--endpoint", "x", "--", "y")
    assert (done.returncode, done.stdout) == (3, "['--help', '--endpoint', 'x', '--', 'y']\n")


def test_python_is_the_one_that_otelog_is_installed_for(server: OTLPServer, tmp_path: Path) -> None:
    done = run(server, tmp_path, "python", "-c", "import sys; print(sys.prefix)", PATH=os.defpath)
    assert done.stdout.strip() == sys.prefix


def test_a_command_that_does_not_exist_is_told(server: OTLPServer, tmp_path: Path) -> None:
    done = run(server, tmp_path, "--", "no-such-command", "x")
    assert done.returncode == 127
    assert "no-such-command was not found" in done.stderr


def test_a_script_that_is_not_executable_is_told_how_to_run(server: OTLPServer, tmp_path: Path) -> None:
    write(tmp_path, "shop.py", SHOP)
    for name in ("shop.py", "./shop.py"):
        done = run(server, tmp_path, "--", name)
        assert done.returncode == 126
        assert f"otelog run -- python {name}" in done.stderr


def test_a_file_that_no_system_can_run_is_told(server: OTLPServer, tmp_path: Path) -> None:
    write(tmp_path, "broken", "no program\n").chmod(0o755)
    done = run(server, tmp_path, "--", "./broken")
    assert done.returncode == 126
    assert "./broken cannot be run: Exec format error" in done.stderr


def test_a_mistake_in_the_configuration_file_ends_it_before_the_command_runs(
    server: OTLPServer, tmp_path: Path
) -> None:
    write(tmp_path, "otelog.yaml", "servce_name: shop\n")
    done = run(server, tmp_path, "--config", "otelog.yaml", "--", "python", "-c", "print('ran')")
    assert (done.returncode, done.stdout) == (2, "")
    assert "otelog.yaml:1" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_instrumentation_of_flask_it_says_what_to_install(server: OTLPServer, tmp_path: Path) -> None:
    # None in sys.modules is how Python itself marks a module that cannot be imported.
    code = "import sys; sys.modules['opentelemetry.instrumentation.flask'] = None; from otelog.cli import main; main()"
    done = run(server, tmp_path, "run", "--", "python", "-c", "print('ran')", starter=[sys.executable, "-c", code])
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert "python -m pip install 'otelog[flask]'" in done.stderr


TERMINATED_FROM_OUTSIDE = """
import logging, os, signal, subprocess
logging.info('held')
subprocess.run(['sh', '-c', f'kill {os.getpid()}'])
signal.pause()
"""


@pytest.mark.parametrize(("said", "in_force"), [(None, "true"), ("false", "false")])
def test_sigterm_delivers_what_is_held_unless_it_is_told_otherwise(
    server: OTLPServer, tmp_path: Path, said: str | None, in_force: str
) -> None:
    environ = {} if said is None else {"OTELOG_HANDLE_SIGTERM": said}
    code = TERMINATED_FROM_OUTSIDE
    done = run(server, tmp_path, "--", "python", "-c", code, **environ)
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")
    assert bodies(server) == ({"held": 1} if in_force == "true" else {})


def test_a_configuration_file_may_leave_sigterm_alone(server: OTLPServer, tmp_path: Path) -> None:
    write(tmp_path, "otelog.yaml", "handle_sigterm: false\n")
    code = TERMINATED_FROM_OUTSIDE
    done = run(server, tmp_path, "--config", "otelog.yaml", "python", "-c", code)
    assert (done.returncode, bodies(server)) == (-signal.SIGTERM, {})


def test_uwsgi_is_told_what_threads_and_forks_need_and_other_programs_are_not(
    server: OTLPServer, tmp_path: Path
) -> None:
    for name in ("uwsgi", "other"):
        write(tmp_path, name, "#!/bin/sh\necho $UWSGI_ENABLE_THREADS $UWSGI_PY_CALL_OSAFTERFORK\n").chmod(0o755)
    assert run(server, tmp_path, "--", "./uwsgi").stdout.split() == ["true", "true"]
    assert run(server, tmp_path, "--", "./uwsgi", UWSGI_ENABLE_THREADS="no").stdout.split() == ["no", "true"]
    assert run(server, tmp_path, "--", "./other").stdout.split() == []
