"""The page *Flask to Grafana in ten minutes* up to the stack, followed in terminals, in the tests' own environment."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.sizes import without_instrumentations
from tools.first_hour import read_first_part
from tools.walkthrough import Ports, Reader, make_environ, make_replaced


def test_every_command_of_the_page_works_and_shows_what_the_page_says(tmp_path: Path) -> None:
    ports = Ports()
    environ = make_environ(Path(sys.executable).parent, ports) | without_instrumentations("flask")
    with Reader(tmp_path, environ, make_replaced(ports)) as reader:
        reader.follow(read_first_part())
    records = [json.loads(line) for line in (tmp_path / "otelog-dev" / "app.log").read_text("utf-8").splitlines()]
    shop = [record for record in records if record["logger"] == "shop"]
    assert [record["message"] for record in shop] == [
        "order 7 is asked for",
        "order 700 is asked for",
        "order 700 is not known",
        "order 8 is asked for",
    ]
    seven, asked, unknown, eight = (record["trace_id"] for record in shop)
    assert asked == unknown
    assert len({seven, asked, eight}) == 3
    (access,) = (record for record in records if record["logger"] == "otelog.flask.access")
    assert (access["trace_id"], access["tenant"]) == (eight, "north")
