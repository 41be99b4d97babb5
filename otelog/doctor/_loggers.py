"""Which loggers of the standard library do not reach otelog, and why."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from logging.handlers import QueueHandler, QueueListener

from otelog.doctor._findings import Area, Finding, Severity, list_names, make_area
from otelog.doctor._ways import Way, find_pipelines, find_way, list_loggers

_ROOT = "root"
# They say what goes wrong while records are exported, which must not be exported.
_OF_THE_WAY_ITSELF = ("opentelemetry.", "otelog.")


def check_loggers(
    root: logging.Logger, *, level: int, handler_wanted: bool = True, listeners: Sequence[QueueListener] = ()
) -> Area:
    """Follow the records of every logger that exists, from a record at its level to its last handler.

    Args:
        root: The root of the tree; it is only looked at.
        level: The level of `otelog.configure`.
        handler_wanted: Whether `otelog.configure` is to have a handler on the root.
        listeners: Those that serve queues of handlers.
    """
    ways = [find_way(logger) for logger in list_loggers(root)]
    ways, aside = _set_aside(ways, listeners)
    reaching = [way for way in ways if _reaches(way, listeners) and not way.logger.disabled]
    findings = [
        *_find_disabled(ways),
        *_find_cut(ways, listeners),
        *_find_without_handler(ways, listeners, handler_wanted),
        *_find_queued(reaching, listeners),
        *_find_switched_off(root, level),
        *_find_high_levels(reaching, root, level),
        *_find_high_handlers(reaching),
        *_find_filters(reaching),
    ]
    facts = []
    if not any(finding.severity == "error" for finding in findings):
        facts.append(f"{len(reaching)} of {len(ways)} loggers reach otelog")
    if aside:
        facts.append(f"{list_names(aside)}: stays out: it reports on exports")
    return make_area("loggers", facts, findings)


def _set_aside(ways: list[Way], listeners: Sequence[QueueListener]) -> tuple[list[Way], list[str]]:
    """Returns the ways without those that stay out for a good reason, and the names of these."""
    aside = [
        way
        for way in ways
        if way.logger.name.startswith(_OF_THE_WAY_ITSELF) and way.is_cut and not _reaches(way, listeners)
    ]
    return [way for way in ways if way not in aside], [_name(way.logger) for way in aside]


def _name(logger: logging.Logger) -> str:
    return _ROOT if logger.parent is None else logger.name


def _group(ways: list[Way], logger_of: str) -> list[tuple[logging.Logger, list[str]]]:
    """Returns the loggers that are in the way, each with the names of those whose records it concerns."""
    groups: dict[int, tuple[logging.Logger, list[str]]] = {}
    for way in ways:
        one: logging.Logger = getattr(way, logger_of)
        groups.setdefault(id(one), (one, []))[1].append(_name(way.logger))
    return list(groups.values())


def _reaches(way: Way, listeners: Sequence[QueueListener]) -> bool:
    return any(find_pipelines(step.handler, listeners) for step in way.steps)


def _is_silenced(way: Way) -> bool:
    return bool(way.steps) and all(isinstance(step.handler, logging.NullHandler) for step in way.steps)


def _find_disabled(ways: list[Way]) -> Iterator[Finding]:
    names = [_name(way.logger) for way in ways if way.logger.disabled]
    own = [name for name in names if name.startswith(_OF_THE_WAY_ITSELF)]
    groups: tuple[tuple[Severity, list[str]], ...] = (
        ("error", [name for name in names if name not in own]),
        ("note", own),
    )
    for severity, concerned in groups:
        if concerned:
            several = len(concerned) > 1
            yield Finding(
                severity,
                "logger.disabled",
                list_names(concerned),
                f"{'are' if several else 'is'} disabled: {'they make' if several else 'it makes'} no record at all",
                "say disable_existing_loggers=False to dictConfig or fileConfig, or set the logger's disabled to False",
                tuple(concerned),
            )


def _find_cut(ways: list[Way], listeners: Sequence[QueueListener]) -> Iterator[Finding]:
    cut = [way for way in ways if way.is_cut and not way.logger.disabled and not _reaches(way, listeners)]
    for end, names in _group([way for way in cut if _is_silenced(way)], "end"):
        yield Finding(
            "note",
            "logger.silenced",
            end.name,
            f"does not propagate and has a NullHandler alone: records of {list_names(names)} are meant to go nowhere",
            "nothing, if that is so",
            tuple(names),
        )
    for end, names in _group([way for way in cut if not _is_silenced(way)], "end"):
        yield Finding(
            "error",
            "logger.not_propagating",
            end.name,
            f"has propagate=False and no handler of otelog's: records of {list_names(names)} end there",
            "let capture_non_propagating be true, or set propagate to True"
            if end.handlers
            else f"set propagate to True, or logging.getLogger({end.name!r}).addHandler(otelog.LoggingHandler())",
            tuple(names),
        )


def _find_without_handler(ways: list[Way], listeners: Sequence[QueueListener], wanted: bool) -> Iterator[Finding]:
    names = [
        _name(way.logger) for way in ways if not way.is_cut and not way.logger.disabled and not _reaches(way, listeners)
    ]
    if names:
        yield Finding(
            "error" if wanted else "note",
            "logger.no_handler",
            _ROOT,
            f"has no handler of otelog's: records of {list_names(names)} do not arrive",
            "call otelog.configure() again after basicConfig(force=True), dictConfig or whatever has removed it"
            if wanted
            else "nothing, if install_handler=False is meant: otelog's own loggers need none",
            tuple(names),
        )


def _find_queued(reaching: list[Way], listeners: Sequence[QueueListener]) -> Iterator[Finding]:
    queued = [
        way
        for way in reaching
        if not any(find_pipelines(step.handler, ()) for step in way.steps)
        and any(isinstance(step.handler, QueueHandler) for step in way.steps)
    ]
    for end, names in _group(queued, "end"):
        yield Finding(
            "warning",
            "logger.queued",
            _name(end),
            f"records of {list_names(names)} come through a queue and its thread, where no caller's trace is known",
            "put otelog.LoggingHandler() in the place of the QueueHandler: it does not wait for anything",
            tuple(names),
        )


def _find_switched_off(root: logging.Logger, level: int) -> Iterator[Finding]:
    disabled: int = root.manager.disable
    if disabled >= level:
        name = logging.getLevelName(disabled)
        yield Finding(
            "error",
            "logger.switched_off",
            f"logging.disable({name})",
            f"no logger makes a record of {name} or below",
            "logging.disable(logging.NOTSET)",
        )


def _find_high_levels(reaching: list[Way], root: logging.Logger, level: int) -> Iterator[Finding]:
    groups: dict[int, tuple[logging.Logger, list[str]]] = {}
    for way in reaching:
        source: logging.Logger | None = way.logger
        while source is not None and not source.level:
            source = source.parent
        if source is not None and source.level > level:
            groups.setdefault(id(source), (source, []))[1].append(_name(way.logger))
    for source, names in groups.values():
        shown, wanted = logging.getLevelName(source.level), logging.getLevelName(level)
        yield Finding(
            "warning" if source is root else "note",
            "logger.level",
            _name(source),
            f"is at {shown}, configure() at {wanted}: what lies between is no record, for {list_names(names)}",
            f"logging.getLogger({'' if source is root else repr(source.name)}).setLevel({wanted!r}), if you want them",
            tuple(names),
        )


def _find_high_handlers(reaching: list[Way]) -> Iterator[Finding]:
    groups: dict[int, tuple[logging.Handler, list[str]]] = {}
    for way in reaching:
        leading = [step.handler for step in way.steps if find_pipelines(step.handler, ())]
        least = way.logger.getEffectiveLevel()
        if leading and all(handler.level > least for handler in leading):
            groups.setdefault(id(leading[0]), (leading[0], []))[1].append(_name(way.logger))
    for handler, names in groups.values():
        yield Finding(
            "warning",
            "handler.level",
            type(handler).__name__,
            f"takes nothing below {logging.getLevelName(handler.level)}, which {list_names(names)} would log",
            "setLevel(logging.NOTSET) on the handler: the loggers' levels are enough",
            tuple(names),
        )


def _find_filters(reaching: list[Way]) -> Iterator[Finding]:
    seen: set[int] = set()
    for way in reaching:
        # OpenTelemetry's own filters keep it from saying the same thing again and again.
        if way.logger.filters and not way.logger.name.startswith(_OF_THE_WAY_ITSELF):
            yield _filtered("logger.filter", _name(way.logger), way.logger.filters)
        for step in way.steps:
            if step.handler.filters and find_pipelines(step.handler, ()) and id(step.handler) not in seen:
                seen.add(id(step.handler))
                yield _filtered("handler.filter", type(step.handler).__name__, step.handler.filters)


def _filtered(code: str, subject: str, filters: Sequence[object]) -> Finding:
    names = list_names(getattr(one, "__name__", type(one).__name__) for one in filters)
    return Finding("note", code, subject, f"a filter ({names}) may turn records away", "nothing, if that is meant")
