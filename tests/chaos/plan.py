"""A seed's plan: what a program does, and what goes wrong meanwhile. Pure: the same seed gives the same plan."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from typing import Any

FEATURES = (
    "forks",
    "forks-grpc",
    "forks-gevent",
    "forks-starved",
    "signals",
    "memory",
    "threads",
    "descriptors",
    "file-size",
    "reconfigure",
    "second",
    "grpc",
    "gevent",
    "hostile",
    "late",
    "daemons",
    "finalizers",
    "restart",
    "tls",
    "faults",
)
"""What `without` can leave out of a plan; the rest of it stays as it is."""

WAYS = (
    "facade",
    "facade-arguments",
    "facade-error",
    "facade-stack",
    "facade-large",
    "facade-debug",
    "bind",
    "bound",
    "track",
    "event",
    "logging",
    "logging-arguments",
    "logging-error",
    "logging-large",
    "logging-debug",
    "opentelemetry",
    "hostile",
    "hostile-logging",
    "nested",
    "finalizer",
)
"""How a record is made; "-debug" are below the level and make none, and "finalizer" makes one when it is collected."""

HTTP_FAULTS = (
    "503",
    "503-slow",
    "429",
    "429-date",
    "502",
    "413",
    "400",
    "404",
    "302",
    "cut-request",
    "cut-answer",
    "close",
    "hang",
    "late",
    "too-late",
    "partial",
    "garbage",
    "endless-body",
    "endless-headers",
    "refuse",
)
GRPC_FAULTS = (
    "UNAVAILABLE",
    "RESOURCE_EXHAUSTED",
    "RESOURCE_EXHAUSTED-final",
    "INVALID_ARGUMENT",
    "PERMISSION_DENIED",
    "ABORTED",
    "stored-ABORTED",
    "hang",
    "late",
    "partial",
    "garbage",
    "restart",
)
FOREIGN_FAULTS = ("failure", "raise", "slow", "strange")
SIGNAL_ERRORS = ("exception", "base", "keyboard")


@dataclass(frozen=True)
class Receiver:
    """Where records go: `name` is the exporter's in the ledger; the faults come in their order, one a request."""

    name: str
    kind: str
    faults: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Fork:
    """A child: made by a caller (0: the main thread) before one of its calls; `end` is how the child leaves.

    Its kind is "os", "multiprocessing", or "inside": by os.fork in the middle of a log call.

    A starved child can start no thread while it is made.
    """

    caller: int
    at_call: int
    kind: str
    threads: int
    calls: int
    end: str
    starved: bool = False


@dataclass(frozen=True)
class Action:
    """What the director does after a pause of some milliseconds.

    Its kind is "flush", "stats", "configure", "restart" (shutdown, and configure anew), "descriptors" or "file-size".
    """

    pause: float
    kind: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A program: callers that log, a director beside them, and the end."""

    seed: int
    receivers: tuple[Receiver, ...]
    second: Receiver | None
    second_options: dict[str, Any]
    options: dict[str, Any]
    callers: int
    calls: int
    ways: tuple[str, ...]
    pause: float
    actions: tuple[Action, ...]
    forks: tuple[Fork, ...]
    signals: str | None
    signal_source: str
    memory_windows: int
    starved_start: bool
    late_calls: bool
    end: str
    shutdown_timeout: float
    gevent: bool
    daemons: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        return asdict(self)

    def planned_faults(self) -> dict[str, int]:
        """Return how often each fault must be seen, by its name."""
        faults: dict[str, int] = {}

        def add(name: str, count: int = 1) -> None:
            if count:
                faults[name] = faults.get(name, 0) + count

        for receiver in (*self.receivers, *((self.second,) if self.second else ())):
            for fault in receiver.faults:
                add(f"{receiver.name}:{fault}")
        for action in self.actions:
            add(action.kind)
        for fork in self.forks:
            add(f"fork-{fork.kind}{'-starved' if fork.starved else ''}")
        add("memory", self.memory_windows)
        add("starved-start", int(self.starved_start))
        add("signal", int(self.signals is not None))
        return faults


def from_dict(values: dict[str, Any]) -> Plan:
    """Return the plan that `Plan.to_dict` gave."""

    def receiver(one: dict[str, Any]) -> Receiver:
        return Receiver(**{**one, "faults": tuple(one["faults"])})

    return Plan(
        **{
            **values,
            "receivers": tuple(receiver(one) for one in values["receivers"]),
            "second": receiver(values["second"]) if values["second"] else None,
            "ways": tuple(values["ways"]),
            "actions": tuple(Action(**one) for one in values["actions"]),
            "forks": tuple(Fork(**one) for one in values["forks"]),
        }
    )


def make_plan(seed: int, without: Collection[str] = ()) -> Plan:
    """Return the plan of a seed, without some features.

    Raises:
        ValueError: There is no such feature.
    """
    if unknown := set(without) - set(FEATURES):
        raise ValueError(f"no such feature: {', '.join(sorted(unknown))}; there are {', '.join(FEATURES)}")
    return _leave_out(_draw(random.Random(seed), seed), set(without))


def _draw(chance: random.Random, seed: int) -> Plan:
    gevent = chance.random() < 0.08
    receivers = tuple(_draw_receivers(chance, chance.choice((1, 1, 1, 2, 3))))
    second = None
    if chance.random() < 0.25:
        second = replace(_draw_otlp(chance, "second"), name="second")
        if chance.random() < 0.5:
            second = Receiver("second", "foreign", _draw_faults(chance, FOREIGN_FAULTS, 3))
    quick = any("refuse" in receiver.faults for receiver in (*receivers, *((second,) if second else ())))
    options = _draw_options(chance, quick=quick)
    callers = chance.randint(1, 5)
    calls = chance.choice((40, 100, 200, 400))
    kinds = {receiver.kind for receiver in receivers}
    actions = []
    for _ in range(chance.randint(0, 4)):
        kind = chance.choice(("flush", "flush", "stats", "configure", "restart", "descriptors", "file-size"))
        if kind == "file-size" and ("file" not in kinds or "console" in kinds):
            kind = "flush"
        changed = _draw_options(chance, quick=quick) if kind in ("configure", "restart") else {}
        if kind == "flush":
            changed = {"timeout": chance.choice((0.0, 0.05, 0.3))}
        actions.append(Action(round(chance.uniform(0, 60), 1), kind, changed))
    forks = [_draw_fork(chance, callers, calls, gevent=gevent) for _ in range(chance.choice((0, 0, 0, 1, 2, 3)))]
    if any(fork.kind == "multiprocessing" for fork in forks):
        # At its end a forked child would have `multiprocessing` wait for its parent's children, which is refused.
        forks = [replace(fork, end="shutdown") if (fork.kind, fork.end) == ("os", "exit") else fork for fork in forks]
    return Plan(
        seed=seed,
        receivers=receivers,
        second=second,
        second_options={
            "max_queue_size": chance.choice((64, 512)),
            "max_export_batch_size": chance.choice((1, 20, 64)),
            "schedule_delay_millis": chance.choice((10, 50)),
            "export_timeout_millis": 400 if quick else chance.choice((400, 2_500)),
            "when_full": chance.choice(("drop_newest", "drop_oldest", "block")),
            "block_timeout": 0.02,
        },
        options=options,
        callers=callers,
        calls=calls,
        ways=tuple(chance.choices(WAYS, weights=[8, 4, *[2] * (len(WAYS) - 2)], k=chance.randint(3, 12))),
        pause=chance.choice((0.0, 0.0005, 0.002)),
        actions=tuple(actions),
        forks=tuple(forks),
        signals=chance.choice(SIGNAL_ERRORS) if chance.random() < 0.35 else None,
        signal_source=chance.choice(("timer", "thread")),
        memory_windows=chance.choice((10, 40)) if chance.random() < 0.2 else 0,
        starved_start=chance.random() < 0.08,
        late_calls=chance.random() < 0.2,
        end=chance.choice(("shutdown", "exit", "sigterm")),
        shutdown_timeout=chance.choice((0.0, 0.3, 1.0, 1.0)),
        gevent=gevent,
        daemons=chance.choice((0, 0, 0, 1, 2)),
    )


def _draw_receivers(chance: random.Random, count: int) -> list[Receiver]:
    receivers: list[Receiver] = []
    for number in range(count):
        kind = chance.choice(("otlp", "otlp", "otlp", "file", "console", "foreign"))
        if any(one.kind == kind for one in receivers) or kind == "otlp":
            receivers.append(_draw_otlp(chance, f"otlp{number}"))
        elif kind == "file":
            options: dict[str, Any] = {"max_files": 0, "per_process": chance.random() < 0.3}
            if chance.random() < 0.5:
                options["max_bytes"] = chance.choice((5_000, 20_000))
            receivers.append(Receiver(f"file{number}", "file", (), options))
        elif kind == "console":
            receivers.append(Receiver(f"console{number}", "console"))
        else:
            receivers.append(Receiver(f"foreign{number}", "foreign", _draw_faults(chance, FOREIGN_FAULTS, 3)))
    return receivers


def _draw_otlp(chance: random.Random, name: str) -> Receiver:
    if chance.random() < 0.3:
        return Receiver(name, "grpc", _draw_faults(chance, GRPC_FAULTS, 4))
    faults = _draw_faults(chance, HTTP_FAULTS, 6)
    if "refuse" in faults:
        # Before anything is answered.
        faults = ("refuse", *(fault for fault in faults if fault != "refuse"))
    return Receiver(name, "https" if chance.random() < 0.2 else "http", faults, _draw_compression(chance))


def _draw_compression(chance: random.Random) -> dict[str, Any]:
    return {"compression": chance.choice(("gzip", "none"))}


def _draw_faults(chance: random.Random, faults: tuple[str, ...], most: int) -> tuple[str, ...]:
    # Without replacement: no seed may take long because it has the same slow one five times.
    return tuple(chance.sample(faults, chance.randint(0, most)))


def _draw_options(chance: random.Random, *, quick: bool) -> dict[str, Any]:
    size = chance.choice((16, 100, 1_000))
    return {
        "max_queue_size": size,
        "max_export_batch_size": chance.choice((1, 8, min(size, 256))),
        "schedule_delay_millis": chance.choice((5, 20, 50)),
        "export_timeout_millis": 400 if quick else chance.choice((400, 400, 2_500)),
        "timeout": chance.choice((0.15, 0.3)),
        "when_full": chance.choice(("drop_newest", "drop_oldest", "block")),
        "block_timeout": chance.choice((0.0, 0.005, 0.05)),
        "reserve_for_errors": chance.choice((0.0, 0.1, 0.5)),
        "max_request_bytes": chance.choice((4_096, 65_536, 4 * 2**20)),
        "direct_logging": chance.random() < 0.6,
        "thread_attributes": chance.random() < 0.3,
        "message_template": chance.random() < 0.3,
        "code_attributes": chance.random() < 0.7,
    }


def _draw_fork(chance: random.Random, callers: int, calls: int, *, gevent: bool) -> Fork:
    kind = "os" if gevent else chance.choice(("os", "multiprocessing", "inside"))
    caller = 0 if gevent else chance.randrange(callers)
    end = chance.choice(("shutdown", "exit", "kill"))
    if end == "exit" and (kind == "inside" or (kind == "os" and caller)):
        # A child of another thread than the main one ends without Python's own end.
        end = "shutdown"
    return Fork(
        caller,
        calls if gevent else chance.randrange(1, calls),
        kind,
        chance.randint(0, 2),
        chance.choice((1, 20, 100)),
        end,
        starved=not gevent and chance.random() < 0.15,
    )


def _leave_out(plan: Plan, without: set[str]) -> Plan:
    def without_grpc(one: Receiver) -> Receiver:
        return Receiver(one.name, "http", (), {"compression": "gzip"}) if one.kind == "grpc" else one

    if "second" in without:
        plan = replace(plan, second=None)
    if "tls" in without:
        plan = replace(plan, receivers=tuple(map(_plain, plan.receivers)), second=plan.second and _plain(plan.second))
    if "grpc" in without:
        plan = replace(plan, receivers=tuple(map(without_grpc, plan.receivers)))
        plan = replace(plan, second=plan.second and without_grpc(plan.second))
    if "faults" in without:
        plan = replace(plan, receivers=tuple(replace(one, faults=()) for one in plan.receivers))
        plan = replace(plan, second=plan.second and replace(plan.second, faults=()))
    if "gevent" in without:
        plan = replace(plan, gevent=False)
    if plan.gevent:
        # Its hub is not made for exceptions out of signal handlers, nor for a stack of native threads.
        # What logs on while it is forked would do so in the child as well.
        plan = replace(plan, signals=None, memory_windows=0, starved_start=False, daemons=0, late_calls=False)
    if "signals" in without:
        plan = replace(plan, signals=None)
    if plan.signals:
        # A handler that has no memory raises something else.
        plan = replace(plan, memory_windows=0)
    if "memory" in without:
        plan = replace(plan, memory_windows=0)
    if plan.memory_windows:
        # Another thread's fork would itself be short of memory.
        plan = replace(plan, forks=tuple(replace(fork, caller=0) for fork in plan.forks))
    grpc = any(one.kind == "grpc" for one in (*plan.receivers, *((plan.second,) if plan.second else ())))
    if grpc:
        # Its core aborts the process where it can get no thread or no memory.
        plan = replace(plan, memory_windows=0, starved_start=False)
        plan = replace(plan, forks=tuple(replace(fork, starved=False) for fork in plan.forks))
        plan = replace(plan, actions=tuple(one for one in plan.actions if one.kind != "descriptors"))
    if "threads" in without:
        plan = replace(plan, starved_start=False)
    if without & {"threads", "forks-starved"}:
        plan = replace(plan, forks=tuple(replace(fork, starved=False) for fork in plan.forks))
    if "forks" in without or ("forks-grpc" in without and grpc) or ("forks-gevent" in without and plan.gevent):
        plan = replace(plan, forks=())
    if "late" in without:
        plan = replace(plan, late_calls=False)
    if "daemons" in without:
        plan = replace(plan, daemons=0)
    if "finalizers" in without:
        plan = replace(plan, ways=tuple(way for way in plan.ways if way != "finalizer") or ("facade",))
    if "hostile" in without:
        ways = tuple(way for way in plan.ways if way not in ("hostile", "hostile-logging", "nested")) or ("facade",)
        plan = replace(plan, ways=ways)
    gone = {kind: kind for kind in ("restart", "descriptors", "file-size")} | {"configure": "reconfigure"}
    return replace(plan, actions=tuple(one for one in plan.actions if gone.get(one.kind) not in without))


def _plain(receiver: Receiver) -> Receiver:
    return replace(receiver, kind="http") if receiver.kind == "https" else receiver
