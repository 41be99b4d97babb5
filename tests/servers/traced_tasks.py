"""A web application that has Celery do its work: ``python -m tests.servers.traced_tasks TRACE...`` asks it.

The broker is a folder: nothing else has to run.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.utils.log import get_task_logger

FOLDER, POOL = "TRACED_TASKS_FOLDER", "TRACED_TASKS_POOL"
KINDS = ("good", "broken", "flaky", "slow")

log = get_task_logger("shop.tasks")
folder = Path(os.environ[FOLDER])
queue, processed = str(folder / "queue"), str(folder / "processed")
app = Celery("shop", broker="filesystem://")
app.conf.update(
    broker_transport_options={"data_folder_in": queue, "data_folder_out": queue, "processed_folder": processed},
    broker_connection_retry_on_startup=True,
    task_ignore_result=True,
)


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
        raise self.retry(exc=KeyError(name), countdown=0)


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
