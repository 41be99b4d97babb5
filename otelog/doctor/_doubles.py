"""Records that would come to otelog more than once, or also leave by another way."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from logging.handlers import QueueListener

from otelog.doctor._findings import Area, Finding, list_names, make_area
from otelog.doctor._ways import Step, Way, find_pipelines, find_way, is_foreign, is_own, is_passed_over, list_loggers


def check_handlers(root: logging.Logger, *, listeners: Sequence[QueueListener] = ()) -> Area:
    """Look for handlers that take the same record twice.

    Args:
        root: The root of the tree; it is only looked at.
        listeners: Those that serve queues of handlers.
    """
    ways = [find_way(logger) for logger in list_loggers(root)]
    findings = [*_find_doubled(ways, listeners), *_find_foreign(ways, listeners)]
    facts = [] if findings else ["no record comes to otelog twice"]
    return make_area("handlers", facts, findings)


def _find_doubled(ways: list[Way], listeners: Sequence[QueueListener]) -> Iterator[Finding]:
    groups: dict[tuple[tuple[int, int], ...], tuple[list[Step], list[str]]] = {}
    for way in ways:
        own = any(is_own(step.handler) for step in way.steps)
        steps = [step for step in way.steps if not (own and is_passed_over(step.handler))]
        pipelines = [(step, pipeline) for step in steps for pipeline in find_pipelines(step.handler, listeners)]
        counts = Counter(id(pipeline) for _, pipeline in pipelines)
        steps = [step for step, pipeline in pipelines if counts[id(pipeline)] > 1]
        if steps:
            key = tuple((id(step.handler), id(step.owner)) for step in steps)
            groups.setdefault(key, (steps, []))[1].append(_name(way.logger))
    for steps, names in groups.values():
        places = list_names(f"{_describe(step.handler)} on {_name(step.owner)}" for step in steps)
        foreign = [step for step in steps if is_foreign(step.handler)]
        times = "twice" if len(steps) == 2 else f"{len(steps)} times"
        came = f"{places}: every record of {list_names(names)} comes {times}"
        if foreign:
            yield Finding(
                "error",
                "handlers.foreign",
                _name(foreign[0].owner),
                came,
                f"take {_describe(foreign[0].handler)} off, or say configure(install_handler=False) and keep it alone",
                tuple(names),
            )
        else:
            yield Finding(
                "warning",
                "handlers.doubled",
                _name(steps[0].owner),
                f"{came}: it is taken once, at the cost of all",
                "keep one of them; the root's is enough for every logger that propagates",
                tuple(names),
            )


def _find_foreign(ways: list[Way], listeners: Sequence[QueueListener]) -> Iterator[Finding]:
    """Foreign handlers beside otelog's own that double no record in otelog."""
    seen: set[int] = set()
    for way in ways:
        own = any(is_own(step.handler) for step in way.steps)
        for step in way.steps:
            handler = step.handler
            if not own or not is_foreign(handler) or id(handler) in seen:
                continue
            seen.add(id(handler))
            if is_passed_over(handler):
                yield Finding(
                    "warning",
                    "handlers.passed_over",
                    _name(step.owner),
                    f"{_describe(handler)} leads to otelog, too: each record is taken once, at the cost of both",
                    "take it off",
                )
            elif not find_pipelines(handler, listeners):
                yield Finding(
                    "warning",
                    "handlers.elsewhere",
                    _name(step.owner),
                    f"{_describe(handler)} exports the same records with a provider of its own",
                    "take it off if both go to the same Collector: there every record would be twice",
                )


def _name(logger: logging.Logger) -> str:
    return "root" if logger.parent is None else logger.name


def _describe(handler: logging.Handler) -> str:
    kind = type(handler)
    return f"{kind.__module__.partition('.')[0]}'s {kind.__name__}" if is_own(handler) else _path(kind)


def _path(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
