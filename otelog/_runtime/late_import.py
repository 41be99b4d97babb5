"""Late imports that a fork cannot cut in half.

A child that is forked while another thread imports a module inherits that module's import lock, held by a thread that
the child does not have: its own import of the module would wait for ever. So a fork waits for the imports made here.
"""

from __future__ import annotations

import importlib
import sys
from types import FrameType, ModuleType

from otelog._runtime.fork_gate import ForkGate
from otelog._runtime.threads import get_ident

FORK_PATIENCE = 10.0
"""Seconds that a fork waits at most: the import may itself wait for one that the forking thread is making.

An import that takes 60 ms alone takes a second beside eight busy threads."""

_ATTEMPTS = 3

_IMPORT_SYSTEM = "<frozen importlib._bootstrap>"

_gate = ForkGate(FORK_PATIENCE)


def load_module(name: str) -> ModuleType:
    """Import a module late, in whatever thread needs it first.

    Args:
        name: The module's full name.

    Raises:
        ImportError: There is none, or it cannot be imported.

    Thread-safe; not for a module that itself calls this while it is imported.
    """
    with _gate.lock:
        for _ in range(_ATTEMPTS - 1):
            try:
                return importlib.import_module(name)
            except RuntimeError:
                # "cannot release un-acquired lock": gevent, put in place by the application during this import,
                # changes by what the import system knows whose its locks are. It makes new ones now.
                continue
        return importlib.import_module(name)


def is_import_under_way() -> bool:
    """Returns whether another thread is in the middle of an import, as far as its stack tells. Thread-safe."""
    me = get_ident()
    return any(thread != me and _is_importing(frame) for thread, frame in sys._current_frames().items())


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_SYSTEM:
            return True
        frame = frame.f_back
    return False
