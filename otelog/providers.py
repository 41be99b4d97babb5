"""`configure` and what ends it: a door to them for those who import them from here."""

from otelog._setup.configure import add_observer, configure, flush, get_logger, reset, shutdown, stats
from otelog._setup.state import is_configured, is_running, settings_in_force

__all__ = [
    "add_observer",
    "configure",
    "flush",
    "get_logger",
    "is_configured",
    "is_running",
    "reset",
    "settings_in_force",
    "shutdown",
    "stats",
]
