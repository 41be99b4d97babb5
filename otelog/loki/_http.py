"""Loki over HTTP: one question and its answer, bounded in time and size, with errors that say what to do."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlencode

import urllib3
from urllib3.util import Retry, Timeout

from otelog._runtime.shown_text import hide_secrets
from otelog._runtime.urls import UnusableError, read_authority
from otelog._runtime.version import __version__
from otelog.exceptions import ConfigurationError, OtelogError

MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""How much of an answer is read."""

CONNECT_TIMEOUT = 5.0
POOL_SIZE = 4
MAX_QUOTED_CHARS = 300

_READ_BYTES = 64 * 1024
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_TOO_MANY_ENTRIES = re.compile(r"max_entries_limit_per_query \((\d+) > (\d+)\)")
_TOO_LARGE_MESSAGE = "received message larger than max"
# Stream labels apart from what came with the entry itself.
_FLAGS = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
_STATUS_HINTS = {
    401: "give the credentials that it asks for",
    403: "give the credentials that it asks for",
    404: "is this the address of a Loki, without a path?",
    429: "it has too much to do: ask for less, or later",
}


class LokiError(OtelogError):
    """Loki did not answer, or said no; the message says what to do.

    Args:
        message: One line.
        status: HTTP's; None if there was no answer.
        detail: Loki's own words, "" without any.
    """

    def __init__(self, message: str, *, status: int | None = None, detail: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.detail = detail

    @property
    def passing(self) -> bool:
        """Whether the same question may be answered later."""
        return self.status is None or self.status == 429 or self.status >= 500


class TooManyEntriesError(LokiError):
    """More entries at a time were asked for than this Loki gives; `most` is how many it does."""

    def __init__(self, message: str, most: int, *, status: int | None, detail: str) -> None:
        super().__init__(message, status=status, detail=detail)
        self.most = most


class TooLargeError(LokiError):
    """The answer is larger than Loki can send, or than is read here."""


class LokiHttp:
    """Asks one Loki; kept-alive connections, no proxy whatever the environment says, no redirects, nothing asked twice.

    Args:
        url: Where it is, such as ``http://localhost:3100``; a path is kept as a prefix.
        timeout: Seconds for a whole question.
        headers: Sent with each.
        tenant: The ``X-Scope-OrgID`` of a Loki with several tenants.

    Raises:
        ConfigurationError: The URL or the timeout cannot be used.

    Thread safety: any thread may call anything.
    """

    def __init__(self, url: str, *, timeout: float, headers: Mapping[str, str] | None, tenant: str | None) -> None:
        self.url = check_url(url)
        self._shown_url = hide_secrets(self.url)
        if not 0.0 < timeout < math.inf:
            raise ConfigurationError(f"timeout is {timeout!r}; allowed are seconds above 0")
        self._timeout = timeout
        self.headers = {"User-Agent": f"otelog/{__version__}", **_FLAGS, **(headers or {})}
        if tenant is not None:
            self.headers["X-Scope-OrgID"] = tenant
        self._pool = urllib3.PoolManager(maxsize=POOL_SIZE, retries=False)

    def get_json(self, path: str, parameters: Mapping[str, object]) -> Any:
        """Ask, and return what the JSON document has as ``data``; see `ask`."""
        return self.ask(path, parameters)[0]

    def ask(self, path: str, parameters: Mapping[str, object]) -> tuple[Any, int]:
        """Ask, and return what the JSON document has as ``data``, and the size of the answer in bytes.

        Args:
            path: What follows the URL.
            parameters: Those that are None are left out.

        Raises:
            LokiError: There was no answer in time, or it was none to use.
        """
        status, body = self._get(path, parameters, MAX_ANSWER_BYTES)
        if status != 200:
            self.refuse(status, body)
        try:
            return json.loads(body).get("data"), len(body)
        except (ValueError, AttributeError, RecursionError) as error:
            raise LokiError(f"{self._shown_url} answered what is no answer of Loki's: is this its address?") from error

    def is_ready(self) -> bool:
        """Returns whether there is a Loki that takes questions. Never raises."""
        try:
            return self._get("/ready", {}, _READ_BYTES)[0] == 200
        except LokiError:
            return False

    def refuse(self, status: int, body: bytes) -> NoReturn:
        """Raise what an answer's status and body amount to."""
        words = _UNPRINTABLE.sub(" ", body[: 4 * MAX_QUOTED_CHARS].decode("utf-8", "replace")).strip()
        detail = words if len(words) <= MAX_QUOTED_CHARS else f"{words[: MAX_QUOTED_CHARS - 1]}…"
        said = f"{self._shown_url} answered {status}" + (f": {detail}" if detail else "")
        if found := _TOO_MANY_ENTRIES.search(words):
            raise TooManyEntriesError(said, int(found[2]), status=status, detail=detail)
        if _TOO_LARGE_MESSAGE in words:
            raise TooLargeError(
                f"{said}; raise server.grpc_server_max_recv_msg_size in Loki's configuration",
                status=status,
                detail=detail,
            )
        hint = _STATUS_HINTS.get(status)
        raise LokiError(f"{said}; {hint}" if hint else said, status=status, detail=detail)

    def close(self) -> None:
        """Let the connections go; idempotent. A later question opens a new one."""
        self._pool.clear()

    def _get(self, path: str, parameters: Mapping[str, object], max_bytes: int) -> tuple[int, bytes]:
        given = {name: value for name, value in parameters.items() if value is not None}
        url = f"{self.url}{path}" + (f"?{urlencode(given)}" if given else "")
        deadline = time.monotonic() + self._timeout
        try:
            response = self._pool.request(
                "GET",
                url,
                headers=self.headers,
                timeout=Timeout(connect=min(self._timeout, CONNECT_TIMEOUT), read=self._timeout),
                retries=Retry(0, redirect=False, raise_on_redirect=False),
                preload_content=False,
            )
            try:
                body = self._read(response, deadline, max_bytes)
            except BaseException:
                # What is left of the answer must not be taken for the next one.
                response.close()
                raise
            response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self.explain(error) from error
        return response.status, body

    def _read(self, response: urllib3.BaseHTTPResponse, deadline: float, max_bytes: int) -> bytes:
        parts, size = [], 0
        while part := response.read(_READ_BYTES):
            size += len(part)
            if size > max_bytes:
                raise TooLargeError(f"{self._shown_url} answered more than {max_bytes:,} bytes: ask for less")
            if time.monotonic() > deadline:
                raise TimeoutError("timed out")
            parts.append(part)
        return b"".join(parts)

    def explain(self, error: Exception) -> LokiError:
        """Returns the LokiError for a failure to get an answer."""
        cause: BaseException = error
        if isinstance(error, urllib3.exceptions.MaxRetryError) and error.reason is not None:
            cause = error.reason
        timed_out = (TimeoutError, urllib3.exceptions.ReadTimeoutError)
        if isinstance(cause, timed_out) and not isinstance(cause, urllib3.exceptions.ConnectTimeoutError):
            return LokiError(
                f"{self._shown_url} did not answer within {self._timeout:g} s: ask for less at a time, give it more "
                "time, or raise Loki's query_timeout and server.grpc_server_max_recv_msg_size"
            )
        words = _UNPRINTABLE.sub(" ", str(cause.__cause__ or cause))
        where = f"{self._shown_url} ({words})"
        return LokiError(f"Loki cannot be reached at {where}: is it running? `otelog stack up` starts one")


def check_url(url: str) -> str:
    """Returns a base URL without its last slash.

    Raises:
        ConfigurationError: It is none of http or https.
    """
    try:
        parts, _, _ = read_authority(url)
        good = not parts.query and not parts.fragment
    except UnusableError:
        good = False
    if not good:
        raise ConfigurationError(f"{hide_secrets(url)!r} is no address of Loki; give one such as http://localhost:3100")
    return url.rstrip("/")
