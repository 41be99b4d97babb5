"""A web request and the Celery tasks that it starts are one trace, in every kind of pool, without a change of code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from otelog.testing import OTLPServer
from tests.servers.redis import running_redis
from tests.sizes import without_instrumentations
from tools.waiting import end_process, wait_until

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

pytest.importorskip("opentelemetry.instrumentation.celery")

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, "-m", "otelog.cli", "run", "--"]
PATIENCE = 120.0
MODULE = "tests.servers.traced_tasks"
TRACES = {kind: f"{number:032x}" for number, kind in enumerate(("good", "broken", "flaky", "slow"), 1)}
QUIET = ["--without-gossip", "--without-mingle", "--without-heartbeat"]

# By logger, the beginning of what is said.
SAID = {
    "good": [
        ("web", "asked for good"),
        ("celery.worker.strategy", f"Task {MODULE}.good received"),
        ("shop.tasks", "good good"),
        ("celery.app.trace", f"Task {MODULE}.good succeeded in"),
    ],
    "broken": [
        ("web", "asked for broken"),
        ("celery.worker.strategy", f"Task {MODULE}.broken received"),
        ("celery.app.trace", f"Task {MODULE}.broken raised unexpected: ValueError("),
    ],
    "flaky": [
        ("web", "asked for flaky"),
        ("celery.worker.strategy", f"Task {MODULE}.flaky received"),
        ("shop.tasks", "flaky flaky, 0"),
        ("celery.app.trace", f"Task {MODULE}.flaky retry: Retry in 1s: KeyError("),
        ("celery.worker.strategy", f"Task {MODULE}.flaky received"),
        ("shop.tasks", "flaky flaky, 1"),
        ("celery.app.trace", f"Task {MODULE}.flaky succeeded in"),
    ],
    "slow": [
        ("web", "asked for slow"),
        ("celery.worker.strategy", f"Task {MODULE}.slow received"),
        ("shop.tasks", "slow slow"),
    ],
}
SLOW = {
    "prefork": [
        ("celery.worker.request", "Hard time limit (1s) exceeded for"),
        ("celery.worker.request", "Task handler raised error: TimeLimitExceeded(1)"),
    ]
}


def list_records(server: OTLPServer) -> list[tuple[str, LogRecord]]:
    return [
        (scope.scope.name, record)
        for request in server.requests
        for resource in request.decode().resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def shorten(body: str) -> str:
    """What is said, without the task's id."""
    before, bracket, after = body.partition("[")
    return f"{before}{after.partition(']')[2]}" if bracket and body.startswith("Task ") else body


def has_come(server: OTLPServer, trace: str, count: int) -> bool:
    return sum(record.trace_id.hex() == trace for record in server.records) >= count


@pytest.mark.parametrize("pool", ["prefork", "solo", "threads"])
def test_a_request_and_its_tasks_are_one_trace(pool: str, tmp_path: Path) -> None:
    said = {
        **SAID,
        "slow": [*SAID["slow"], *SLOW.get(pool, [("celery.app.trace", f"Task {MODULE}.slow succeeded in")])],
    }
    with OTLPServer() as server, running_redis(tmp_path) as broker, (tmp_path / "log").open("wb") as log:
        environ = {
            **os.environ,
            **without_instrumentations("celery", "otelog_celery", "flask", "django"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint,
            "OTEL_METRICS_EXPORTER": "none",
            "PYTHONPATH": str(ROOT),
            "TRACED_TASKS_BROKER": broker,
            "TRACED_TASKS_POOL": pool,
        }
        command = [*RUN, "celery", "-A", MODULE, "worker", "-P", pool, "-c", "2", "-l", "INFO", *QUIET]
        worker = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log)
        try:
            asked = [*RUN, "python", "-m", MODULE, *TRACES.values()]
            subprocess.run(asked, cwd=ROOT, env=environ, check=True, capture_output=True, timeout=PATIENCE)
            for kind, trace in TRACES.items():
                wait_until(
                    lambda trace=trace, kind=kind: has_come(server, trace, len(said[kind])),
                    PATIENCE,
                    what=f"all of {kind}: {(tmp_path / 'log').read_text()}",
                )
        finally:
            end_process(worker, 30)
        records = [(logger, record) for logger, record in list_records(server) if not logger.startswith("kombu")]
    for kind, trace in TRACES.items():
        found = [(logger, shorten(one.body.string_value)) for logger, one in records if one.trace_id.hex() == trace]
        assert len(found) == len(said[kind]), found
        for logger, beginning in said[kind]:
            assert any(one[0] == logger and one[1].startswith(beginning) for one in found), (beginning, found)
    failed = Counter(
        next(pair.value.string_value for pair in record.attributes if pair.key == "exception.type").rpartition(".")[2]
        for _, record in records
        if any(pair.key == "exception.type" for pair in record.attributes)
    )
    # Celery hands over the one of the time limit in a wrapper of its pool's.
    assert failed == Counter({"ValueError": 1, **({"ExceptionWithTraceback": 1} if pool == "prefork" else {})})
    assert {logger for logger, record in records if not any(record.trace_id)} <= {
        "celery.apps.worker",
        "celery.worker.consumer.connection",
        "celery.pool",
        "multiprocessing",
        "celery.worker",
        "py.warnings",
    }
