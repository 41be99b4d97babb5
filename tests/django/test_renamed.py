"""A release of the instrumentation that calls its middleware otherwise costs nothing beside otelog's own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from otelog.testing import OTLPServer
from tests.django.running import TRACE
from tests.private.test_private import rename

PROGRAM = """
import io, logging, sys
import otelog
from django.conf import settings
from opentelemetry.instrumentation.django import DjangoInstrumentor

otelog.configure(endpoint=sys.argv[1])
settings.configure(SECRET_KEY="none", ROOT_URLCONF="tests.django.site", ALLOWED_HOSTS=["*"], MIDDLEWARE=[
    "otelog.django.AccessLogMiddleware"])
DjangoInstrumentor().instrument()
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
for path in ("/orders/1/", "/missing/", "/rows/"):
    response = application({
        "REQUEST_METHOD": "GET", "PATH_INFO": path, "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "80",
        "HTTP_TRACEPARENT": "00-%s-b7ad6b7169203331-01" % sys.argv[2],
        "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(),
    }, lambda *_: None)
    list(response)
    response.close()
print(otelog.shutdown())
"""


@pytest.mark.parametrize("renamed", ["nothing", "_DjangoMiddleware", "opentelemetry-instrumentor-django"])
def test_what_the_instrumentation_may_call_otherwise(renamed: str) -> None:
    begin = "" if renamed == "nothing" else rename(renamed, "opentelemetry.instrumentation.django")
    with OTLPServer() as server:
        done = subprocess.run(
            [sys.executable, "-c", begin + PROGRAM, server.endpoint, TRACE],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert "otelog:" not in done.stderr
    found = [(one.trace_id.hex(), one.body.string_value) for one in server.records]
    assert len(found) == 8, found
    # otelog's middleware notes the span itself.
    assert {trace for trace, _ in found} == {TRACE}
