"""A fork in the middle of a late import leaves a child that can import the same module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otelog._runtime.late_import import load_module
from otelog.testing import OTLPServer

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def run(program: str, folder: Path, **environ: str) -> str:
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(folder)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        env={**os.environ, "PYTHONPATH": path, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_module_is_imported_by_its_name() -> None:
    assert load_module("os.path") is os.path
    with pytest.raises(ImportError):
        load_module("otelog.no_such_module")


def test_a_fork_waits_for_an_import(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import __main__\n__main__.begun.set()\n__main__.threading.Event().wait(0.3)\nwhole = 1\n"
    )
    program = (
        "import os, threading\n"
        "from otelog._runtime.late_import import load_module\n"
        "begun = threading.Event()\n"
        "thread = threading.Thread(target=load_module, args=('slow',))\n"
        "thread.start()\n"
        "begun.wait()\n"
        "child = os.fork()\n"
        "import slow\n"
        "if child == 0: os._exit(slow.whole)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
        "thread.join()\n"
    )
    assert run(program, tmp_path) == "1\n"


def test_an_import_whose_threads_id_changes_meanwhile_is_made_again(tmp_path: Path) -> None:
    """So does gevent, when the application puts it in place in the middle of it."""
    (tmp_path / "patching.py").write_text(
        "import _thread\nbefore = _thread.get_ident\n_thread.get_ident = lambda: before() + 1\n"
    )
    program = (
        "from otelog._runtime import late_import\n"
        "print(late_import.load_module('patching').__name__, late_import.load_module('colorsys').__name__)\n"
    )
    assert run(program, tmp_path) == "patching colorsys\n"


def test_a_fork_does_not_wait_for_ever_and_both_sides_go_on_importing(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text("import __main__\n__main__.begun.set()\n__main__.over.wait()\n")
    program = (
        "import os, threading\n"
        "from otelog._runtime import late_import\n"
        "late_import._gate.patience = 0.05\n"
        "begun, over = threading.Event(), threading.Event()\n"
        "thread = threading.Thread(target=late_import.load_module, args=('stuck',))\n"
        "thread.start()\n"
        "begun.wait()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    late_import.load_module('colorsys')\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "over.set()\n"
        "thread.join()\n"
        "late_import.load_module('colorsys')\n"
        "for _ in range(2):\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "print('done')\n"
    )
    assert run(program, tmp_path) == "done\n"


def test_what_the_exporters_thread_imports_late_is_the_standard_librarys() -> None:
    # A package that imports its own modules while it is imported itself, as urllib3 does, tears two threads apart that
    # come from both ends, and it may be the application that is left with half a module.
    program = """
import logging, os, sys
import otelog

otelog.configure(endpoint=os.environ["ENDPOINT"], compression="none")
before = set(sys.modules)
logging.getLogger("x").warning("hello")
assert otelog.flush(30.0)
late = {name.partition(".")[0] for name in set(sys.modules) - before}
assert "http" in late, late
print(late - sys.stdlib_module_names, {"otelog._otlp.connection"} - before)
"""
    with OTLPServer() as server:
        assert run(program, Path(), ENDPOINT=server.endpoint) == "{'otelog'} {'otelog._otlp.connection'}\n"
