"""A web application that has Celery do its work: ``python -m tests.servers.traced_tasks TRACE...`` asks it."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Any

from celery import Celery, Task
from celery.utils.log import get_task_logger

BROKER, POOL = "TRACED_TASKS_BROKER", "TRACED_TASKS_POOL"
KINDS = ("good", "broken", "flaky", "slow")

log = get_task_logger("shop.tasks")
app = Celery("shop", broker=os.environ[BROKER])
app.conf.update(broker_connection_retry_on_startup=True, task_ignore_result=True)


@app.task
def good(name: str) -> None:
    """End well."""
    log.info("good %s", name)


@app.task
def broken(name: str) -> None:
    """Fail."""
    raise ValueError(f"broken {name}")


@app.task(bind=True, max_retries=1)
def flaky(self: Task, name: str) -> None:
    """Fail once."""
    log.info("flaky %s, %d", name, self.request.retries)
    if not self.request.retries:
        # Not at once: in threads the second try could begin before the first has ended, and the instrumentation, which
        # knows a try by the id of its task, would mix up their contexts.
        raise self.retry(exc=KeyError(name), countdown=1)


@app.task(time_limit=1)
def slow(name: str) -> None:
    """Run into its time limit, where the pool has one."""
    log.info("slow %s", name)
    if os.environ[POOL] == "prefork":
        threading.Event().wait(60)


TASKS: dict[str, Any] = {"good": good, "broken": broken, "flaky": flaky, "slow": slow}


def ask(traces: list[str]) -> None:
    """Ask a Flask application for each kind of task, each time in a trace that is given."""
    import flask

    web = flask.Flask("web")

    @web.post("/<kind>")
    def order(kind: str) -> str:
        logging.getLogger("web").warning("asked for %s", kind)
        TASKS[kind].delay(kind)
        return "ok"

    for kind, trace in zip(KINDS, traces, strict=True):
        web.test_client().post(f"/{kind}", headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})


if __name__ == "__main__":
    # By its name: this module is another one here.
    from tests.servers import traced_tasks

    traced_tasks.ask(sys.argv[1:])
