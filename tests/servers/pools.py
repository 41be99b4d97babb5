"""Pools of processes in the tests: ``python -m tests.servers.pools METHOD NAME...`` prints what they have answered."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import otelog
from tests.servers import books
from tests.servers.app import RECORDS, log

WORKERS = 2

books.keep()


def work(name: str) -> dict[str, Any]:
    """Log a few records that nobody else logs; says who has."""
    for number in range(RECORDS):
        log.info("%s/%d", name, number)
    # So that the other worker gets some, too.
    time.sleep(0.005)
    return {"pid": os.getpid(), "instance": books.find_instance(), **books.describe(otelog.stats())}


def map_in_processes(method: str, names: list[str]) -> Iterable[dict[str, Any]]:
    """Have the names worked on in other processes, some of which end before the others have begun."""
    if method == "executor":
        with ProcessPoolExecutor(WORKERS) as executor:
            yield from executor.map(work, names)
    else:
        with multiprocessing.get_context(method).Pool(WORKERS, maxtasksperchild=10) as pool:
            yield from pool.map(work, names, chunksize=1)
            # Leaving the block would kill them.
            pool.close()
            pool.join()


if __name__ == "__main__":
    print(json.dumps(list(map_in_processes(sys.argv[1], sys.argv[2:]))))
