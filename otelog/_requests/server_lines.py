"""What a server logs of a request that otelog has a record of: filters on the server's own loggers.

They keep from the pipeline what it has already; the server's other handlers, its console above all, get their lines as
ever, unless nobody wants these. Each can be taken off again, and lets everything else pass.
"""

from __future__ import annotations

import logging
import sys

from otelog._requests.console import hand_to_others, is_shown_by_exporter
from otelog._requests.exceptions import is_recorded

LOCAL = "local"
NOWHERE = "nowhere"
"""What a server's line may be for: its own handlers, or nothing at all."""


class RequestLines(logging.Filter):
    """Keeps the lines of requests that were marked from the pipeline: of those, and of no other application's."""

    def __init__(self) -> None:
        super().__init__()
        self.access_name = ""
        """The logger of the access records."""

    def keep_back(self, record: logging.LogRecord, purpose: str, status: object) -> bool:
        """Bring a line to where it is for; returns False, so that it goes nowhere else."""
        if purpose == LOCAL:
            # Where the console exporter shows the access record, one line a request is enough.
            level = logging.ERROR if str(status).startswith("5") else logging.INFO
            hand_to_others(record, but_console=is_shown_by_exporter(self.access_name, level))
        return False


class RecordedExceptions(logging.Filter):
    """Keeps from the pipeline what a server says of an exception that is recorded already.

    Its other handlers, the server's error log above all, get the record as ever.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.ERROR:
            return True
        # werkzeug writes the traceback into its message, while it handles the exception.
        error = record.exc_info[1] if record.exc_info else sys.exc_info()[1]
        if error is None or not is_recorded(error):
            return True
        if not hand_to_others(record) and logging.lastResort is not None:
            logging.lastResort.handle(record)
        return False


_recorded_exceptions = RecordedExceptions()


def drop_doubled_exceptions(names: tuple[str, ...]) -> None:
    """Have what servers say of recorded exceptions kept from the pipeline. Idempotent.

    Args:
        names: The loggers that they say it by.
    """
    for name in names:
        logging.getLogger(name).addFilter(_recorded_exceptions)
