"""Ends of a process that go past Python's own: what is held is delivered, and nobody can tell from the outside."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from otelog.testing import OTLPServer, Reply
from tests.runtime.test_lifecycle import (
    CONFIGURE,
    DEADLINE,
    bodies_by_instance,
    check_receipt,
    finish,
    needs_fork,
    once,
    processes,
    run,
    start,
    terminate,
)

OTHER = '[sys.executable, "-S", "-c", "print(\'other\')"]'

# What ends the process, its exit code, and what it prints.
ENDS = {
    "os._exit": ("os._exit(3)", 3, ""),
    "os._exit in a thread": ("threading.Timer(0.2, os._exit, args=(3,)).start(); time.sleep(600)", 3, ""),
    "os._exit in a handler": ("signal.signal(signal.SIGALRM, lambda *_: os._exit(3)); signal.alarm(1); pause()", 3, ""),
    "os.abort": ("os.abort()", -signal.SIGABRT, ""),
    "os.kill": ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
    "os.kill, the group": ("os.setpgrp(); os.kill(0, signal.SIGUSR1)", -signal.SIGUSR1, ""),
    "os.killpg": ("os.setpgrp(); os.killpg(os.getpgrp(), signal.SIGTERM)", -signal.SIGTERM, ""),
    "raise_signal": ("signal.raise_signal(signal.SIGTERM)", -signal.SIGTERM, ""),
    "raise_signal in a thread": (
        "threading.Timer(0.2, signal.raise_signal, args=(signal.SIGTERM,)).start(); time.sleep(600)",
        -signal.SIGTERM,
        "",
    ),
    "raise_signal, SIGINT by its default": (
        "signal.signal(signal.SIGINT, signal.SIG_DFL); signal.raise_signal(signal.SIGINT)",
        -signal.SIGINT,
        "",
    ),
    # Under nohup it is ignored.
    "raise_signal, SIGHUP": (
        "signal.signal(signal.SIGHUP, signal.SIG_DFL); signal.raise_signal(signal.SIGHUP)",
        -signal.SIGHUP,
        "",
    ),
    "pthread_kill": ("signal.pthread_kill(threading.get_ident(), signal.SIGTERM)", -signal.SIGTERM, ""),
    "os.execv": (f"os.execv(sys.executable, {OTHER})", 0, "other\n"),
    "os.execle": (f"os.execle(sys.executable, *{OTHER}, {{}})", 0, "other\n"),
    "os.execvp": ("os.environ['PATH'] = '/nowhere:/usr/bin:/bin'; os.execvp('echo', ['echo', 'other'])", 0, "other\n"),
    "os.execve, a descriptor": (
        f"os.execve(os.open(sys.executable, os.O_RDONLY), {OTHER}, os.environ)",
        0,
        "other\n",
    ),
}


@pytest.mark.parametrize(
    ("name", "sigterm"), [*((name, True) for name in ENDS), ("os.kill", False), ("raise_signal in a thread", False)]
)
def test_a_process_that_ends_itself_delivers_first(name: str, sigterm: bool, tmp_path: Path) -> None:
    code, returncode, printed = ENDS[name]
    script = f"""
    def pause():
        while True:
            time.sleep(0.01)
    configure(handle_sigterm={sigterm}, schedule_delay_millis=60_000)
    for number in range(50):
        log.info("a:%d", number)
    {code}
    """
    with OTLPServer() as server:
        assert run(tmp_path, script, server, code=returncode) == printed
        assert processes(server) == [once("a", 50)]


@pytest.mark.parametrize("name", ["os._exit", "os.abort", "raise_signal", "os.execv"])
def test_without_the_option_it_ends_as_ever(name: str, tmp_path: Path) -> None:
    code, returncode, printed = ENDS[name]
    script = f"""
    configure(schedule_delay_millis=60_000)
    configure(handle_exit=False, schedule_delay_millis=60_000)
    log.info("a:0")
    {code}
    """
    with OTLPServer() as server:
        assert run(tmp_path, script, server, code=returncode) == printed
        assert not server.records


def test_sigkill_stays_what_it_is(tmp_path: Path) -> None:
    script = """
    configure(schedule_delay_millis=60_000)
    log.info("a:0")
    os.kill(os.getpid(), signal.SIGKILL)
    """
    with OTLPServer() as server:
        run(tmp_path, script, server, code=-signal.SIGKILL)
        assert not server.records


@pytest.mark.parametrize("name", ["os._exit", "raise_signal"])
def test_what_cannot_be_delivered_is_counted(name: str, tmp_path: Path) -> None:
    code, returncode, _ = ENDS[name]
    script = f"""
    configure(schedule_delay_millis=60_000, shutdown_timeout=0.5)
    for number in range(50):
        log.info("a:%d", number)
    {code}
    """
    with OTLPServer([Reply(fault="hang")]) as server:
        process = start(tmp_path, script, server.endpoint)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == returncode
    check_receipt(err, 50)


@pytest.mark.parametrize("where", ["worker", "filter"])
def test_an_exporter_that_ends_the_process_loses_nothing_in_silence(where: str, tmp_path: Path) -> None:
    script = f"""
    from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
    class Deadly(LogRecordExporter):
        def export(self, batch):
            os._exit(3)
        def force_flush(self, timeout_millis=0):
            return True
        def shutdown(self):
            pass
    if {where == "worker"}:
        configure(exporter=Deadly(), shutdown_timeout=0.5)
    else:
        entry = {{"type": "otlp", "filter": lambda record: os._exit(3)}}
        configure(exporters=[entry], shutdown_timeout=0.5)
    for number in range(10):
        log.info("a:%d", number)
    time.sleep(600)
    """
    with OTLPServer() as server:
        process = start(tmp_path, script, server.endpoint)
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 3
    check_receipt(err, 10)


def test_a_program_that_is_replaced_says_what_it_could_not_deliver(tmp_path: Path) -> None:
    script = f"""
    configure(schedule_delay_millis=60_000, shutdown_timeout=0.5)
    log.info("a:0")
    os.execv(sys.executable, {OTHER})
    """
    told = "otelog: not every log record was delivered before this process becomes another program\n"
    with OTLPServer([Reply(fault="hang")]) as server:
        assert run(tmp_path, script, server, stderr=told) == "other\n"


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("os.execv('/nowhere/python', ['python'])", "FileNotFoundError"),
        ("os.execvp('no-such-program', ['no-such-program'])", "FileNotFoundError"),
        ("os.execv(os.path.dirname(__file__), ['folder'])", "PermissionError"),
        ("os.execv(sys.executable, [])", "ValueError"),
        ("os.execv(os.environ['BROKEN'], ['broken'])", "OSError"),
        ("os._exit('three')", "TypeError"),
        ("os.kill(os.getpid(), 'one')", "TypeError"),
        ("os.kill(os.getpid(), 999)", "OSError"),
        ("signal.raise_signal(None)", "TypeError"),
    ],
)
def test_a_call_that_fails_fails_as_ever_and_the_process_goes_on(call: str, error: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0neither a program nor a script")
    broken.chmod(0o755)
    script = f"""
    os.environ["BROKEN"] = {str(broken)!r}
    configure(schedule_delay_millis=60_000)
    log.info("a:0")
    try:
        {call}
    except {error}:
        log.info("a:1")
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)
        assert processes(server) == [once("a", 2)]


@needs_fork
def test_a_child_that_has_logged_nothing_has_nothing_to_wait_for(tmp_path: Path) -> None:
    # One that waited would do so for a minute.
    script = f"""
    configure(schedule_delay_millis=60_000, shutdown_timeout=60.0)
    log.info("parent:0")
    for end in (lambda: os._exit(0), lambda: os.execv(sys.executable, {OTHER})):
        began = time.monotonic()
        if os.fork() == 0:
            end()
        assert os.wait()[1] == 0
        assert time.monotonic() - began < 30
    print(otelog.stats().queued)
    """
    with OTLPServer() as server:
        assert run(tmp_path, script, server).split() == ["other", "1"]
        assert processes(server) == [once("parent", 1)]


@needs_fork
def test_a_child_that_leaves_by_exit_delivers_its_own_and_the_parent_of_a_daemon_too(tmp_path: Path) -> None:
    script = """
    configure(schedule_delay_millis=60_000)
    log.info("parent:0")
    if os.fork() != 0:
        log.info("parent:1")
        os._exit(0)
    log.info("child:0")
    if os.fork() != 0:
        os._exit(0)
    log.info("daemon:0")
    """
    with OTLPServer() as server:
        process = start(tmp_path, script, server.endpoint)
        finish(process)
        server.wait_until(lambda: len(server.records) == 4)
        assert processes(server) == [once("child", 1), once("daemon", 1), once("parent", 2)]


@needs_fork
def test_children_of_multiprocessing_end_once(tmp_path: Path) -> None:
    script = """
    import multiprocessing
    def work():
        from otelog._setup.configure import add_observer
        add_observer(lambda ledger, last: last and os.write(1, b"end\\n"))
        log.info("child:0")
    configure(schedule_delay_millis=60_000)
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    """
    with OTLPServer() as server:
        assert run(tmp_path, script, server) == "end\n"
        assert processes(server) == [once("child", 1)]


def test_an_exit_on_top_of_a_log_call_delivers_all_that_was_made(tmp_path: Path) -> None:
    script = """
    import random
    def leave(*_):
        os.write(1, b"%d" % otelog.stats().created)
        os._exit(4)
    signal.signal(signal.SIGALRM, leave)
    configure(max_queue_size=1_000_000, max_queue_bytes=2**30)
    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.05, 0.3))
    number = 0
    while True:
        log.info("a:%d", number, odd=object())
        logging.getLogger("std").info("a:%s", [number])
        number += 1
    """
    for _ in range(5):
        with OTLPServer() as server:
            created = int(run(tmp_path, script, server, code=4))
            (counts,) = bodies_by_instance(server).values()
            assert sum(counts.values()) == created


# SIGTERM, and what the application sees of it.

LOOK = """
    def one(*_): pass
    def two(*_): pass
    def look(call):
        try:
            answer = call()
        except Exception as error:
            answer = (type(error).__name__, str(error))
        print(getattr(answer, "__name__", repr(answer)))
    T = signal.SIGTERM
    {configure}
    look(lambda: signal.getsignal(T))
    look(lambda: signal.signal(T, one))
    look(lambda: signal.getsignal(T))
    look(lambda: signal.signal(T, signal.SIG_DFL))
    look(lambda: signal.getsignal(15))
    look(lambda: signal.signal(15, 0))
    look(lambda: signal.signal(signalnum=T, handler=two))
    look(lambda: signal.signal(T, signal.SIG_IGN))
    look(lambda: signal.getsignal(signalnum=T))
    look(lambda: signal.signal(T, signal.SIG_DFL))
    look(lambda: signal.signal(T, None))
    look(lambda: signal.signal(T, "no"))
    look(lambda: signal.signal(999, one))
    look(lambda: signal.getsignal(999))
    look(lambda: signal.signal("x", one))
    look(lambda: signal.getsignal(signal.SIGINT))
    look(lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    thread = threading.Thread(target=look, args=(lambda: signal.signal(T, signal.SIG_DFL),))
    thread.start(); thread.join()
    import asyncio
    async def main():
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(T, one)
        look(lambda: loop.remove_signal_handler(T))
        look(lambda: loop.remove_signal_handler(T))
    asyncio.run(main())
    look(lambda: signal.getsignal(T))
    signal.signal(T, one)
    look(lambda: signal.getsignal(T))
    signal.signal(T, signal.getsignal(T))
    look(lambda: os.kill(os.getpid(), T))
    import inspect, pickle
    look(lambda: [pickle.loads(pickle.dumps(call)) is call for call in (os._exit, os.execv, os.kill, signal.signal)])
    look(lambda: [call.__name__ for call in (os._exit, os.abort, os.execve, os.kill, signal.raise_signal)])
"""


@pytest.mark.parametrize("before", ["pass", "signal.signal(T, one)", "signal.signal(T, signal.SIG_IGN)"])
def test_nobody_can_tell_that_the_handler_is_there(before: str, tmp_path: Path) -> None:
    with OTLPServer() as server:
        outputs = [
            run(tmp_path, LOOK.replace("{configure}", f"{before}; {configure}"), server)
            for configure in ("pass", "configure(handle_sigterm=True)", "configure(handle_sigterm=False)")
        ]
    assert len(outputs[0].splitlines()) == 25
    assert outputs[1] == outputs[0]
    assert outputs[2] == outputs[0]


RESET = {
    "by its default": "signal.signal(signal.SIGTERM, signal.SIG_DFL)",
    "after a handler": "signal.signal(signal.SIGTERM, print); signal.signal(signal.SIGTERM, signal.SIG_DFL)",
    "by what was there": (
        "was = signal.signal(signal.SIGTERM, print); assert was == signal.SIG_DFL; signal.signal(signal.SIGTERM, was)"
    ),
    "by asyncio": "asyncio.run(main())",
}


@pytest.mark.parametrize("name", RESET)
def test_a_default_that_the_application_sets_again_delivers(name: str, tmp_path: Path) -> None:
    script = f"""
    import asyncio
    async def main():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, print)
        asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    configure(handle_sigterm=True, schedule_delay_millis=60_000)
    {RESET[name]}
    log.info("a:0")
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
    """
    with OTLPServer() as server:
        process = start(tmp_path, script, server.endpoint)
        terminate(process)
        finish(process, code=-signal.SIGTERM)
        assert processes(server) == [once("a", 1)]


def test_a_handler_that_is_put_back_is_flushed_for_as_before(tmp_path: Path) -> None:
    script = """
    def handle(number, frame):
        print(otelog.stats().exported)
        os._exit(7)
    signal.signal(signal.SIGTERM, handle)
    configure(handle_sigterm=True, schedule_delay_millis=60_000)
    was = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert was is handle
    signal.signal(signal.SIGTERM, was)
    log.info("a:0")
    signal.raise_signal(signal.SIGTERM)
    """
    with OTLPServer() as server:
        assert run(tmp_path, script, server, code=7) == "1\n"
        assert processes(server) == [once("a", 1)]


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_a_signal_while_the_process_ends_waits_for_the_end_and_is_what_it_dies_of(end: str, tmp_path: Path) -> None:
    script = f"""
    configure(handle_sigterm=True, schedule_delay_millis=60_000, shutdown_timeout=20.0)
    for number in range(10):
        log.info("a:%d", number)
    {end}
    """
    with OTLPServer([Reply(delay=1.0)]) as server:
        process = start(tmp_path, script, server.endpoint)
        server.wait_until(lambda: server.fired["delay"] or server.requests)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        finish(process, code=-signal.SIGTERM)
        # Not when its time is over.
        assert time.monotonic() - began < 15
        assert processes(server) == [once("a", 10)]


def test_what_was_there_is_put_back(tmp_path: Path) -> None:
    script = """
    import subprocess
    names = {os: ("_exit", "abort", "execv", "execve", "kill", "killpg"),
             signal: ("signal", "getsignal", "raise_signal", "pthread_kill"), subprocess.Popen: ("kill",)}
    def look():
        return [getattr(module, name) for module in names for name in names[module]]
    before = look()
    configure(handle_sigterm=True)
    assert not set(map(id, before)) & set(map(id, look()))
    exec_of_another = lambda *_: None
    ours, os.execv = os.execv, exec_of_another
    configure(handle_exit=False, handle_sigterm=False)
    assert os.execv is exec_of_another
    os.execv = before[2]
    assert look() == before
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    """
    with OTLPServer() as server:
        run(tmp_path, script, server)


def test_a_module_that_is_loaded_again_knows_what_is_in_place(tmp_path: Path) -> None:
    script = """
    import importlib
    configure(handle_sigterm=True, schedule_delay_millis=60_000)
    places = os._exit, signal.signal
    for name in (
        "_runtime.end_time", "_runtime.lifetime", "_patches.process_ends", "_setup.state", "_setup.configure"
    ):
        importlib.reload(sys.modules[f"otelog.{name}"])
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    log.info("a:0")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert (os._exit, signal.signal) == places
    signal.raise_signal(signal.SIGTERM)
    """
    with OTLPServer() as server:
        run(tmp_path, script, server, code=-signal.SIGTERM)
        assert processes(server) == [once("a", 1)]


# Reloaders: `subprocess.run` and `subprocess.call` kill their child when the handler of SIGTERM raises SystemExit.

CHILD = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
configure(schedule_delay_millis=60_000)
log.info("child:0")
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("call", ["run", "call"])
def test_a_reloader_that_is_told_to_end_lets_its_child_end_first(call: str, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(CONFIGURE + CHILD, encoding="utf-8")
    script = f"""
    import subprocess
    configure(handle_sigterm=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
    subprocess.{call}([sys.executable, {str(tmp_path / "child.py")!r}])
    """
    with OTLPServer() as server:
        process = start(tmp_path, script, server.endpoint)
        terminate(process)
        finish(process, code=7)
        assert processes(server) == [once("child", 1)]


def test_any_other_child_is_killed_as_ever(tmp_path: Path) -> None:
    script = """
    import subprocess
    def die(*_):
        sys.exit(7)
    configure(handle_sigterm=True)
    signal.signal(signal.SIGTERM, die)
    tell = "import signal, time; signal.signal(15, lambda *_: print('told')); print('up', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-S", "-c", tell], stdout=subprocess.PIPE, text=True) as mine:
        assert mine.stdout.readline() == "up\\n"
        mine.kill()
        assert (mine.wait(), mine.stdout.read()) == (-9, "")
    # It waits for a line that never comes.
    waiting, kept = os.pipe()
    subprocess.run(["/bin/sh", "-c", "trap 'echo told' TERM; echo ready; read line"], stdin=waiting)
    """
    with OTLPServer() as server:
        process = start(tmp_path, script, server.endpoint)
        terminate(process)
        assert finish(process, code=7) == ""


# One time for everything.

SHUTDOWN_TIMEOUT = 3.0
BOUND = 5.5
"""Seconds: what they are allowed, and what a loaded machine may add; twice the time is more."""

HANDLERS = {
    "none": "",
    "sys.exit": "def handle(*_): sys.exit(7)",
    "a shutdown": "def handle(*_): otelog.shutdown(); sys.exit(7)",
    "a flag": "def handle(*_): stopping.set()",
    "what was there, again": """def handle(*_):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)""",
}
PIPELINES = {
    "logs": "",
    "logs and metrics": "os.environ['OTEL_METRICS_EXPORTER'] = 'otlp'",
    "two exporters": """
    options = {"exporters": ["otlp", {"type": "otlp", "name": "b", "endpoint": os.environ["ENDPOINT"]}]}
    """,
    "a processor of the SDK beside them": """
    from opentelemetry.sdk._logs import LoggerProvider
    provider = LoggerProvider(shutdown_on_exit=False)
    exporter = otelog.OTLPLogExporter(endpoint=os.environ["ENDPOINT"] + "/v1/logs")
    provider.add_log_record_processor(otelog.BatchLogRecordProcessor(exporter))
    provider.get_logger("x").emit(body="b:0")
    """,
}


# They wait rather than work, so several at once.
TOGETHER = 4


def test_whatever_ends_a_process_shares_one_time(tmp_path: Path) -> None:
    cases = [*((handler, "logs") for handler in HANDLERS), *(("sys.exit", pipelines) for pipelines in PIPELINES)]
    folders = [tmp_path / str(number) for number in range(len(cases))]
    with ThreadPoolExecutor(TOGETHER) as pool:
        took = list(pool.map(end_a_process, folders, *zip(*cases, strict=True)))
    assert {case: seconds for case, seconds in zip(cases, took, strict=True) if seconds > BOUND} == {}
    # They have waited at all.
    assert min(took) > SHUTDOWN_TIMEOUT * 0.9


@contextmanager
def listening() -> Iterator[str]:
    """A server that takes every connection and request, of every signal, and answers none; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def end_a_process(folder: Path, handler: str, pipelines: str) -> float:
    """Send SIGTERM to a process whose server takes requests and answers none; returns how long it took to end."""
    folder.mkdir()
    script = f"""
    options = {{}}
    stopping = threading.Event()
    {PIPELINES[pipelines]}
    {HANDLERS[handler]}
    if {handler != "none"}:
        signal.signal(signal.SIGTERM, handle)
    configure(handle_sigterm=True, shutdown_timeout={SHUTDOWN_TIMEOUT}, timeout=60.0, **options)
    log.info("a:0")
    if {pipelines == "logs and metrics"}:
        from opentelemetry import metrics
        while "Proxy" in type(metrics.get_meter_provider()).__name__:
            time.sleep(0.01)
    print("ready", flush=True)
    while not stopping.wait(0.05):
        pass
    """
    with listening() as endpoint:
        process = start(folder, script, endpoint)
        terminate(process)
        began = time.monotonic()
        _, err = process.communicate(timeout=DEADLINE)
        took = time.monotonic() - began
    code = {"none": -signal.SIGTERM, "a flag": 0, "what was there, again": -signal.SIGTERM}.get(handler, 7)
    assert process.returncode == code, f"{handler}, {pipelines}: {err}"
    assert re.search(r'"shutdown_timeout": [12]\b', err) and "Traceback" not in err, f"{handler}, {pipelines}: {err}"
    return took


def test_metrics_that_nobody_takes_cost_a_process_their_time_once(tmp_path: Path) -> None:
    script = """
    os.environ["OTEL_METRICS_EXPORTER"] = "otlp"
    from opentelemetry import metrics
    logs = {"type": "otlp", "endpoint": os.environ["LOGS"]}
    configure(exporters=[logs], timeout=60.0)
    while "Proxy" in type(metrics.get_meter_provider()).__name__:
        time.sleep(0.01)
    log.info("a:0")
    assert otelog.shutdown()
    print(time.monotonic(), flush=True)
    """

    def end() -> float:
        with OTLPServer() as logs, listening() as endpoint:
            process = start(tmp_path, f"    os.environ['LOGS'] = {logs.endpoint!r}" + script, endpoint)
            out, _ = process.communicate(timeout=DEADLINE)
            took = time.monotonic() - float(out)
            assert process.returncode == 0
            assert processes(logs) == [once("a", 1)]
            return took

    # They had 1.8 s in shutdown(), and have a last word of less than half a second.
    assert min(end() for _ in range(3)) < 1.75
