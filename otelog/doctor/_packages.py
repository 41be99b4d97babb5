"""Whether what is installed fits together: instrumentations, and who sets OpenTelemetry up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, entry_points, version

from otelog._private.loguru import LOGURU_LINE, hands_on
from otelog.doctor._findings import Area, Finding, Severity, list_names, make_area

_INSTRUMENTATION = "opentelemetry-instrumentation-flask"


@dataclass(frozen=True, slots=True)
class Library:
    """A library whose work is to be in a trace, and what that needs.

    Args:
        name: Its distribution's, its instrumentation's entry point's, and our extra's.
        title: For messages.
        inside: What has no trace without.
        version: What is installed, or None.
        instrumentation: The version of its instrumentation, or None.
    """

    name: str
    title: str
    inside: str
    version: str | None = None
    instrumentation: str | None = None


_LIBRARIES = (
    Library("django", "Django", "a request"),
    Library("celery", "Celery", "a task"),
)


@dataclass(frozen=True, slots=True)
class Packages:
    """What is installed, as far as it matters.

    Args:
        flask: Flask's version, or None.
        flask_instrumentation: The version of its instrumentation, or None.
        distros: Names of the entry points that `opentelemetry-instrument` may begin with.
        configurators: Names of those that it may set the SDK up with.
        libraries: Other libraries than Flask.
        loguru: loguru's version, or None.
        loguru_hands_on: Whether it hands its records to anybody but a stream or a file; None where it is not loaded.
    """

    flask: str | None
    flask_instrumentation: str | None
    distros: tuple[str, ...]
    configurators: tuple[str, ...]
    libraries: tuple[Library, ...] = ()
    loguru: str | None = None
    loguru_hands_on: bool | None = None


def look_at_packages() -> Packages:
    """Returns what is installed in this environment."""
    return Packages(
        flask=_find_version("flask"),
        flask_instrumentation=_find_version(_INSTRUMENTATION),
        distros=_list_entry_points("opentelemetry_distro"),
        configurators=_list_entry_points("opentelemetry_configurator"),
        libraries=tuple(
            replace(
                one,
                version=_find_version(one.name),
                instrumentation=_find_version(f"opentelemetry-instrumentation-{one.name}"),
            )
            for one in _LIBRARIES
        ),
        loguru=_find_version("loguru"),
        loguru_hands_on=hands_on(),
    )


def check_packages(installed: Packages, variables: Mapping[str, str]) -> Area:
    """Judge what is installed.

    Args:
        installed: What is there.
        variables: OpenTelemetry's environment variables.
    """
    facts = []
    if installed.flask and installed.flask_instrumentation:
        facts.append(f"flask {installed.flask} has its instrumentation ({installed.flask_instrumentation})")
    facts += [
        f"{one.name} {one.version} has its instrumentation ({one.instrumentation})"
        for one in installed.libraries
        if one.version and one.instrumentation
    ]
    findings = [
        *_check_flask(installed, variables),
        *(finding for one in installed.libraries for finding in _check_library(one, variables)),
        *_check_loguru(installed),
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


def _check_library(library: Library, variables: Mapping[str, str]) -> Iterator[Finding]:
    if library.version is None:
        return
    if library.instrumentation is None:
        yield Finding(
            "warning",
            f"packages.{library.name}_not_instrumented",
            library.name,
            f"opentelemetry-instrumentation-{library.name} is not installed: records inside {library.inside} have no"
            " trace id",
            f"pip install 'otelog[{library.name}]'",
        )
    turned_off = variables.get("OTEL_PYTHON_DISABLED_INSTRUMENTATIONS", "")
    if {library.name, "*"} & {name.strip() for name in turned_off.split(",")}:
        yield Finding(
            "warning",
            f"packages.{library.name}_turned_off",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS",
            f"is {turned_off!r}: {library.title} is not instrumented: records inside {library.inside} have no trace id",
            f"take {library.name} out of it",
        )


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
