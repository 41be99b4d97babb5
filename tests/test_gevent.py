"""gevent may patch the standard library before otelog is imported, after, or in between: nothing stands still."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import ssl
import subprocess
import sys
import time
import types
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme

from otelog._runtime import threads
from otelog.testing import OTLPServer, Reply
from tests.grpc_server import GrpcServer
from tests.grpc_server import Reply as GrpcReply
from tests.metrics_server import MetricsServer
from tests.proxy_server import ProxyServer
from tests.sizes import paired
from tools.waiting import wait_until

# Not imported here: that alone changes what otelog does.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gevent") is None,
    reason="gevent is not installed",
)

# From Python 3.13 on gevent's hook for forked children fails on a thread that was there before it patched, and says so.
GEVENTS_OWN = re.compile(
    r"Exception ignored in: <bound method _ForkHooks\.after_fork_in_child "
    r".*?_set_done\(\) takes no keyword arguments\n",
    re.DOTALL,
)
PATCH = "from gevent import monkey; monkey.patch_all()"
IMPORT = "import otelog"
PATIENCE = 120.0
"""For what does not hang, on a busy machine."""
# Nothing is sent unless somebody asks: a worker that waits for ten minutes must not hold up anybody.
CONFIGURE = "otelog.configure(endpoint=sys.argv[1], schedule_delay_millis=600_000)"
ORDERS = {
    "patched before the import": [PATCH, IMPORT, CONFIGURE],
    "patched between import and configure": [IMPORT, PATCH, CONFIGURE],
    "patched after configure": [IMPORT, CONFIGURE, PATCH],
    "patched before a second configure": [
        IMPORT,
        "otelog.configure(endpoint=sys.argv[1], level='WARNING')",
        PATCH,
        CONFIGURE,
    ],
}
WORK = """
import gevent, logging

def tick():
    for _ in range(10):
        gevent.sleep(0.001)

def work(name):
    for number in range(20):
        logging.info("%s/%d", name, number)
        gevent.sleep(0)

def live(name):
    gevent.joinall([gevent.spawn(tick), *(gevent.spawn(work, f"{name}{n}") for n in range(3))], raise_error=True)
"""
FORKED = """
child = os.fork()
live("child" if child == 0 else "parent")
assert otelog.flush(60), otelog.stats()
if child == 0:
    live("last")
else:
    assert os.waitpid(child, 0)[1] == 0
"""
FLUSHED = """
live("first")
assert otelog.flush(60), otelog.stats()
assert otelog.stats().exported == 60, otelog.stats()
"""


class Tls(NamedTuple):
    """A server's side of TLS for 127.0.0.1, and the file of who signed its certificate."""

    context: ssl.SSLContext
    authority_file: str


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return Tls(context, str(tmp_path / "authority.pem"))


def run(server: OTLPServer | GrpcServer, *lines: str, says: str = "") -> None:
    code = "\n".join(["import os, sys", *lines])
    done = subprocess.run(
        [sys.executable, "-c", code, server.endpoint],
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = GEVENTS_OWN.sub("", done.stderr) if sys.version_info >= (3, 13) else done.stderr
    assert says in said if says else said == "", done.stderr


def names(server: OTLPServer) -> Counter[str]:
    return Counter(record.body.string_value.partition("/")[0] for record in server.records)


def expected(*lives: str) -> dict[str, int]:
    return {f"{life}{number}": 20 for life in lives for number in range(3)}


@pytest.mark.parametrize("order", ORDERS)
def test_greenlets_go_on_while_records_wait_and_all_of_them_arrive(order: str) -> None:
    with OTLPServer() as server:
        run(server, *ORDERS[order], WORK, FLUSHED, "live('second')")
        assert names(server) == expected("first", "second")


WATCHED = """
import time
import gevent.hub, gevent.monkey
own_id = gevent.monkey.get_original("_thread", "get_ident")
entered = set()
run_hub = gevent.hub.Hub.run
def run(hub):
    entered.add(own_id())
    return run_hub(hub)
gevent.hub.Hub.run = run
"""
WAITED = """
live("first")
deadline = time.monotonic() + 60
while otelog.stats().exported < 60 and time.monotonic() < deadline:
    gevent.sleep(0.01)
assert otelog.stats().exported == 60, otelog.stats()
assert entered <= {own_id()}, entered
"""


@pytest.mark.parametrize(("order", "scheme"), paired(ORDERS, ("http", "https", "https by a proxy of https")))
def test_no_thread_of_ours_is_ever_in_a_hub(order: str, scheme: str, tls: Tls) -> None:
    """One that is there when the interpreter ends crashes the process: greenlet cannot leave it any more."""
    options = "20, max_export_batch_size=10"
    with ExitStack() as stack:
        if scheme != "http":
            options += f", certificate_file={tls.authority_file!r}"
        if "proxy" in scheme:
            options += f", proxy={stack.enter_context(ProxyServer(tls=tls.context)).url!r}"
        server = stack.enter_context(OTLPServer([Reply(delay=0.05)] * 3, tls=None if scheme == "http" else tls.context))
        run(server, *[line.replace("600_000)", f"{options})") for line in ORDERS[order]], WATCHED, WORK, WAITED)
        assert names(server) == expected("first")


@pytest.mark.parametrize("order", ORDERS)
def test_none_is_by_grpc(order: str) -> None:
    prompt = [line.replace("600_000)", "20, max_export_batch_size=10, protocol='grpc')") for line in ORDERS[order]]
    with GrpcServer() as server:
        run(server, *prompt, WATCHED, WORK, WAITED)
        assert Counter(body.partition("/")[0] for body in server.bodies) == expected("first")


@pytest.mark.parametrize("order", ORDERS)
def test_records_arrive_over_tls(order: str, tls: Tls) -> None:
    certificate = f"600_000, certificate_file={tls.authority_file!r})"
    with OTLPServer(tls=tls.context) as server:
        run(server, *[line.replace("600_000)", certificate) for line in ORDERS[order]], WORK, FLUSHED)
        assert names(server) == expected("first")


@pytest.mark.parametrize("order", ORDERS)
def test_a_process_that_is_forked_afterwards_delivers_its_own(order: str) -> None:
    with OTLPServer() as server:
        run(server, *ORDERS[order], WORK, FLUSHED, FORKED)
        assert names(server) == expected("first", "parent", "child", "last")


@pytest.mark.parametrize("order", ORDERS)
def test_so_it_does_by_grpc(order: str) -> None:
    lines = [line.replace("600_000)", "600_000, protocol='grpc')") for line in ORDERS[order]]
    with GrpcServer() as server:
        run(server, *lines, WORK, FLUSHED, FORKED)
        assert Counter(body.partition("/")[0] for body in server.bodies) == expected("first", "parent", "child", "last")


def test_by_grpc_a_refusal_is_counted_and_a_server_that_says_nothing_is_left() -> None:
    program = """
live("refused")
otelog.flush(60)
assert otelog.stats().dropped["rejected"] == otelog.stats().resent == 60, otelog.stats()
live("unanswered")
otelog.flush(60)
assert otelog.stats().dropped["retry_exhausted"] == 60, otelog.stats()
assert otelog.stats().outcome_unknown >= 60, otelog.stats()
"""
    configure = CONFIGURE.replace("600_000)", "600_000, protocol='grpc', timeout=0.5, export_timeout_millis=2000)")
    with GrpcServer([GrpcReply("UNAVAILABLE"), GrpcReply("PERMISSION_DENIED"), *[GrpcReply(hang=True)] * 5]) as server:
        run(server, PATCH, IMPORT, configure, WORK, program, says="PERMISSION_DENIED")


@pytest.mark.parametrize("order", ORDERS)
def test_metrics_are_sent_while_it_runs_and_when_it_ends(order: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    wait = f"live('first')\nwhile not os.path.exists({str(seen)!r}): gevent.sleep(0.01)\nlive('second')"
    environ = {**os.environ, "OTEL_METRICS_EXPORTER": "otlp", "OTEL_METRIC_EXPORT_INTERVAL": "50"}
    with MetricsServer() as server:
        process = subprocess.Popen(
            [sys.executable, "-c", "\n".join(["import os, sys", *ORDERS[order], WORK, wait]), server.endpoint],
            env=environ,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            wait_until(lambda: server.paths().count("/v1/metrics") > 3, PATIENCE)
            seen.touch()
            errors = process.communicate(timeout=PATIENCE)[1]
        finally:
            process.kill()
            process.wait()
        assert (process.returncode, errors) == (0, "")
        assert server.sums()[-1][1]["otel.sdk.exporter.log.exported"] == sum(expected("first", "second").values())


@pytest.mark.parametrize("order", ORDERS)
def test_sigterm_delivers_what_is_held_while_the_hub_waits(order: str, tmp_path: Path) -> None:
    lines = [line.replace("600_000)", "600_000, handle_sigterm=True)") for line in ORDERS[order]]
    ready = tmp_path / "ready"
    wait = f"live('first'); open({str(ready)!r}, 'w').close(); gevent.event.Event().wait(600)"
    with OTLPServer() as server:
        process = subprocess.Popen(
            [sys.executable, "-c", "\n".join(["import os, sys", *lines, WORK, wait]), server.endpoint],
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            wait_until(ready.exists, PATIENCE)
            os.kill(process.pid, signal.SIGTERM)
            errors = process.communicate(timeout=PATIENCE)[1]
        finally:
            process.kill()
            process.wait()
        assert (process.returncode, errors) == (-signal.SIGTERM, "")
        assert names(server) == expected("first")


def test_a_gevent_that_is_still_being_imported_has_patched_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread's import of it may be in the middle."""
    monkeypatch.setitem(sys.modules, "gevent.monkey", types.ModuleType("gevent.monkey"))
    assert threads.find_native("time", "sleep") is time.sleep
    assert not threads.is_patched()
