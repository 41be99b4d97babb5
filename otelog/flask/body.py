"""The body of a response on its way to the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from opentelemetry.context import attach, detach, get_current

from otelog.flask.exchange import Exchange


class Body:
    """Hands an application's body on, in the request's context, and counts it.

    Args:
        parts: The application's body.
        exchange: The request's.
        fail: Called with what the body raises.
        finish: Called when the body has ended, or will not be asked for more; perhaps more than once.
    """

    __slots__ = ("_close", "_exchange", "_fail", "_finish", "_next")

    def __init__(
        self,
        parts: Iterable[bytes],
        exchange: Exchange,
        fail: Callable[[Exchange, BaseException], None],
        finish: Callable[[Exchange], None],
    ) -> None:
        self._next: Callable[[], bytes] = iter(parts).__next__
        self._close: Callable[[], Any] | None = getattr(parts, "close", None)
        self._exchange = exchange
        self._fail = fail
        self._finish = finish

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        token = attach(exchange.context)
        try:
            part = self._next()
            # What a generator attached before it paused, a span or fields, it finds again.
            exchange.context = get_current()
        except StopIteration:
            self._finish(exchange)
            raise
        except BaseException as error:
            self._fail(exchange, error)
            raise
        finally:
            detach(token)
        exchange.sent_bytes += len(part)
        return part

    def close(self) -> None:
        """Close the application's body, which may raise, and end the exchange."""
        exchange = self._exchange
        token = attach(exchange.context)
        try:
            close, self._close = self._close, None
            if close is not None:
                close()
        except BaseException as error:
            self._fail(exchange, error)
            raise
        finally:
            self._finish(exchange)
            detach(token)

    def __del__(self) -> None:
        # For callers that neither exhaust nor close, a test client above all.
        exchange: Exchange | None = getattr(self, "_exchange", None)
        if exchange is not None and not exchange.finished:
            self._finish(exchange)


def hook_file(file: Any, exchange: Exchange, finish: Callable[[Exchange], None]) -> None:
    """Have an exchange end when the server closes a file that it sends by itself, past any iterator.

    Args:
        file: What the server's ``wsgi.file_wrapper`` has made; it must stay what it is for the server to know it.
        exchange: The request's.
        finish: Ends the exchange.
    """
    close: Callable[[], Any] | None = getattr(file, "close", None)

    def close_and_finish() -> None:
        try:
            if close is not None:
                close()
        finally:
            finish(exchange)

    exchange.sent_bytes = _find_content_length(exchange.headers)
    try:
        file.close = close_and_finish
    except AttributeError:
        finish(exchange)


def _find_content_length(headers: list[tuple[str, str]]) -> int:
    for name, value in headers:
        if name.lower() == "content-length" and value.isdecimal():
            return int(value)
    return 0
