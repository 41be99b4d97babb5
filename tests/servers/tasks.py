"""Celery's application in the tests, and who sends it tasks: ``python -m tests.servers.tasks NAME...``."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from celery import Celery
from celery.utils.log import get_task_logger

import otelog
from tests.servers import books
from tests.servers.app import RECORDS

BROKER = "SERVER_TESTS_BROKER"
TASK_SECONDS = 30.0

books.keep()
app = Celery("shop", broker=os.environ.get(BROKER), backend=os.environ.get(BROKER))
log = get_task_logger("shop")


@app.task
def work(name: str) -> dict[str, Any]:
    """Log a few records that nobody else logs; says who has."""
    for number in range(RECORDS):
        log.info("%s/%d", name, number)
    return {"pid": os.getpid(), "instance": books.find_instance(), **books.describe(otelog.stats())}


if __name__ == "__main__":
    # By its name: this module is another one here.
    sent = [app.send_task("tests.servers.tasks.work", (name,)) for name in sys.argv[1:]]
    print(json.dumps([result.get(timeout=TASK_SECONDS) for result in sent]))
