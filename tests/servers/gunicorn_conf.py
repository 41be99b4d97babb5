"""gunicorn's configuration in the tests: its master keeps books, too, and its workers' gauges are taken out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

if os.environ.get("SERVER_TESTS_PATCH"):
    from gevent import monkey

    # As many applications do it: in the master, after `otelog run` has set it up.
    monkey.patch_all()

from otelog.gunicorn import child_exit
from tests.servers import books

__all__ = ["child_exit", "post_worker_init"]

books.keep()


def post_worker_init(worker: Any) -> None:
    """Say that this worker sees signals: one that comes earlier is lost, and gunicorn waits half a minute for it."""
    Path(os.environ[books.FOLDER], f"{worker.pid}.ready").touch()
