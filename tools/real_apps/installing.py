"""A virtual environment for an application, apart from any other."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def find_own(checkout: Path, extra: str | None = None) -> str:
    """This otelog, with what the application's framework needs: Django's, if it has a manage.py, or else Flask's."""
    framework = extra or ("django" if (checkout / "manage.py").is_file() else "flask")
    return f"{ROOT}[{framework},metrics,gzip]"


def default_venv(checkout: Path) -> Path:
    """Where an application's virtual environment is: in the user's cache, by the checkout's place."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelog" / "real-apps"
    return cache / f"{checkout.name}-{hashlib.sha256(str(checkout).encode()).hexdigest()[:8]}"


def install(venv: Path, checkout: Path, more: list[str], say: Callable[[str], None], extra: str | None) -> Path:
    """Make the virtual environment if it is not there, and install the application's requirements, gunicorn and otelog.

    The application itself is not installed: it is run from its checkout.

    Args:
        venv: The environment's folder.
        checkout: The application's, with a requirements.txt or a pyproject.toml.
        more: Further requirements.
        say: Called with what is being done.
        extra: otelog's for the framework; None: Django's or Flask's.

    Returns:
        Its interpreter.

    Raises:
        subprocess.CalledProcessError: pip, or the making of the environment, failed.
    """
    python = venv / "bin" / "python"
    if not python.exists():
        say(f"making {venv}")
        venv.parent.mkdir(parents=True, exist_ok=True)
        # The pip that comes with Python 3.11 finds no way through OpenTelemetry's pins where a newer one does.
        subprocess.run([sys.executable, "-m", "venv", "--upgrade-deps", str(venv)], check=True, capture_output=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    wanted = find_requirements(checkout)
    if wanted:
        say("installing what the application requires")
        subprocess.run([*pip, *wanted], check=True, cwd=checkout)
    say("installing gunicorn and this otelog")
    # After the application's own, so that its pins are there first; pip says what does not go together.
    subprocess.run([*pip, "gunicorn", *more, "--editable", find_own(checkout, extra)], check=True)
    return python


def find_requirements(checkout: Path) -> list[str]:
    """What pip installs for an application: its requirements.txt, or (Python 3.11) its project's."""
    if (checkout / "requirements.txt").is_file():
        return ["--requirement", "requirements.txt"]
    if sys.version_info >= (3, 11) and (checkout / "pyproject.toml").is_file():
        import tomllib

        project = tomllib.loads((checkout / "pyproject.toml").read_text()).get("project", {})
        return list(project.get("dependencies", ()))
    return []


def run_setup(commands: list[str], venv: Path, checkout: Path, environ: Mapping[str, str]) -> None:
    """Run commands in the checkout, with the environment's programs in front.

    Raises:
        subprocess.CalledProcessError: One failed.
    """
    path = os.pathsep.join([str(venv / "bin"), os.environ.get("PATH", os.defpath)])
    for command in commands:
        subprocess.run(command, shell=True, check=True, cwd=checkout, env={**os.environ, **environ, "PATH": path})
