"""`python -m otelog.cli`, for where the script is not on PATH."""

from __future__ import annotations

from otelog.cli import main

if __name__ == "__main__":
    main()
