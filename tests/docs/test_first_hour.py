"""The README's two terminals, as they stand: the commands are run, with other ports, and the record is seen."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from tests.docs.shell import list_commands
from tools.loopback import find_free_ports
from tools.reader import list_snippets
from tools.waiting import end_process, wait_until

README = [snippet for snippet in list_snippets() if snippet.page == "README.md"]
(SHOP,) = (snippet.text for snippet in README if snippet.notes.get("file", "").strip() == "shop.py")
COMMANDS = [words for snippet in README if snippet.language == "sh" for words in list_commands(snippet.text)]
SECONDS = 180.0


def find(*begin: str) -> list[str]:
    """The README's only command that begins so."""
    (words,) = (words for words in COMMANDS if tuple(words[: len(begin)]) == begin)
    return words


@contextmanager
def terminal(words: list[str], folder: Path, **variables: str) -> Iterator[Path]:
    """Run a command as in a terminal with the environment activated; gives the file with all that it says."""
    said = folder / f"{words[1]}.txt"
    scripts = Path(sys.executable).parent
    environ = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1", **variables}
    with said.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            yield said
        finally:
            end_process(process, SECONDS)


def test_a_request_in_one_terminal_is_seen_in_the_other(tmp_path: Path) -> None:
    dev_port, shop_port = find_free_ports(2)
    (tmp_path / "shop.py").write_text(SHOP, encoding="utf-8")
    url = find("curl")[1].replace(":5000", f":{shop_port}")
    dev = [*find("otelog", "dev"), "--tail", "--port", str(dev_port)]
    shop = [*find("otelog", "run"), "--port", str(shop_port)]

    def ask() -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=SECONDS) as answer:
                return bytes(answer.read())
        except URLError:
            return b""

    with terminal(dev, tmp_path) as seen:
        wait_until(lambda: b"listening on" in seen.read_bytes(), SECONDS, what="otelog dev")
        with terminal(shop, tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://localhost:{dev_port}"):
            assert wait_until(ask, SECONDS, what="the shop") == b"thank you\n"
        wait_until(lambda: b"order 7 is paid" in seen.read_bytes(), SECONDS, what="the record")
        assert b"GET /pay/7" in seen.read_bytes()
    query = [sys.executable, "-m", "otelog.cli", "query", "otelog-dev", "--logger", "shop", "--json"]
    assert " ".join(["otelog", *query[3:-1]]) in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    found = subprocess.run(query, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert found.stdout.count("order 7 is paid") == 1, found.stderr
    assert '"trace_id":null' not in found.stdout.replace(" ", "")
