"""Whether what is installed fits together: instrumentations, and who sets OpenTelemetry up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, entry_points, version

from otelog._private.loguru import LOGURU_LINE, hands_on
from otelog._private.structlog import STRUCTLOG_LINE, reaches_nobody
from otelog._setup.state import settings_in_force
from otelog.doctor._findings import Area, Finding, Severity, list_names, make_area

_INSTRUMENTATION = "opentelemetry-instrumentation-flask"
# A framework, its instrumentation, and otelog's extra that brings it.
_OTHERS = (
    ("fastapi", "opentelemetry-instrumentation-fastapi", "fastapi"),
    ("starlette", "opentelemetry-instrumentation-starlette", "asgi"),
    ("quart", "opentelemetry-instrumentation-asgi", "asgi"),
    ("aiohttp", "opentelemetry-instrumentation-aiohttp-server", "aiohttp"),
    ("django", "opentelemetry-instrumentation-django", "django"),
    ("celery", "opentelemetry-instrumentation-celery", "celery"),
)


@dataclass(frozen=True, slots=True)
class Packages:
    """What is installed, as far as it matters.

    Args:
        flask: Flask's version, or None.
        flask_instrumentation: The version of its instrumentation, or None.
        distros: Names of the entry points that `opentelemetry-instrument` may begin with.
        configurators: Names of those that it may set the SDK up with.
        loguru: loguru's version, or None.
        others: Further frameworks' versions, with that of the instrumentation of each, or None.
        loguru_hands_on: Whether it hands its records to anybody but a stream or a file; None where it is not loaded.
        structlog: structlog's version, or None.
        structlog_reaches_nobody: Whether it writes its events itself; None where it is not loaded.
    """

    flask: str | None
    flask_instrumentation: str | None
    distros: tuple[str, ...]
    configurators: tuple[str, ...]
    loguru: str | None = None
    loguru_hands_on: bool | None = None
    structlog: str | None = None
    structlog_reaches_nobody: bool | None = None
    others: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)


def look_at_packages() -> Packages:
    """Returns what is installed in this environment."""
    return Packages(
        flask=_find_version("flask"),
        flask_instrumentation=_find_version(_INSTRUMENTATION),
        distros=_list_entry_points("opentelemetry_distro"),
        configurators=_list_entry_points("opentelemetry_configurator"),
        loguru=_find_version("loguru"),
        loguru_hands_on=True if _is_captured("capture_loguru") else hands_on(),
        structlog=_find_version("structlog"),
        structlog_reaches_nobody=False if _is_captured("capture_structlog") else reaches_nobody(),
        others={
            name: (found, _find_version(instrumentation))
            for name, instrumentation, _ in _OTHERS
            if (found := _find_version(name)) is not None
        },
    )


def _is_captured(option: str) -> bool:
    return bool(getattr(settings_in_force(), option, False))


def check_packages(installed: Packages, variables: Mapping[str, str]) -> Area:
    """Judge what is installed.

    Args:
        installed: What is there.
        variables: OpenTelemetry's environment variables.
    """
    facts = []
    if installed.flask and installed.flask_instrumentation:
        facts.append(f"flask {installed.flask} has its instrumentation ({installed.flask_instrumentation})")
    for name, (framework, instrumentation) in installed.others.items():
        if instrumentation is not None:
            facts.append(f"{name} {framework} has its instrumentation ({instrumentation})")
    findings = [
        *_check_flask(installed, variables),
        *_check_others(installed, variables),
        *_check_loguru(installed),
        *_check_structlog(installed),
        *_check_choice("distro", installed.distros, "OTEL_PYTHON_DISTRO", variables),
        *_check_choice("configurator", installed.configurators, "OTEL_PYTHON_CONFIGURATOR", variables),
    ]
    return make_area("packages", facts, findings)


def _check_flask(installed: Packages, variables: Mapping[str, str]) -> Iterator[Finding]:
    if installed.flask and not installed.flask_instrumentation:
        yield Finding(
            "warning",
            "packages.flask_not_instrumented",
            "flask",
            f"{_INSTRUMENTATION} is not installed: records inside a request have no trace id",
            "pip install 'otelog[flask]'",
        )
    turned_off = variables.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    if installed.flask and {"flask", "*"} & {name.strip() for name in turned_off.split(",")}:
        yield Finding(
            "warning",
            "packages.flask_turned_off",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
            f"is {turned_off!r}: Flask is not instrumented, and records inside a request have no trace id",
            "take flask out of it",
        )


def _check_others(installed: Packages, variables: Mapping[str, str]) -> Iterator[Finding]:
    turned_off = variables.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    off = {name.strip() for name in turned_off.split(",")}
    for name, instrumentation, extra in _OTHERS:
        if name not in installed.others:
            continue
        if installed.others[name][1] is None:
            # Starlette is there with FastAPI, and aiohttp with many a client.
            severity: Severity = "note" if name in ("starlette", "aiohttp") else "warning"
            yield Finding(
                severity,
                f"packages.{name}_not_instrumented",
                name,
                f"{instrumentation} is not installed: records inside {_name_work(name)} have no trace id",
                f"pip install 'otelog[{extra}]'",
            )
        elif {name, f"{name}-server", "*"} & off:
            yield Finding(
                "warning",
                f"packages.{name}_turned_off",
                "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
                f"is {turned_off!r}: {name} is not instrumented: records inside {_name_work(name)} have no trace id",
                f"take {name} out of it",
            )


def _name_work(library: str) -> str:
    return "a task" if library == "celery" else "a request"


def _check_loguru(installed: Packages) -> Iterator[Finding]:
    if installed.loguru is None or installed.loguru_hands_on:
        return
    if installed.loguru_hands_on is None:
        severity: Severity = "note"
        what = "is installed: its records reach otelog only if it hands them on"
    else:
        severity = "warning"
        what = "is loaded, and hands its records to nobody: they do not reach otelog"
    yield Finding(severity, "packages.loguru_not_captured", "loguru", what, LOGURU_LINE)


def _check_structlog(installed: Packages) -> Iterator[Finding]:
    if installed.structlog is None or installed.structlog_reaches_nobody is False:
        return
    if installed.structlog_reaches_nobody is None:
        severity: Severity = "note"
        what = "is installed: its events reach otelog only by a processor, or over logging"
    else:
        severity = "warning"
        what = "is loaded, and writes its events itself: they do not reach otelog"
    yield Finding(severity, "packages.structlog_not_captured", "structlog", what, STRUCTLOG_LINE)


def _check_choice(kind: str, names: tuple[str, ...], variable: str, variables: Mapping[str, str]) -> Iterator[Finding]:
    chosen = variables.get(variable, "").strip()
    if chosen and chosen not in names:
        yield Finding(
            "warning",
            f"packages.unknown_{kind}",
            variable,
            f"is {chosen!r}, which is not installed; there is {list_names(names) or 'none'}",
            f"install it, or set {variable} to one that is there",
        )
    elif len(names) > 1 and not chosen:
        yield Finding(
            "warning",
            f"packages.several_{kind}s",
            list_names(names),
            "are all installed: under opentelemetry-instrument "
            + (
                "otelog leaves the process to the others, unless it is chosen"
                if "otelog" in names
                else f"the first {kind} that it finds is taken"
            ),
            f"set {variable}={'otelog' if 'otelog' in names else names[0]}, or uninstall the others",
        )


def _find_version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _list_entry_points(group: str) -> tuple[str, ...]:
    return tuple(sorted({entry.name for entry in entry_points(group=group)}))
