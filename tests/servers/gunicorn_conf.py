"""gunicorn's configuration in the tests: its master keeps books, too, and its workers' gauges are taken out."""

from __future__ import annotations

import os

if os.environ.get("SERVER_TESTS_PATCH"):
    from gevent import monkey

    # As many applications do it: in the master, after `otelog run` has set it up.
    monkey.patch_all()

from otelog.gunicorn import child_exit
from tests.servers import books

__all__ = ["child_exit"]

books.keep()
