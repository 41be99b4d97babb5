"""Programs out of Debian's packages, unpacked into the user's cache: nothing of the machine is changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path


class PackagesUnavailableError(Exception):
    """Packages cannot be had; the message says why."""


def cache_folder() -> Path:
    """Where unpacked packages and wheels are kept, by the XDG rules."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelog"


def unpack_packages(name: str, packages: Sequence[str], complete: Callable[[Path], None] = lambda tree: None) -> Path:
    """Return a folder with these packages' files, unpacked once for each of their versions.

    Args:
        name: of the folder in the cache.
        packages: without what they depend on.
        complete: does to a new tree what an installation would do.

    Raises:
        PackagesUnavailableError: this is no Debian, or its packages cannot be downloaded.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise PackagesUnavailableError(f"this is no Debian that has {', '.join(packages)}")
    asked = subprocess.run(["apt-cache", "policy", *packages], capture_output=True, text=True, check=False)
    cache = cache_folder() / name
    tree = cache / hashlib.sha256(asked.stdout.encode()).hexdigest()[:16]
    if tree.exists():
        return tree
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="new-") as made:
        folder = Path(made)
        new = folder / "tree"
        done = subprocess.run(
            # In this folder apt's own user may not write; it need not.
            ["apt-get", "-o", "APT::Sandbox::User=root", "download", *packages],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise PackagesUnavailableError(f"Debian's packages cannot be downloaded: {done.stderr.strip()[-500:]}")
        for package in folder.glob("*.deb"):
            subprocess.run(["dpkg-deb", "--extract", str(package), str(new)], check=True)
        complete(new)
        with contextlib.suppress(OSError):
            # Another run may have been quicker.
            new.rename(tree)
    return tree
