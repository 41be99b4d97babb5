"""Faults that are put into otelog on purpose, so that a test sees the runner find them. In the program only."""

from __future__ import annotations

from typing import Any

KINDS = ("drop", "twice", "slot", "raise", "say", "hang")


def sabotage(kind: str) -> None:
    """Break otelog in this process: a record vanishes, is sent twice, and so on.

    Raises:
        ValueError: There is no such fault.
    """
    if kind not in KINDS:
        raise ValueError(f"no such fault: {kind}")
    globals()[f"_{kind}"]()


def _on_each_encoding(change: Any) -> None:
    """Change what goes out, once, after the books are made."""
    from otelog._otlp.exchange import Exchanges

    send = Exchanges.send

    def changed(self: Any, body: bytes, **keywords: Any) -> None:
        send(self, change(body), **keywords)

    Exchanges.send = changed  # type: ignore[method-assign]


def _decode(body: bytes) -> Any:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    return ExportLogsServiceRequest.FromString(body)


def _drop() -> None:
    def change(body: bytes) -> bytes:
        request = _decode(body)
        del request.resource_logs[0].scope_logs[0].log_records[0]
        changed: bytes = request.SerializeToString()
        return changed

    _on_each_encoding(change)


def _twice() -> None:
    def change(body: bytes) -> bytes:
        request = _decode(body)
        records = request.resource_logs[0].scope_logs[0].log_records
        records.add().CopyFrom(records[0])
        changed: bytes = request.SerializeToString()
        return changed

    _on_each_encoding(change)


def _slot() -> None:
    from otelog._capture.queue import RecordQueue

    look = RecordQueue.look
    leaked: list[Any] = []

    def changed(self: Any, most: int) -> Any:
        if not leaked and self.slots:
            leaked.append(self.slots.pop())
        return look(self, most)

    RecordQueue.look = changed  # type: ignore[method-assign]


def _raise() -> None:
    from otelog._capture.facade import Logger

    event = Logger.event

    def changed(self: Any, *args: Any, **keywords: Any) -> None:
        event(self, *args, **keywords)
        raise RuntimeError("sabotage")

    Logger.event = changed  # type: ignore[method-assign]


def _say() -> None:
    import sys

    print("Exception ignored in: something", file=sys.stderr, flush=True)


def _hang() -> None:
    import threading

    import otelog._setup.configure

    otelog._setup.configure.flush = otelog.shutdown = lambda timeout=5.0: threading.Event().wait()  # type: ignore[assignment,misc]
