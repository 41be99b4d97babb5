"""Runs lint, types, unit tests with coverage, other Pythons on what depends on them, and tests with the real servers.

All steps run, also after a failure; a test that kills its process is named, and costs no other test's result. The last
line sums up: "N passed, N failed". Run by `make test`, from .venv; `make test ONLY="lint unit"` runs some steps.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OTHER_VERSIONS = ("3.10", "3.11", "3.12", "3.13")
# Steps of their own. Whole programs are started by these, hundreds of processes in all.
PROGRAM_TESTS = (
    "tests/cli",
    "tests/differential",
    "tests/examples",
    "tests/first_hour",
    "tests/installation",
    "tests/sinks/test_folder.py",
    "tests/house/test_benchmarks.py",
    "tests/patches/test_ends.py",
    "tests/runtime/test_forks.py",
    "tests/test_gevent.py",
    "tests/test_sentry.py",
    "tests/house/test_import_paths.py",
    "tests/runtime/test_lifecycle.py",
    "tests/ledger/test_metrics.py",
    "tests/setup/test_traces.py",
)
# Millions of log calls or thousands of random values, and exceptions thrown into other threads, which do not go with a
# tracer.
LOADS = (
    "tests/ledger/test_ledger.py",
    "tests/pipeline/test_killed_worker.py",
    "tests/pipeline/test_memory.py",
    "tests/sinks/test_file_load.py",
    "tests/pipeline/test_exporters_load.py",
    "tests/capture/test_context.py",
    "tests/capture/test_interruption.py",
    "tests/capture/test_reentrancy.py",
    "tests/sinks/test_console.py",
    "tests/sinks/test_every_sink.py",
    "tests/sinks/test_line.py",
    "tests/chaos",
)
APART = ("tests/docs", "tests/servers", "tests/stack")
# What hardly depends on the Python version: the protocol, files and servers, the command line, the repository itself.
# What stays is what the interpreter has a part in: calls, frames, values, threads, memory, ends of processes, TLS.
MAIN_VERSION_ONLY = (
    *APART,
    "tests/asgi",
    "tests/chaos",
    "tests/cli",
    "tests/config",
    "tests/dashboards",
    "tests/differential",
    "tests/django",
    "tests/doctor",
    "tests/examples",
    "tests/first_hour",
    "tests/flask/test_console.py",
    "tests/flask/test_health.py",
    "tests/flask/test_metrics_view.py",
    "tests/flask/test_werkzeug_lines.py",
    "tests/house",
    "tests/installation",
    "tests/ledger/test_metrics.py",
    "tests/loki",
    "tests/otlp/test_answer.py",
    "tests/otlp/test_delivery.py",
    "tests/otlp/test_faults.py",
    "tests/otlp/test_loki_form.py",
    "tests/otlp/test_truncation.py",
    "tests/pipeline/test_bisection.py",
    "tests/pipeline/test_exporter_queue.py",
    "tests/pipeline/test_exporters_load.py",
    "tests/pipeline/test_killed_worker.py",
    "tests/rules",
    "tests/runtime/test_foreign_text.py",
    "tests/runtime/test_forks.py",
    "tests/runtime/test_retry.py",
    "tests/setup/test_traces.py",
    "tests/sinks",
    "tests/test_gevent.py",
    "tests/test_gunicorn.py",
    "tests/test_prometheus.py",
    "tests/testing",
)
# Tests that take long, of what depends on the version: each of them runs on the main Python and on one of the others.
# In `make soak` all run on all.
SHARED_OUT = (
    *PROGRAM_TESTS,
    *LOADS,
    "tests/capture/test_hostile.py",
    "tests/capture/test_once.py",
    "tests/capture/test_pickling.py",
    "tests/capture/test_queue.py",
    "tests/flask",
    "tests/ledger",
    "tests/otlp",
    "tests/patches/test_access_context.py",
    "tests/patches/test_attachment.py",
    "tests/pipeline",
    "tests/private",
    "tests/record/test_values.py",
    "tests/runtime",
    "tests/setup",
)
# Processes of one run: tests wait more than they compute. Those of a group run in one of them, one after the other.
WORKERS = ("--numprocesses=3", "--dist=loadgroup")
# Of the package's lines and branches, in this process, by the unit tests: other processes are not counted.
LEAST_COVERAGE = 63
# A tracer changes what they look at: what calls of `logging` find in a stack, what a signal or a fork interrupts, and
# the memory that is allocated; and it makes what is huge in `test_hostile` slow.
UNTRACED = (
    "tests/setup/test_configure.py",
    "tests/setup/test_destinations.py",
    "tests/capture/test_hostile.py",
    "tests/test_prometheus.py",
    "tests/pipeline/test_worker.py",
)
MATRIX_EXTRAS = "zstd,prometheus,metrics,config,demo,test"
MATRIX_AT_ONCE = 3
"""Other Pythons beside each other, with a process each."""
MOST_REPEATED = 3
"""Failed tests of a step that run once more, alone, before the step counts as failed. To go when ten runs have passed
in a row (`tools/repeat_tests.py`)."""
STEPS = ("lint", "docs", "unit", "programs", "load", "servers", "matrix", "stack")
# Run by `make soak`: what the index has today must not decide whether a change of ours is right.
NEWEST = "newest-sdk"
# What touches the SDK: run on the oldest release that pyproject.toml allows, and on the newest that the index has.
CORE = (
    "tests/setup/test_configure.py",
    "tests/setup/test_destinations.py",
    "tests/capture/test_handler.py",
    "tests/runtime/test_lifecycle.py",
    "tests/capture/test_logger.py",
    "tests/private/test_private.py",
    "tests/pipeline/test_processor.py",
)
OLDEST_SDK = ("opentelemetry-api==1.39.*", "opentelemetry-sdk==1.39.*", "opentelemetry-proto==1.39.*")
CORE_EXTRAS = "zstd,grpc,metrics,config"
# The tests' own needs there; the extra "test" ties OpenTelemetry's releases to more than the SDK.
CORE_NEEDS = ("hypothesis", "pytest", "pytest-xdist", "trustme")
NEWEST_SDK = ("opentelemetry-proto", "opentelemetry-instrumentation-logging")
# What OpenTelemetry's releases pin themselves, each in its own way.
TIED_TO_SDK = ("opentelemetry-", "protobuf==", "googleapis-common-protos==", "wrapt==")
# What the tests against the real servers run: they, and the programs that check their configurations.
PROGRAMS = ("otelog-collector", "loki", "prometheus", "promtool", "alertmanager", "amtool", "jaeger", "docker-compose")


@dataclass
class Tally:
    """What passed and failed so far, in tests (each linter counts as one)."""

    passed: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    unsteady: list[str] = field(default_factory=list)
    """Tests that failed among the others, and passed alone: each is a fault, of the test or of otelog."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(
        self, name: str, passed: int, failed: int, seconds: float, which: Sequence[str] = (), processor: float = 0.0
    ) -> None:
        """Count one step and say how it went; `processor` is the time that it had one, in seconds."""
        with self._lock:
            self.passed += passed
            self.failed += failed
            if failed:
                self.failures += [f"{name}: {one}" for one in which] or [name]
        at_work = f", at work for {processor:.0f} s" if processor else ""
        say(f"{name}: {passed} passed, {failed} failed in {seconds:.0f} s{at_work}")


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
    passed, failed, which, processor = _run_once(command, environ, apart)
    # None is named by a run that has crashed.
    if 0 < len(which) <= MOST_REPEATED:
        say(f"{name}: these failed, and run once more, alone: {' '.join(which)}")
        python = command[: command.index("pytest") + 1]
        passed_now, failed, still, _ = _run_once([*python, *which], environ, apart)
        passed += passed_now
        tally.unsteady += [one for one in which if one not in still] if not failed else []
        which = still
    tally.add(name, passed, failed, time.monotonic() - started, which, processor)


def _run_once(command: list[str], environ: dict[str, str], apart: bool) -> tuple[int, int, list[str], float]:
    """Returns how many tests passed and failed, which failed, and the seconds of processor time that they took."""
    with tempfile.TemporaryDirectory(prefix="otelog-tests-") as folder:
        report = Path(folder) / "report.xml"
        process = subprocess.Popen(
            [*command, "--quiet", "--durations=8", f"--junitxml={report}", f"--basetemp={folder}/tmp"],
            cwd=ROOT,
            env={**os.environ, **environ},
            stdout=subprocess.PIPE if apart else None,
            stderr=subprocess.STDOUT if apart else None,
        )
        output = process.stdout.read() if process.stdout is not None else b""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        passed, failed, which = read_report(report)
    if output:
        sys.stdout.buffer.write(output)
        sys.stdout.flush()
    # A crash or an empty run leaves no failed test behind; it must not look like success.
    return passed, failed or int(process.returncode != 0), which, usage.ru_utime + usage.ru_stime


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


def docs(tally: Tally) -> None:
    """Build the pages, run what they show, and count what a reader meets."""
    if sys.version_info < (3, 11):
        say("the pages need Sphinx of today, and that Python 3.11: not tested")
        return
    command = [sys.executable, "-m", "pytest", "--numprocesses=2", "tests/docs"]
    run_pytest(tally, "tests of the pages", command)
    sys.stdout.flush()
    subprocess.run([sys.executable, "-m", "tools.reader"], cwd=ROOT, check=False)


def unit(tally: Tally) -> None:
    """Run the unit tests, those that can be with coverage."""
    command = [sys.executable, "-m", "pytest", *WORKERS]
    covering = ["--cov=otelog", "--cov-report=term", f"--cov-fail-under={LEAST_COVERAGE}"]
    apart = APART + LOADS + PROGRAM_TESTS
    run_pytest(tally, "unit tests, with coverage", [*command, *_without((*apart, *UNTRACED)), *covering])
    run_pytest(tally, "unit tests without", [*command, *UNTRACED])


def _without(paths: tuple[str, ...]) -> list[str]:
    return [f"--ignore={path}" for path in paths]


def programs(tally: Tally) -> None:
    """Run the tests that start whole programs."""
    run_pytest(tally, "tests of whole programs", [sys.executable, "-m", "pytest", *WORKERS, *PROGRAM_TESTS])


def load(tally: Tally, *, apart: bool = False) -> None:
    """Run the tests under load."""
    command = [sys.executable, "-m", "pytest", "--numprocesses=2", "--dist=loadgroup", *LOADS]
    run_pytest(tally, "tests under load", command, apart=apart)


def servers(tally: Tally) -> None:
    """Run an application under every server."""
    command = [sys.executable, "-m", "pytest", "--numprocesses=2", "--dist=loadgroup", "tests/servers"]
    run_pytest(tally, "tests under application servers", command)


def stack(tally: Tally) -> None:
    """Run the tests against the real servers, which are started once for each file."""
    say("building the servers' programs, where they are not in the cache yet ...")
    # The first build takes 16 minutes on two cores: only where nothing else wants a core, since tests have deadlines.
    command = ["nice", "-n", "19", sys.executable, "-m", "otelog.cli", "stack", "build", *PROGRAMS]
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        tally.add("building the servers' programs", 0, 1, 0.0)
    command = [sys.executable, "-m", "pytest", "--numprocesses=2", "--dist=loadfile", "tests/stack"]
    run_pytest(tally, "tests with the real servers", command, apart=True)


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
    key = hashlib.sha256(f"{python.resolve()} {extras} {packages} {made_on}".encode())
    for name in ("pyproject.toml", "constraints.txt"):
        key.update((ROOT / name).read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "otelog" / "venvs"
    shared = cache / f"{version}-{key.hexdigest()[:16]}"
    if not (shared / ".done").exists():
        say(f"making an environment for Python {version}")
        # Somebody else may be making the same one.
        folder = cache / f"{shared.name}.{os.getpid()}"
        subprocess.run([str(python), "-m", "venv", str(folder)], check=True)
        # What is not imported need not be compiled.
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        pip += ["--no-compile"]
        target = f"{ROOT}[{extras}]"
        constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in constraints if pinned or not line.startswith(TIED_TO_SDK)]
        pins = folder / "constraints.txt"
        pins.write_text("".join(kept), encoding="utf-8")
        # One of today's: the pip that comes with Python 3.10 or 3.11 takes twice as long.
        subprocess.run([*pip, "--constraint", str(pins), "--upgrade", "pip"], cwd=ROOT, check=True)
        subprocess.run([*pip, "--constraint", str(pins), *packages, "--editable", target], cwd=ROOT, check=True)
        (folder / ".done").touch()
        try:
            folder.rename(shared)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
    return borrow(python, shared)


def borrow(python: Path, shared: Path) -> Path:
    """Make an environment of this checkout's own that has the packages of a shared one; return its interpreter.

    An editable installation points into one folder: here it is this one.
    """
    folder = ROOT / ".venv" / "others" / shared.name
    interpreter = folder / "bin" / "python"
    if not (folder / ".done").exists():
        subprocess.run([str(python), "-m", "venv", "--without-pip", str(folder)], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        (theirs,) = shared.glob("lib/python*/site-packages")
        (metadata,) = theirs.glob("otelog-*.dist-info")
        shutil.copytree(metadata, packages / metadata.name, dirs_exist_ok=True)
        # This checkout comes before the one that the shared environment was made from.
        (packages / "otelog.pth").write_text(
            f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport site; site.addsitedir({str(theirs)!r})\n"
        )
        (folder / ".done").touch()
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
    with ThreadPoolExecutor(MATRIX_AT_ONCE) as pool:
        for number, (version, interpreter) in enumerate(interpreters.items(), 1):
            pool.submit(run_on, tally, version, interpreter, f"{number}/{len(interpreters)}")
        pool.submit(oldest_sdk, tally)


def run_on(tally: Tally, version: str, interpreter: Path, share: str) -> None:
    """Run on another Python what depends on it, with its share of what takes long: "1/3", say."""
    name = f"unit tests on Python {version}"
    # One process each, apart from this one, so that a test that kills it is named.
    command = [str(interpreter), "-m", "pytest", "--numprocesses=1", "--dist=loadgroup"]
    everything = "OTELOG_TESTS_FULL" in os.environ
    environ = {} if everything else {"OTELOG_TESTS_BRIEF": "1", "OTELOG_TESTS_SHARE": " ".join((share, *SHARED_OUT))}
    run_pytest(tally, name, [*command, *_without(MAIN_VERSION_ONLY)], apart=True, **environ)


def oldest_sdk(tally: Tally) -> None:
    """Run what touches the SDK on the oldest that is allowed."""
    try:
        packages = (*OLDEST_SDK, *CORE_NEEDS)
        interpreter = make_venv(Path(sys.executable), "oldest-sdk", CORE_EXTRAS, packages, pinned=False)
    except subprocess.CalledProcessError as error:
        tally.add(f"environment for the oldest SDK ({error})", 0, 1, 0.0)
        return
    command = [str(interpreter), "-m", "pytest", *CORE]
    environ = {"OTELOG_TESTS_BRIEF": "1", "OTELOG_TESTS_SHARE": "1/3 tests/runtime/test_lifecycle.py"}
    run_pytest(tally, "what touches the SDK, on the oldest SDK", command, apart=True, **environ)


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
    # Thousands of processes would each compile otelog anew, and each of pytest's all tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    tally = Tally()
    if "lint" in steps:
        lint(tally)
    interpreters = prepare_matrix(tally) if "matrix" in steps else {}
    # The real servers mostly wait, for each other and for their own clocks; all else computes.
    with ThreadPoolExecutor(1) as beside:
        stack_done = beside.submit(stack, tally) if "stack" in steps else None
        if "docs" in steps:
            docs(tally)
        if "unit" in steps:
            unit(tally)
        if "programs" in steps:
            programs(tally)
        # Application servers wait as well.
        with ThreadPoolExecutor(1) as pool:
            if "load" in steps:
                pool.submit(load, tally, apart="servers" in steps)
            if "servers" in steps:
                servers(tally)
        if "matrix" in steps:
            matrix(tally, interpreters)
        if stack_done is not None:
            stack_done.result()
    if NEWEST in steps:
        newest_sdk(tally)
    for name in tally.unsteady:
        say(f"unsteady, passed only alone: {name}")
    for name in tally.failures:
        say(f"failed: {name}")
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    return int(tally.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
