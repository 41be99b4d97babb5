"""The counters of what became of every record, and three of the four places where they are read."""

from otelog._ledger.counters import ExporterStats, Stats

# Pickles of earlier releases have them from here.
__all__ = ["ExporterStats", "Stats"]
