"""The `otelog` command: its entry point, which needs the extra `cli`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the `otelog` command with the arguments of this process.

    Raises:
        SystemExit: Always; its code is the command's. Without the extra `cli` its message says what to install.
    """
    try:
        from otelog.cli.commands import otelog
    except ModuleNotFoundError as error:
        # Only click is imported so early; anything else that is missing is a broken installation and must show.
        if (error.name or "").partition(".")[0] != "click":
            raise
        sys.exit(f"otelog: the command line needs {error.name}: python -m pip install 'otelog[cli]'")
    otelog(prog_name="otelog")
