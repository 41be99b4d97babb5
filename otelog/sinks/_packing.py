"""Compression of rotated files, in a thread of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress

from otelog._record.values import safe_str
from otelog._runtime.compression import make_compressor
from otelog._runtime.diagnostics import warn
from otelog._runtime.inherited import Identity, close_file, identify, open_file
from otelog._runtime.threads import Thread, get_ident, join, start_thread
from otelog._runtime.waiting import Latch
from otelog.sinks._folder_lock import FILE_MODE, identify_path
from otelog.sinks._retention import Retention, claim, group

SUFFIXES = {"gzip": ".gz", "zstd": ".zst"}

_READ_BYTES = 256 * 1024
WRITE_BYTES = 64 * 1024
"""Packed bytes that are written at once: what the folder's lock is held for where the total is bounded."""


class _GivenUp(Exception):
    """The file need not be packed any more, or not now."""


class Packer:
    """Packs the rotated files of a folder, one after the other.

    Its thread begins with `wake` and ends when nothing is left. A file is written under another name, made durable and
    renamed; only then the raw one goes. A process that packs a file has that file's own ``flock``.

    Args:
        folder: The folder's path.
        compression: "gzip" or "zstd".
        retention: Tells which files there are, and makes room.
        hold: Returns the context in which the folder is this thread's.

    Thread safety: `wake` inside `hold`; `close` by any thread outside of it.
    """

    def __init__(
        self, folder: str, compression: str, retention: Retention, hold: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._folder = folder
        self._compression = compression
        self._suffix = SUFFIXES.get(compression, "")
        self._retention = retention
        self._hold = hold
        self._closing = Latch()
        self._thread: Thread | None = None
        self._descriptors: dict[int, Identity] = {}

    def wake(self) -> None:
        """Have all rotated files packed."""
        if not self._suffix or self._closing.is_set():
            return
        if self._thread is None or not self._thread.is_alive():
            # Where none can be had, the next rotation or the next process packs them.
            self._thread = start_thread(self._run, "otelog-file-packer")

    def close(self, timeout: float) -> None:
        """End the thread; a file that is being packed stays as it was. Waits at most `timeout` seconds."""
        self._closing.set()
        thread = self._thread
        if thread is not None and thread.ident != get_ident():
            join(thread, timeout)

    def _run(self) -> None:
        tried: set[str] = set()
        try:
            while (name := self._choose(tried)) is not None:
                tried.add(name)
                try:
                    self._pack(name)
                except _GivenUp:
                    pass
                except Exception as error:
                    self._tell(name, error)
        except Exception as error:
            self._tell("a rotated file", error)
        finally:
            if self._thread is not None and self._thread.ident == get_ident():
                self._thread = None

    def _tell(self, name: str, error: Exception) -> None:
        if isinstance(error, FileNotFoundError):
            # The folder was removed.
            return
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {safe_str(error)}"
        warn(
            f"file.packing:{self._folder}",
            f"{name} in {self._folder} cannot be packed: {reason}; tried again at the next rotation",
        )

    def _choose(self, tried: set[str]) -> str | None:
        """Return the base of the next file to be packed; if there is none, the thread is over."""
        with self._hold():
            if not self._closing.is_set():
                for base, files in group(self._retention.scan()).items():
                    packed = any(file.name.packing and not file.name.unfinished for file in files)
                    if base not in tried and not packed:
                        return base
            # Here, so that a rotation after this moment begins another thread.
            self._thread = None
        return None

    def _pack(self, name: str) -> None:
        raw_path = os.path.join(self._folder, name)
        packed_path = raw_path + self._suffix
        path = f"{packed_path}.tmp"
        raw = packed = -1
        try:
            with self._hold():
                raw = self._keep(claim(raw_path))
                with suppress(FileNotFoundError):
                    # Left by a process that was killed: nobody else has the claim.
                    os.unlink(path)
                packed = self._keep(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE))
            self._compress(raw, packed, path, name)
            found = os.fstat(raw)
            # Readers sort files by their time.
            os.utime(packed, ns=(found.st_atime_ns, found.st_mtime_ns))
            os.fsync(packed)
            with self._hold():
                self._check(raw, raw_path)
                self._check(packed, path)
                os.rename(path, packed_path)
                os.unlink(raw_path)
        except BaseException:
            self._clean(path, packed)
            raise
        finally:
            for descriptor in (packed, raw):
                self._let_go(descriptor)

    def _compress(self, raw: int, packed: int, path: str, name: str) -> None:
        compressor = make_compressor(self._compression)
        pending: list[bytes] = []
        size = 0
        while data := os.read(raw, _READ_BYTES):
            if self._closing.is_set():
                raise _GivenUp
            pending.append(compressor.compress(data))
            size += len(pending[-1])
            if size >= WRITE_BYTES:
                self._write(packed, path, name, b"".join(pending))
                pending, size = [], 0
        pending.append(compressor.flush())
        self._write(packed, path, name, b"".join(pending))

    def _write(self, packed: int, path: str, name: str, data: bytes) -> None:
        view = memoryview(data)
        for start in range(0, len(view), WRITE_BYTES):
            part = view[start : start + WRITE_BYTES]
            with self._hold():
                self._check(packed, path)
                if not self._retention.make_room(len(part), keep=name):
                    raise _GivenUp
                while part:
                    part = part[os.write(packed, part) :]

    def _check(self, descriptor: int, path: str) -> None:
        # Retention may have deleted it meanwhile.
        if identify_path(path) != identify(os.fstat(descriptor)):
            raise _GivenUp

    def _clean(self, path: str, packed: int) -> None:
        if packed < 0:
            return
        with suppress(OSError), self._hold():
            if identify_path(path) == identify(os.fstat(packed)):
                os.unlink(path)

    def _keep(self, descriptor: int | None) -> int:
        if descriptor is None:
            raise _GivenUp
        self._descriptors[descriptor] = identify(os.fstat(descriptor))
        return descriptor

    def _let_go(self, descriptor: int) -> None:
        identity = self._descriptors.pop(descriptor, None)
        if identity is not None:
            close_file(descriptor, identity)
