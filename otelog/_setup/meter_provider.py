"""The MeterProvider that `otelog.configure` installs where there is none.

What it needs is imported in a thread of its own, beside `configure`: the imports cost as much as the rest of otelog.
It waits until the application has imported its own modules: one of them may set a provider, and Python tears apart two
threads that import the same packages from different ends. Instruments that are made before are connected then, by
OpenTelemetry's API; what an application's own counters count until then is not counted. A process that ends earlier
waits for the thread, within `END_TIMEOUT`, so that the last counts are sent however short it lived.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry import metrics
from opentelemetry.sdk.resources import Resource

from otelog._otlp.exchange import TransportSettings
from otelog._otlp.open import open_transport
from otelog._private.opentelemetry import is_unset_meter_provider
from otelog._runtime.diagnostics import warn
from otelog._runtime.late_import import is_import_under_way, load_module
from otelog._runtime.lifetime import watch_pipeline
from otelog._runtime.quiet import quiet
from otelog._runtime.threads import LateStart, Lock, Thread, join, start_thread
from otelog._runtime.waiting import Latch

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider

    from otelog._setup.metric_sender import MetricSender

END_TIMEOUT = 2.0
"""Seconds for the last metrics, after the logs: for `otelog.shutdown` and the end of the process together."""

LAST_WORD = 0.5
"""Seconds that the process's end has for them all the same: they say what the logs have lost in all of the time."""

START_DELAY = 0.5
"""Seconds that the imports leave to the application's own start; less if a flush or the end comes first."""

IMPORT_PATIENCE = 5.0
"""Seconds more until the application's imports must be through: it may run in one, as after `import server`."""

INSTALL_ATTEMPTS, INSTALL_PAUSE = 5, 1.0
"""How often the SDK's metrics are imported at most, and seconds between: what an import disturbs may be over then."""

_POLL_INTERVAL = 0.02

TELLING_TIME = 0.2
"""Seconds of these that are kept for a request that was cut off to say so."""


def is_missing() -> bool:
    """Returns whether nobody has set a MeterProvider yet."""
    return is_unset_meter_provider(metrics.get_meter_provider())


class Cadence(NamedTuple):
    """When metrics are collected.

    Args:
        interval: Seconds from the end of a collection to the next one.
        timeout: Seconds for each, with sending it.
    """

    interval: float
    timeout: float


class MetricsPipeline:
    """Installs the provider, and ends it after the logs.

    Without the packages of otelog's extra ``metrics`` it does nothing, and says nothing: nobody asked for metrics.

    Args:
        settings: The metrics' endpoint.
        cadence: When the metrics are collected.
        resource: Returns whose metrics they are; asked at each export, so that a forked child says its own.

    Thread safety: all public methods.
    """

    def __init__(
        self,
        settings: TransportSettings,
        cadence: Cadence,
        resource: Callable[[], Resource],
    ) -> None:
        self._settings = settings
        self._cadence = cadence
        self._transport = open_transport(settings)
        self._resource = resource
        self._provider: MeterProvider | None = None
        self._sender: MetricSender | None = None
        self._ended = False
        self._start()
        watch_pipeline(self)

    def _start(self) -> None:
        self._installing = Lock()
        self._collecting = Lock()
        self._wanted, self._installed, self._closing = Latch(), Latch(), Latch()
        self._time_left = END_TIMEOUT
        self._thread: Thread | None = None
        self._late_start = LateStart(self._start_late)
        self._start_thread()

    def _start_thread(self, *, plainly: bool = False) -> bool:
        # Where none can be had, the end does it all.
        self._thread = start_thread(self._work, "otelog-metrics", plainly=plainly)
        return self._thread is not None

    def _start_late(self) -> bool:
        return self._thread is not None or (not self._ended and self._start_thread(plainly=True))

    def tend(self, *_: object) -> None:
        """Start the thread if it could not be started before; called now and then."""
        if self._thread is None:
            self._late_start.try_again()

    def redirect(self, settings: TransportSettings, cadence: Cadence, resource: Callable[[], Resource]) -> None:
        """Send to another endpoint, in another name, from now on."""
        self._time_left = END_TIMEOUT
        old, self._transport = self._transport, open_transport(settings)
        self._settings, self._cadence, self._resource = settings, cadence, resource
        with self._installing:
            if self._sender is not None:
                self._sender.transport, self._sender.resource = self._transport, resource
        old.close()

    def _work(self) -> None:
        if self._provider is None:
            self._wanted.wait(START_DELAY)
            for left in reversed(range(INSTALL_ATTEMPTS)):
                self._await_imports()
                if self._install(is_last=left == 0) or self._closing.wait(INSTALL_PAUSE):
                    break
        self._installed.set()
        # Not by a thread of the SDK's, which under gevent is a greenlet, and one of this very thread.
        while self._provider is not None:
            try:
                if self._closing.wait(self._cadence.interval):
                    break
                self._collect(self._cadence.timeout)
            except MemoryError:
                # Short for the words about it, too: the metrics of this interval come with the next one's.
                continue
        self._close()

    def _close(self) -> None:
        if self._provider is not None:
            self._collect(END_TIMEOUT)
            with quiet():
                self._provider.shutdown()

    def _await_imports(self) -> None:
        deadline = time.monotonic() + IMPORT_PATIENCE
        while is_import_under_way() and time.monotonic() < deadline and not self._wanted.wait(_POLL_INTERVAL):
            pass

    def _install(self, *, is_last: bool) -> bool:
        """Returns whether there is no use in another attempt."""
        try:
            with quiet():
                self._make_provider(load_module("otelog._setup.metric_sender"))
        except ModuleNotFoundError:
            return True
        except Exception as error:
            # gevent, put in place by another thread meanwhile, changes by what an import knows its own locks.
            if not is_last:
                return False
            warn("metrics", f"{type(error).__name__} while a MeterProvider was made: {error}")
        return True

    def _make_provider(self, module: Any) -> None:
        with self._installing:
            if self._provider is not None or self._ended or not is_missing():
                return
            sender = module.MetricSender(self._transport, self._resource, self._settings.timeout)
            provider = module.make_provider(sender)
            metrics.set_meter_provider(provider)
            self._sender, self._provider = sender, provider

    def flush(self, timeout: float) -> None:
        """Send the counts as they are now.

        Args:
            timeout: Seconds; not more than is left of `END_TIMEOUT`.
        """
        began = time.monotonic()
        timeout = min(timeout, self._time_left)
        try:
            self._flush(began + timeout, timeout)
        finally:
            self._time_left = max(0.0, self._time_left - (time.monotonic() - began))

    def _flush(self, deadline: float, timeout: float) -> None:
        self.tend()
        self._await_installation(deadline)
        sender = self._sender
        if sender is None or timeout <= 0 or self._ended:
            return
        # Callbacks of the application's own instruments are called: they must not hold up a shutdown.
        sender.hurry(deadline - TELLING_TIME)
        try:
            thread = start_thread(lambda: self._collect(timeout), "otelog-metrics-flush")
            if thread is not None:
                join(thread, max(0.0, deadline - time.monotonic()))
        finally:
            sender.calm_down()

    def _collect(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        if not self._collecting.acquire(timeout=timeout):
            return
        try:
            assert self._provider is not None
            self._provider.force_flush(max(1.0, (deadline - time.monotonic()) * 1000))
        except Exception as error:
            warn("metrics", f"{type(error).__name__} while metrics were collected: {error}")
        finally:
            self._collecting.release()

    def _await_installation(self, deadline: float) -> None:
        self._wanted.set()
        if self._thread is not None:
            self._installed.wait(max(0.0, deadline - time.monotonic()))

    ends_last = True

    def has_work(self) -> bool:
        """Returns False: what it has is a picture of the others' work."""
        return False

    def nudge(self) -> None:
        """It sends when the logs have ended."""

    def deliver(self, deadline: float, *, last: bool) -> bool:
        """Send the counts as they are now, if they are the last; returns True, since the next ones hold them too."""
        if last:
            self.flush(deadline - time.monotonic())
        return True

    def end_with_process(self, deadline: float) -> None:
        """Send the last counts."""
        now = time.monotonic()
        deadline = max(min(deadline, now + self._time_left), now + LAST_WORD)
        self._await_installation(deadline)
        if self._thread is None and self._provider is None:
            self._install(is_last=True)
        with self._installing:
            ended, self._ended = self._ended, True
        if ended or self._provider is None or self._sender is None:
            return
        self._sender.hurry(deadline - TELLING_TIME)
        self._closing.set()
        if self._thread is None:
            self._close()
        else:
            # Callbacks of the application's own instruments are called there: they must not hold up the end.
            join(self._thread, max(0.0, deadline - time.monotonic()))

    def restart_after_fork(self) -> None:
        """Go on in a forked child, where the thread is gone, and nobody is in a hurry yet."""
        if self._sender is not None:
            self._sender.calm_down()
        if not self._ended:
            self._start()
