"""What a reader meets: a README of one sitting, links that lead somewhere, tested snippets, pages that build."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tools import reader

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= reader.README_BYTES


def test_no_link_is_dead() -> None:
    assert reader.find_dead_links() == []


def test_every_page_is_in_a_table_of_contents() -> None:
    assert reader.find_unlinked_pages() == []


def test_no_snippet_is_without_a_test_or_a_reason() -> None:
    assert [one.name for one in reader.list_snippets() if one.state == "untested"] == []


def test_few_snippets_are_not_run() -> None:
    not_run = [one.name for one in reader.list_snippets() if one.state == "not run"]
    assert len(not_run) <= 3, not_run


def test_the_figures_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert reader.main() == 0
    assert "dead 0" in capsys.readouterr().out


def test_what_is_generated_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "tools/update_docs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_pages_are_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path / "html")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "reference" / "options.html").stat().st_size > 0


# The reader itself.


def find(text: str) -> list[reader.Snippet]:
    return list(reader.find_snippets("docs/page.md", text))


def test_a_snippet_has_its_place_its_language_and_what_is_said_before_it() -> None:
    before = "# A\n\n<!-- setup:\nimport otelog\n-->\n<!-- prints: 0 -->\n"
    python, shell = find(f"{before}```python\nprint(0)\n```\n\n```sh\nmake demo\n```\n")
    assert (python.name, python.language, python.text) == ("docs/page.md:8", "python", "print(0)\n")
    assert python.notes == {"setup": "import otelog", "prints": " 0"}
    assert shell.notes == {}


def test_a_comment_holds_for_the_next_snippet_only_if_nothing_is_between() -> None:
    (snippet,) = find("<!-- not run: it takes long -->\nBut:\n```sh\nmake demo\n```\n")
    assert snippet.state == "tested"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("```python\n1\n```\n", "tested"),
        ("```\nwhat is this\n```\n", "untested"),
        ("```rust\n1\n```\n", "untested"),
        ("```text\nseen\n```\n", "output"),
        ("<!-- not run: a Loki is needed -->\n```python\n1\n```\n", "not run"),
        ("<!-- not run -->\n```python\n1\n```\n", "untested"),
        ("```{toctree}\nindex\n```\n", "directive"),
    ],
)
def test_a_snippet_is_tested_or_has_a_reason(text: str, state: str) -> None:
    (snippet,) = find(text)
    assert snippet.state == state


@pytest.mark.parametrize(
    ("target", "dead"),
    [
        ("ARCHITECTURE.md", False),
        ("ARCHITECTURE.md#the-ledger", False),
        ("ARCHITECTURE.md#the-ledgers", True),
        ("NO-SUCH-PAGE.md", True),
        ("../outside", True),
        ("docs", False),
        ("https://example.org/no/such/page", False),
    ],
)
def test_a_link_to_nothing_is_dead(target: str, dead: bool) -> None:
    assert reader.is_dead("README.md", target) == dead


def test_links_in_code_are_none() -> None:
    assert reader.find_links("```text\n[a](b.md)\n```\n`[c](d.md)` [e](f.md)\n") == ["f.md"]
