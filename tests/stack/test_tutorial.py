"""The page *Flask to Grafana in ten minutes* from the stack on, followed in terminals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from otelog.cli.stack.settings import PORTS
from tests.sizes import without_instrumentations
from tests.stack.conftest import build
from tools.first_hour import NEEDS_STACK, PAGE
from tools.loopback import find_free_ports
from tools.walkthrough import Ports, Reader, make_environ, make_replaced, read_page

PROGRAMS = ("otelog-collector", "loki", "prometheus", "alertmanager")


def test_the_stack_has_what_the_page_says(tmp_path: Path) -> None:
    for program in PROGRAMS:
        build(program)
    before, _, text = PAGE.read_text(encoding="utf-8").partition(NEEDS_STACK)
    files = [step for step in read_page(before) if {"file", "append"} & set(step.marks)]
    ports, stack = Ports(), dict(zip(PORTS, find_free_ports(len(PORTS)), strict=True))
    ports.dev = stack["otlp-http"]
    options = " ".join(f"--port {name}={port}" for name, port in stack.items())
    replaced = {**make_replaced(ports), "otelog stack up\n": f"otelog stack up --native {options}\n"}
    environ = make_environ(Path(sys.executable).parent, ports) | without_instrumentations("flask")
    environ["OTELOG_LOKI"] = f"http://127.0.0.1:{stack['loki']}"
    try:
        with Reader(tmp_path, environ, replaced) as reader:
            reader.follow([*files, *read_page(text)])
    finally:
        # Where the page was not followed to its end.
        command = [sys.executable, "-m", "otelog.cli", "stack", "down"]
        subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=False)
