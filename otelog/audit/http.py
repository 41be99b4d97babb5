"""GET requests to the servers of the stack, bounded in time and bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import urllib3

from otelog._runtime.shown_text import hide_secrets
from otelog.exceptions import OtelogError

MAX_BODY_BYTES = 256 * 1024 * 1024
TIMEOUT = 60.0
CONNECT_TIMEOUT = 3.0


class SourceError(OtelogError):
    """A source does not answer, or not with what is expected."""


class Client:
    """Ask one server. No proxy of the environment is used. Thread-safe."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._shown_url = hide_secrets(self.url)
        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=TIMEOUT), retries=False, maxsize=1
        )

    def get(self, path: str, fields: Mapping[str, str] | None = None) -> bytes:
        """Returns the body of an answer 200.

        Raises:
            SourceError: There is none; the message says why.
        """
        where = f"{self.url}{path}"
        try:
            answer = self._pool.request("GET", where, fields=dict(fields or {}), preload_content=False)
            try:
                body = bytes(answer.read(MAX_BODY_BYTES + 1, decode_content=True))
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise SourceError(f"{self._shown_url} does not answer ({_reason(error)})") from error
        if answer.status != 200:
            said = body[:300].decode(errors="replace").strip()
            raise SourceError(f"{self._shown_url} answers {path} with {answer.status}: {said}")
        if len(body) > MAX_BODY_BYTES:
            raise SourceError(f"{self._shown_url} answers {path} with more than {MAX_BODY_BYTES:,} bytes")
        return body

    def get_data(self, path: str, fields: Mapping[str, str]) -> list[dict[str, Any]]:
        """Returns the result of a query to Prometheus or Loki.

        Raises:
            SourceError: There is none; the message says why.
        """
        body = self.get(path, fields)
        try:
            result = json.loads(body)["data"]["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise SourceError(f"{self._shown_url} answers {path} with what is no result of a query") from error
        if not isinstance(result, list):
            raise SourceError(f"{self._shown_url} answers {path} with what is no list")
        return result

    def close(self) -> None:
        """Close the connections. Idempotent."""
        self._pool.clear()


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    cause = reason.__cause__ or reason.__context__ or reason
    return str(getattr(cause, "strerror", None) or type(reason).__name__)
