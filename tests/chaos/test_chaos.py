"""Random programs pass; a plan is a seed's alone; and what is broken on purpose is found."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import opentelemetry.attributes
import pytest

import otelog
from tests.chaos.calls import describe
from tests.chaos.oracle import Calls, Oracle, read_calls
from tests.chaos.plan import FEATURES, FOREIGN_FAULTS, GRPC_FAULTS, HTTP_FAULTS, WAYS, Plan, from_dict, make_plan
from tests.chaos.receivers import Arrivals
from tests.chaos.reconciliation import reconcile
from tests.chaos.seed import ROOT, find_unexpected, run_seed
from tests.chaos.trouble import LEAKING
from tests.sizes import FULL

# A third of those that `make soak` has; these have everything that can be planned, as a test below sees.
USUAL = (3, 8, 10, 17, 20, 22, 24, 25, 26, 32, 39, 40, 41, 44, 46, 49, 50, 53, 56, 57)
SEEDS = tuple(range(1, 61)) if FULL else USUAL


def test_seeds_pass() -> None:
    """A seed that fails is run again by its number: ``python -m tests.chaos --seeds N --verbose``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--seeds", ",".join(map(str, SEEDS))],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == f"{len(SEEDS)} passed, 0 failed"


# Plans.


def test_a_plan_is_the_seeds_alone_and_survives_json() -> None:
    for seed in range(1, 200):
        plan = make_plan(seed)
        assert plan == make_plan(seed)
        assert from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert make_plan(1) != make_plan(2)


def test_the_seeds_of_make_test_have_everything_that_can_be_planned() -> None:
    plans = [make_plan(seed) for seed in USUAL]
    receivers = [one for plan in plans for one in (*plan.receivers, plan.second) if one is not None]
    seen = {fault for one in receivers for fault in one.faults}
    assert seen == {*HTTP_FAULTS, *GRPC_FAULTS, *FOREIGN_FAULTS}
    assert {one.kind for one in receivers} == {"http", "https", "grpc", "file", "console", "foreign"}
    assert {way for plan in plans for way in plan.ways} == set(WAYS)
    assert {action.kind for plan in plans for action in plan.actions} == {
        "flush",
        "stats",
        "configure",
        "restart",
        "descriptors",
        "file-size",
    }
    forks = [fork for plan in plans for fork in plan.forks]
    ends = {
        ("os", "shutdown"),
        ("os", "exit"),
        ("os", "kill"),
        ("multiprocessing", "exit"),
        ("multiprocessing", "kill"),
    }
    assert {(fork.kind, fork.end) for fork in forks} >= {*ends, ("inside", "shutdown"), ("inside", "kill")}
    assert {plan.options["when_full"] for plan in plans} == {"drop_newest", "drop_oldest", "block"}
    assert {plan.end for plan in plans} == {"shutdown", "exit", "sigterm"}
    assert {plan.signals for plan in plans} == {None, "exception", "base", "keyboard"}
    assert {plan.options["direct_logging"] for plan in plans} == {True, False}
    for flag in (
        any(plan.gevent for plan in plans),
        any(plan.memory_windows for plan in plans),
        any(plan.starved_start for plan in plans),
        any(fork.starved for fork in forks),
        any(plan.late_calls for plan in plans),
        any(plan.daemons for plan in plans),
    ):
        assert flag


LEFT_OUT: dict[str, Callable[[Plan], Any]] = {
    "forks": lambda plan: plan.forks,
    "forks-grpc": lambda plan: plan.forks and any(one.kind == "grpc" for one in plan.receivers),
    "forks-gevent": lambda plan: plan.forks and plan.gevent,
    "forks-starved": lambda plan: any(fork.starved for fork in plan.forks),
    "signals": lambda plan: plan.signals,
    "memory": lambda plan: plan.memory_windows,
    "threads": lambda plan: plan.starved_start or any(fork.starved for fork in plan.forks),
    "descriptors": lambda plan: any(action.kind == "descriptors" for action in plan.actions),
    "file-size": lambda plan: any(action.kind == "file-size" for action in plan.actions),
    "reconfigure": lambda plan: any(action.kind == "configure" for action in plan.actions),
    "second": lambda plan: plan.second,
    "grpc": lambda plan: any(one.kind == "grpc" for one in plan.receivers),
    "gevent": lambda plan: plan.gevent,
    "hostile": lambda plan: {"hostile", "hostile-logging", "nested"} & set(plan.ways),
    "late": lambda plan: plan.late_calls,
    "daemons": lambda plan: plan.daemons,
    "finalizers": lambda plan: "finalizer" in plan.ways,
    "restart": lambda plan: any(action.kind == "restart" for action in plan.actions),
    "tls": lambda plan: any(one.kind == "https" for one in plan.receivers),
    "faults": lambda plan: any(one.faults for one in plan.receivers),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_feature_can_be_left_out(feature: str) -> None:
    has = LEFT_OUT[feature]
    seeds = range(1, 100)
    assert any(has(make_plan(seed)) for seed in seeds)
    assert not any(has(make_plan(seed, [feature])) for seed in seeds)


def test_a_feature_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no such feature: rain"):
        make_plan(1, ["rain"])


# What is broken on purpose.


def find_seed(wanted: Callable[[Plan], bool]) -> int:
    """Return the first seed whose plan fits."""
    return next(seed for seed in range(1, 1_000) if wanted(make_plan(seed, BARE)))


BARE = tuple(name for name in FEATURES if name != "hostile")


def is_calm(plan: Plan) -> bool:
    """Whether everything is delivered over HTTP."""
    return [one.kind for one in plan.receivers] == ["http"] and plan.shutdown_timeout >= 0.3


@pytest.mark.parametrize(
    ("fault", "wanted", "found"),
    [
        ("drop", is_calm, "were answered with success"),
        ("twice", is_calm, "arrived once more, but resent are 0"),
        ("slot", is_calm, "1 slots of the main queue are held by no record"),
        ("raise", lambda plan: is_calm(plan) and "event" in plan.ways, "a call raised .* RuntimeError: sabotage"),
        ("say", is_calm, "standard error: Exception ignored in: something"),
        ("hang", lambda plan: is_calm(plan) and plan.end == "shutdown", "the program hangs after 5 s"),
    ],
)
def test_what_is_broken_on_purpose_is_found(fault: str, wanted: Callable[[Plan], bool], found: str) -> None:
    seed = find_seed(wanted)
    if fault != "hang":
        assert run_seed(seed, BARE).problems == []
    outcome = run_seed(seed, BARE, fault=fault, deadline=5.0 if fault == "hang" else 40.0)
    assert any(re.search(found, problem) for problem in outcome.problems), (seed, outcome.problems)
    if fault == "hang":
        assert "in changed" in outcome.stderr or "Event" in outcome.stderr or "wait" in outcome.stderr
        assert "most recent call first" in outcome.stderr


# What is not otelog's.


def raise_in(path: str, error: BaseException) -> BaseException:
    """Return the exception as the code of this file raises it."""
    names: dict[str, Any] = {"error": error}
    exec(compile("def fail():\n    raise error", path, "exec"), names)
    try:
        names["fail"]()
    except BaseException as raised:
        # Without this frame here.
        return raised.with_traceback(raised.__traceback__.tb_next if raised.__traceback__ else None)
    raise AssertionError


SDK = opentelemetry.attributes.__file__
NO_LOCK = "can't allocate lock"


@pytest.mark.parametrize(
    ("path", "error", "short", "mark"),
    [
        (SDK, RuntimeError(NO_LOCK), True, "~"),
        (SDK, RuntimeError(NO_LOCK), False, "!"),
        (SDK, RuntimeError("something else"), True, "!"),
        (SDK, RecursionError(NO_LOCK), True, "!"),
        (otelog.__file__, RuntimeError(NO_LOCK), True, "!"),
        (__file__, RuntimeError(NO_LOCK), True, "!"),
    ],
)
def test_only_the_sdk_may_miss_the_memory_for_a_lock(path: str, error: Exception, short: bool, mark: str) -> None:
    assert describe(raise_in(path, error), short=short)[0] == mark


@pytest.mark.skipif(not LEAKING, reason="from 3.13 on logging takes its lock by `with`")
@pytest.mark.parametrize("source", ["timer", "thread"])
def test_a_signal_does_not_raise_where_logging_loses_its_lock(source: str) -> None:
    program = f"""
import logging, random, time
from tests.chaos.trouble import OwnStop, Signals
log = logging.getLogger("x")
signals = Signals("base", {source!r}, lambda: "")
chance = random.Random(1)
signals.start(chance)
end = time.monotonic() + 60
while signals.fired < 1_000 and time.monotonic() < end:
    try:
        signals.arm(chance)
        for _ in range(20):
            # As another thread's setLevel does; the lock is taken then.
            log._cache.clear()
            log.debug("never")
        signals.disarm()
    except OwnStop:
        pass
    assert not logging._lock._is_owned(), signals.fired
signals.stop()
assert signals.fired > 10
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


# The reconciliation, by hand.

CALM = make_plan(find_seed(is_calm), BARE)
NAME = CALM.receivers[0].name


def books(**changed: Any) -> dict[str, Any]:
    one = {"accepted": 2, "filtered": 0, "exported": 2, "waiting": 0, "in_flight": 0, "resent": 0, "outcome_unknown": 0}
    one |= {"dropped": {"rejected": 0}, **changed.pop("exporter", {})}
    stats = {"created": 2, "refused": {"queue_full": 0}, "queued": 0, "removed": {}, "accepted": 2, "waiting": 0}
    return {**stats, "in_flight": 0, "exporters": {NAME: one}, **changed}


def hold(stats: dict[str, Any], arrived: list[str], **report: Any) -> list[str]:
    ids = {"m/main/1", "m/main/2"}
    kept = Arrivals()
    for id in arrived:
        kept.add(id, answered=True, instance="i")
    happened = {name: count for name, count in CALM.planned_faults().items() if name != "missing"}
    reports = {"m": {"stats": {"main": stats}, "problems": [], "signals": {}, "fired": happened, **report}}
    calls = {"m": Calls({"main": ids, "below": {"m/main/3"}}, {"main": ids})}
    return reconcile(CALM, {}, reports, calls, {NAME: kept})


@pytest.mark.parametrize(
    ("stats", "arrived", "problem"),
    [
        (books(), ["m/main/1", "m/main/2"], None),
        (books(), ["m/main/1"], "exported 2, but only 1"),
        (books(), ["m/main/1", "m/main/2", "m/main/2"], "1 arrived once more"),
        (books(), ["m/main/1", "m/main/2", "m/main/3"], "below the level"),
        (books(), ["m/main/1", "m/main/9"], "nobody has made"),
        (books(created=3), ["m/main/1", "m/main/2"], "is not refused"),
        (books(created=1, accepted=1), ["m/main/1", "m/main/2"], "2 calls returned of 2"),
        (books(exporter={"exported": 1}), ["m/main/1"], "not what became of them"),
        (books(exporter={"exported": 1, "dropped": {"rejected": 1}}), ["m/main/1", "m/main/2"], None),
        (books(exporter={"exported": 1, "in_flight": 1}, in_flight=1), ["m/main/1", "m/main/2"], "are left at the end"),
        (books(exporter={"resent": 1}), ["m/main/1", "m/main/2", "m/main/2"], None),
    ],
)
def test_books_are_held_against_what_was_called_and_what_arrived(
    stats: dict[str, Any], arrived: list[str], problem: str | None
) -> None:
    problems = hold(stats, arrived)
    if problem is None:
        assert problems == []
    else:
        assert any(problem in one for one in problems), problems


def test_two_instances_of_one_process_are_found() -> None:
    kept = Arrivals()
    kept.add("m/main/1", answered=True, instance="i")
    kept.add("m/main/2", answered=True, instance="j")
    ids = {"m/main/1", "m/main/2"}
    reports = {"m": {"stats": {"main": books()}, "problems": ["p"], "signals": {}, "fired": CALM.planned_faults()}}
    problems = reconcile(CALM, {"m.0": "exit"}, reports, {"m": Calls({"main": ids}, {"main": ids})}, {NAME: kept})
    assert problems == ["m: p", "m.0 left without a report", f"{NAME}: m has 2 instances"]


def test_what_was_planned_must_happen() -> None:
    plan = make_plan(next(seed for seed in range(1, 100) if make_plan(seed).planned_faults()))
    reports: dict[str, Any] = {}
    problems = reconcile(plan, {}, reports, {}, {})
    for name in plan.planned_faults():
        assert f"{name} was planned and did not happen" in problems


def test_the_oracle_is_read_as_it_was_written(tmp_path: Any) -> None:
    oracle = Oracle(tmp_path, "m", "t1")
    first, second = oracle.begin("main"), oracle.begin("main")
    third, fourth = oracle.begin("below"), oracle.begin("second")
    oracle.end(first)
    oracle.end(second, "!", "ValueError: in two\nlines")
    oracle.end(third)
    oracle.end(fourth, "~")
    calls = read_calls(tmp_path)["m"]
    assert (first, fourth) == ("<m/t1/1>", "<m/t1/4>")
    assert calls.begun == {"main": {"m/t1/1", "m/t1/2"}, "below": {"m/t1/3"}, "second": {"m/t1/4"}}
    assert calls.returned == {"main": {"m/t1/1"}, "below": {"m/t1/3"}}
    assert calls.escaped == ["m/t1/2 ValueError: in two lines"]


def test_only_lines_that_somebody_has_to_answer_for_are_unexpected() -> None:
    text = (
        "otelog: 3 log records lost\n"
        '{"otelog": "receipt", "pid": 1}\n'
        "Exception ignored in: <function f>\nTraceback (most recent call last):\n"
        '  File "x", line 1\ntests.chaos.trouble.OwnStop\n'
        "Exception ignored in: <function g>\nValueError\n"
    )
    assert find_unexpected(text) == ["Exception ignored in: <function g>", "ValueError"]
