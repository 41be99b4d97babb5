"""The load: requests over kept-alive connections, in a process of its own. ``python -m benchmarks.requests.client``."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.trial import percentile

_HEAD_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True)
class Load:
    """What the client sends: ``requests`` over ``connections``; ``rate`` a second, or as fast as it goes at 0."""

    port: int
    requests: int
    connections: int
    rate: float = 0.0

    def dumps(self) -> str:
        """Write the load as JSON. Returns: one line."""
        return json.dumps(asdict(self))


class _Connection(asyncio.Protocol):
    """One connection; a request at a time."""

    def __init__(self) -> None:
        self._transport: Any = None
        self._received = b""
        self._answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(_HEAD_END)
        if end and self._answered is not None and len(body) >= _length_of(head):
            self._received = b""
            self._answered.set_result(head)

    async def ask(self, request: bytes) -> None:
        """Send a request and wait for the whole answer. Raises: ConnectionError if it is not 200."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        head = await self._answered
        if not head.startswith(b"HTTP/1.1 200 "):
            raise ConnectionError(f"the server answered {head[:40]!r}")

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


def _length_of(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(_LENGTH):
            return int(line[len(_LENGTH) :])
    raise ConnectionError("an answer without a length")


async def send(load: Load) -> dict[str, float]:
    """Send a load. Returns: ``requests_per_s`` and percentiles of the answers' times in ms."""
    loop = asyncio.get_running_loop()
    connections = []
    for _ in range(load.connections):
        _, connection = await loop.create_connection(_Connection, "127.0.0.1", load.port)
        connections.append(connection)
    numbers = iter(range(load.requests))
    interval = 1.0 / load.rate if load.rate else 0.0
    times: list[float] = []
    start = time.perf_counter()

    async def keep_asking(connection: _Connection) -> None:
        for number in numbers:
            begin = time.perf_counter()
            due = start + number * interval
            if load.rate and begin < due:
                await asyncio.sleep(due - begin)
                begin = time.perf_counter()
            elif load.rate:
                # It waited for a connection: that is the server's time, too.
                begin = due
            await connection.ask(
                b"GET /orders/%d HTTP/1.1\r\nHost: shop\r\nUser-Agent: benchmark\r\nAccept: */*\r\n\r\n" % number
            )
            times.append(time.perf_counter() - begin)

    await asyncio.gather(*map(keep_asking, connections))
    taken = time.perf_counter() - start
    for connection in connections:
        connection.close()
    times.sort()
    figures = {"requests_per_s": load.requests / taken}
    for name, share in (("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)):
        figures[name] = percentile(times, share) * 1000
    return figures


def main(words: list[str]) -> None:
    """Send the load given as JSON in ``words[0]``, and print its figures as JSON."""
    gc.disable()
    print(json.dumps(asyncio.run(send(Load(**json.loads(words[0]))))))


if __name__ == "__main__":
    main(sys.argv[1:])
