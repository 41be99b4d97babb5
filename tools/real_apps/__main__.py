"""Shows whether every record of every request to a Flask application arrives, and has the request's trace.

python -m tools.real_apps --checkout DIR --app MODULE:CALLABLE --path /a --path "POST /b name=value"
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tools.real_apps.checking import check_own_log
from tools.real_apps.installing import default_venv, install, run_setup
from tools.real_apps.running import Outcome, Plan, run
from tools.real_apps.traffic import Target


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.real_apps", description=__doc__)
    add = parser.add_argument
    add(
        "--checkout", type=Path, required=True, metavar="DIR", help="the application's folder; nothing in it is changed"
    )
    add("--app", required=True, metavar="MODULE:CALLABLE", help="as gunicorn has it")
    add("--path", action="append", required=True, metavar="[METHOD] PATH [FORM]", help="asked for in turn; repeatable")
    add("--header", action="append", default=[], metavar="NAME: VALUE", help="sent with every request; repeatable")
    add("--setup", action="append", default=[], metavar="COMMAND", help="run first, in the checkout; repeatable")
    add("--env", action="append", default=[], metavar="NAME=VALUE", help="for the application; repeatable")
    add("--install", action="append", default=[], metavar="REQUIREMENT", help="also installed; repeatable")
    add("--extra", metavar="NAME", help="otelog's for the framework (default: django with a manage.py, else flask)")
    add("--venv", type=Path, metavar="DIR", help="its virtual environment (default: in the user's cache)")
    add("--no-install", action="store_true", help="the virtual environment is complete")
    add("--requests", type=int, default=200, help="so many one at a time, then as many at once (default %(default)s)")
    add("--concurrency", type=int, default=8, help="how many at once (default %(default)s)")
    add("--workers", type=int, default=2, help="gunicorn's (default %(default)s)")
    add("--threads", type=int, default=4, help="gunicorn's, of each worker (default %(default)s)")
    add("--gunicorn", default="", metavar="OPTIONS", help="more of gunicorn's options, as one word")
    add("--ready", default="", metavar="TEXT", help="what each worker prints when it is ready (uvicorn's: later)")
    add("--collector", action="store_true", help="the real Collector takes the records, not a server of this process")
    add("--no-marker", action="store_true", help="no field of ours in the query")
    add("--background", action="append", default=[], metavar="LOGGER", help="of threads that work for no request")
    add("--own-log", metavar="REGEX", help="what each line of a record has in the application's own log")
    add("--own-log-file", type=Path, metavar="FILE", help="that log; empty before (default: what the server prints)")
    add("--own-logger", default="", metavar="LOGGER", help="whose records that log has, those below it included")
    chosen = parser.parse_args(arguments)
    if any("=" not in entry for entry in chosen.env):
        parser.error("--env needs NAME=VALUE")
    return chosen


def show(outcome: Outcome, console: Console, own: int | None, seconds: float) -> None:
    """Print the tables, and what does not agree."""
    answers = Table(title="requests", box=None)
    for heading in ("request", "answers", "records with its trace"):
        answers.add_column(heading)
    came = Counter(record.trace_id for record in outcome.records)
    for target in dict.fromkeys(visit.target for visit in outcome.visits):
        visits = [visit for visit in outcome.visits if visit.target == target]
        statuses = Counter(str(visit.status or "none") for visit in visits)
        answers.add_row(
            str(target),
            ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items())),
            str(sum(came[visit.trace_id] for visit in visits)),
        )
    console.print(answers)
    report = outcome.report
    loggers = Table(title="records by logger", box=None)
    for heading in ("logger", "records"):
        loggers.add_column(heading)
    for name, count in report.by_logger.most_common(12):
        loggers.add_row(name, str(count))
    console.print(loggers)
    hops = Table(title=f"every record, {outcome.processes} processes, {seconds:.0f} s", box=None, show_header=False)
    rows: list[tuple[str, object]] = [
        ("created, by the ledgers", outcome.sums["created"]),
        ("exported, by the ledgers", outcome.sums["exported"]),
        ("lost, by the ledgers", outcome.sums["lost"]),
        (f"counted by the {outcome.far_end}", outcome.counted),
        (f"held by the {outcome.far_end}", len(outcome.records)),
        *((f"in requests, {phase}", count) for phase, count in report.in_requests.items()),
        ("of these, known by the trace id in their text", report.marked),
        ("at once, with a message of other requests only", report.strangers),
        ("of no request", report.outside),
    ]
    if own is not None:
        rows.append(("in the application's own log", own))
    for name, value in rows:
        hops.add_row(name, str(value))
    console.print(hops)
    for difference in report.differences:
        console.print(f"DIFFERENCE: {difference}", style="red", markup=False)
    if not report.differences:
        console.print("[green]every record of every request has its trace, and all counters agree[/]")


def main() -> int:
    """Run it; returns 1 if something does not agree."""
    chosen = parse(sys.argv[1:])
    console = Console()
    checkout = chosen.checkout.resolve()
    venv = (chosen.venv or default_venv(checkout)).absolute()
    try:
        headers = tuple((name.strip(), value.strip()) for name, _, value in (h.partition(":") for h in chosen.header))
        targets = [Target.parse(text, marked=not chosen.no_marker, headers=headers) for text in chosen.path]
    except ValueError as error:
        console.print(f"{error}", style="red", markup=False)
        return 2
    environ = dict(entry.split("=", 1) for entry in chosen.env)
    plan = Plan(
        app=chosen.app,
        checkout=checkout,
        targets=targets,
        environ=environ,
        python=venv / "bin" / "python",
        requests=chosen.requests,
        concurrency=chosen.concurrency,
        workers=chosen.workers,
        threads=chosen.threads,
        options=shlex.split(chosen.gunicorn),
        collector=chosen.collector,
        background=chosen.background,
        ready=chosen.ready,
    )
    try:
        if not chosen.no_install:
            with console.status("installing") as status:
                install(venv, checkout, chosen.install, status.update, chosen.extra)
        run_setup(chosen.setup, venv, checkout, environ)
    except subprocess.CalledProcessError as error:
        console.print(f"{error}", style="red", markup=False)
        return 2
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="otelog-real-apps-") as folder:
        try:
            with Progress(*columns, console=console) as progress:
                task = progress.add_task("", total=2 * plan.requests)
                outcome = run(
                    plan,
                    Path(folder),
                    lambda text: progress.update(task, description=text),
                    lambda: progress.advance(task),
                )
        except (RuntimeError, TimeoutError, FileNotFoundError) as error:
            console.print(f"{error}", style="red", markup=False)
            return 2
        own = None
        if chosen.own_log:
            lines = (chosen.own_log_file or outcome.output).read_text(errors="replace").splitlines()
            own = check_own_log(outcome.report, lines, chosen.own_log, chosen.own_logger)
        show(outcome, console, own, time.monotonic() - began)
    return int(bool(outcome.report.differences))


if __name__ == "__main__":
    sys.exit(main())
