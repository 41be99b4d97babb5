"""OpenTelemetry's entry points: what `opentelemetry-instrument` and `otelog run` set a process up with."""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry.instrumentation.distro import BaseDistro

from otelog._config import wants_log_correlation
from otelog.providers import configure, ensure_handler, keep_last_resort, shield_loggers

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["OtelogConfigurator", "OtelogDistro"]


class OtelogConfigurator:
    """Calls `otelog.configure()`: environment and configuration file say the rest."""

    def configure(self, **_: Any) -> None:
        """Set up the pipeline, the handler and the missing providers; see `otelog.configure` for what it raises.

        Nobody has asked for a change of what the application shows on its console.
        """
        keep_last_resort()
        configure()


class OtelogDistro(BaseDistro):  # type: ignore[misc]
    """Loads the instrumentations, but none that would deliver every record a second time."""

    def _configure(self, **_: Any) -> None:
        # All of it is the configurator's.
        pass

    def load_instrumentor(self, entry_point: EntryPoint, **kwargs: Any) -> None:
        """Load one instrumentation.

        That of `logging` adds an OpenTelemetry handler next to otelog's, and a record factory, which keeps every call
        from the short way: it is left out. With ``OTEL_PYTHON_LOG_CORRELATION=true`` somebody wants its factory: it is
        loaded without its handler.
        """
        if entry_point.name == "logging":
            if not wants_log_correlation():
                return
            # An older one has no handler, and takes any keyword.
            kwargs["enable_log_auto_instrumentation"] = False
        super().load_instrumentor(entry_point, **kwargs)
        if entry_point.name == "flask":
            import flask

            from otelog._flask_teardown import keep_context

            keep_context(flask.Flask)
            _outlive_modules(flask.logging.default_handler)
        # It may have loaded a library that asks for handlers. Its loggers are there before the application's own
        # configuration, which must not take them for loggers of the application that it is to disable.
        ensure_handler()
        shield_loggers()


def _outlive_modules(handler: logging.Handler) -> None:
    """Keep a handler until the interpreter has forgotten all modules.

    Flask is imported before a server that has gevent patch the locks, and so goes after it at the end: `logging` would
    take one of those locks, to forget the handler, when gevent is half gone, with a traceback for every worker.
    """
    if hasattr(os, "register_at_fork"):
        # What it holds is let go last of all; there is no call that does nothing but hold.
        os.register_at_fork(after_in_parent=partial(id, handler))
