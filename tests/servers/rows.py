"""The servers and their modes, each with its life from the first request to its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from otelog.testing import OTLPServer
from tests.servers import tasks
from tests.servers.cycle import ROOT, START_SECONDS, Cycle, Outcome
from tests.servers.redis import running_redis
from tests.sizes import INSTRUMENTATIONS, sized, without_instrumentations
from tools.loopback import find_free_ports
from tools.waiting import wait_until

Answers = list[dict[str, Any]]

REQUESTS = 24
RECYCLED_AFTER = 6
RECYCLED_LATE = 60
RELOAD_SECONDS = 5.0
CHANGED = "changed.py"
"""A file in the books' folder; reloaders look at it."""
WORKERS = 2


def until_term(cycle: Cycle) -> Answers:
    """Work, then SIGTERM."""
    answers = cycle.work(REQUESTS)
    cycle.end(signal.SIGTERM)
    return answers


def recycled(cycle: Cycle) -> Answers:
    """Work for longer than a worker lives."""
    answers = cycle.work(REQUESTS, may_fail=REQUESTS // 4)
    cycle.settle(RECYCLED_AFTER)
    cycle.end(signal.SIGTERM)
    assert len({answer["pid"] for answer in answers}) > cycle.workers, "no worker was recycled"
    return answers


def recycled_between(cycle: Cycle) -> Answers:
    """Have a worker recycled that looks only now and then how much it has done, and work with the next ones."""
    answers = cycle.work(REQUESTS // 2)
    # To ask is work, too.
    cycle.wait_for_workers(1, other_than={answer["pid"] for answer in answers})
    answers += cycle.work(REQUESTS // 2, may_fail=REQUESTS // 4)
    cycle.settle(RECYCLED_LATE)
    cycle.end(signal.SIGTERM)
    return answers


def reloaded(cycle: Cycle) -> Answers:
    """Work, have all workers replaced, work again."""
    answers = cycle.work(REQUESTS // 2)
    os.kill(cycle.process.pid, signal.SIGHUP)
    cycle.wait_for_workers(cycle.workers, other_than={answer["pid"] for answer in answers})
    answers += cycle.work(REQUESTS // 2)
    cycle.end(signal.SIGTERM)
    return answers


def changed(cycle: Cycle) -> Answers:
    """Work, change a file that the reloader watches, work again, then SIGTERM to the reloader alone."""
    answers = cycle.work(REQUESTS // 2)
    (worker,) = {answer["pid"] for answer in answers}
    began = time.monotonic()

    def is_gone() -> bool:
        # A reloader that has not looked at the file yet takes its next time for the first. Nobody asks for anything
        # meanwhile: what a server's daemon thread logs while the process ends may be too late, and is counted.
        if time.monotonic() - began > os.stat(cycle.folder / CHANGED).st_mtime:
            stamp = int((time.monotonic() - began + RELOAD_SECONDS) * 1e9)
            os.utime(cycle.folder / CHANGED, ns=(stamp, stamp))
        return not psutil.pid_exists(worker)

    wait_until(is_gone, START_SECONDS, what=f"{worker} is replaced")
    cycle.wait_for_workers(1)
    answers += cycle.work(REQUESTS // 2)
    cycle.end(signal.SIGTERM)
    return answers


def worker_killed(cycle: Cycle) -> Answers:
    """Deliver half of the work, then kill a worker that holds some of the other half."""
    answers = cycle.work(REQUESTS // 2)
    cycle.flush()
    # One client: the last answer is the worker's last word.
    later = cycle.work(REQUESTS // 2, clients=1)
    cycle.kill(later[-1]["pid"], later[-1]["held"])
    cycle.wait_for_workers(cycle.workers, other_than=cycle.killed)
    later += cycle.work(REQUESTS // 2)
    cycle.end(signal.SIGTERM)
    return answers + later


def tasks_done(cycle: Cycle) -> Answers:
    """Have Celery do the work, then SIGTERM."""
    names = cycle.make_names(REQUESTS)
    environ = {**os.environ, **cycle.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.servers.tasks", *names]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stderr}\n{cycle.output}"
    cycle.expect(names)
    cycle.end(signal.SIGTERM)
    answers: Answers = json.loads(done.stdout)
    assert len({answer["pid"] for answer in answers}) > WORKERS, "no process of the pool was recycled"
    return answers


def pool_done(cycle: Cycle) -> Answers:
    """Have a pool of processes do the work; the program ends by itself."""
    names = cycle.make_names(REQUESTS)
    cycle.start(names)
    cycle.wait()
    assert cycle.process.returncode == 0, cycle.output
    cycle.expect(names)
    answers: Answers = json.loads(cycle.output)
    return answers


@dataclass(frozen=True)
class Row:
    """One server in one mode.

    Args:
        name: of the server and the mode.
        command: what `otelog run` runs, with ``PORT`` where the port goes; without it, the server has none.
        arguments: of the command, those with spaces in them.
        play: its life, to the end; returns the answers.
        workers: processes that answer.
        environ: beside the test's own.
        needs_broker: whether Redis must be there.
        starts: whether it is to be started before `play` begins.
        cycles: how many lives it has in `make test`.
        traced: whether each record of a request must have its request's trace.
        within: another row, which has all of this one's and more; where it is run, `make test` leaves this one out.
    """

    name: str
    command: str
    arguments: tuple[str, ...] = ()
    play: Callable[[Cycle], Answers] = until_term
    workers: int = WORKERS
    environ: dict[str, str] = field(default_factory=dict)
    needs_broker: bool = False
    starts: bool = True
    cycles: int = sized(1, full=3)
    traced: bool = False
    within: str = ""

    @property
    def instrumented(self) -> tuple[str, ...]:
        """The instrumentations that are of use to it."""
        for word in ("Django", "Celery", "aiohttp", "FastAPI", "Starlette"):
            if word in self.name:
                return tuple(name for name in INSTRUMENTATIONS if word.lower() in name)
        return ("flask",)


_GUNICORN = f"gunicorn --no-control-socket -c tests/servers/gunicorn_conf.py -w {WORKERS} -b 127.0.0.1:PORT"
_APP = "tests.servers.app:app"
_ASGI = "tests.servers.asgi:app"
_WITH_BOOKS = "python -m tests.servers.with_books"
_UVICORN = f"{_WITH_BOOKS} uvicorn {_ASGI} --host 127.0.0.1 --port PORT"
_UVICORN_WORKER = f"{_GUNICORN} -k uvicorn_worker.UvicornWorker"
_DJANGO_APP = "tests.servers.django_app"
_HYPERCORN = f"{_WITH_BOOKS} hypercorn -b 127.0.0.1:PORT -w {WORKERS} --access-logfile -"
_GRANIAN = f"{_WITH_BOOKS} granian --interface asgi --host 127.0.0.1 --port PORT --workers {WORKERS} --access-log"
# On a busy machine a worker needs longer for its start than uvicorn has patience with one that does not answer.
_PATIENT = "--timeout-worker-healthcheck 60"
_PATIENT_UVICORN = f"{_WITH_BOOKS} uvicorn {{}} --port PORT {_PATIENT}"
_FRAMEWORKS = "tests.servers.frameworks"
_DJANGO = "python -m tests.servers.django_app runserver PORT"
# With --die-on-term instead of the hook, a worker that is not idle leaves without any of Python's end.
_UWSGI = f"uwsgi --http-socket 127.0.0.1:PORT --master --processes {WORKERS} --need-app --disable-logging"
_UWSGI_GRACEFUL = ("--hook-master-start", "unix_signal:15 gracefully_kill_them_all")
_CELERY = f"celery -A tests.servers.tasks worker -P prefork -c {WORKERS} --max-tasks-per-child {REQUESTS // 3}"

ROWS = (
    *(
        Row(
            f"gunicorn {name}{' --preload' if preload else ''}",
            f"{_GUNICORN} {options} {preload} {_APP}",
            within={
                ("gthread", ""): "gunicorn gthread, HUP",
                ("gthread", "--preload"): "gunicorn gthread --preload, with metrics",
                ("gevent", ""): "gunicorn gevent, with metrics",
            }.get((name, preload), ""),
        )
        for name, options in (("sync", "-k sync"), ("gthread", "-k gthread --threads 4"), ("gevent", "-k gevent"))
        for preload in ("", "--preload")
    ),
    Row(
        "gunicorn gevent, patched by its configuration",
        f"{_GUNICORN} -k gevent {_APP}",
        environ={"SERVER_TESTS_PATCH": "1"},
    ),
    *(
        Row(
            f"gunicorn {name}, with metrics",
            f"{_GUNICORN} {options} {_APP}",
            environ={"OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "200"},
        )
        for name, options in (("gthread --preload", "-k gthread --threads 4 --preload"), ("gevent", "-k gevent"))
    ),
    Row(
        "gunicorn gthread --max-requests",
        f"{_GUNICORN} -k gthread --threads 4 --max-requests {RECYCLED_AFTER} {_APP}",
        play=recycled,
    ),
    Row("gunicorn gthread, HUP", f"{_GUNICORN} -k gthread --threads 4 {_APP}", play=reloaded),
    Row("gunicorn sync, a worker killed", f"{_GUNICORN} -k sync {_APP}", play=worker_killed),
    *(
        Row(
            f"gunicorn UvicornWorker{name}",
            f"{_GUNICORN} -k uvicorn_worker.UvicornWorker {options} {_ASGI}",
            play=play,
            within=within,
        )
        for name, options, play, within in (
            ("", "", until_term, "gunicorn UvicornWorker, HUP"),
            (", HUP", "", reloaded, ""),
            (" --max-requests", f"--max-requests {RECYCLED_LATE}", recycled_between, ""),
        )
    ),
    Row("gunicorn asgi", f"{_GUNICORN} -k asgi {_ASGI}", cycles=1, within="Starlette under gunicorn asgi"),
    Row("uvicorn", _UVICORN, workers=1, cycles=1, within="FastAPI under uvicorn"),
    Row("uvicorn --workers", f"{_UVICORN} {_PATIENT} --workers {WORKERS}", cycles=1, within="uvicorn --workers, HUP"),
    Row("uvicorn --workers, HUP", f"{_UVICORN} {_PATIENT} --workers {WORKERS}", play=reloaded, cycles=1),
    Row("uvicorn --reload", f"{_UVICORN} --reload --reload-dir FOLDER", play=changed, workers=1, cycles=1),
    Row(
        "hypercorn",
        f"{_WITH_BOOKS} hypercorn -b 127.0.0.1:PORT -w {WORKERS} {_ASGI}",
        cycles=1,
        within="Starlette under hypercorn",
    ),
    *(
        Row(f"{framework} under {name}", command.format(f"{_FRAMEWORKS}:{app}"), workers=workers, traced=True, cycles=1)
        for framework, app, name, command, workers in (
            ("FastAPI", "fast", "uvicorn", f"{_WITH_BOOKS} uvicorn {{}} --host 127.0.0.1 --port PORT", 1),
            (
                "FastAPI",
                "fast",
                "uvicorn --workers",
                f"{_PATIENT_UVICORN} --workers {WORKERS}",
                WORKERS,
            ),
            ("FastAPI", "fast", "gunicorn UvicornWorker", f"{_UVICORN_WORKER} --access-logfile - {{}}", WORKERS),
            ("Starlette", "make_star()", "hypercorn", f"{_HYPERCORN} {{}}", WORKERS),
            ("Starlette", "star", "gunicorn asgi", f"{_GUNICORN} -k asgi --access-logfile - {{}}", WORKERS),
            ("Quart", "quart", "uvicorn", f"{_WITH_BOOKS} uvicorn {{}} --host 127.0.0.1 --port PORT", 1),
            ("Quart", "quart", "granian", f"{_GRANIAN} {{}}", WORKERS),
        )
    ),
    Row("aiohttp", f"python -m {_FRAMEWORKS} PORT", workers=1, traced=True, cycles=1),
    Row("Django runserver", _DJANGO, play=changed, workers=1, cycles=1),
    Row("Django gunicorn", f"{_GUNICORN} {_DJANGO_APP}:make_wsgi()", cycles=1),
    Row(
        "Django uvicorn --workers",
        f"{_WITH_BOOKS} uvicorn --factory {_DJANGO_APP}:make_asgi --port PORT {_PATIENT} --workers {WORKERS}",
        cycles=1,
    ),
    Row(
        "flask run --debug",
        "flask --app tests.servers.app run --debug --extra-files FOLDER/changed.py --port PORT",
        play=changed,
        workers=1,
        cycles=1,
    ),
    Row("waitress", f"waitress-serve --listen=127.0.0.1:PORT {_APP}", workers=1),
    Row("flask run", "flask --app tests.servers.app run --port PORT", workers=1),
    Row("uWSGI", f"{_UWSGI} --module {_APP}", _UWSGI_GRACEFUL, within="uWSGI --max-requests"),
    Row(
        "uWSGI --max-requests",
        f"{_UWSGI} --module {_APP} --max-requests {RECYCLED_AFTER} --min-worker-lifetime 0",
        _UWSGI_GRACEFUL,
        recycled,
    ),
    Row(
        "Celery prefork --max-tasks-per-child",
        f"{_CELERY} -l INFO --without-gossip --without-mingle --without-heartbeat",
        play=tasks_done,
        needs_broker=True,
    ),
    *(
        Row(f"multiprocessing {method}", f"python -m tests.servers.pools {method}", play=pool_done, starts=False)
        for method in ("fork", "spawn", "forkserver")
    ),
    Row("ProcessPoolExecutor", "python -m tests.servers.pools executor", play=pool_done, starts=False),
)


def run_cycle(row: Row, folder: Path) -> Outcome:
    """Live through one life of a server in an empty folder, and reconcile its records.

    Raises:
        AssertionError: something was lost, came twice, hung, or does not add up.
    """
    books = folder / "books"
    books.mkdir()
    # Older than anything that happens from now on.
    (books / CHANGED).touch()
    os.utime(books / CHANGED, (0, 0))
    with ExitStack() as stack:
        environ = {**row.environ, **without_instrumentations(*row.instrumented)}
        if row.needs_broker:
            environ[tasks.BROKER] = stack.enter_context(running_redis(folder))
        (port,) = find_free_ports(1) if "PORT" in row.command else (0,)
        receiver = stack.enter_context(OTLPServer())
        cycle = Cycle(
            books,
            receiver,
            [*row.command.replace("PORT", str(port)).replace("FOLDER", str(books)).split(), *row.arguments],
            port,
            row.workers,
            environ,
            row.traced,
        )
        stack.callback(cycle.close)
        if row.starts:
            cycle.start()
        answers = row.play(cycle)
        outcome = cycle.reconcile()
        if "OTEL_METRICS_EXPORTER" in row.environ:
            assert receiver.other_signals["/v1/metrics"] >= outcome.processes, receiver.other_signals
        cycle.check_workers(answers, row.workers)
    return outcome
