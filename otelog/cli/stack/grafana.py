"""A provisioning folder for a Grafana of one's own, beside a native stack: natively there is none."""

from __future__ import annotations

from pathlib import Path

from otelog.cli.stack.files import StackError
from otelog.cli.stack.settings import HOST, Settings

_IN_COMPOSE = {"http://loki:3100": "loki", "http://prometheus:9090": "prometheus", "http://jaeger:16686": "jaeger"}
_BOARDS = "/etc/otelog/dashboards"


def find_provisioning(folder: Path) -> Path:
    """Returns where the provisioning folder of a stack's folder is."""
    return folder.resolve() / "grafana" / "provisioning"


def write_provisioning(files: Path, folder: Path, settings: Settings) -> None:
    """Write the data sources and the boards' provider with this machine's addresses.

    Args:
        files: The stack's files.
        folder: The stack's folder.
        settings: Where its servers answer.

    Raises:
        StackError: They cannot be written.
    """
    boards = (files / "dashboards").resolve()
    try:
        for path in sorted((boards / "provisioning").glob("*/*.yaml")):
            text = path.read_text(encoding="utf-8").replace(_BOARDS, str(boards))
            for address, port in _IN_COMPOSE.items():
                text = text.replace(address, f"http://{HOST}:{settings.ports[port]}")
            new = find_provisioning(folder) / path.parent.name / path.name
            new.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StackError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from error
