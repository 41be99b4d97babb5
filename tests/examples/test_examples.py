"""Every example works as its README says, and its records arrive: how many, and what is in them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.examples.following import EXAMPLES, Record, follow, messages, of_logger, read_records


def test_each_example_has_a_readme_and_a_test() -> None:
    examples = {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    tested = set(re.findall(r'follow\("([\w-]+)"', Path(__file__).read_text(encoding="utf-8")))
    assert examples == tested
    assert all((EXAMPLES / name / "README.md").is_file() for name in examples)


def test_the_flask_shop(tmp_path: Path) -> None:
    records = read_records(follow("flask-shop", tmp_path) / "otelog-dev" / "app.log")
    shop = [record for record in records if record["logger"].startswith(("shop.", "otelog.flask"))]
    requests: dict[str, list[Record]] = {}
    for record in shop:
        requests.setdefault(record["trace_id"], []).append(record)
    looked, ordered, refused = requests.values()
    assert messages(looked) == ["lamp is looked at", "GET /catalogue/<item> 200"]
    assert [record["logger"] for record in ordered] == ["shop.orders", "shop.orders", "otelog.flask.access"]
    assert messages(ordered)[1:] == ["order placed", "POST /orders/ 201"]
    assert {record["tenant"] for record in ordered} == {"north"}
    assert (ordered[1]["item"], ordered[1]["amount"], ordered[0]["outcome"]) == ("lamp", 49.5, "success")
    assert ordered[0]["item"] == "lamp"
    assert messages(refused) == ["out of stock: chair", "POST /orders/ 409"]
    assert {record["request.id"] for record in refused} == {"order-17"}


def test_dictconfig_in_an_existing_project(tmp_path: Path) -> None:
    folder = follow("dictconfig", tmp_path)
    records = read_records(folder / "otelog-dev" / "app.log")
    assert Counter(messages(records)) == Counter(
        [
            "charging ada",
            "charged ada with 12.50",
            "charging grace",
            "charged grace with 120.00",
            "grace pays much",
            "done",
        ]
    )
    (warning,) = (record for record in records if record["level"] == "WARNING")
    assert (warning["amount"], warning["service.name"]) == (120.0, "billing")
    assert len((folder / "audit.log").read_text(encoding="utf-8").splitlines()) == 2


def test_several_exporters_in_yaml(tmp_path: Path) -> None:
    folder = follow("exporters-yaml", tmp_path)
    everything = ["the shop is open", "paid", "paid late", "card refused"]
    assert messages(read_records(folder / "otelog-dev" / "app.log")) == everything
    assert messages(read_records(folder / "logs" / "app.log")) == everything
    assert messages(read_records(folder / "logs" / "errors.log")) == ["card refused"]
    assert messages(read_records(folder / "logs" / "payments" / "app.log")) == everything[1:]


def test_gunicorn_with_workers(tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    records = read_records(follow("gunicorn", tmp_path) / "otelog-dev" / "app.log")
    requests: dict[str, list[Record]] = {}
    for record in of_logger(records, "shop", "otelog.flask.access"):
        requests.setdefault(record["trace_id"], []).append(record)
    assert len(requests) == 40
    said = []
    for both in requests.values():
        own, access = both
        said.append(own["message"])
        assert access["message"] == "GET /orders/<int:number> 200"
        assert own["service.instance.id"] == access["service.instance.id"]
    assert sorted(said) == sorted(f"order {number} is asked for" for number in range(1, 41))


def test_what_the_queue_listener_loses_in_silence_is_counted(tmp_path: Path) -> None:
    folder = follow("queuelistener", tmp_path)
    done = subprocess.run(
        [sys.executable, "compare.py"], cwd=folder, capture_output=True, encoding="utf-8", timeout=300, check=True
    )
    rows: dict[tuple[str, str], list[int]] = {}
    for line in done.stdout.splitlines()[1:]:
        found = re.fullmatch(r"(.+?)\s+(\w+\.py)\s+([\d,]+)\s+([\d,]+)\s+([\d,]+)\s+([\d,]+)", line)
        assert found, line
        rows[found[1], found[2]] = [int(figure.replace(",", "")) for figure in found.groups()[2:]]
    assert len(rows) == 6
    for (what, program), (logged, arrived, reported, silent) in rows.items():
        assert logged == arrived + reported + silent
        if program == "before.py":
            assert (reported, silent > 0) == (0, True), what
        else:
            assert silent == 0, what
    # A queue of 500, whose bound is what it is for both.
    assert rows["more at once than the queue holds", "before.py"][1] >= 500
    assert rows["more at once than the queue holds", "after.py"][2] > 0
    assert rows["SIGTERM", "after.py"] == [300, 300, 0, 0]
    assert rows["the server is away", "after.py"] == [300, 0, 300, 0]
