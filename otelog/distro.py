"""OpenTelemetry's entry points: what `opentelemetry-instrument` and `otelog run` set a process up with.

Both find every distribution's entry points, and may take otelog's though nobody chose it. Where another one is there or
chosen, otelog is a guest: its configurator and its distro do what the other's would do.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from opentelemetry.instrumentation.dependencies import DependencyConflictError
from opentelemetry.instrumentation.distro import BaseDistro

from otelog._config.resolve import choose_configurator, read_chosen_setup, wants_log_correlation
from otelog._patches import django_requests
from otelog._patches.django_settings import after_setup, put_middleware
from otelog._private.django_instrumentation import MIDDLEWARE, is_instrumented
from otelog._private.loguru import LOGURU_LINE, hands_on
from otelog._private.opentelemetry import find_sdk_configurator
from otelog._private.standard import call_before_atexit
from otelog._private.structlog import STRUCTLOG_LINE, reaches_nobody
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn
from otelog._setup.configure import configure, ensure_handler, keep_last_resort, shield_loggers
from otelog._setup.state import settings_in_force

__all__ = ["OtelogConfigurator", "OtelogDistro"]

_OWN = "otelog"
_DJANGO_ACCESS_LOG = "otelog.django.AccessLogMiddleware"
_DISTROS, _CONFIGURATORS = "opentelemetry_distro", "opentelemetry_configurator"


def is_chosen() -> bool:
    """Returns whether otelog is to set this process up: its name was chosen, or there is nobody else.

    A name that is not installed chooses nobody.
    """
    configurator, distro = read_chosen_setup()
    for group, chosen in ((_CONFIGURATORS, configurator), (_DISTROS, distro)):
        if any(entry.name == chosen for entry in entry_points(group=group)):
            return chosen == _OWN
    return not _list_others(_CONFIGURATORS) and not _list_others(_DISTROS)


def _list_others(group: str) -> list[EntryPoint]:
    return [entry for entry in entry_points(group=group) if entry.name != _OWN]


class OtelogConfigurator:
    """Calls `otelog.configure()`: environment and configuration file say the rest.

    Where another distribution is to set the process up, its configurator is called, or the SDK's own.
    """

    def configure(self, **kwargs: Any) -> None:
        """Set up the pipeline, the handler and the missing providers; see `otelog.configure` for what it raises.

        Nobody has asked for a change of what the application shows on its console.
        """
        if not is_chosen():
            factory = _find_configurator()
            if factory is not None:
                factory().configure(**kwargs)
                return
        keep_last_resort()
        configure()
        _prepare_frameworks()
        # Before that it is not known what the application does with it, and after loguru's own end not what it did.
        call_before_atexit(_tell_of_others)


def _prepare_frameworks() -> None:
    settings = settings_in_force()
    if settings is None:
        return
    try:
        from otelog.asgi.zero_code import prepare

        prepare(access_log=settings.access_log)
    except Exception as error:
        warn("zero-code", f"frameworks go on without otelog: {type(error).__name__}: {error}")


def _tell_of_others() -> None:
    """Say that loguru's records, or structlog's events, have reached nobody: they are in no ledger."""
    settings = settings_in_force()
    if hands_on() is False:
        warn(
            "loguru", f"loguru's records do not reach otelog: {LOGURU_LINE} brings them, or OTELOG_CAPTURE_LOGURU=true"
        )
    if reaches_nobody() and not (settings is not None and settings.capture_structlog):
        warn(
            "structlog",
            f"structlog's events do not reach otelog: {STRUCTLOG_LINE} brings them, or OTELOG_CAPTURE_STRUCTLOG=true",
        )


def _find_configurator() -> Any:
    """Returns the class of the configurator that would be taken without otelog's."""
    others = _list_others(_CONFIGURATORS)
    _, distro = read_chosen_setup()
    # Of several, the one that belongs to the distro.
    owners = {_owner(entry) for entry in _list_others(_DISTROS) if entry.name == distro}
    own = [entry for entry in others if _owner(entry) in owners]
    for entry in own or others:
        return entry.load()
    return find_sdk_configurator()


def _owner(entry: EntryPoint) -> str | None:
    return None if entry.dist is None else entry.dist.name


class OtelogDistro(BaseDistro):  # type: ignore[misc]
    """Loads the instrumentations, but none that would deliver every record a second time or stop the application.

    Where another distribution is to set the process up, its distro does everything.
    """

    _other: Any = None
    _is_guest = False

    def _configure(self, **kwargs: Any) -> None:
        if is_chosen():
            configurator, distro = read_chosen_setup()
            # Else the first configurator that is found would be taken, though the distro was chosen.
            if distro == _OWN and not configurator:
                choose_configurator(_OWN)
            # All the rest is the configurator's.
            return
        self._is_guest = True
        for entry in _list_others(_DISTROS):
            other = entry.load()()
            if isinstance(other, BaseDistro):
                self._other = other
                other.configure(**kwargs)
                return

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load one instrumentation; one that cannot be loaded is left out, with a line on standard error.

        That of `logging` adds an OpenTelemetry handler next to otelog's, and a record factory, which keeps every call
        from the short way: it is left out. With ``OTEL_PYTHON_LOG_CORRELATION=true`` somebody wants its factory: it is
        loaded without its handler. That of Django is loaded when Django has its settings.

        Raises:
            ModuleNotFoundError: The library is not there.
            DependencyConflictError: It is there in another version. OpenTelemetry passes over both, and says so.
        """
        if self._is_guest:
            load = super().load_instrumentor if self._other is None else self._other.load_instrumentor
            load(entry_point, **kwargs)
            return
        if entry_point.name == "logging":
            if not wants_log_correlation():
                return
            # An older one has no handler, and takes any keyword.
            kwargs["enable_log_auto_instrumentation"] = False
        if entry_point.name == "django":
            after_setup(lambda: self._load_late(entry_point, kwargs))
        else:
            self._load(entry_point, kwargs)

    def _load_late(self, entry_point: EntryPoint, kwargs: dict[str, Any]) -> None:
        # Called by the application, whom no exception must reach.
        try:
            # The application may have done it by itself.
            if not is_instrumented():
                self._load(entry_point, kwargs)
        except (ModuleNotFoundError, DependencyConflictError) as error:
            _leave_out(entry_point, error)
        django_requests.install()
        settings = settings_in_force()
        if settings is not None and settings.access_log:
            try:
                put_middleware(_DJANGO_ACCESS_LOG, MIDDLEWARE)
            except Exception as error:
                warn("django:access_log", f"there are no access records: {type(error).__name__}: {safe_str(error)}")

    def _load(self, entry_point: EntryPoint, kwargs: dict[str, Any]) -> None:
        try:
            entry_point.load()
        except ModuleNotFoundError:
            raise
        except (Exception, SystemExit) as error:
            _leave_out(entry_point, error)
            return
        try:
            super().load_instrumentor(entry_point, **kwargs)
            if entry_point.name == "flask":
                import flask

                from otelog._patches.flask_teardown import keep_context

                keep_context(flask.Flask)
                _outlive_modules(flask.logging.default_handler)
        except DependencyConflictError:
            raise
        except (Exception, SystemExit) as error:
            _leave_out(entry_point, error)
        # It may have loaded a library that asks for handlers. Its loggers are there before the application's own
        # configuration, which must not take them for loggers of the application that it is to disable.
        ensure_handler()
        shield_loggers()


def _leave_out(entry_point: EntryPoint, error: BaseException) -> None:
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    # One line, whatever the error says.
    warn(f"instrumentation:{entry_point.name}", f"{entry_point.name} is not instrumented: {' '.join(said.split())}")


def _outlive_modules(handler: logging.Handler) -> None:
    """Keep a handler until the interpreter has forgotten all modules.

    Flask is imported before a server that has gevent patch the locks, and so goes after it at the end: `logging` would
    take one of those locks, to forget the handler, when gevent is half gone, with a traceback for every worker.
    """
    if hasattr(os, "register_at_fork"):
        # What it holds is let go last of all; there is no call that does nothing but hold.
        os.register_at_fork(after_in_parent=partial(id, handler))
