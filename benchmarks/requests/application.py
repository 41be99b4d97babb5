"""The application that is measured, in each of its set-ups, and the two paths by which it measures itself."""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.peers import FLOOR, OTLP_PEERS, Conditions, Session, make_standard_logger
from benchmarks.trial import cpu_seconds

if TYPE_CHECKING:
    from flask import Flask

LOG_CALLS = 5
BEGIN_PATH = "/-/begin"
END_PATH = "/-/end"


@dataclass(frozen=True)
class Setup:
    """One row of the table: the application with one way of tracing and of delivering its records.

    ``records`` is how many records a request delivers; ``peer`` says how logging is set up, by the name of a peer of
    `benchmarks.peers`.
    """

    name: str
    title: str
    records: int
    needs: tuple[str, ...]
    peer: str
    traced: bool = True
    prepare: Callable[[Flask], object] = lambda app: None

    def missing(self) -> str | None:
        """Name the first module this set-up needs that is not installed. Returns: a name, or None if it can run."""
        for module in ("flask", "gunicorn", *self.needs):
            try:
                found = importlib.util.find_spec(module)
            except ModuleNotFoundError:
                found = None
            if found is None:
                return module
        return OTLP_PEERS[self.peer].missing()


class _Silent(logging.Handler):
    """What an application may have beside otelog, without a cost of its own."""

    def handle(self, record: logging.LogRecord) -> bool:
        return True


def _add_another_handler(app: Flask) -> None:
    make_standard_logger(_Silent())


def _log_accesses(app: Flask) -> None:
    from otelog.flask import FlaskLogging  # type: ignore[import-not-found,unused-ignore]

    FlaskLogging(app)


_FLASK = ("opentelemetry.instrumentation.flask",)
BARE, TRACED, STOCK, OTELOG, BESIDE, ACCESSES = "bare", "traced", "stock", "otelog", "otelog-beside", "otelog-flask"
SETUPS: dict[str, Setup] = {
    setup.name: setup
    for setup in (
        Setup(BARE, "no OpenTelemetry, `logging` to a NullHandler", 0, (), FLOOR, traced=False),
        Setup(TRACED, "traced, `logging` to a NullHandler (the base)", 0, _FLASK, FLOOR),
        Setup(STOCK, "traced, the SDK's logs by OTLP/HTTP", LOG_CALLS, _FLASK, "sdk-http"),
        Setup(OTELOG, "traced, otelog.configure()", LOG_CALLS, _FLASK, "otelog-handler"),
        Setup(
            BESIDE,
            "traced, otelog.configure() beside another handler",
            LOG_CALLS,
            _FLASK,
            "otelog-handler",
            prepare=_add_another_handler,
        ),
        Setup(
            ACCESSES,
            "traced, otelog.configure() and FlaskLogging, a sixth record",
            LOG_CALLS + 1,
            (*_FLASK, "otelog.flask"),
            "otelog-handler",
            prepare=_log_accesses,
        ),
    )
}


def make_application(setup_name: str, conditions: str) -> Measured:
    """Make the WSGI application for a server's worker.

    Args: setup_name: a key of `SETUPS`; conditions: `benchmarks.peers.Conditions` as JSON.
    """
    setup = SETUPS[setup_name]
    app = make_shop()
    if setup.traced:
        _trace(app)
    session = OTLP_PEERS[setup.peer].open(Conditions(**json.loads(conditions)))
    setup.prepare(app)
    return Measured(app.wsgi_app, session)


def _trace(app: Flask) -> None:
    from opentelemetry import trace
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    # otelog installs a MeterProvider for its own counts; the instrumentation's HTTP metrics are nobody's logging.
    FlaskInstrumentor().instrument_app(app, meter_provider=NoOpMeterProvider())


def make_shop() -> Flask:
    """Make an application with one view, which makes five log calls through standard `logging`."""
    from flask import Flask

    app = Flask("shop")
    log, stock_log, payment_log = (logging.getLogger(f"shop.{name}") for name in ("orders", "stock", "payment"))

    @app.get("/orders/<int:number>")
    def order(number: int) -> dict[str, Any]:
        log.info("order %d asked for by %s", number, "alice")
        stock_log.info("%s: %d of %d left", "enamel mug", number % 40, 40)
        payment_log.info("order %d is charged", number, extra={"amount": 12.5, "currency": "EUR"})
        payment_log.warning("the bank took %.1f ms for order %d", 41.7, number)
        log.info("order %d is done", number)
        return {"order": number, "state": "paid"}

    return app


def cpu_seconds_behind() -> float:
    """Sum the CPU time of the threads that serve no request. Returns: seconds; 0 where threads have no clocks."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return 0.0
    # gunicorn's worker serves from its main thread and a pool.
    threads = [one for one in threading.enumerate() if not one.name.startswith(("MainThread", "ThreadPoolExecutor"))]
    return sum(time.clock_gettime(time.pthread_getcpuclockid(one.ident)) for one in threads if one.ident)


class Measured:
    """A WSGI application that says what it has cost its process, between two requests to paths of its own.

    ``BEGIN_PATH`` begins a measure; ``END_PATH`` waits until everything is delivered, and answers with figures as JSON:
    ``cpu_s`` of the whole process, ``behind_s``, what of it threads took that serve no request, and ``lost``, the
    peer's own count of lost records, null if it keeps none.
    """

    def __init__(self, app: Callable[[Any, Any], Iterable[bytes]], session: Session) -> None:
        self._app = app
        self._session = session
        self._cpu = self._behind = 0.0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == BEGIN_PATH:
            return self._answer(start_response, self._begin())
        if path == END_PATH:
            return self._answer(start_response, self._end())
        return self._app(environ, start_response)

    def _begin(self) -> dict[str, Any]:
        self._session.drain()
        gc.collect()
        self._cpu, self._behind = cpu_seconds(), cpu_seconds_behind()
        return {}

    def _end(self) -> dict[str, Any]:
        self._session.drain()
        lost = self._session.lost
        return {
            "cpu_s": cpu_seconds() - self._cpu,
            "behind_s": cpu_seconds_behind() - self._behind,
            "lost": lost() if lost else None,
        }

    def _answer(self, start_response: Any, figures: dict[str, Any]) -> list[bytes]:
        body = json.dumps(figures).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]
