"""What the demo's shop logs has the fields that the boards of requests and of AI answers ask for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("flask")
pytest.importorskip("opentelemetry.instrumentation.flask")

from tests.dashboards.grafana import targets

ROOT = Path(__file__).resolve().parents[2]
PREFIXES = ("gen_ai_", "http_", "request_id")
# A process of its own: the shop sets otelog and its loggers up for good.
SHOP = """
import json
from otelog.cli.demo import shop
from otelog.testing import capture_logs

with capture_logs() as logs:
    client = shop.create_shop().test_client()
    # A model that does not answer, now and then, has no tokens.
    for _ in range(20):
        client.post("/ai/answer", json={"question": "do you ship?"}).close()
print(json.dumps(sorted({key for record in logs for key in record.log_record.attributes or {}})))
"""


def fields_asked_for(board: str) -> set[str]:
    expressions = " ".join(target.expression for target in targets() if target.board == board)
    return {word for word in re.findall(r"\b[a-z]\w*_\w+\b", expressions) if word.startswith(PREFIXES)}


@pytest.fixture(scope="module")
def logged() -> set[str]:
    environ = {**os.environ, "OTEL_METRICS_EXPORTER": "none"}
    done = subprocess.run(
        [sys.executable, "-c", SHOP], cwd=ROOT, env=environ, stdout=subprocess.PIPE, check=True, encoding="utf-8"
    )
    return {key.replace(".", "_") for key in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("board", ["otelog-requests", "otelog-ai"])
def test_the_demo_has_the_fields_that_a_board_asks_for(board: str, logged: set[str]) -> None:
    asked = fields_asked_for(board)
    assert len(asked) >= 3
    assert asked - logged == set()
