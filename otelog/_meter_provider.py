"""The MeterProvider that `otelog.configure` installs where there is none.

What it needs is imported in a thread of its own, beside `configure`: the imports cost as much as the rest of otelog.
It waits until the application has imported its own modules: one of them may set a provider, and Python tears apart two
threads that import the same packages from different ends. Instruments that are made before are connected then, by
OpenTelemetry's API; what an application's own counters are told until then is not counted. A process that ends earlier
waits for the thread, within `END_TIMEOUT`, so that the last counts are sent however short it lived.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics._internal import _ProxyMeterProvider
from opentelemetry.sdk.resources import Resource

from otelog._diagnostics import warn
from otelog._fork import watch
from otelog._loading import is_import_under_way, load_module
from otelog._opening import open_transport
from otelog._quiet import quiet
from otelog._stop import Latch
from otelog._threads import Lock, Thread, join, make_thread
from otelog._transport import TransportSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider

    from otelog._otlp_metrics import MetricSender

END_TIMEOUT = 2.0
"""Seconds that the process's end, or `otelog.shutdown`, may take for the last metrics, after the logs."""

START_DELAY = 0.5
"""Seconds that the imports leave to the application's own start; less if a flush or the end comes first."""

IMPORT_PATIENCE = 5.0
"""Seconds more until the application's imports must be through: it may run in one, as after `import server`."""

_POLL_INTERVAL = 0.02

TELLING_TIME = 0.2
"""Seconds of these that are kept for a request that was cut off to say so."""


def is_missing() -> bool:
    """Returns whether nobody has set a MeterProvider yet."""
    return isinstance(metrics.get_meter_provider(), _ProxyMeterProvider)


class MetricsPipeline:
    """Installs the provider, and ends it after the logs.

    Without the packages of otelog's extra ``metrics`` it does nothing, and says nothing: nobody asked for metrics.

    Args:
        settings: The metrics' endpoint.
        resource: Returns whose metrics they are; asked at each export, so that a forked child says its own.
        end_logs: Ends the pipelines of logs; idempotent.

    Thread safety: all public methods.
    """

    def __init__(
        self, settings: TransportSettings, resource: Callable[[], Resource], end_logs: Callable[[], object]
    ) -> None:
        self._settings = settings
        self._transport = open_transport(settings)
        self._resource = resource
        self._end_logs = end_logs
        self._provider: MeterProvider | None = None
        self._sender: MetricSender | None = None
        self._periodic = False
        self._ending = self._ended = False
        self._thread: Thread | None = None
        self._installing = Lock()
        self._wanted = Latch()
        watch(self)
        self._start_thread()

    def _start_thread(self) -> None:
        thread = make_thread(self._install_quietly, "otelog-metrics")
        try:
            thread.start()
        except RuntimeError:
            # No thread can be had: the end installs it.
            return
        self._thread = thread

    def redirect(self, settings: TransportSettings, resource: Callable[[], Resource]) -> None:
        """Send to another endpoint, in another name, from now on."""
        old, self._transport = self._transport, open_transport(settings)
        self._settings, self._resource = settings, resource
        with self._installing:
            if self._sender is not None:
                self._sender.transport, self._sender.resource = self._transport, resource
        old.close()

    def _install_quietly(self) -> None:
        self._wanted.wait(START_DELAY)
        self._await_imports()
        try:
            with quiet():
                self._install()
        except Exception as error:
            warn("metrics", f"{type(error).__name__} while a MeterProvider was made: {error}")

    def _await_imports(self) -> None:
        deadline = time.monotonic() + IMPORT_PATIENCE
        while is_import_under_way() and time.monotonic() < deadline and not self._wanted.wait(_POLL_INTERVAL):
            pass

    def _install(self) -> None:
        try:
            module: Any = load_module("otelog._otlp_metrics")
        except ImportError:
            return
        with self._installing:
            if self._provider is not None or self._ended or not is_missing():
                return
            sender = module.MetricSender(self._transport, self._resource, self._settings.timeout)
            self._periodic = not self._ending
            try:
                provider = module.make_provider(sender, periodic=self._periodic)
            except RuntimeError:
                # No thread can be had; Python 3.12 and later have none for whoever comes at the interpreter's end.
                self._periodic = False
                provider = module.make_provider(sender, periodic=False)
            metrics.set_meter_provider(provider)
            self._sender, self._provider = sender, provider

    def flush(self, timeout: float) -> None:
        """Send the counts as they are now.

        Args:
            timeout: Seconds, `END_TIMEOUT` at most.
        """
        timeout = min(timeout, END_TIMEOUT)
        deadline = time.monotonic() + timeout
        self._await_installation(deadline)
        sender = self._sender
        if sender is None or timeout <= 0 or self._ended:
            return
        # Callbacks of the application's own instruments are called: they must not hold up a shutdown.
        thread = make_thread(self._collect, "otelog-metrics-flush")
        sender.hurry(deadline - TELLING_TIME)
        try:
            thread.start()
            join(thread, max(0.0, deadline - time.monotonic()))
        except RuntimeError:
            return
        finally:
            sender.calm_down()

    def _collect(self) -> None:
        try:
            assert self._provider is not None
            self._provider.force_flush(END_TIMEOUT * 1000)
        except Exception as error:
            warn("metrics", f"{type(error).__name__} while metrics were collected: {error}")

    def _await_installation(self, deadline: float) -> None:
        self._wanted.set()
        if self._thread is not None:
            join(self._thread, max(0.0, deadline - time.monotonic()))

    def end_with_process(self) -> None:
        """End the logs first, whatever the order in which both are asked to; then send their last counts."""
        self._ending = True
        self._end_logs()
        deadline = time.monotonic() + END_TIMEOUT
        self._await_installation(deadline)
        if self._thread is None:
            self._install()
        with self._installing:
            ended, self._ended = self._ended, True
        if ended or self._provider is None or self._sender is None:
            return
        self._sender.hurry(deadline - TELLING_TIME)
        with quiet():
            if not self._periodic:
                self._collect()
            self._provider.shutdown(timeout_millis=max(1.0, (deadline - time.monotonic()) * 1000))

    def restart_after_fork(self) -> None:
        """Go on in a forked child, where the SDK's provider restarts itself, and a thread that installs one is gone."""
        self._installing = Lock()
        self._wanted = Latch()
        self._thread = None
        if self._provider is None and not self._ended:
            self._start_thread()
