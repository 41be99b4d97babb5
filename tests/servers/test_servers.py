"""Every server and mode of the table: what the processes have made is what has arrived, or is counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.servers.rows import ROWS, Row, run_cycle


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_record_made_is_delivered_or_counted(row: Row, tmp_path: Path) -> None:
    folders = [tmp_path / str(number) for number in range(row.cycles)]
    for folder in folders:
        folder.mkdir()
    # Servers mostly wait for each other, and for their own clocks.
    with ThreadPoolExecutor(row.cycles) as pool:
        for outcome in pool.map(lambda folder: run_cycle(row, folder), folders):
            assert outcome.delivered + outcome.counted + outcome.killed == outcome.made
            assert outcome.killed <= outcome.held
