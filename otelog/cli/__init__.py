"""The `otelog` command: its entry point, which needs the extra `cli`."""

from __future__ import annotations

import sys

from otelog.cli.extras import EXIT_MISSING, advise, find_missing

__all__ = ["main"]


def main() -> None:
    """Run the `otelog` command with the arguments of this process.

    Raises:
        SystemExit: Always; its code is the command's. Without click it is 2, and standard error says what to install.
    """
    try:
        from otelog.cli.commands import otelog
    except ImportError as error:
        # Only click is imported so early; anything else that is missing is a broken installation and must show.
        missing = find_missing(error)
        if missing != "click":
            raise
        print(f"Error: {advise(next(iter(sys.argv[1:]), None), missing)}", file=sys.stderr)
        sys.exit(EXIT_MISSING)
    otelog(prog_name="otelog")
