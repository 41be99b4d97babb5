"""What can be drilled: what happens, what tells of it, and when."""

from __future__ import annotations

from dataclasses import dataclass

SERVICE = "otelog-drill"
"""What the names of the services begin with that send what a drill needs: one a drill, so that none has a past."""


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill.

    Args:
        about: What it makes happen, in a line.
        alerts: Those that fire.
        board: The uid of the board that shows it.
        seen_on: What to look at there.
        within: Seconds until they fire at the latest.
        undone: How it is undone.
        ends: When the alerts end after that.
        traffic: Whether a process sends records for it; else a server of the stack is held.
        lasts: Whether it goes on until it is undone; else it has happened at once.
    """

    about: str
    alerts: tuple[str, ...]
    board: str
    seen_on: str
    within: float
    undone: str
    ends: str
    traffic: bool = True
    lasts: bool = False


DRILLS = {
    "overflow": Drill(
        about=f"{SERVICE} logs faster than its queue of 64 records is emptied",
        alerts=("OtelogRecordsLost",),
        board="otelog-ledger",
        seen_on="losses by reason: queue_full",
        within=45.0,
        undone="nothing is left to undo: it has ended",
        ends="10 minutes after the last loss",
    ),
    "error-burst": Drill(
        about=f"{SERVICE} logs 200 errors at once",
        alerts=("OtelogErrorBurst",),
        board="otelog-errors",
        seen_on="errors by service",
        within=30.0,
        undone="nothing is left to undo: it has ended",
        ends="10 minutes later",
    ),
    "loki-refusing": Drill(
        about=f"{SERVICE} logs three lines of 300 KB, which Loki does not keep (the Collector's files have them)",
        alerts=("OtelogLokiDiscards", "OtelogCollectorLoses"),
        board="otelog-backend",
        seen_on="what Loki discards: line_too_long",
        within=45.0,
        undone="nothing is left to undo: it has ended",
        ends="10 minutes later",
    ),
    "collector-down": Drill(
        about="the Collector's process stands still (SIGSTOP); applications keep their records meanwhile",
        alerts=("OtelogTargetDown",),
        board="otelog-backend",
        seen_on="targets",
        within=120.0,
        undone="the Collector goes on (SIGCONT)",
        ends="with the next scrape and evaluation",
        traffic=False,
        lasts=True,
    ),
    "silence": Drill(
        about=f"{SERVICE} logs 301 records in 12 s, then runs on and logs nothing",
        alerts=("OtelogLogSilence",),
        board="otelog-logs",
        seen_on="volume by service",
        within=12 * 60.0,
        undone=f"{SERVICE} logs again, and ends",
        ends="with the next scrape and evaluation",
        lasts=True,
    ),
}
"""By name."""
