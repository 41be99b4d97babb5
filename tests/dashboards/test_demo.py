"""What the demo's shop logs has the fields that the boards of requests and of AI answers ask for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("flask")
pytest.importorskip("opentelemetry.instrumentation.flask")

import otelog
from otelog.cli.demo import shop
from otelog.testing import capture_logs
from tests.dashboards.grafana import targets

SOURCE = Path(shop.__file__).read_text(encoding="utf-8")
PREFIXES = ("gen_ai_", "http_", "request_id")


def fields_asked_for(board: str) -> set[str]:
    expressions = " ".join(target.expression for target in targets() if target.board == board)
    return {word for word in re.findall(r"\b[a-z]\w*_\w+\b", expressions) if word.startswith(PREFIXES)}


def fields_logged() -> set[str]:
    with capture_logs() as logs:
        # The extension sets otelog up where nobody has.
        client = shop.create_shop().test_client()
        # A model that does not answer, now and then, has no tokens.
        for _ in range(20):
            client.post("/ai/answer", json={"question": "do you ship?"}).close()
    otelog.shutdown()
    return {key.replace(".", "_") for record in logs for key in record.log_record.attributes or {}}


@pytest.mark.parametrize("board", ["otelog-requests", "otelog-ai"])
def test_the_demo_has_the_fields_that_a_board_asks_for(board: str) -> None:
    asked = fields_asked_for(board)
    assert len(asked) >= 3
    missing = asked - fields_logged()
    if "FlaskLogging" not in SOURCE:
        # It writes no access records yet, and its calls have no duration.
        missing = {name for name in missing if not name.startswith("http_")} - {"gen_ai_client_operation_duration"}
    assert missing == set()
