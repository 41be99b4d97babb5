"""A request's fields and trace are with all that is done for it, and with nothing else."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import flask
import pytest
from opentelemetry import trace
from opentelemetry.context import get_current

import otelog
from otelog.flask import FlaskLogging
from otelog.testing import CapturedLogs
from tests.flask.running import access_records, run_code, serve_waitress
from tools.waiting import wait_until

log = otelog.get_logger("work")

ROUNDS = 40
CLIENTS = 4


def works_of(logs: CapturedLogs) -> list[Any]:
    return [one.log_record for one in logs.records if one.instrumentation_scope.name == "work"]


def assert_all_are_the_requests(logs: CapturedLogs, count: int) -> None:
    (access,) = access_records(logs)
    works = works_of(logs)
    assert len(works) == count
    for work in works:
        assert work.trace_id == access.log_record.trace_id != 0
        assert work.attributes["request.id"] == access.log_record.attributes["request.id"]


def test_asyncio_tasks_have_them(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)

    async def work() -> None:
        async def one(number: int) -> None:
            await asyncio.sleep(0)
            log.info("task %d", number)

        await asyncio.gather(*(one(number) for number in range(3)))

    @app.get("/")
    def view() -> str:
        asyncio.run(work())
        return ""

    app.test_client().get("/").close()
    assert_all_are_the_requests(logs, 3)


def test_threads_have_them_through_the_instrumentation_of_threads(app: flask.Flask, logs: CapturedLogs) -> None:
    pytest.importorskip("opentelemetry.instrumentation.threading")
    FlaskLogging(app)

    @app.get("/")
    def view() -> str:
        thread = threading.Thread(target=log.info, args=("thread",))
        thread.start()
        thread.join()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(log.info, "pool").result()
        return ""

    app.test_client().get("/").close()
    assert_all_are_the_requests(logs, 2)


def test_threads_are_left_alone_on_request(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app, instrument_threading=False)

    @app.get("/")
    def view() -> str:
        thread = threading.Thread(target=log.info, args=("thread",))
        thread.start()
        thread.join()
        return ""

    app.test_client().get("/").close()
    (work,) = works_of(logs)
    assert not work.trace_id
    assert "request.id" not in work.attributes


def test_a_generator_keeps_what_it_has_attached_from_part_to_part(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)

    @app.get("/")
    def view() -> flask.Response:
        def parts() -> Any:
            with otelog.bound(step="one"):
                yield b"1"
                log.info("still inside")
                # The request's span has ended, and would complain.
                trace.get_current_span().set_attribute("key", "value")
                yield b"2"
            log.info("outside again")

        return flask.Response(parts())

    with serve_waitress(app) as served:
        assert served.get("/").body == b"12"
        assert_all_are_the_requests(logs, 2)
    assert [work.attributes.get("step") for work in works_of(logs)] == ["one", None]
    assert not [one for one in logs.records if one.instrumentation_scope.name.startswith("opentelemetry")]


ASYNC_VIEWS = """
    import asyncio
    import flask, otelog
    from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
    from otelog.flask import FlaskLogging
    from otelog.testing import capture_logs

    otelog.configure(exporter=InMemoryLogRecordExporter())
    log = otelog.get_logger("work")
    app = flask.Flask("shop")
    FlaskLogging(app, fields=lambda request: {"path": request.path})

    @app.get("/good")
    async def good():
        log.info("before")
        await asyncio.sleep(0)
        await asyncio.create_task(later())
        return ""

    async def later():
        log.info("in a task")

    @app.get("/bad")
    async def bad():
        await asyncio.sleep(0)
        raise KeyError("async")

    with capture_logs() as logs:
        for path in ("/good", "/bad"):
            app.test_client().get(path).close()
        traces = []
        for record in (one.log_record for one in logs.records):
            if record.trace_id not in traces:
                traces.append(record.trace_id)
            fields = record.attributes
            print(record.body, traces.index(record.trace_id), fields["path"], fields.get("exception.type"), sep="|")
"""


def test_async_views_have_them_and_their_exceptions_are_one_record() -> None:
    """In a process of its own: asgiref leaves threads behind."""
    pytest.importorskip("asgiref", reason="flask[async] is not installed")
    assert run_code(ASYNC_VIEWS).stdout.splitlines() == [
        "before|0|/good|None",
        "in a task|0|/good|None",
        "GET /good 200|0|/good|None",
        "Exception on /bad [GET]|1|/bad|KeyError",
        "GET /bad 500|1|/bad|None",
    ]


def test_fields_that_cannot_be_had_cost_the_fields_and_not_the_request(
    app: flask.Flask, logs: CapturedLogs, capfd: pytest.CaptureFixture[str]
) -> None:
    FlaskLogging(app, fields=lambda request: {"tenant": request.headers["X-Missing"]})
    app.add_url_rule("/", view_func=lambda: "fine")
    assert app.test_client().get("/").text == "fine"
    (access,) = access_records(logs)
    assert access.log_record.body == "GET / 200"
    assert "a request's fields could not be had: KeyError" in capfd.readouterr().err


def test_a_teardown_that_raises_leaves_nothing_behind(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app)
    spans = []

    @app.get("/<path:name>")
    def view(name: str) -> str:
        spans.append(trace.get_current_span())
        log.info(name)
        return ""

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        if flask.request.path == "/bad":
            raise RuntimeError("teardown")

    before = get_current()
    client = app.test_client()
    # What is raised holds on to all that was there, as it does in a server's thread.
    with pytest.raises(RuntimeError) as raised:
        client.get("/bad")
    assert get_current() == before
    assert spans[0].end_time is not None
    assert spans[0].status.status_code is trace.StatusCode.ERROR
    del raised
    client.get("/good").close()
    assert spans[1].parent is None
    bad, good = works_of(logs)
    assert bad.trace_id != good.trace_id
    assert "request.id" in good.attributes and bad.attributes["request.id"] != good.attributes["request.id"]
    assert not [one for one in logs.records if one.instrumentation_scope.name.startswith("opentelemetry")]


def test_a_request_that_is_over_is_free_at_once(app: flask.Flask, logs: CapturedLogs) -> None:
    """Without the cyclic collector, which a service may well have stopped."""
    FlaskLogging(app)
    known: list[Any] = []

    class Held:
        pass

    def around(environ: Any, start_response: Any) -> Any:
        held = environ["tests.held"] = Held()
        known.append(weakref.ref(held))
        return app(environ, start_response)

    app.add_url_rule("/", view_func=lambda: "")
    gc.disable()
    try:
        with serve_waitress(around) as served:
            for _ in range(3):
                served.get("/")
            access_records(logs, 3)
            # The server's thread lets go of the last one when it has another.
            wait_until(lambda: [one() for one in known[:2]] == [None, None])
    finally:
        gc.enable()


def test_many_requests_at_a_time_never_mix(app: flask.Flask, logs: CapturedLogs) -> None:
    FlaskLogging(app, fields=lambda request: {"client": request.headers["X-Client"]})

    @app.get("/")
    def view() -> flask.Response:
        name = flask.request.headers["X-Client"]
        log.info("view", expected=name)

        def parts() -> Any:
            for _ in range(3):
                log.info("part", expected=name)
                yield b"x"

        return flask.Response(parts())

    with serve_waitress(app) as served:

        def ask(client: int) -> None:
            for number in range(ROUNDS):
                served.get("/", {"X-Client": f"{client}-{number}", "X-Trace-ID": f"{client + 1:016x}{number + 1:016x}"})

        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(ask, range(CLIENTS)))
        accesses = access_records(logs, CLIENTS * ROUNDS)

    works = works_of(logs)
    assert len(works) == CLIENTS * ROUNDS * 4
    for work in works:
        client, _, number = work.attributes["expected"].partition("-")
        assert work.attributes["client"] == work.attributes["expected"]
        assert work.trace_id == (int(client) + 1 << 64) + int(number) + 1
    assert len({one.log_record.trace_id for one in accesses}) == CLIENTS * ROUNDS
