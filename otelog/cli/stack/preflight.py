"""What can be known to be wrong before anything is built or started: each problem with what to do."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from otelog._runtime.urls import UnusableError, read_authority
from otelog.cli.stack.programs import PROGRAMS
from otelog.cli.stack.settings import Settings

DATA_BYTES = 500 * 10**6
"""How much room a stack needs to begin with: Loki and Prometheus write ahead before they write."""

DOWNLOADED_BYTES = 500 * 10**6
"""How much room a build needs whose modules are there already: Go has most of its packages, too."""

_SHARES = {"modules": 0.4, "packages": 0.5, "programs": 0.1}
"""How a build's room is divided between Go's two caches and our own."""


def find_option_problems(settings: Settings, asked: Collection[str] = ()) -> list[str]:
    """Returns what is wrong with the options themselves.

    Args:
        settings: What holds, with what was asked for earlier.
        asked: The names of those that were asked for now.
    """
    problems = []
    if settings.webhook:
        try:
            read_authority(settings.webhook)
        except UnusableError as error:
            # The URL may hold a secret.
            problems.append(f"--webhook is no URL that alerts can be sent to ({error}): give https://HOST/PATH")
        if "webhook" in asked and "alertmanager" in settings.without:
            problems.append("--webhook needs the Alertmanager: leave out --without alertmanager, or --webhook")
    problems += [
        f"--scrape {target!r} {why}: give HOST:PORT, whose /metrics is asked by HTTP"
        for target in settings.scrape
        if (why := _find_fault(target))
    ]
    if "scrape" in asked and "prometheus" in settings.without:
        problems.append("--scrape needs Prometheus: leave out --without prometheus, or --scrape")
    if "receivers" in asked and "alertmanager" in settings.without:
        problems.append("--receivers needs the Alertmanager: leave out --without alertmanager, or --receivers")
    files = (settings.token_file, settings.certificate, settings.key, settings.client_ca, settings.receivers)
    missing = [name for name in files if name and not Path(name).is_file()]
    return problems + [f"{name} is not a file: put it there, or give another" for name in missing]


def _find_fault(target: str) -> str:
    if "://" in target or "/" in target:
        return "has more than a host and a port"
    match = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z_](?:[0-9A-Za-z_.-]*[0-9A-Za-z_.])?):([0-9]{1,5})", target)
    if match is None:
        return "is not a host and a port"
    return "" if 0 < int(match[1]) < 65536 else "has no port between 1 and 65535"


def find_disk_problems(
    folder: Path,
    to_build: Collection[str],
    environ: Mapping[str, str],
    cache: Path,
    *,
    measure: Callable[[Path], tuple[int, int]] | None = None,
) -> list[str]:
    """Returns which disks have too little room.

    Args:
        folder: Where the stack's data are.
        to_build: The programs that are to be built.
        environ: The environment, which says where Go's caches are.
        cache: Where built programs are.
        measure: Returns which disk a path is on, and how many bytes are free there.
    """
    measure = measure or _measure
    home = Path(environ.get("HOME") or Path.home())
    modules = Path(environ.get("GOMODCACHE") or Path(environ.get("GOPATH") or home / "go") / "pkg" / "mod")
    packages = Path(environ.get("GOCACHE") or Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "go-build")
    places = {"modules": modules, "packages": packages, "programs": cache}
    needed: Counter[int] = Counter()
    free: dict[int, int] = {}
    where: dict[int, list[str]] = {}

    def need(path: Path, size: float) -> None:
        disk, free_bytes = measure(path)
        needed[disk] += round(size)
        free[disk] = free_bytes
        if str(path) not in where.setdefault(disk, []):
            where[disk].append(str(path))

    need(folder, DATA_BYTES)
    for name in to_build:
        program = PROGRAMS[name]
        downloaded = modules / "cache" / "download" / program.module / "@v" / f"{program.version}.zip"
        size = min(program.gigabytes * 10**9, DOWNLOADED_BYTES) if downloaded.exists() else program.gigabytes * 10**9
        for what, share in _SHARES.items():
            need(places[what], size * share)
    elsewhere = "GOMODCACHE, GOCACHE, XDG_CACHE_HOME or --data-dir" if to_build else "--data-dir"
    return [
        f"about {size / 1e9:.1f} GB are needed for {', '.join(where[disk])}, and {free[disk] / 1e9:.1f} GB are free: "
        f"free some, or choose another disk with {elsewhere}"
        for disk, size in needed.items()
        if free[disk] < size
    ]


def _measure(path: Path) -> tuple[int, int]:
    while not path.exists():
        path = path.parent
    return path.stat().st_dev, shutil.disk_usage(path).free
