"""The program of a seed: runs its plan in this process and its children, and leaves a report for each.

`python -m tests.chaos.program FOLDER`: the plan and the receivers' endpoints are in there.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from tests.chaos.identities import find_broken_identities
from tests.chaos.plan import Action, Fork, Plan, Receiver, from_dict

TOP_UP_SECONDS = 12.0
"""How long a program goes on so that all that was planned happens."""
LAST_ERRORS = 100
SETTLE_SECONDS = 3.0
MOST_FURTHER_CALLS = 5_000
"""Of the main thread, until what was planned for its calls has happened."""
MEMORY_SPAN = 120
ATTACHING = ("bound", "track")
"""Ways in which memory is never short: CPython itself may crash where it is while a context variable is set."""


class Program:
    """This process: `tag` is "m", its n-th planned child "m.n"."""

    def __init__(self, folder: Path, plan: Plan, endpoints: dict[str, str]) -> None:
        self.folder, self.plan, self.endpoints = folder, plan, endpoints
        self.tag = "m"
        self.own: tuple[type[BaseException], ...] = ()
        self.signals: Any = None
        self.main_caller: Any = None
        self.provider: Any = None
        self.processor: Any = None
        self.fired: Counter[str] = Counter()
        self.problems: list[str] = []
        self.world = threading.RLock()
        self.making_child = threading.RLock()
        self.memory_left = plan.memory_windows
        self.no_memory: Any = None
        self.exporters: dict[str, Any] = {}
        self.children: list[Any] = []
        self.ending = threading.Event()
        self.daemons: list[threading.Thread] = []
        self.loaded: list[None] = []

    # The pipelines.

    def configure(self, options: dict[str, Any]) -> None:
        """Call `otelog.configure` with all receivers."""
        import otelog

        otelog.configure(
            exporters=[self._entry(receiver) for receiver in self.plan.receivers],
            service_name="chaos",
            console_format="json",
            console_stream="stdout",
            shutdown_timeout=max(self.plan.shutdown_timeout, 0.01),
            handle_sigterm=self.plan.end == "sigterm",
            # The calls are counted by the program, and what ends in a hook of the interpreter's is no call.
            capture_exceptions=False,
            **options,
        )

    def _entry(self, receiver: Receiver) -> dict[str, Any]:
        if receiver.kind in ("http", "https", "grpc"):
            protocol = "grpc" if receiver.kind == "grpc" else "http/protobuf"
            entry = {"type": "otlp", "endpoint": self.endpoints[receiver.name], "protocol": protocol}
            if receiver.kind == "https":
                entry["certificate_file"] = str(self.folder / "authority.pem")
        elif receiver.kind == "file":
            entry = {"type": "file", "folder": self.endpoints[receiver.name]}
        elif receiver.kind == "console":
            entry = {"type": "console"}
        else:
            # The same through all pipelines.
            entry = {"exporter": self._exporter(receiver)}
        return {**entry, "name": receiver.name, **receiver.options}

    def _exporter(self, receiver: Receiver) -> Any:
        from tests.chaos.calls import ChaosExporter

        if receiver.name not in self.exporters:
            self.exporters[receiver.name] = ChaosExporter(self.folder, receiver.name, receiver.faults)
        return self.exporters[receiver.name]

    def open_second(self) -> None:
        """Make the second pipeline: the SDK's provider with otelog's processor."""
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk.resources import Resource

        from otelog import BatchLogRecordProcessor, OTLPLogExporter

        second = self.plan.second
        if second is None:
            return
        exporter: Any
        if second.kind == "foreign":
            exporter = self._exporter(second)
        else:
            endpoint = self.endpoints["second"] + ("" if second.kind == "grpc" else "/v1/logs")
            protocol = "grpc" if second.kind == "grpc" else "http/protobuf"
            trusted = {"certificate_file": str(self.folder / "authority.pem")} if second.kind == "https" else {}
            exporter = OTLPLogExporter(endpoint=endpoint, protocol=protocol, timeout=0.3, **trusted, **second.options)
        self.processor = BatchLogRecordProcessor(exporter, **self.plan.second_options)
        # Without one, the SDK finds out its resource in threads.
        self.provider = LoggerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
        self.provider.add_log_record_processor(self.processor)

    # Callers.

    def make_caller(self, name: str) -> Any:
        """Return what makes the calls of a thread."""
        from tests.chaos.calls import Caller
        from tests.chaos.oracle import Oracle

        chance = random.Random(f"{self.plan.seed}/{self.tag}/{name}")
        return Caller(Oracle(self.folder, self.tag, name), chance, self.provider, self.own)

    def begin_finalizing(self) -> None:
        """Let finalizers log."""
        from tests.chaos.calls import finalizing

        finalizing.caller = self.make_caller("gc")

    def run_daemon(self, caller: Any) -> None:
        """Log on until the very end of the process."""
        while not self.ending.is_set():
            try:
                caller.make("facade")
                # Its pace; it waits for nothing. (An event would need a lock, for which there may be no memory.)
                time.sleep(0.0005)
            except MemoryError:
                continue

    def make_chance(self, number: int) -> random.Random:
        """Return what a thread's calls depend on."""
        return random.Random(f"{self.plan.seed}/{self.tag}/calls/{number}")

    def run_thread(
        self, caller: Any, chance: random.Random, number: int, calls: int, forks: tuple[Fork, ...] = ()
    ) -> None:
        """Make a caller's calls; the plan's forks in between.

        What is short for the main thread's calls is short for everybody, at any instruction: nothing that allocates
        stands outside of a `try`.
        """
        plan, call, index = self.plan, 0, 0
        while call < calls:
            try:
                # No memory is short while a child is made.
                while index < len(forks):
                    fork = forks[index]
                    if fork.caller == number and fork.at_call == call:
                        with self.making_child:
                            index += 1
                            self.fork(fork, f"{self.tag}.{index - 1}", caller)
                    else:
                        index += 1
            except MemoryError:
                continue
            call, index = call + 1, 0
            try:
                way = chance.choice(plan.ways)
                if plan.second is not None and chance.random() < 0.3:
                    way = "second"
                self.call(caller, way, chance)
                if plan.pause and chance.random() < 0.3:
                    time.sleep(chance.uniform(0, plan.pause * 4))
            except MemoryError:
                continue

    def call(self, caller: Any, way: str, chance: random.Random) -> None:
        """Make one call, perhaps with too little memory, perhaps under a signal that raises."""
        around = None
        short = self.memory_left > 0 and caller is self.main_caller and way not in ATTACHING
        if short and chance.random() < 0.3:
            self.memory_left -= 1
            self.fired["memory"] += 1
            around = self.be_short(chance.randrange(1, MEMORY_SPAN), chance.choice((1, 1, 2, 5, 30)))
        if self.signals is None or caller is not self.main_caller:
            caller.make(way, around=around)
            return
        try:
            self.signals.arm(chance)
            caller.make(way, around=around)
            self.signals.disarm()
        except self.own:
            self.signals.note_seen()
        finally:
            self.signals.disarm()

    @contextmanager
    def be_short(self, first: int, count: int) -> Iterator[None]:
        """Have some allocations fail; no child is made meanwhile, but by the call itself."""
        with self.making_child, self.no_memory(first, count):
            yield

    # Children.

    def fork(self, fork: Fork, tag: str, caller: Any) -> None:
        """Make a child as planned."""
        from tests.chaos.trouble import no_threads

        with self.world, no_threads() if fork.starved else nullcontext(True) as starved:
            if not starved:
                self.problems.append("a thread could be started although it should not")
            (self.folder / f"{tag}.made").write_text(fork.end, encoding="ascii")
            if fork.kind == "multiprocessing":
                import multiprocessing

                child: Any = multiprocessing.get_context("fork").Process(target=self.live_as_child, args=(fork, tag))
                child.start()
                self.children.append(child)
            elif fork.kind == "inside":
                caller.on_text = lambda: self.fork_here(fork, tag)
                caller.make("forking")
            else:
                self.fork_here(fork, tag)
        self.fired[f"fork-{fork.kind}{'-starved' if fork.starved else ''}"] += 1

    def fork_here(self, fork: Fork, tag: str) -> None:
        """Make a child by os.fork."""
        child = os.fork()
        if not child:
            self.leave_as_child(fork, tag)
        self.children.append(child)

    def leave_as_child(self, fork: Fork, tag: str) -> None:
        """Live as a child of os.fork, and leave."""
        try:
            self.live_as_child(fork, tag)
        except SystemExit:
            raise
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(70)
        if fork.end == "exit":
            # Up through the parent's frames, as any forked program does, to atexit.
            sys.exit(0)
        os._exit(0)

    def live_as_child(self, fork: Fork, tag: str) -> None:
        """Log as planned; the report is written when the child ends."""
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        threading.stack_size(0)
        self.tag = tag
        self.world, self.making_child = threading.RLock(), threading.RLock()
        self.signals, self.memory_left, self.problems, self.children = None, 0, [], []
        self.fired = Counter()
        self.ending, self.daemons = threading.Event(), []
        self.main_caller = caller = self.make_caller("main")
        self.begin_finalizing()
        threads = [
            threading.Thread(
                target=self.run_thread,
                args=(self.make_caller(f"t{number}"), self.make_chance(number), number, fork.calls),
            )
            for number in range(1, fork.threads + 1)
        ]
        for thread in threads:
            thread.start()
        self.run_thread(caller, self.make_chance(0), 0, fork.calls)
        for thread in threads:
            thread.join()
        if fork.end == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        self.check_thread(caller)
        self.check_slots()
        if fork.kind == "multiprocessing" and fork.end == "exit":
            from multiprocessing.util import Finalize

            # After otelog's own.
            Finalize(None, self.report, exitpriority=-200)
        elif fork.end != "exit":
            self.shut_down()
            self.report()

    def join_children(self) -> None:
        """Wait for all children."""
        for child in self.children:
            if isinstance(child, int):
                os.waitpid(child, 0)
            else:
                child.join()

    # The director.

    def direct(self) -> None:
        """Do what the plan has beside the calls."""
        for action in self.plan.actions:
            time.sleep(action.pause / 1000)
            while True:
                try:
                    self.act(action)
                except MemoryError:
                    continue
                break

    def act(self, action: Action) -> None:
        """Do one thing; no child is made meanwhile if something is short."""
        import otelog
        from tests.chaos.trouble import no_descriptors, small_files

        if action.kind == "flush":
            otelog.flush(action.options["timeout"])
        elif action.kind == "stats":
            for _ in range(20):
                self.check_identities(otelog.stats())
        elif action.kind in ("configure", "restart"):
            with self.world:
                if action.kind == "restart":
                    otelog.shutdown(0.05)
                self.configure(action.options)
        else:
            short = no_descriptors() if action.kind == "descriptors" else small_files(self.folder)
            with self.world, short as is_short:
                if not is_short:
                    self.problems.append(f"{action.kind} were not short")
                time.sleep(0.03)
                otelog.flush(0.05)
        self.fired[action.kind] += 1

    def check_identities(self, stats: Any) -> None:
        """Hold a snapshot against the ledger's identities."""
        self.problems += find_broken_identities(plain(stats))[:1]

    # The end.

    def top_up(self, caller: Any) -> None:
        """Log on until every planned fault of a receiver has happened."""
        import otelog

        deadline = time.monotonic() + TOP_UP_SECONDS
        while time.monotonic() < deadline:
            for path in self.folder.glob("refuse-*"):
                name = path.name.partition("-")[2]
                stats = self.processor.stats() if name == "second" else otelog.stats()
                ours = list(stats.exporters.values()) if name == "second" else [stats.exporters[name]]
                if any(one.resent + sum(one.dropped.values()) for one in ours):
                    path.unlink()
            pending = [path.name.partition("-")[2] for path in self.folder.glob("pending-*")]
            if not pending:
                return
            if pending != ["second"]:
                caller.make("facade")
            if "second" in pending:
                caller.make("second")
            time.sleep(0.01)

    def check_thread(self, caller: Any) -> None:
        """See that this thread's exceptions are still taken; on top of them, a finalizer's would not be."""
        import otelog
        from tests.chaos.calls import finalizing

        finalizing.caller = None
        before = otelog.stats().refused["reentrant"]
        for _ in range(LAST_ERRORS if caller is self.main_caller else 10):
            caller.make("facade-error")
        refused = otelog.stats().refused["reentrant"] - before
        if refused:
            self.problems.append(
                f"{refused} exceptions of {caller.oracle.thread} were refused as reentrant: it is marked"
            )

    def check_slots(self) -> None:
        """See that only records hold slots."""
        from otelog._capture.active_pipeline import ACTIVE_PIPELINE

        queues = {"main": ACTIVE_PIPELINE.configured.queue}
        if self.processor is not None:
            queues["second"] = self.processor.pipeline.port.queue
        deadline = time.monotonic() + SETTLE_SECONDS
        for name, queue in queues.items():
            while (leaked := queue.held() - queue.count()[0]) and time.monotonic() < deadline:
                time.sleep(0.005)
            if leaked:
                self.problems.append(f"{leaked} slots of the {name} queue are held by no record")

    def shut_down(self) -> None:
        """Shut both pipelines down."""
        import otelog

        otelog.shutdown(self.plan.shutdown_timeout)
        if self.processor is not None:
            self.processor.shutdown(self.plan.shutdown_timeout * 1000)

    def report(self, *_: object) -> None:
        """Write what this process's books say."""
        import otelog
        from tests.chaos.calls import finalizing

        finalizing.caller = None
        self.ending.set()
        for thread in self.daemons:
            thread.join()
        stats = {"main": plain(otelog.stats())}
        if self.processor is not None:
            self.processor.shutdown(self.plan.shutdown_timeout * 1000)
            stats["second"] = plain(self.processor.stats())
        signals = {}
        if self.signals is not None:
            signals = self.signals.lost
        report = {"stats": stats, "fired": self.fired, "problems": self.problems, "signals": signals}
        path = self.folder / f"{self.tag}.report"
        path.with_suffix(".tmp").write_text(json.dumps(report), encoding="utf-8")
        path.with_suffix(".tmp").rename(path)

    # The main process.

    def run(self) -> None:
        """Run the whole plan."""
        # The SDK starts threads when it is imported.
        from tests.chaos.calls import prepare
        from tests.chaos.trouble import Signals, no_threads

        plan = self.plan
        if plan.memory_windows:
            self.no_memory = prepare()
        if plan.end == "sigterm":
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        with no_threads() if plan.starved_start else nullcontext(True) as starved:
            self.configure(plan.options)
            self.open_second()
        self.fired["starved-start"] += plan.starved_start and starved
        if plan.signals:
            self.signals = Signals(plan.signals, plan.signal_source, lambda: self.main_caller.way)
            self.own = (self.signals.error,)
        logging.getLogger("chaos").setLevel(logging.INFO)
        self.main_caller = caller = self.make_caller("main")
        self.begin_finalizing()
        self.daemons = [
            threading.Thread(target=self.run_daemon, args=(self.make_caller(f"d{number}"),), daemon=True)
            for number in range(plan.daemons)
        ]
        callers = [self.make_caller(f"t{number}") for number in range(1, plan.callers)]
        threads = [
            threading.Thread(
                target=self.run_caller, args=(one, self.make_chance(number), number), name=one.oracle.thread
            )
            for number, one in enumerate(callers, 1)
        ]
        director = threading.Thread(target=self.direct, name="director")
        # Not while a child is made that can start no thread: nobody can then.
        with self.world:
            for thread in (*threads, *self.daemons, director):
                thread.start()
        self.run_main(caller)
        self.wait_for_load()
        for thread in threads:
            if not plan.late_calls:
                thread.join()
        director.join()
        for index, fork in enumerate(plan.forks):
            if fork.caller == 0 and fork.at_call == plan.calls:
                self.fork(fork, f"{self.tag}.{index}", caller)
        self.join_children()
        self.top_up(caller)
        self.check_thread(caller)
        if plan.late_calls:
            self.shut_down()
            for thread in threads:
                thread.join()
        else:
            self.check_slots()
        if plan.end == "shutdown":
            self.shut_down()
        elif plan.end == "sigterm":
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()

    def run_main(self, caller: Any) -> None:
        """Make the main thread's calls, with signals if there are to be any."""
        chance = random.Random(f"{self.plan.seed}/signals")
        if self.signals is not None:
            self.signals.start(chance)
        calls = self.plan.calls
        try:
            self.run_thread(caller, self.make_chance(0), 0, calls, self.plan.forks)
            for _ in range(MOST_FURTHER_CALLS):
                if self.memory_left > 0 or (self.signals is not None and not self.signals.fired):
                    self.call(caller, chance.choice(self.plan.ways), chance)
        finally:
            if self.signals is not None:
                self.signals.stop()
                self.fired["signal"] += self.signals.fired
                self.fired["signal, caught by others"] += self.signals.others

    def wait_for_load(self) -> None:
        """Wait until every caller has made its calls; a barrier does not survive that memory is short."""
        told = False
        while not told or len(self.loaded) < self.plan.callers:
            try:
                if not told:
                    self.loaded.append(None)
                    told = True
                time.sleep(0.002)
            except MemoryError:
                continue

    def run_caller(self, caller: Any, chance: random.Random, number: int) -> None:
        """Be one of the threads."""
        self.run_thread(caller, chance, number, self.plan.calls, self.plan.forks)
        self.wait_for_load()
        self.check_thread(caller)
        if self.plan.late_calls:
            for _ in range(100):
                caller.make("facade")
                time.sleep(0.0005)


def set_child_apart(folder: Path) -> None:
    """Give this process a standard error of its own, so that no process writes into the lines of another.

    Called in a child before anybody else's hook, since it is registered before anybody else is imported. What the
    parent has left to be collected does not log here.
    """
    calls = sys.modules.get("tests.chaos.calls")
    if calls is not None:
        calls.finalizing.caller = None
    file = os.open(folder / f"stderr-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 2)
    os.close(file)


def plain(stats: Any) -> dict[str, Any]:
    """Return a snapshot as plain data."""
    values = {name: getattr(stats, name) for name in stats.__slots__ if name != "exporters"}
    for name in ("refused", "removed", "dropped"):
        values[name] = dict(values[name])
    exporters = {}
    for name, one in stats.exporters.items():
        exporters[name] = {key: getattr(one, key) for key in one.__slots__}
        exporters[name]["dropped"] = dict(one.dropped)
    return {**values, "exporters": exporters}


def main(folder: Path) -> None:
    """Run the plan in a folder."""
    faulthandler.enable()
    given = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    plan = from_dict(given["plan"])
    if plan.gevent:
        from gevent import monkey

        monkey.patch_all()
    if given["fault"]:
        from tests.chaos.sabotage import sabotage

        sabotage(given["fault"])
    os.register_at_fork(after_in_child=lambda: set_child_apart(folder))
    program = Program(folder, plan, given["endpoints"])
    # Before otelog is imported: it is called after otelog's own end.
    atexit.register(program.report)
    program.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
