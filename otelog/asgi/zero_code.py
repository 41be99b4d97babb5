"""What applications of ASGI frameworks get under `otelog run`, where their own code says nothing of otelog."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from wrapt import register_post_import_hook

from otelog._config.resolve import is_instrumentation_disabled
from otelog._patches import asgi_calls, asgi_lines, asgi_spans
from otelog._record.values import safe_str
from otelog._runtime.diagnostics import warn

_LAYER = "_otelog_access_log"
# The module and the class of a framework.
_CLASSES = (("starlette.applications", "Starlette"), ("fastapi.applications", "FastAPI"), ("quart.app", "Quart"))


def prepare(*, access_log: bool) -> None:
    """Have frameworks prepared when they are loaded, or now if they are.

    Quart's applications, for which OpenTelemetry has no instrumentation, get a span for each request.

    Args:
        access_log: Whether applications get access records, too.
    """
    for module_name in asgi_lines.MODULES:
        # A server may be loaded when all loggers are there, and nothing else tells of it.
        register_post_import_hook(_install_lines, module_name)
    register_post_import_hook(_trace_quart, "quart.app")
    if access_log:
        for module_name, _ in _CLASSES:
            # After the other one: who hooks last is around it.
            register_post_import_hook(_log_accesses, module_name)


def _install_lines(_: Any) -> None:
    asgi_lines.install()


def _trace_quart(module: Any) -> None:
    if is_instrumentation_disabled("quart") or find_spec("opentelemetry.instrumentation.asgi") is None:
        return
    try:
        from opentelemetry.util.http import get_excluded_urls

        asgi_calls.trace_calls(module.Quart, get_excluded_urls("QUART"))
        asgi_spans.install()
        asgi_lines.install()
    except Exception as error:
        warn("zero-code:quart", f"quart is not instrumented: {type(error).__name__}: {safe_str(error)}")


def _log_accesses(module: Any) -> None:
    owner = getattr(module, dict(_CLASSES)[module.__name__], None)
    if owner is not None:
        asgi_calls.layer_calls(owner, f"{_LAYER}_{owner.__name__}", _make_layer)


def _make_layer(bare: Any, app: Any) -> Any:
    # Late: it may configure otelog, which is being set up while frameworks are loaded.
    from otelog.asgi.middleware import AccessLog

    return AccessLog(bare, instrument=False)
