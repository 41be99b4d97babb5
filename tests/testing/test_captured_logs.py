"""`capture_logs` as a collection: `assert logs` proves something."""

from __future__ import annotations

import logging

from otelog.testing import capture_logs


def test_it_is_false_and_empty_until_something_is_logged() -> None:
    with capture_logs() as logs:
        assert not logs
        assert len(logs) == 0
        assert list(logs) == []
        assert repr(logs) == "<CapturedLogs of 0: nothing was logged>"
        logging.getLogger("shop").info("paid")
        assert logs
        assert len(logs) == 1
    assert logs
    assert len(logs) == 1


def test_its_records_are_in_their_order() -> None:
    with capture_logs("DEBUG") as logs:
        for number in range(25):
            logging.getLogger("shop").debug("record %d", number)
    assert [record.log_record.body for record in logs] == [f"record {number}" for number in range(25)]
    assert list(logs) == logs.records
    assert logs[-1].log_record.body == "record 24"


def test_its_text_shows_levels_and_messages_of_the_first() -> None:
    with capture_logs() as logs:
        logging.getLogger("shop").warning("low stock")
        logging.getLogger("shop").error("broken\nline")
        assert repr(logs) == "<CapturedLogs of 2: WARNING 'low stock', ERROR 'broken\\nline'>"
        for number in range(20):
            logging.getLogger("shop").info("record %d", number)
    assert repr(logs).startswith("<CapturedLogs of 22: WARNING 'low stock', ")
    assert repr(logs).endswith(", INFO 'record 17', and 2 more>")
