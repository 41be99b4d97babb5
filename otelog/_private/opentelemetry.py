"""Private names of OpenTelemetry's API and SDK that are read, and what is done where a release has none of that name.

Every name that otelog uses is in `NAMES`, so that a test sees when one has gone from the SDK that is pinned.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from importlib import import_module
from types import FrameType
from typing import Any

from opentelemetry import _logs, context, metrics, trace
from opentelemetry.sdk.resources import Resource

__all__ = [
    "NAMES",
    "SPAN_KEY",
    "SUPPRESS_INSTRUMENTATION_KEY",
    "add_to_resource",
    "current_context",
    "current_metric_reader",
    "find_sdk_configurator",
    "has_fork_hook",
    "is_asgi_middleware",
    "is_unset_logger_provider",
    "is_unset_meter_provider",
    "processors_of",
    "remove_processor",
    "replace_resource",
    "sdk_counts_created",
    "swap_logger_provider",
]

NAMES: tuple[tuple[str, str], ...] = (
    ("opentelemetry.context", "_RUNTIME_CONTEXT"),
    ("opentelemetry.context", "_SUPPRESS_INSTRUMENTATION_KEY"),
    ("opentelemetry.trace.propagation", "_SPAN_KEY"),
    ("opentelemetry._logs._internal", "ProxyLoggerProvider"),
    ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
    ("opentelemetry.metrics._internal", "_ProxyMeterProvider"),
)
"""Modules, and the names in them that are read here."""

_MISSING: Any = object()


def _find(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name, _MISSING)
    except ImportError:
        return _MISSING


def _find_span_key() -> str:
    key = _find("opentelemetry.trace.propagation", "_SPAN_KEY")
    if isinstance(key, str):
        return key
    # What the public function puts into an empty context.
    span = trace.INVALID_SPAN
    holding = trace.set_span_in_context(span, context.Context())
    return next((key for key, value in holding.items() if value is span), "current-span")


SPAN_KEY: str = _find_span_key()
"""Where a context keeps its span."""


def _find_suppress_key() -> str:
    key = _find("opentelemetry.context", "_SUPPRESS_INSTRUMENTATION_KEY")
    # The older, plain name is still asked for by the instrumentations.
    return key if isinstance(key, str) else "suppress_instrumentation"


SUPPRESS_INSTRUMENTATION_KEY: str = _find_suppress_key()
"""What is true in a context in which nothing is to be traced."""


def _find_current_context() -> Callable[[], Mapping[str, Any]]:
    # The ContextVar itself, two calls below get_current(); another runtime context keeps the public way.
    runtime = _find("opentelemetry.context", "_RUNTIME_CONTEXT")
    kind = _find("opentelemetry.context.contextvars_context", "ContextVarsRuntimeContext")
    variable = getattr(runtime, "_current_context", None)
    if type(runtime) is kind and isinstance(variable, ContextVar):
        return variable.get
    return context.get_current


current_context: Callable[[], Mapping[str, Any]] = _find_current_context()
"""Returns the current context."""

_PROXY_LOGGER_PROVIDER = _find("opentelemetry._logs._internal", "ProxyLoggerProvider")
_PROXY_METER_PROVIDER = _find("opentelemetry.metrics._internal", "_ProxyMeterProvider")


def is_unset_logger_provider(provider: object) -> bool:
    """Returns whether this is the API's own, which stands for the one that somebody will set."""
    if isinstance(_PROXY_LOGGER_PROVIDER, type):
        return isinstance(provider, _PROXY_LOGGER_PROVIDER)
    return _is_of_api(provider, _logs.LoggerProvider, _logs.NoOpLoggerProvider)


def is_unset_meter_provider(provider: object) -> bool:
    """Returns whether this is the API's own, which stands for the one that somebody will set."""
    if isinstance(_PROXY_METER_PROVIDER, type):
        return isinstance(provider, _PROXY_METER_PROVIDER)
    return _is_of_api(provider, metrics.MeterProvider, metrics.NoOpMeterProvider)


def _is_of_api(provider: object, base: type, off: type) -> bool:
    # The API has three: the abstract one, the one that does nothing, and the stand-in.
    return type(provider).__module__.startswith(base.__module__) and type(provider) is not off


def swap_logger_provider(new: Any) -> tuple[bool, Any]:
    """Put another global LoggerProvider in place, as often as needed: the API's own way can be gone once only.

    Returns:
        Whether that could be done, and the one that was there before; None: nobody had set one.
    """
    before = _find("opentelemetry._logs._internal", "_LOGGER_PROVIDER")
    if before is _MISSING:
        return False, None
    module: Any = import_module("opentelemetry._logs._internal")
    module._LOGGER_PROVIDER = new
    return True, before


def processors_of(provider: object) -> tuple[Any, ...]:
    """Returns the processors that a LoggerProvider or a combining processor of the SDK's hands its records to."""
    several: Any = getattr(provider, "_multi_log_record_processor", provider)
    known: Iterable[Any] = getattr(several, "_log_record_processors", ())
    return tuple(known)


def remove_processor(provider: object, processor: object) -> None:
    """Take a processor off a LoggerProvider, which has no public way; where it cannot be done, it stays."""
    several: Any = getattr(provider, "_multi_log_record_processor", None)
    if hasattr(several, "_lock") and hasattr(several, "_log_record_processors"):
        with several._lock:
            several._log_record_processors = tuple(
                known for known in several._log_record_processors if known is not processor
            )


def replace_resource(provider: Any, resource: Resource) -> None:
    """Have a LoggerProvider's loggers say this resource from now on; where it cannot be done, they keep theirs."""
    if hasattr(provider, "_update_resource"):
        # What it is given here it merges into what it has.
        if hasattr(provider, "_resource"):
            provider._resource = Resource.get_empty()
        provider._update_resource(resource)


def add_to_resource(provider: Any, resource: Resource) -> None:
    """Have a LoggerProvider's loggers say this beside what they say; where it cannot be done, nothing changes."""
    if hasattr(provider, "_update_resource"):
        provider._update_resource(resource)


def has_fork_hook(provider: Any) -> bool:
    """Returns whether a provider itself looks after its copy in a forked child."""
    return hasattr(provider, "_handle_fork")


_MOST_FRAMES = 12
"""Between an instrument's callback and the collection that calls it."""


def current_metric_reader() -> object | None:
    """Returns the reader that is collecting now; called by an instrument's callback.

    A callback is not told who collects. None: it is not to be found, as with a provider that is not the SDK's.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(_MOST_FRAMES):
        if frame is None:
            return None
        if "metric_reader" in frame.f_code.co_varnames and _is_of_sdk_metrics(frame):
            return frame.f_locals.get("metric_reader")
        frame = frame.f_back
    return None


def _is_of_sdk_metrics(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith("opentelemetry.sdk.metrics.")


def find_sdk_configurator() -> Any:
    """Returns the class of the SDK's own configurator; None: there is none."""
    found = _find("opentelemetry.sdk._configuration", "_OTelSDKConfigurator")
    return None if found is _MISSING else found


def sdk_counts_created() -> bool:
    """Returns whether the SDK's Logger counts the records that pass through it.

    It began to without an option, and then made it one; releases before that do not.
    """
    # Its own module, which only a release that counts has.
    if _find("opentelemetry.sdk._logs._internal._logger_metrics", "__name__") is _MISSING:
        return False
    parse = _find("opentelemetry.sdk.environment_variables._internal", "parse_boolean_environment_variable")
    return True if parse is _MISSING else bool(parse("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"))


def is_asgi_middleware(app: Any) -> bool:
    """Returns whether a middleware of opentelemetry-instrumentation-asgi is in a chain of ASGI applications."""
    seen: set[int] = set()
    while app is not None and id(app) not in seen:
        seen.add(id(app))
        kind = type(app)
        if kind.__name__ == "OpenTelemetryMiddleware" and kind.__module__.startswith("opentelemetry."):
            return True
        app = getattr(app, "app", None)
    return False
