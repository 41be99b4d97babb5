"""The page that a new user reads: what is generated in it is up to date, what it shows runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from otelog._config.file import load
from otelog.testing import OTLPServer

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_generated_parts_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/update_readme.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_ten_lines_for_an_application_of_ones_own_run_as_they_stand(tmp_path: Path) -> None:
    example, _ = PYTHON
    with OTLPServer() as server:
        base = server.endpoint.removesuffix("/v1/logs")
        script = tmp_path / "app.py"
        script.write_text(example.replace("http://localhost:4318", base), encoding="utf-8")
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
        records = list(server.records)
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr
    bodies = sorted(record.body.string_value for record in records)
    assert bodies == ["stock is low", "user 42 paid"]
    (bound,) = (record for record in records if record.body.string_value == "stock is low")
    assert "request_id" in [attribute.key for attribute in bound.attributes]


def test_the_example_of_several_exporters_runs_as_it_stands(tmp_path: Path) -> None:
    _, example = PYTHON
    script = tmp_path / "app.py"
    script.write_text(
        "import otelog\n"
        "from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter\n"
        "my_exporter = InMemoryLogRecordExporter()\n"
        f"{example}\n"
        "otelog.get_logger('shop').info('one')\n"
        "otelog.get_logger('shop.audit').error('two')\n"
        "assert otelog.flush(20)\n"
        "print({name: one.exported for name, one in otelog.stats().exporters.items()})\n",
        encoding="utf-8",
    )
    with OTLPServer() as server:
        environ = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": server.endpoint, "OTEL_METRICS_EXPORTER": "none"}
        command = [sys.executable, str(script)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path, env=environ
        )
    assert done.stdout.strip() == "{'otlp': 2, 'file': 2, 'console': 1, 'audit': 1}", done.stderr
    lines = (tmp_path / "logs" / "app.log").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["message"] for line in lines] == ["one", "two"]
    assert len((tmp_path / "logs" / "errors.log").read_text(encoding="utf-8").splitlines()) == 1
    assert json.loads(done.stderr)["message"] == "two"


def test_the_example_of_a_configuration_file_is_correct(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "otelog.yaml"
    path.write_text(example, encoding="utf-8")
    assert load(str(path)).values["service_name"] == "checkout"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:`|^)make ([a-z]+)", README, re.MULTILINE))))
def test_every_make_target_that_is_named_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_file_that_is_linked_exists(path: str) -> None:
    assert (ROOT / path).exists()
