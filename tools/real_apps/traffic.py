"""Requests, each with a trace of its own, and when each of them was under way."""

from __future__ import annotations

import http.client
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlencode

Phase = Literal["one at a time", "at once"]

REQUEST_SECONDS = 60.0
MARKER = "otelog_trace"
"""The query's field that holds the trace id, so that a record with the address in it tells whose it is."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked for.

    Args:
        path: With a query, if there is one.
        method: The HTTP method.
        form: Sent as a form.
        marked: Whether the trace id goes into the query, too.
        headers: More of the request's.
    """

    path: str
    method: str = "GET"
    form: str = ""
    marked: bool = True
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str, *, marked: bool = True, headers: tuple[tuple[str, str], ...] = ()) -> Target:
        """Read ``/path``, ``POST /path`` or ``POST /path name=value&other=value``."""
        words = text.split(maxsplit=2)
        if words and words[0].startswith("/"):
            words.insert(0, "GET")
        if len(words) < 2 or not words[1].startswith("/"):
            raise ValueError(f"{text!r} is not [METHOD] /path [form]")
        return cls(words[1], words[0].upper(), words[2] if len(words) > 2 else "", marked, headers)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True, slots=True)
class Visit:
    """One request that was answered, or not.

    Args:
        target: What was asked for.
        trace_id: The trace that it was given.
        phase: Whether others were under way at the same time.
        began_ns: Before the connection was made.
        ended_ns: After the server had closed it: then it has done all that it does for the request.
        status: The answer's; 0 if there was none.
        headers: The answer's, names in lower case.
    """

    target: Target
    trace_id: str
    phase: Phase
    began_ns: int
    ended_ns: int
    status: int
    headers: Mapping[str, str] = field(default_factory=dict)


def send(host: str, port: int, target: Target, phase: Phase) -> Visit:
    """Ask once, in a trace that begins here; never raises for a server that fails."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    path = target.path
    if target.marked:
        path += ("&" if "?" in path else "?") + urlencode({MARKER: trace_id})
    headers = {
        **dict(target.headers),
        "traceparent": f"00-{trace_id}-{span_id}-01",
        "User-Agent": f"otelog-real-apps/{trace_id}",
        # The server closes the connection when it has done everything, also what it logs after the answer.
        "Connection": "close",
    }
    if target.form:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    began = time.time_ns()
    status, answered = 0, {}
    connection = http.client.HTTPConnection(host, port, timeout=REQUEST_SECONDS)
    try:
        connection.connect()
        plain = connection.sock
        connection.request(target.method, path, body=target.form or None, headers=headers)
        # A reference of one's own: the library closes its own at the end of the body.
        with plain.dup() as kept:
            kept.settimeout(REQUEST_SECONDS)
            answer = connection.getresponse()
            answer.read()
            status, answered = answer.status, {name.lower(): value for name, value in answer.getheaders()}
            _await_close(kept)
    except (OSError, http.client.HTTPException):
        status = 0
    finally:
        connection.close()
    return Visit(target, trace_id, phase, began, time.time_ns(), status, answered)


def _await_close(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def send_all(
    host: str,
    port: int,
    targets: Iterable[Target],
    *,
    concurrency: int = 1,
    done: Callable[[], object] = lambda: None,
) -> list[Visit]:
    """Ask for all targets, in their order.

    Args:
        host: The server's.
        port: The server's.
        targets: What to ask for.
        concurrency: How many requests are under way at the same time.
        done: Called after each.
    """
    phase: Phase = "one at a time" if concurrency == 1 else "at once"
    lock = threading.Lock()

    def visit(target: Target) -> Visit:
        found = send(host, port, target, phase)
        with lock:
            done()
        return found

    with ThreadPoolExecutor(concurrency) as threads:
        return list(threads.map(visit, targets))
