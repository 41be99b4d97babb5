"""Every server and mode of the table: what the processes have made is what has arrived, or is counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.rows import ROWS, Row, run_cycle
from tests.sizes import FULL


def test_what_is_left_out_is_within_a_row_that_is_run() -> None:
    run = {row.name for row in ROWS if not row.within}
    assert {row.within for row in ROWS if row.within} <= run


@pytest.mark.parametrize("row", [row for row in ROWS if FULL or not row.within], ids=lambda row: row.name)
def test_every_record_made_is_delivered_or_counted(row: Row, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(row.cycles)]
    for folder in folders:
        folder.mkdir()
    # Servers mostly wait for each other, and for their own clocks.
    with ThreadPoolExecutor(row.cycles) as pool:
        for outcome in pool.map(lambda folder: run_cycle(row, folder), folders):
            assert outcome.delivered + outcome.counted + outcome.killed == outcome.made
            assert outcome.killed <= outcome.held
