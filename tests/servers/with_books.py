"""A server that does not load the application in its first process: ``python -m tests.servers.with_books MODULE ...``.

That process logs, too, and so must keep its books.
"""

from __future__ import annotations

import runpy
import sys

from tests.servers import books

if __name__ == "__main__":
    books.keep()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
