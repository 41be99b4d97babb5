"""`otelog audit`: the books of the whole way, hop by hop."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from otelog._runtime.shown_text import hide_secrets
from otelog.audit.checks import Hop, Verdict, find_worst, list_unseen, narrow, reconcile
from otelog.cli.parameters import Number
from otelog.cli.show.filters import to_moment
from otelog.cli.show.readable import safe
from otelog.cli.show.readable import to_json as dump_json
from otelog.cli.stack.files import StackError
from otelog.cli.stack.settings import DEFAULT_FOLDER, PORTS, State, read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otelog.audit.reading import Reader, Reading, Sources

POLL_INTERVAL = 1.0
"""Seconds between two looks while something is on the way."""

PROGRESS_BYTES = 50 * 1024 * 1024
"""Of so much to read, a progress bar shows how far it is."""

EXIT_UNEXPLAINED = 1
EXIT_NO_BOOKS = 2
EXIT_UNSEEN = 3

_EXIT_CODES = """\b
Exit codes:
  0  every hop was seen, and every difference has a reason
  1  records are missing, or too many, without a reason
  2  nothing could be compared, or what --require names was not seen
  3  nothing is missing where it was seen, but a hop was not seen
"""

_NAMES = ("applications", "collector", "loki", "prometheus", "folder")


class AuditError(click.ClickException):
    """The books could not be looked at."""

    exit_code = EXIT_NO_BOOKS


@click.command(epilog=_EXIT_CODES)
@click.option("--applications", metavar="URL", help="The Collector's endpoint with the applications' metrics (:8889).")
@click.option("--collector", metavar="URL", help="The Collector's own metrics (:8888).")
@click.option("--loki", metavar="URL", help="Loki (:3100).")
@click.option("--prometheus", metavar="URL", help="Prometheus, for what counters had before a restart (:9090).")
@click.option("--folder", type=click.Path(path_type=Path), help="The folder of the Collector's files.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_FOLDER,
    show_default=True,
    help="The folder of the `otelog stack` to audit.",
)
@click.option(
    "--otlp-port", "otlp_ports", multiple=True, help="The Collector's port, if not 4317 or 4318; may be repeated."
)
@click.option(
    "--since", type=to_moment, metavar="TIME", help="Not before: an age (10m, 1d) or ISO 8601; best a quiet moment."
)
@click.option("--service", help="Only this service; with its namespace before it, if it has one (shop/checkout).")
@click.option(
    "--wait",
    type=Number(0),
    default=10.0,
    show_default=True,
    help="Seconds for what is on the way to arrive.",
)
@click.option(
    "--require", type=click.Choice(_NAMES), multiple=True, help="A source that must be seen; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def audit(
    ctx: click.Context,
    *,
    applications: str | None,
    collector: str | None,
    loki: str | None,
    prometheus: str | None,
    folder: Path | None,
    data_dir: Path,
    otlp_ports: tuple[str, ...],
    since: datetime | None,
    service: str | None,
    wait: float,
    require: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare what the applications sent with what the Collector took, and what is in Loki and in the files.

    Every source is optional: what does not answer is said, and its hops are not seen. A process sends its ledger every
    minute and at its end, so after the last records of a running one give --wait 70.
    """
    from otelog.audit.reading import Reader

    try:
        state = read_state(data_dir)
    except StackError as error:
        raise AuditError(str(error)) from error
    sources = find_sources(
        os.environ,
        state,
        data_dir,
        applications=applications,
        collector=collector,
        loki=loki,
        prometheus=prometheus,
        folder=folder,
        otlp_ports=otlp_ports,
    )
    reader = Reader(
        sources,
        since_ns=None if since is None else _to_ns(since),
        ai_loggers=_find_ai_loggers(os.environ),
    )
    try:
        reading, hops = settle(reader, wait)
    finally:
        reader.close()
    _add_notes(reading, sources, since)
    if service is not None:
        hops = narrow(hops, service)
    unseen = {**reading.missing, **reading.stale}
    lacking = [name for name in require if name in unseen or _address(sources, name) is None]
    code = EXIT_NO_BOOKS if lacking else _find_exit_code(reading, hops)
    _show(reading, hops, sources, service, code, as_json=as_json)
    if lacking:
        raise AuditError(f"required, but not seen: {', '.join(lacking)}")
    if code == EXIT_NO_BOOKS:
        raise AuditError("nothing to compare was seen: is the stack up? `otelog stack up`")
    ctx.exit(code)


def _find_exit_code(reading: Reading, hops: list[Hop]) -> int:
    worst = find_worst(hops)
    if worst is Verdict.NOT_SEEN:
        return EXIT_NO_BOOKS
    if worst in (Verdict.UNEXPLAINED, Verdict.UNCERTAIN):
        return EXIT_UNEXPLAINED
    return EXIT_UNSEEN if list_unseen(hops) or reading.stale else 0


def find_sources(
    environ: Mapping[str, str],
    state: State | None = None,
    data_dir: Path = DEFAULT_FOLDER,
    *,
    applications: str | None = None,
    collector: str | None = None,
    loki: str | None = None,
    prometheus: str | None = None,
    folder: Path | None = None,
    otlp_ports: tuple[str, ...] = (),
) -> Sources:
    """Returns where the books are: by the options, the environment, the stack that was started, or the default ports.

    Args:
        environ: The environment, with the variables that the Collector's configuration reads, too.
        state: What is known of a stack that was started.
        data_dir: The folder of that stack.
        applications: Address of the applications' metrics, with or without ``http://``.
        collector: Address of the Collector's own metrics.
        loki: Loki's address.
        prometheus: Prometheus's address.
        folder: The Collector's folder, or that of its files.
        otlp_ports: Where the Collector listens.
    """
    from otelog.audit.reading import Sources

    ports = PORTS if state is None else state.settings.ports
    host = environ.get("OTELOG_COLLECTOR_METRICS_HOST", "localhost")
    port = environ.get("OTELOG_COLLECTOR_METRICS_PORT", str(ports["collector-metrics"]))
    # What runs with Docker keeps its files in a volume.
    files = Path("otelog-collector") if state is None or state.mode != "native" else data_dir / "collector" / "data"
    listening = [environ.get(f"OTELOG_COLLECTOR_{protocol}", "") for protocol in ("GRPC", "HTTP")]
    return Sources(
        applications=_to_url(
            applications or environ.get("OTELOG_COLLECTOR_APPLICATIONS") or f"localhost:{ports['applications']}"
        ),
        collector=_to_url(collector or f"{host}:{port}"),
        loki=_to_url(loki or environ.get("OTELOG_LOKI") or f"localhost:{ports['loki']}"),
        prometheus=_find_prometheus(prometheus or environ.get("OTELOG_PROMETHEUS"), state, ports),
        folder=_find_folder(folder or Path(environ.get("OTELOG_COLLECTOR_FOLDER") or files)),
        otlp_ports=frozenset(
            otlp_ports
            or {one.rpartition(":")[2] for one in listening if one}
            or {str(ports[name]) for name in ("otlp-grpc", "otlp-http")}
        ),
    )


def settle(
    reader: Reader,
    wait: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[Reading, list[Hop]]:
    """Read until every hop agrees and nothing is on the way, or the time is over.

    Args:
        reader: What reads.
        wait: Seconds.
        clock: Seconds that never go back.
        sleep: Waits so many seconds.

    Returns:
        The last reading and its hops.
    """
    deadline = clock() + wait
    before: int | None = None
    while True:
        reading = reader.read_counters()
        with _progress(reader.size_bytes()) as advance:
            reader.read_records(reading, advance)
        hops = reconcile(reading.books)
        late = clock() >= deadline
        if late or find_worst(hops) in (Verdict.NOT_SEEN, Verdict.EQUAL, Verdict.EXPLAINED):
            break
        before = _count(reading)
        sleep(min(POLL_INTERVAL, max(0.0, deadline - clock())))
    if before is not None and (more := _count(reading) - before) > 0:
        reading.notes.append(f"records were still coming: {more:,} since the look before")
        reading.books = reading.books.with_moving(more)
        hops = reconcile(reading.books)
    return reading, hops


def _show(
    reading: Reading, hops: list[Hop], sources: Sources, service: str | None, code: int, *, as_json: bool
) -> None:
    from rich.console import Console

    from otelog.cli.audit.screen import list_services, show_audit, to_json

    services = list_services(reading.books, service)
    if as_json:
        shown = {name: _address(sources, name) for name in _NAMES}
        body = {
            **to_json(hops, services, reading.stale),
            "exit_code": code,
            "sources": shown,
            "missing": reading.missing,
            "stale": reading.stale,
            "notes": reading.notes,
        }
        click.echo(dump_json(body, indent=2))
        return
    Console(highlight=False).print(show_audit(hops, services, reading.stale))
    for name, why in {**reading.missing, **reading.stale}.items():
        click.echo(safe(f"{name}: not seen, {why}"), err=True)
    for note in reading.notes:
        click.echo(safe(f"note: {note}"), err=True)


def _count(reading: Reading) -> int:
    """What has come so far, by whoever saw most of it."""
    books = reading.books
    return max(
        books.collector.accepted if books.collector else 0,
        sum(sum(by.values()) for by in (books.counted or {}).values()),
        sum(one.created for one in books.applications or ()),
    )


def _add_notes(reading: Reading, sources: Sources, since: datetime | None) -> None:
    from otelog.cli.audit.screen import list_services

    if reading.books.applications is not None:
        silent = [name for name, one in list_services(reading.books).items() if one["created"] is None]
        if silent:
            reading.notes.append(f"no ledger was seen of {', '.join(silent)}: what they lost themselves is not known")
    if waiting := sorted({one.service for one in reading.books.applications or () if one.pending}):
        reading.notes.append(
            f"what {', '.join(waiting)} had queued or in flight is on the way by its last ledger: "
            "if the process was killed since, it is lost"
        )
    if "prometheus" in reading.missing or sources.prometheus is None:
        reading.notes.append(
            "without Prometheus counters are since the start of their process"
            + (", whatever --since says" if since else ": what they had before a restart is not seen")
        )


@contextmanager
def _progress(size_bytes: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if size_bytes < PROGRESS_BYTES or not console.is_terminal:
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading the files", total=size_bytes)
        yield lambda read: progress.advance(task, read)


def _to_ns(moment: datetime) -> int:
    # As a float, a time of today is not exact to the microsecond.
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1) * 1000


def _find_prometheus(given: str | None, state: State | None, ports: Mapping[str, int]) -> str | None:
    if given is None and state is not None and "prometheus" in state.settings.without:
        return None
    return _to_url(given or f"localhost:{ports['prometheus']}")


def _to_url(address: str) -> str:
    return (address if "://" in address else f"http://{address}").rstrip("/").removesuffix("/metrics")


def _find_folder(folder: Path) -> Path:
    # The Collector's folder has its files in one of its own, beside the queue.
    return folder / "logs" if (folder / "logs").is_dir() else folder


def _find_ai_loggers(environ: Mapping[str, str]) -> str | None:
    pattern = environ.get("OTELOG_COLLECTOR_AI_LOGGERS") or None
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise AuditError(f"OTELOG_COLLECTOR_AI_LOGGERS is no regular expression that Python reads: {error}") from error
    return pattern


def _address(sources: Sources, name: str) -> str | None:
    assert name in {field.name for field in fields(sources)}
    value = getattr(sources, name)
    return None if value is None else hide_secrets(str(value))
