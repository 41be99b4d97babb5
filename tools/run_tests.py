"""Runs lint, types, unit tests with coverage, unit tests on other Pythons, and tests against the real servers.

All steps run, also after a failure. The last line sums up: "N passed, N failed". Run by `make test`, from .venv.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OTHER_VERSIONS = ("3.10", "3.11", "3.12", "3.13")
# They have a step of their own.
APART = ("tests/stack", "tests/servers")
# The command line's screen, the Collector and the application servers hardly depend on the Python version, and take
# long.
MAIN_VERSION_ONLY = (
    "tests/stack",
    "tests/servers",
    "tests/cli",
    "tests/chaos",
    "tests/differential",
    "tests/test_forks.py",
)
# Without coverage: millions of log calls, and exceptions thrown into other threads, which do not go with a tracer.
LOADS = (
    "tests/test_ledger.py",
    "tests/test_killed_worker.py",
    "tests/test_file_load.py",
    "tests/test_exporters_load.py",
    "tests/test_context.py",
    "tests/chaos",
)
# With a tracer of their own.
TRACED = ("tests/test_interruption.py",)
MATRIX_EXTRAS = "zstd,prometheus,metrics,config,demo,test"
MOST_REPEATED = 5
"""Failed tests of a step that run once more, alone, before the step counts as failed."""

STEPS = ("lint", "unit", "load", "servers", "matrix", "stack")
# Run by `make soak`: what the index has today must not decide whether a change of ours is right.
NEWEST = "newest-sdk"
# What touches the SDK: run on the oldest release that pyproject.toml allows, and on the newest that the index has.
CORE = (
    "tests/test_configure.py",
    "tests/test_destinations.py",
    "tests/test_handler.py",
    "tests/test_lifecycle.py",
    "tests/test_logger.py",
    "tests/test_private.py",
    "tests/test_processor.py",
)
OLDEST_SDK = ("opentelemetry-api==1.39.*", "opentelemetry-sdk==1.39.*", "opentelemetry-proto==1.39.*")
CORE_EXTRAS = "zstd,metrics,config"
# The tests' own needs there; the extra "test" ties OpenTelemetry's releases to more than the SDK.
CORE_NEEDS = ("hypothesis", "pytest", "trustme")
NEWEST_SDK = ("opentelemetry-proto", "opentelemetry-instrumentation-logging")
# What OpenTelemetry's releases pin themselves, each in its own way.
TIED_TO_SDK = ("opentelemetry-", "protobuf==", "googleapis-common-protos==", "wrapt==")
# What the tests against the real servers run: they, and the programs that check their configurations.
PROGRAMS = ("otelog-collector", "loki", "prometheus", "promtool", "alertmanager", "amtool", "docker-compose")


@dataclass
class Tally:
    """What passed and failed so far, in tests (each linter counts as one)."""

    passed: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)
    """Tests that failed among the others, and passed alone: each is a fault, of the test or of otelog."""

    def add(self, name: str, passed: int, failed: int, seconds: float) -> None:
        """Count one step and say how it went."""
        self.passed += passed
        self.failed += failed
        if failed:
            self.failures.append(name)
        say(f"{name}: {passed} passed, {failed} failed in {seconds:.0f} s")


def say(message: str) -> None:
    """Write one progress line."""
    print(f"== {message}", flush=True)


def run_linter(tally: Tally, *arguments: str) -> None:
    """Run a module of this interpreter; it passes or fails as one."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, check=False)
    failed = int(done.returncode != 0)
    tally.add(" ".join(arguments), 1 - failed, failed, time.monotonic() - started)


def run_pytest(tally: Tally, name: str, command: list[str], *, apart: bool = False, **environ: str) -> None:
    """Run a pytest command and count its tests from its own report.

    Args:
        tally: Where they are counted.
        name: What it is called.
        command: Without the options that are the same for all.
        apart: Keep its output together, as something else runs beside it.
        environ: Variables beside this process's own.
    """
    say(f"{name} ...")
    started = time.monotonic()
    passed, failed, which = _run_once(command, environ, apart)
    # None is named by a run that has crashed.
    if 0 < len(which) <= MOST_REPEATED:
        say(f"{name}: these failed, and run once more, alone: {' '.join(which)}")
        python = command[: command.index("pytest") + 1]
        passed_now, failed, _ = _run_once([*python, *which], environ, apart)
        passed += passed_now
        tally.unsteady += which if not failed else []
    tally.add(name, passed, failed, time.monotonic() - started)


def _run_once(command: list[str], environ: dict[str, str], apart: bool) -> tuple[int, int, list[str]]:
    """Returns how many tests passed and failed, and which failed."""
    with tempfile.TemporaryDirectory(prefix="otelog-tests-") as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [*command, "--quiet", f"--junitxml={report}", f"--basetemp={folder}/tmp"],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE if apart else None,
            stderr=subprocess.STDOUT if apart else None,
            check=False,
        )
        passed, failed, which = read_report(report)
    if done.stdout:
        sys.stdout.buffer.write(done.stdout)
        sys.stdout.flush()
    # A crash or an empty run leaves no failed test behind; it must not look like success.
    return passed, failed or int(done.returncode != 0), which


def read_report(report: Path) -> tuple[int, int, list[str]]:
    """Return how many tests passed and failed by a JUnit report, and the names of those that failed."""
    try:
        suites = list(ET.parse(report).getroot().iter("testsuite"))
    except (OSError, ET.ParseError):
        return 0, 0, []
    total, skipped = (sum(int(suite.get(key, 0)) for suite in suites) for key in ("tests", "skipped"))
    failed = sum(int(suite.get(key, 0)) for suite in suites for key in ("failures", "errors"))
    which = [
        f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        for suite in suites
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    return total - skipped - failed, failed, list(dict.fromkeys(which))


def lint(tally: Tally) -> None:
    """Check style, format and types."""
    run_linter(tally, "ruff", "check", "--quiet")
    run_linter(tally, "ruff", "format", "--check")
    run_linter(tally, "mypy")


def unit(tally: Tally) -> None:
    """Run the unit tests, and beside them most of them again for the report of branch coverage."""
    # They wait more than they compute.
    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(measure_coverage)
        run_pytest(tally, "unit tests", [sys.executable, "-m", "pytest", *_without(APART + LOADS)])
        print(report.result(), flush=True)


def measure_coverage() -> str:
    """Run most of the unit tests with coverage; returns its report.

    It decides nothing: a tracer changes what some tests look at (signals, exits, timing).
    """
    with tempfile.TemporaryDirectory(prefix="otelog-coverage-") as folder:
        environ = {**os.environ, "COVERAGE_FILE": f"{folder}/data"}
        quiet = ["-m", "pytest", "--quiet", *_without(("tests/cli", *APART, *LOADS, *TRACED))]
        text = ""
        for arguments in (["run", *quiet], ["combine", "--quiet"], ["report"]):
            command = ["nice", sys.executable, "-m", "coverage", *arguments]
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=900, check=False
                )
                text = done.stdout
    return text


def _without(paths: tuple[str, ...]) -> list[str]:
    return [f"--ignore={path}" for path in paths]


def load(tally: Tally) -> None:
    """Run the tests under load, without coverage."""
    run_pytest(tally, "tests under load", [sys.executable, "-m", "pytest", *LOADS])


def servers(tally: Tally) -> None:
    """Run an application under every server."""
    run_pytest(tally, "tests under application servers", [sys.executable, "-m", "pytest", "tests/servers"])


def stack(tally: Tally) -> None:
    """Run the tests against the real servers."""
    run_pytest(tally, "tests with the real servers", [sys.executable, "-m", "pytest", "tests/stack"])


def find_other_pythons() -> dict[str, Path]:
    """Interpreters of other versions, from PATH and from pyenv's folder; each is seen to run."""
    folders = []
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=False).stdout.strip()
        folders = sorted(Path(root, "versions").glob("*/bin"), reverse=True) if root else []
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found: dict[str, Path] = {}
    for version in OTHER_VERSIONS:
        on_path = shutil.which(f"python{version}")
        candidates = [folder / f"python{version}" for folder in folders] + ([Path(on_path)] if on_path else [])
        for candidate in candidates if version != running else ():
            if candidate.exists() and _runs(candidate, version):
                found[version] = candidate
                break
    return found


def _runs(python: Path, version: str) -> bool:
    # A pyenv shim exists for every version and fails for those that are not activated.
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=False)
    return done.returncode == 0 and done.stdout.strip() == version


def make_venv(
    python: Path,
    version: str,
    extras: str = MATRIX_EXTRAS,
    packages: tuple[str, ...] = (),
    *,
    pinned: bool = True,
    made_on: str = "",
) -> Path:
    """Make an environment in the user's cache, once for each set of pins; return its interpreter.

    Args:
        python: The interpreter.
        version: The environment's name.
        extras: otelog's, that are installed.
        packages: Further requirements.
        pinned: Whether OpenTelemetry's packages are those of constraints.txt.
        made_on: A day, for one that is made anew each day.
    """
    # Other checkouts keep environments of their own: an editable installation points into one folder.
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    key = hashlib.sha256(f"{python.resolve()} {extras} {packages} {made_on}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        key.update((ROOT / name).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelog" / "venvs"
    folder = cache / f"{checkout}-{version}-{key.hexdigest()[:16]}"
    done, interpreter = folder / ".done", folder / "bin" / "python"
    if not done.exists():
        say(f"making an environment for Python {version}")
        for old in cache.glob(f"{checkout}-{version}-*"):
            shutil.rmtree(old, ignore_errors=True)
        subprocess.run([str(python), "-m", "venv", str(folder)], check=True)
        pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        target = f"{ROOT}[{extras}]"
        constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in constraints if pinned or not line.startswith(TIED_TO_SDK)]
        pins = folder / "constraints.txt"
        pins.write_text("".join(kept), encoding="utf-8")
        subprocess.run([*pip, "--constraint", str(pins), *packages, "--editable", target], cwd=ROOT, check=True)
        done.touch()
    return interpreter


def prepare_matrix(tally: Tally) -> dict[str, Path]:
    """Make the environments of all other Pythons found."""
    interpreters = {}
    for version, python in find_other_pythons().items():
        try:
            interpreters[version] = make_venv(python, version)
        except subprocess.CalledProcessError as error:
            tally.add(f"environment for Python {version} ({error})", 0, 1, 0.0)
    return interpreters


def matrix(tally: Tally, interpreters: dict[str, Path]) -> None:
    """Run the unit tests on the other Pythons."""
    if not interpreters:
        say("no other Python of 3.10 to 3.13 was found")
    # Two at a time, and the oldest SDK after them: they wait more than they compute.
    with ThreadPoolExecutor(2) as pool:
        for version, interpreter in interpreters.items():
            command = [str(interpreter), "-m", "pytest", *(f"--ignore={folder}" for folder in MAIN_VERSION_ONLY)]
            name = f"unit tests on Python {version}"
            pool.submit(run_pytest, tally, name, command, apart=True, OTELOG_TESTS_BRIEF="1")
        pool.submit(oldest_sdk, tally)


def oldest_sdk(tally: Tally) -> None:
    """Run what touches the SDK on the oldest that is allowed."""
    try:
        packages = (*OLDEST_SDK, *CORE_NEEDS)
        interpreter = make_venv(Path(sys.executable), "oldest-sdk", CORE_EXTRAS, packages, pinned=False)
    except subprocess.CalledProcessError as error:
        tally.add(f"environment for the oldest SDK ({error})", 0, 1, 0.0)
        return
    command = [str(interpreter), "-m", "pytest", *CORE]
    run_pytest(tally, "what touches the SDK, on the oldest SDK", command, apart=True, OTELOG_TESTS_BRIEF="1")


def newest_sdk(tally: Tally) -> None:
    """Run what touches the SDK on the newest that the index has."""
    try:
        # What was the newest yesterday is not taken again.
        day, packages = time.strftime("%Y-%m-%d"), (*NEWEST_SDK, *CORE_NEEDS)
        interpreter = make_venv(Path(sys.executable), NEWEST, CORE_EXTRAS, packages, pinned=False, made_on=day)
    except subprocess.CalledProcessError as error:
        tally.add(f"environment for the newest SDK ({error})", 0, 1, 0.0)
        return
    code = "from importlib.metadata import version; print(version('opentelemetry-sdk'))"
    found = subprocess.run([str(interpreter), "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    run_pytest(tally, f"what touches the SDK, on SDK {found}", [str(interpreter), "-m", "pytest", *CORE])


def main() -> int:
    """Run the steps and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=(*STEPS, NEWEST), action="append", help="run this step only; may be repeated")
    steps = parser.parse_args().only or STEPS
    tally = Tally()
    # The first build takes 12 minutes on two cores: it runs beside all else, and only where nothing else wants a core,
    # since tests have deadlines.
    builder = None
    if "stack" in steps:
        command = ["nice", "-n", "19", sys.executable, "-m", "otelog.cli", "stack", "build", *PROGRAMS]
        builder = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    if "lint" in steps:
        lint(tally)
    interpreters = prepare_matrix(tally) if "matrix" in steps else {}
    if "unit" in steps:
        unit(tally)
    if "load" in steps:
        load(tally)
    if "servers" in steps:
        servers(tally)
    if "matrix" in steps:
        matrix(tally, interpreters)
    if NEWEST in steps:
        newest_sdk(tally)
    if builder is not None:
        say("building the servers' programs, where they are not in the cache yet ...")
        if builder.wait() != 0:
            tally.add("building the servers' programs", 0, 1, 0.0)
    if "stack" in steps:
        stack(tally)
    for name in tally.unsteady:
        say(f"unsteady, passed only alone: {name}")
    for name in tally.failures:
        say(f"failed: {name}")
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    return int(tally.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
