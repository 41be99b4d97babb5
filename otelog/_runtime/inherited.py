"""What a forked child lets go before anything else runs in it: the descriptors that are its parent's.

Later their numbers may be somebody else's. A daemon closes whatever it has inherited and opens files of its own, which
get those very numbers; to close one of ours by its number then, or to write to it, hits the application's. So each
owner of descriptors is called in the hook of the fork, while they are surely its own. Where Python's hooks do not
run for a fork, as when C code makes it, an inherited number is never touched at all.
"""

from __future__ import annotations

import os
import weakref
from contextlib import suppress
from typing import Protocol

from otelog._runtime.fork_gate import ForkGate

Identity = tuple[int, int]
"""Device and inode: what a file or a socket is, whatever its name or number."""


FORK_PATIENCE = 1.0
"""Seconds that a fork waits at most for a descriptor that is being opened."""

opening = ForkGate(FORK_PATIENCE)
"""Around the moments in which a descriptor is open and in nobody's hands yet, who could let it go in a child."""


class Holder(Protocol):
    """Something that has descriptors open."""

    def let_go_in_child(self) -> None:
        """Close what the parent of this process has open, here and now; must not raise or wait."""


_holders: weakref.WeakSet[Holder] = weakref.WeakSet()


def add_holder(holder: Holder) -> None:
    """Have this one called in each forked child, for as long as it lives. Thread-safe."""
    _holders.add(holder)


def identify(stat: os.stat_result) -> Identity:
    """Returns what a descriptor's file is."""
    return stat.st_dev, stat.st_ino


def is_open(descriptor: int, identity: Identity) -> bool:
    """Returns whether a descriptor still is that file: an application may have closed it, and another file have it."""
    try:
        return identify(os.fstat(descriptor)) == identity
    except OSError:
        return False


def close_descriptor(descriptor: int, identity: Identity) -> None:
    """Close a descriptor, unless it is another file's by now."""
    if is_open(descriptor, identity):
        with suppress(OSError):
            os.close(descriptor)


class _Files:
    """The files that otelog has open by number, of this process."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._identities: dict[int, Identity] = {}

    @property
    def identities(self) -> dict[int, Identity]:
        if self._pid != os.getpid():
            # Python's hooks did not run for that fork.
            self._pid, self._identities = os.getpid(), {}
        return self._identities

    def let_go_in_child(self) -> None:
        inherited, self._pid, self._identities = self._identities, os.getpid(), {}
        for descriptor, identity in inherited.items():
            close_descriptor(descriptor, identity)


_files = _Files()
add_holder(_files)


def open_file(path: str, flags: int, mode: int = 0o777) -> int:
    """Open a file that a forked child lets go at once; to be closed by `close_file`, and by nothing else.

    Raises:
        OSError: It cannot be opened.
    """
    with opening.lock:
        descriptor = os.open(path, flags | os.O_CLOEXEC, mode)
        _files.identities[descriptor] = identify(os.fstat(descriptor))
    return descriptor


def close_file(descriptor: int, identity: Identity) -> None:
    """Close a file of `open_file`, unless the application has closed it, or a fork has let it go. Never raises."""
    if _files.identities.get(descriptor) == identity:
        del _files.identities[descriptor]
        close_descriptor(descriptor, identity)


def _let_go() -> None:
    for holder in list(_holders):
        holder.let_go_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
