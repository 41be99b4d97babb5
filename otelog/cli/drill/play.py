"""One drill from its beginning to its undoing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import click

from otelog.cli.demo.children import Child, ChildError
from otelog.cli.drill.drills import SERVICE, Drill
from otelog.cli.drill.watch import PAUSE, calm, read_states
from otelog.cli.show.interruption import Interruption

START_SECONDS, STOP_SECONDS = 60.0, 20.0

LINGER = 7.0
"""Seconds that it goes on when its alerts fire: Alertmanager gathers for a while before it tells people."""

NOT_INHERITED = {"OTEL_SERVICE_NAME", "OTEL_SDK_DISABLED", "OTEL_LOGS_EXPORTER", "OTEL_METRICS_EXPORTER"}
"""What a developer's shell has set for an application must not steer the process of a drill."""

_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """Where a drill happens.

    Args:
        endpoint: The Collector's base URL.
        prometheus: Prometheus's base URL; None: alerts cannot be watched here.
        alertmanager: Alertmanager's base URL; None where it is not known.
        collector: The Collector's process: its id, and when it was created; None where it is not known.
    """

    endpoint: str
    prometheus: str | None
    alertmanager: str | None
    collector: tuple[int, float] | None


class StoppedError(Exception):
    """Somebody wants it to end."""


def play(
    name: str, drill: Drill, place: Place, seconds: float | None, interruption: Interruption, say: Callable[[str], None]
) -> bool:
    """Make it happen, watch it, and undo it, however it ends.

    Args:
        name: The drill's.
        drill: What it is.
        place: Where.
        seconds: How long it lasts; None: until its alerts fire, or should have.
        interruption: Tells when somebody wants it to end.
        say: Called with each line for people.

    Returns:
        Whether the alerts have fired, as far as that is asked for and can be seen.

    Raises:
        click.ClickException: It cannot happen here.
    """

    def idle() -> None:
        if interruption.asked:
            raise StoppedError

    service = f"{SERVICE}-{os.getpid()}"
    module, arguments = "traffic", [name, service, place.endpoint]
    if not drill.traffic:
        if place.collector is None:
            raise click.ClickException(f"{name} needs a stack that runs natively here: otelog stack up --native")
        module, arguments = "hold", [str(value) for value in place.collector]
    child = Child(name, [sys.executable, "-m", f"otelog.cli.drill.{module}", *arguments], _environ())
    fired = False
    try:
        child.wait_ready(timeout=START_SECONDS, idle=idle)
        say("It has happened.")
        fired = _watch(drill, place, seconds, idle, say)
    except StoppedError:
        say("Stopped.")
        # Nothing more was asked for.
        fired = True
    except ChildError as error:
        raise click.ClickException("\n".join([str(error), *child.errors])) from error
    finally:
        _undo(child, place, drill)
        say(f"Undone: {drill.undone}. The alert ends {drill.ends}.")
        if drill.traffic:
            calmed = place.alertmanager is not None and calm(place.alertmanager, service)
            if calmed:
                say(f"Alertmanager is told not to miss {service} for two hours.")
            elif drill.lasts:
                say(f"Alertmanager cannot be told: in 10 minutes it misses {service} (OtelogLogSilence), for an hour.")
    return fired


def _environ() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}


def _undo(child: Child, place: Place, drill: Drill) -> None:
    try:
        child.stop(STOP_SECONDS, idle=lambda: None)
    except ChildError:
        pass
    finally:
        child.kill()
        if not drill.traffic:
            _let_go(place)


def _let_go(place: Place) -> None:
    """Have the Collector go on though its holder was killed; idempotent."""
    import psutil

    assert place.collector is not None
    pid, created = place.collector
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - created) < 1.0:
            process.resume()
    except psutil.Error:
        # It has ended: there is nothing to let go.
        return


def _watch(
    drill: Drill, place: Place, seconds: float | None, idle: Callable[[], None], say: Callable[[str], None]
) -> bool:
    """Say how the alerts change; returns whether all have fired in time."""
    began = time.monotonic()
    deadline = began + (drill.within if seconds is None else seconds)
    known: dict[str, str] = {}
    fired: set[str] = set()
    look = began
    lingering = False
    while time.monotonic() < deadline:
        if seconds is None and fired >= set(drill.alerts) and not lingering:
            lingering = True
            deadline = time.monotonic() + (LINGER if drill.lasts else 0.0)
        if place.prometheus is not None and time.monotonic() >= look:
            for name, state in _changes(place.prometheus, drill, known):
                say(f"{name} is {state} after {time.monotonic() - began:.0f} s")
                if state == "firing":
                    fired.add(name)
            look = time.monotonic() + PAUSE
        idle()
        time.sleep(_POLL)
    missed = sorted(set(drill.alerts) - fired)
    if place.prometheus is None or seconds is not None or not missed:
        return True
    say(f"{', '.join(missed)} did not fire within {drill.within:.0f} s")
    return False


def _changes(prometheus: str, drill: Drill, known: dict[str, str]) -> list[tuple[str, str]]:
    states = read_states(prometheus)
    if states is None:
        return []
    changes = [(name, states[name]) for name in drill.alerts if name in states and states[name] != known.get(name)]
    known.update(changes)
    return changes
