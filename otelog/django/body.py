"""The body of a streaming response on its way to the server."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from opentelemetry.context import attach, detach, get_current

if TYPE_CHECKING:
    from django.http.response import HttpResponseBase

    from otelog._requests.exchange import Exchange

Fail = Callable[[BaseException], None]
Finish = Callable[[], None]


def watch_body(response: HttpResponseBase, exchange: Exchange, fail: Fail, finish: Finish) -> None:
    """Have the parts of a streaming response made in the request's context, and counted.

    Args:
        response: Whose ``streaming`` is true.
        exchange: The request's.
        fail: Called with what the body raises.
        finish: Called when the body has ended, or is closed; perhaps more than once.
    """
    streamed: Any = response
    if getattr(streamed, "file_to_stream", None) is not None:
        # The server may send the file by itself: Django must keep hold of it.
        length = response.headers.get("Content-Length", "")
        exchange.sent_bytes = int(length) if length.isdecimal() else 0
        closers = getattr(streamed, "_resource_closers", None)
        if isinstance(closers, list):
            closers.append(finish)
        else:
            finish()
        return
    exchange.leave()
    # The setter takes either kind, and closes it with the response.
    kind: Any = _AsyncParts if getattr(streamed, "is_async", False) else _Parts
    streamed.streaming_content = kind(streamed.streaming_content, exchange, fail, finish)


class _Watched:
    """What both kinds of parts have in common."""

    __slots__ = ("_exchange", "_fail", "_finish", "_parts")

    def __init__(self, parts: Any, exchange: Exchange, fail: Fail, finish: Finish) -> None:
        self._parts = parts
        self._exchange = exchange
        self._fail = fail
        self._finish = finish

    def close(self) -> None:
        """End the exchange, if the body was not asked for to its end; Django closes the body itself."""
        self._finish()


class _Parts(_Watched):
    """Parts that are made synchronously.

    Thread safety: one thread at a time.
    """

    __slots__ = ()

    def __init__(self, parts: Iterable[bytes], exchange: Exchange, fail: Fail, finish: Finish) -> None:
        super().__init__(iter(parts), exchange, fail, finish)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        exchange = self._exchange
        token = attach(exchange.context)
        try:
            part: bytes = next(self._parts)
            # What a generator attached before it paused, a span or fields, it finds again.
            exchange.context = get_current()
        except StopIteration:
            self._finish()
            raise
        except BaseException as error:
            self._fail(error)
            self._finish()
            raise
        finally:
            detach(token)
        exchange.sent_bytes += len(part)
        return part


class _AsyncParts(_Watched):
    """Parts that are made asynchronously.

    Thread safety: one task at a time.
    """

    __slots__ = ()

    def __init__(self, parts: AsyncIterable[bytes], exchange: Exchange, fail: Fail, finish: Finish) -> None:
        super().__init__(parts.__aiter__(), exchange, fail, finish)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        exchange = self._exchange
        token = attach(exchange.context)
        try:
            part: bytes = await self._parts.__anext__()
            exchange.context = get_current()
        except StopAsyncIteration:
            self._finish()
            raise
        except BaseException as error:
            # What a client that leaves causes is no failure of the body.
            self._fail(error)
            self._finish()
            raise
        finally:
            detach(token)
        exchange.sent_bytes += len(part)
        return part

    async def aclose(self) -> None:
        """Close the body, whoever does not want all of it."""
        close = getattr(self._parts, "aclose", None)
        if close is not None:
            with suppress(StopAsyncIteration):
                await close()
        self._finish()
