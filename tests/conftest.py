"""For all tests: no thread outlives a test, and the environment says nothing of OpenTelemetry."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator

import hypothesis
import pytest

from tests.sizes import is_shared_out, sized
from tools.waiting import wait_until

THREAD_SECONDS = 10.0
AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
# These read otelog's source, or what belongs to servers.
UNCOVERING = ("tests/dashboards/", "tests/house/", "tests/rules/")

# What tests start finds modules compiled: otherwise each process would compile all of otelog anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Timing must not decide a test; examples are the same in every run, so that a failure is seen again.
hypothesis.settings.register_profile(
    "otelog", deadline=None, derandomize=True, database=None, max_examples=sized(40, full=100, brief=15)
)
hypothesis.settings.load_profile("otelog")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out another run's share; refuse ids that hold an address.

    With those the processes of one run could not tell that they collect the same tests.
    """
    left_out = [item for item in items if is_shared_out(item.nodeid)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not is_shared_out(item.nodeid)]
    covering = config.pluginmanager.hasplugin("_cov")
    for item in items:
        # A tracer doubles the time of many random values, which run no line that the other tests do not.
        if covering and (is_hypothesis_test(item) or item.nodeid.startswith(UNCOVERING)):
            item.add_marker(pytest.mark.no_cover)
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"the id of {item.nodeid} changes with every run: give the parameter an id")


def is_hypothesis_test(item: pytest.Item) -> bool:
    return hypothesis.is_hypothesis_test(getattr(item, "obj", None))


@pytest.fixture(autouse=True)
def no_thread_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread behind, after a bounded wait for those that are just ending."""
    before = set(threading.enumerate())
    yield

    def find_leaked() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in before]

    names = ", ".join(thread.name for thread in find_leaked())
    wait_until(lambda: not find_leaked(), THREAD_SECONDS, what=f"the end of the test's threads ({names})")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the developer's own settings from tests and from the processes that they start."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "OTELOG_")) or name.lower().endswith("_proxy") or name in AUTHORITIES:
            monkeypatch.delenv(name)
    # A MeterProvider lasts as long as the process, and so does its thread.
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
