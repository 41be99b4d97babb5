"""One program: a set-up of `setups`, run with `direct_logging` on or off, in a process of its own.

`python -m tests.differential.program NAME on|off ENDPOINT` runs one in a fresh interpreter; `serve` is the mother of
processes that begin with everything imported and nothing configured.
"""

from __future__ import annotations

import atexit
import inspect
import json
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import Any

from tests.sizes import FULL


def run(name: str, direct: bool, endpoint: str) -> None:
    """Run a set-up, and deliver what it has logged."""
    import otelog
    from tests.differential.setups import SETUPS, talk

    setup = SETUPS[name]
    options: dict[str, Any] = {
        "endpoint": endpoint,
        "service_name": "test",
        "level": "DEBUG",
        "direct_logging": direct,
        **setup.options,
    }
    try:
        if inspect.isgeneratorfunction(setup.function):
            steps: Iterator[Any] = setup.function()
            next(steps)
            otelog.configure(**options)
            for _ in steps:
                pass
        else:
            otelog.configure(**options)
            setup.function()
        if setup.talks:
            talk()
    except BaseException:
        traceback.print_exc()
    # Another incarnation of the package may have been imported.
    sys.modules.get("otelog", otelog).flush(20.0)
    otelog.shutdown(20.0)
    sys.stdout.flush()
    sys.stderr.flush()


def serve() -> None:
    """Run what is asked for on standard input, both of a pair at once; answer on standard output with JSON lines."""
    import otelog  # noqa: F401
    import tests.differential.setups  # noqa: F401

    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        children = []
        for name, direct, endpoint, out, err in json.loads(line):
            child = os.fork()
            if not child:
                sys.stdin.close()
                for path, descriptor in (("/dev/null", 0), (out, 1), (err, 2)):
                    opened = os.open(path, os.O_RDWR | os.O_CREAT)
                    os.dup2(opened, descriptor)
                    os.close(opened)
                run(name, direct, endpoint)
                if FULL:
                    sys.exit()
                # All of an end that is seen from outside. To take the modules apart costs more than the run.
                threading._shutdown()  # type: ignore[attr-defined]
                atexit._run_exitfuncs()
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0)
            children.append(child)
        print(json.dumps([[child, os.waitpid(child, 0)[1]] for child in children]), file=answers, flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        run(sys.argv[1], sys.argv[2] == "on", sys.argv[3])
