"""Where the stack's own files are: in the package of an installed wheel, or at the root of a checkout."""

from __future__ import annotations

from pathlib import Path

from otelog.exceptions import OtelogError

_HERE = Path(__file__).resolve().parent


class StackError(OtelogError):
    """The stack cannot do what was asked; the message says why, and what to do."""


def find_files() -> Path:
    """Returns the folder with ``collector/``, ``dashboards/`` and ``docker-compose.yml`` in it.

    Raises:
        StackError: The installation lacks them.
    """
    for folder in (_HERE / "files", _HERE.parents[2]):
        if (folder / "collector" / "otelcol.yaml").is_file():
            return folder
    raise StackError("this installation lacks the stack's files: python -m pip install --force-reinstall otelog")
