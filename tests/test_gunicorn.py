"""gunicorn's hook; forks and ends of its workers are in tests/servers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from otelog.gunicorn import child_exit

pytest.importorskip("prometheus_client")


def test_the_gauges_of_a_worker_that_has_ended_are_taken_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    for name in ("gauge_livesum_71.db", "gauge_livesum_72.db", "counter_71.db"):
        (tmp_path / name).write_bytes(b"")
    child_exit(None, SimpleNamespace(pid=71))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["counter_71.db", "gauge_livesum_72.db"]


def test_without_shared_files_there_is_nothing_to_take_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    child_exit(None, SimpleNamespace(pid=71))
