"""A process's life: forks of all kinds, and its end. Each test runs a script of its own against a server of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from otelog.testing import OTLPServer, Reply
from tests.arrivals import SDK_RENEWS_RESOURCES, bodies, to_dict, to_python
from tools.loopback import find_free_ports

ROOT = Path(__file__).resolve().parents[2]
DEADLINE = 60.0

CONFIGURE = """
import atexit, logging, os, signal, sys, threading, time
import otelog
log = otelog.get_logger("script")
def configure(**options):
    defaults = {"endpoint": os.environ["ENDPOINT"], "service_name": "life", "schedule_delay_millis": 100}
    otelog.configure(**{**defaults, **options})
def books():
    stats = otelog.stats()
    return [stats.created, stats.exported, stats.queued, stats.in_flight, stats.lost]
"""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def start(tmp_path: Path, script: str, endpoint: str) -> subprocess.Popen[str]:
    """Start a script; what it imports again in a spawned child is guarded by the usual line."""
    path = tmp_path / "script.py"
    path.write_text(CONFIGURE + textwrap.dedent(script), encoding="utf-8")
    environment = {**os.environ, "ENDPOINT": endpoint, "OTEL_METRICS_EXPORTER": "none", "PYTHONPATH": str(ROOT)}
    # That our worker is a thread is no news to a test of forks.
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(path)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], *, code: int = 0, stderr: str | None = "") -> str:
    """Wait for a script's end; returns what it printed."""
    out, err = process.communicate(timeout=DEADLINE)
    assert "Traceback" not in err and "Exception ignored" not in err and "Fatal" not in err, err
    if stderr is not None:
        assert err == stderr
    assert process.returncode == code, err
    return out


def run(tmp_path: Path, script: str, server: OTLPServer, **expected: Any) -> str:
    """Run a script to its end."""
    return finish(start(tmp_path, script, server.endpoint), **expected)


def bodies_by_instance(server: OTLPServer) -> dict[str, Counter[str]]:
    """What arrived, by ``service.instance.id``."""
    found: dict[str, Counter[str]] = {}
    for request in server.requests:
        for resource in request.decode().resource_logs:
            instance = to_dict(resource.resource.attributes).get("service.instance.id", "")
            counts = found.setdefault(instance, Counter())
            for scope in resource.scope_logs:
                counts.update(str(to_python(record.body)) for record in scope.log_records)
    return found


def processes(server: OTLPServer) -> list[Counter[str]]:
    """What arrived of each instance; no instance may hold records of two processes, which begin with "name:"."""
    counts = list(bodies_by_instance(server).values())
    names = [{body.partition(":")[0] for body in count} for count in counts]
    assert all(len(one) == 1 for one in names), names
    return sorted(counts, key=lambda count: sorted(count))


def once(name: str, count: int) -> Counter[str]:
    return Counter({f"{name}:{number}": 1 for number in range(count)})


# Forks.


@needs_fork
@pytest.mark.parametrize("leave", ["return", "sys.exit(0)", "raise SystemExit"])
def test_a_forked_child_starts_with_nothing_and_delivers_its_own_at_exit(tmp_path: Path, leave: str) -> None:
    script = f"""
    def main():
        for number in range(50):
            log.info("parent:%d", number)
        if os.fork() == 0:
            assert books() == [0, 0, 0, 0, 0], books()
            for number in range(30):
                log.info("child:%d", number)
            logging.getLogger("std").warning("child:30")
            from opentelemetry._logs import get_logger
            get_logger("otel").emit(body="child:31")
            assert otelog.stats().created == 32
            {leave}
            return
        assert os.wait()[1] == 0
        for number in range(50, 60):
            log.info("parent:%d", number)
    configure(schedule_delay_millis=60_000)
    main()
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        if SDK_RENEWS_RESOURCES:
            assert processes(server) == [once("child", 32), once("parent", 60)]
        else:
            # Only the SDK's own logger speaks under the parent's id.
            mixed = once("parent", 60) + Counter({"child:31": 1})
            assert sorted(bodies_by_instance(server).values(), key=len) == [once("child", 31), mixed]


@needs_fork
def test_a_child_delivers_while_it_lives_too(tmp_path: Path) -> None:
    script = """
    configure()
    log.info("parent:0")
    if os.fork() == 0:
        log.info("child:0")
        assert otelog.flush(10), otelog.stats()
        assert books() == [1, 1, 0, 0, 0], books()
        os._exit(0)
    assert os.wait()[1] == 0
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("child", 1), once("parent", 1)]


@needs_fork
def test_a_fork_while_eight_threads_log_loses_and_doubles_nothing(tmp_path: Path) -> None:
    script = """
    def work(name):
        for number in range(4000):
            while otelog.stats().queued > 50_000:
                time.sleep(0.001)
            log.info("%s:%d", name, number)
    configure(max_queue_size=100_000)
    threads = [threading.Thread(target=work, args=(f"thread{index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    children = []
    for index in range(6):
        pid = os.fork()
        if pid == 0:
            assert otelog.stats().created == 0
            for number in range(20):
                log.info("child%d:%d", index, number)
            sys.exit(0)
        children.append(pid)
        time.sleep(0.01)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    for thread in threads:
        thread.join()
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        found = bodies_by_instance(server)
        assert len(found) == 7
        everything = sum(found.values(), Counter())
        assert set(everything.values()) == {1}
        assert len(everything) == 8 * 4000 + 6 * 20
        assert sorted(len(counts) for counts in found.values()) == [20] * 6 + [32_000]


@needs_fork
def test_a_fork_from_a_thread_works(tmp_path: Path) -> None:
    script = """
    def work():
        if os.fork() == 0:
            log.info("child:0")
            otelog.shutdown(10)
            os._exit(0)
        assert os.wait()[1] == 0
    configure()
    log.info("parent:0")
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("child", 1), once("parent", 1)]


@needs_fork
def test_a_child_of_a_child_is_a_process_of_its_own(tmp_path: Path) -> None:
    script = """
    configure()
    log.info("a:0")
    if os.fork() == 0:
        log.info("b:0")
        if os.fork() == 0:
            assert books() == [0, 0, 0, 0, 0]
            log.info("c:0")
            sys.exit()
        assert os.wait()[1] == 0
        log.info("b:1")
        sys.exit()
    assert os.wait()[1] == 0
    log.info("a:1")
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("a", 2), once("b", 2), once("c", 1)]


@needs_fork
def test_a_child_of_a_pipeline_that_was_shut_down_ends_at_once(tmp_path: Path) -> None:
    script = """
    configure(shutdown_timeout=20.0)
    log.info("parent:0")
    otelog.shutdown()
    start = time.monotonic()
    if os.fork() == 0:
        log.info("refused")
        assert otelog.stats().refused["already_shutdown"] == 1
        sys.exit()
    os.wait()
    assert time.monotonic() - start < 10
    """
    with OTLPServer() as server:
        run(tmp_path, script, server, stderr=None)
        assert processes(server) == [once("parent", 1)]


@needs_fork
def test_a_fork_in_the_middle_of_a_shutdown_leaves_a_child_that_ends_at_once(tmp_path: Path) -> None:
    script = """
    configure(shutdown_timeout=20.0)
    log.info("parent:0")
    thread = threading.Thread(target=otelog.shutdown, args=(20.0,))
    thread.start()
    while not log._pipeline.port.queue.closed:
        time.sleep(0.001)
    start = time.monotonic()
    if os.fork() == 0:
        sys.exit()
    os.wait()
    print(time.monotonic() - start)
    thread.join()
    """
    with OTLPServer([Reply(delay=2.0)]) as server:
        assert float(run(tmp_path, script, server, stderr=None)) < 10


@needs_fork
def test_configure_in_a_child_changes_nothing_if_it_asks_for_the_same(tmp_path: Path) -> None:
    script = """
    configure()
    log.info("parent:0")
    if os.fork() == 0:
        before = set(threading.enumerate())
        configure()
        assert set(threading.enumerate()) == before
        log.info("child:0")
        sys.exit()
    assert os.wait()[1] == 0
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("child", 1), once("parent", 1)]


METHODS = ["spawn", *(["fork", "forkserver"] if hasattr(os, "fork") else [])]


@pytest.mark.parametrize("method", METHODS)
def test_children_of_multiprocessing_deliver_everything_at_their_end(tmp_path: Path, method: str) -> None:
    script = f"""
    import multiprocessing

    def work(name):
        configure(schedule_delay_millis=60_000)
        assert books() == [0, 0, 0, 0, 0]
        for number in range(20):
            log.info("%s:%d", name, number)

    if __name__ == "__main__":
        configure(schedule_delay_millis=60_000)
        log.info("parent:0")
        context = multiprocessing.get_context("{method}")
        children = [context.Process(target=work, args=(f"child{{index}}",)) for index in range(2)]
        for child in children:
            child.start()
        for child in children:
            child.join()
            assert child.exitcode == 0
        log.info("parent:1")
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("child0", 20), once("child1", 20), once("parent", 2)]


@needs_fork
def test_a_forked_child_of_multiprocessing_needs_no_configure(tmp_path: Path) -> None:
    script = """
    configure(schedule_delay_millis=60_000)
    log.info("parent:0")
    import multiprocessing  # after configure(), which has not seen it

    def work():
        log.info("child:0")
        if os.fork() == 0:
            log.info("grandchild:0")
            return
        assert os.wait()[1] == 0
        nested = context.Process(target=log.info, args=("nested:0",))
        nested.start()
        nested.join()
        log.info("child:1")

    context = multiprocessing.get_context("fork")
    child = context.Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 0
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("child", 2), once("grandchild", 1), once("nested", 1), once("parent", 1)]


@needs_fork
def test_what_a_childs_own_finalizer_logs_is_delivered(tmp_path: Path) -> None:
    script = """
    import multiprocessing
    from multiprocessing.util import Finalize

    def work():
        Finalize(None, log.info, args=("child:0",), exitpriority=10)
        raise SystemExit(3)

    configure(schedule_delay_millis=60_000)
    log.info("parent:0")
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    assert child.exitcode == 3
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("child", 1), once("parent", 1)]


@needs_fork
def test_a_processor_of_the_sdk_forks_too(tmp_path: Path) -> None:
    script = """
    from opentelemetry.sdk._logs import LoggerProvider
    provider = LoggerProvider()
    exporter = otelog.OTLPLogExporter(endpoint=os.environ["ENDPOINT"] + "/v1/logs")
    processor = otelog.BatchLogRecordProcessor(exporter, schedule_delay_millis=60_000)
    provider.add_log_record_processor(processor)
    logger = provider.get_logger("x")
    logger.emit(body="parent:0")
    if os.fork() == 0:
        assert processor.stats().created == 0
        logger.emit(body="child:0")
        sys.exit()
    assert os.wait()[1] == 0
    logger.emit(body="parent:1")
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        if SDK_RENEWS_RESOURCES:
            assert processes(server) == [once("child", 1), once("parent", 2)]
        else:
            assert bodies_by_instance(server) == {"": once("child", 1) + once("parent", 2)}


# The end.


def test_atexit_delivers_what_is_queued(tmp_path: Path) -> None:
    script = """
    configure(schedule_delay_millis=60_000)
    for number in range(1000):
        log.info("a:%d", number)
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("a", 1000)]


def test_callbacks_at_exit_may_log_whether_registered_before_or_after_configure(tmp_path: Path) -> None:
    script = """
    atexit.register(log.info, "a:0")
    configure()
    atexit.register(log.info, "a:1")
    log.info("a:2")
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("a", 3)]


def test_a_callback_after_our_end_is_refused_quietly(tmp_path: Path) -> None:
    script = """
    def late():
        log.info("late")
        logging.getLogger("x").warning("late")
        print(otelog.stats().refused["already_shutdown"])
    """
    # Registered before otelog is imported, so called after its end.
    early = "import atexit\natexit.register(lambda: late())\n"
    path = tmp_path / "script.py"
    with OTLPServer() as server:
        text = early + CONFIGURE + textwrap.dedent(script) + "configure()\nlog.info('a:0')\n"
        path.write_text(text, encoding="utf-8")
        process = subprocess.Popen(
            [sys.executable, str(path)],
            env={**os.environ, "ENDPOINT": server.endpoint, "OTEL_METRICS_EXPORTER": "none", "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert finish(process, stderr=None).split() == ["2"]
        assert processes(server) == [once("a", 1)]


def test_daemon_threads_may_log_while_the_interpreter_ends(tmp_path: Path) -> None:
    script = """
    def work():
        std = logging.getLogger("std")
        while True:
            log.info("a:x", l=[1])
            std.warning("a:%s", "y")
    configure(shutdown_timeout=1.0)
    log.info("a:0")
    assert otelog.flush(10)
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.2)
    """
    with OTLPServer() as server:
        for _ in range(2):
            # What comes after the end is refused, and may leave a receipt.
            run(tmp_path, script, server, stderr=None)
        assert server.records


def test_objects_may_log_when_modules_are_torn_down(tmp_path: Path) -> None:
    script = """
    class Talker:
        def __init__(self, name):
            self.name = name
            self.circle = self
        def __del__(self):
            log.info("a:%s", self.name)
            logging.getLogger("x").warning("late")
            log.error("with %s", [1], exc_info=ValueError("x"))
            otelog.flush(1.0)
            otelog.shutdown(1.0)
    configure()
    kept = Talker("kept")
    sys.kept = Talker("in sys")
    logging.kept = Talker("in logging")
    threading.current_thread().kept = Talker("in a thread")
    log.info("a:0")
    """
    with OTLPServer() as server:
        run(tmp_path, script, server, stderr=None)
        assert processes(server) == [once("a", 1)]


def test_shutdown_may_be_called_twice_and_by_atexit_again(tmp_path: Path) -> None:
    script = """
    configure()
    log.info("a:0")
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(otelog.shutdown(10))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [*answers, otelog.shutdown()] == [True] * 5, answers
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("a", 1)]


def test_a_pipeline_made_while_the_interpreter_ends_still_delivers(tmp_path: Path) -> None:
    script = """
    def at_the_end():
        configure()
        log.info("a:0")
        assert otelog.flush(10)
    atexit.register(at_the_end)
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("a", 1)]


@needs_fork
def test_a_fork_while_the_interpreter_ends_still_delivers(tmp_path: Path) -> None:
    # From 3.12 on neither threads nor forks can be started then: whatever happens, there is no traceback and no hang.
    script = """
    # Without the SDK's providers, whose own handling of a fork needs threads.
    exporter = otelog.OTLPLogExporter(endpoint=os.environ["ENDPOINT"] + "/v1/logs")
    processor = otelog.BatchLogRecordProcessor(exporter)
    std = logging.getLogger("std")
    std.addHandler(otelog.LoggingHandler(processor=processor))
    def at_the_end():
        std.error("a:0")
        assert processor.force_flush(10_000)
        try:
            pid = os.fork()
        except (RuntimeError, OSError):
            return
        if pid == 0:
            std.error("b:0")
            processor.shutdown(10_000)
            os._exit(0)
        os.wait()
    atexit.register(at_the_end)
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert "a:0" in bodies(server.records)


def test_the_end_with_a_dead_endpoint_is_bounded_and_leaves_a_receipt(tmp_path: Path) -> None:
    script = """
    configure(shutdown_timeout=1.0, timeout=30.0)
    for number in range(100):
        log.info("a:%d", number)
    atexit.register(lambda: print(time.monotonic()))
    """
    (port,) = find_free_ports(1)
    process = start(tmp_path, script, f"http://127.0.0.1:{port}")
    out, err = process.communicate(timeout=DEADLINE)
    assert time.monotonic() - float(out) < 5.0
    assert process.returncode == 0
    check_receipt(err, 100)


def test_the_end_with_an_endpoint_that_never_answers_is_bounded_too(tmp_path: Path) -> None:
    script = """
    configure(shutdown_timeout=1.0, timeout=30.0)
    for number in range(100):
        log.info("a:%d", number)
    atexit.register(lambda: print(time.monotonic()))
    """
    with OTLPServer([Reply(fault="hang")]) as server:
        process = start(tmp_path, script, server.endpoint)
        out, err = process.communicate(timeout=DEADLINE)
        assert time.monotonic() - float(out) < 5.0
        assert server.fired["hang"] == 1
    check_receipt(err, 100)


def check_receipt(err: str, lost: int) -> None:
    assert "Traceback" not in err
    (receipt,) = [json.loads(text) for text in err.splitlines() if text.startswith("{")]
    assert receipt["otelog"] == "receipt"
    assert receipt["created"] == receipt["lost"] == lost
    assert receipt["reasons"] == {"shutdown_timeout": lost}
    assert receipt["exported"] == receipt["queued"] == receipt["in_flight"] == 0


def test_nothing_lost_nothing_said(tmp_path: Path) -> None:
    with OTLPServer() as server:
        run(tmp_path, "configure()\nlog.info('a:0')\n", server, stderr="")


def test_an_error_that_ends_the_program_does_not_lose_records(tmp_path: Path) -> None:
    with OTLPServer() as server:
        process = start(tmp_path, "configure()\nlog.info('a:0')\nraise KeyError('mine')\n", server.endpoint)
        _, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 1
        assert len(re.findall("Traceback", err)) == 1
        assert list(bodies_by_instance(server).values()) == [Counter(["a:0", "KeyError: 'mine'"])]


# Signals.

WAIT_FOR_SIGTERM = """
    log.info("a:0")
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
"""


def terminate(process: subprocess.Popen[str]) -> None:
    """Send SIGTERM once the script is ready."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)


def test_sigterm_delivers_and_then_kills_as_it_would_have(tmp_path: Path) -> None:
    with OTLPServer() as server:
        script = "    configure(handle_sigterm=True, schedule_delay_millis=60_000)" + WAIT_FOR_SIGTERM
        process = start(tmp_path, script, server.endpoint)
        terminate(process)
        finish(process, code=-signal.SIGTERM)
        assert processes(server) == [once("a", 1)]


def test_without_the_option_sigterm_is_not_touched(tmp_path: Path) -> None:
    with OTLPServer() as server:
        process = start(tmp_path, "    configure(schedule_delay_millis=60_000)" + WAIT_FOR_SIGTERM, server.endpoint)
        terminate(process)
        finish(process, code=-signal.SIGTERM)
        assert not server.records


def test_sigterm_is_passed_on_to_the_handler_that_was_there(tmp_path: Path) -> None:
    script = """
    def handle(number, frame):
        log.info("a:1")
        sys.exit(7)
    signal.signal(signal.SIGTERM, handle)
    configure(handle_sigterm=True, schedule_delay_millis=60_000)
    configure(handle_sigterm=True, schedule_delay_millis=60_001)
    """
    with OTLPServer() as server:
        process = start(tmp_path, script + WAIT_FOR_SIGTERM, server.endpoint)
        terminate(process)
        finish(process, code=7)
        assert processes(server) == [once("a", 2)]


def test_an_ignored_sigterm_stays_ignored(tmp_path: Path) -> None:
    script = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure(handle_sigterm=True)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    log.info("a:0")
    os.kill(os.getpid(), signal.SIGTERM)
    log.info("a:1")
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("a", 2)]


def test_sigterm_with_a_dead_endpoint_is_bounded_and_leaves_a_receipt(tmp_path: Path) -> None:
    (port,) = find_free_ports(1)
    process = start(
        tmp_path,
        "    configure(handle_sigterm=True, shutdown_timeout=1.0, schedule_delay_millis=60_000)" + WAIT_FOR_SIGTERM,
        f"http://127.0.0.1:{port}",
    )
    begin = time.monotonic()
    terminate(process)
    _, err = process.communicate(timeout=DEADLINE)
    assert time.monotonic() - begin < 10.0
    assert process.returncode == -signal.SIGTERM
    check_receipt(err, 1)


@needs_fork
def test_a_terminated_child_delivers_too(tmp_path: Path) -> None:
    script = """
    import multiprocessing
    def work(ready):
        log.info("child:0")
        ready.set()
        time.sleep(60)
    configure(handle_sigterm=True, schedule_delay_millis=60_000)
    log.info("parent:0")
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    child = context.Process(target=work, args=(ready,))
    child.start()
    ready.wait()
    child.terminate()
    child.join()
    assert child.exitcode == -signal.SIGTERM
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("child", 1), once("parent", 1)]


def test_a_thread_cannot_install_the_handler_and_is_told_so(tmp_path: Path) -> None:
    script = """
    thread = threading.Thread(target=configure, kwargs={"handle_sigterm": True})
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    log.info("a:0")
    """
    with OTLPServer() as server:
        told = "otelog: handle_sigterm needs configure() to be called in the main thread\n"
        run(tmp_path, script, server, stderr=told)
        assert processes(server) == [once("a", 1)]


# Several exporters.

TWO_EXPORTERS = """
    from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

    class Memory(LogRecordExporter):
        held = False
        def __init__(self):
            self.bodies = []
        def export(self, batch):
            if self.held:
                threading.Event().wait()
            self.bodies += [record.log_record.body for record in batch]
            return LogRecordExportResult.SUCCESS
        def force_flush(self, timeout_millis=0):
            return True
        def shutdown(self):
            pass

    memory = Memory()
"""


@needs_fork
def test_with_several_exporters_a_forked_child_delivers_its_own_through_all_of_them(tmp_path: Path) -> None:
    script = (
        TWO_EXPORTERS
        + """
    configure(exporters=["otlp", memory], schedule_delay_millis=60_000)
    for number in range(50):
        log.info("parent:%d", number)
    if os.fork() == 0:
        assert otelog.stats().created == 0
        for number in range(30):
            log.info("child:%d", number)
        assert otelog.flush(10)
        assert memory.bodies == [f"child:{number}" for number in range(30)], memory.bodies
        assert {name: one.exported for name, one in otelog.stats().exporters.items()} == {"otlp": 30, "Memory": 30}
        sys.exit(0)
    assert os.wait()[1] == 0
    assert otelog.flush(10)
    assert len(memory.bodies) == 50
    """
    )
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("child", 30), once("parent", 50)]


def test_at_exit_an_exporter_that_hangs_costs_its_own_records_and_not_more_than_the_deadline(tmp_path: Path) -> None:
    script = (
        TWO_EXPORTERS
        + """
    memory.held = True
    configure(exporters=["otlp", {"exporter": memory, "name": "hanging"}], shutdown_timeout=0.5)
    for number in range(50):
        log.info("m:%d", number)
    """
    )
    with OTLPServer() as server:
        began = time.monotonic()
        process = start(tmp_path, script, server.endpoint)
        _, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 0, err
        assert time.monotonic() - began < DEADLINE / 2
        receipt = json.loads(err.splitlines()[-1])
        assert (receipt["created"], receipt["exported"], receipt["reasons"]) == (50, 50, {"shutdown_timeout": 50})
        assert receipt["exporters"] == {"otlp": {"exported": 50, "lost": 0}, "hanging": {"exported": 0, "lost": 50}}
        assert bodies(server.records) == [f"m:{number}" for number in range(50)]


def test_several_exporters_made_while_the_interpreter_ends_still_deliver(tmp_path: Path) -> None:
    script = (
        TWO_EXPORTERS
        + """
    def last():
        configure(exporters=["otlp", memory])
        log.info("m:0")
        assert otelog.flush(10)
        log.info("m:1")
        otelog.shutdown(10)
        assert memory.bodies == ["m:0", "m:1"], memory.bodies
    atexit.register(last)
    """
    )
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert bodies(server.records) == ["m:0", "m:1"]
