"""A fork in the middle of a late import leaves a child that can import the same module."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otelog._loading import load_module

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def run(program: str, folder: Path) -> str:
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(folder)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        env={**os.environ, "PYTHONPATH": path},
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
        "from otelog._loading import load_module\n"
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


def test_a_fork_does_not_wait_for_ever_and_both_sides_go_on_importing(tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text("import __main__\n__main__.begun.set()\n__main__.over.wait()\n")
    program = (
        "import os, threading\n"
        "from otelog import _loading\n"
        "_loading.FORK_PATIENCE = 0.05\n"
        "begun, over = threading.Event(), threading.Event()\n"
        "thread = threading.Thread(target=_loading.load_module, args=('stuck',))\n"
        "thread.start()\n"
        "begun.wait()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    _loading.load_module('colorsys')\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "over.set()\n"
        "thread.join()\n"
        "_loading.load_module('colorsys')\n"
        "for _ in range(2):\n"
        "    child = os.fork()\n"
        "    if child == 0: os._exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "print('done')\n"
    )
    assert run(program, tmp_path) == "done\n"


def test_an_application_that_imports_urllib3_meanwhile_is_not_disturbed() -> None:
    # It is in the middle of the package when the exporter's thread wants one of its modules.
    program = """
import sys, threading
import otelog
from otelog._loading import load_module

failures = []
def load():
    try:
        load_module("otelog._connection")
    except BaseException as error:
        failures.append(error)
thread = threading.Thread(target=load)

def pause(event, arguments):
    if event == "import" and arguments[0] == "urllib3.connectionpool" and not thread.ident:
        thread.start()
        while not is_waiting(sys._current_frames().get(thread.ident)):
            pass

def is_waiting(frame):
    return frame is not None and frame.f_code.co_name == "acquire" and "importlib" in frame.f_code.co_filename

assert "urllib3" not in sys.modules
sys.addaudithook(pause)
import urllib3
thread.join()
print(failures)
"""
    assert run(program, Path()) == "[]\n"


def test_under_otelog_run_it_is_there_before_the_application_imports_anything() -> None:
    # Whatever the application then asks for first, no other thread is in the middle of it.
    program = (
        "import sys\n"
        "from otelog.distro import OtelogConfigurator\n"
        "assert 'urllib3' not in sys.modules\n"
        "OtelogConfigurator().configure()\n"
        "print('urllib3.connection' in sys.modules)\n"
    )
    assert run(program, Path()) == "True\n"
