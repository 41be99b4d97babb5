"""The health entry, as a WSGI application."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from otelog._requests.health import answer_health

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def health_app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with the state of this process's pipeline; a WSGI application, which a Flask view may return, too."""
    answer = answer_health(environ["REQUEST_METHOD"])
    start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", answer.headers)
    return [answer.body] if answer.body else []
