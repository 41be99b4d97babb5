"""Counts what a reader of the pages meets: their size, their links, their snippets, and what of them no test sees.

`python tools/reader.py` prints the figures; the exit code is 1 if the README is too long, a link is dead, or a snippet
has neither a test nor a reason. tests/docs/ takes the snippets from here.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README_BYTES = 8_000
TESTED = ("python", "yaml", "ini", "sh", "json", "toml")
"""Languages whose snippets tests/docs/ runs, loads or parses."""
OUTPUT = ("text", "console", "")
"""What a reader sees, and does not type. Without a language only in pages for those who change otelog."""
DIRECTIVE = "{"
NOTES = ("not run", "setup", "after", "prints", "arrives", "file", "needs", "only parsed")
"""What an HTML comment in front of a snippet may say of it, such as ``<!-- prints: 0 -->``.

not run      why it is neither run nor loaded; counted and reported
setup        Python that runs before it, and is not shown
after        Python that runs after it: assertions
prints       what it prints
arrives      the bodies of the records that the OTLP server has at the end, with ``;`` between them; ``*`` is a wildcard
file         its name: it is a file for later snippets of the page
needs        the names of such files, which are there when it runs
only parsed  it is for somebody else's program
"""

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*)$")
_COMMENT = re.compile(r"<!--\s*([a-z ]+?)\s*(?::(.*))?-->\s*$", re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"`[^`\n]*`")
_HEADING = re.compile(r"^#+ (.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Snippet:
    """One fenced block.

    Args:
        page: Relative to the root.
        line: Of its first line of text, from 1.
        language: As it is written behind the fence.
        text: With its last line's end.
        notes: What the comments in front of it say, by the words of `NOTES`.
    """

    page: str
    line: int
    language: str
    text: str
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Where it is."""
        return f"{self.page}:{self.line}"

    @property
    def state(self) -> str:
        """What the tests do with it: "tested", "not run", "output", "directive", or "untested"."""
        if self.language.startswith(DIRECTIVE):
            return "directive"
        if "not run" in self.notes:
            return "not run" if self.notes["not run"] else "untested"
        if self.language in TESTED:
            return "tested"
        readers = self.page == "README.md" or self.page.startswith(("docs/", "examples/"))
        return "output" if self.language in OUTPUT and (self.language or not readers) else "untested"


def list_pages() -> list[str]:
    """Returns the pages that are read: those of the root, of docs/, of examples/, and what is beside the code."""
    patterns = ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/*.md", "otelog/**/*.md", "tools/**/*.md")
    found = {path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)}
    return sorted(page for page in found if not page.startswith("docs/_build/"))


def list_snippet_pages() -> list[str]:
    """Returns the pages whose snippets are tested: those for users, and the one for who begins to change otelog."""
    users = ("README.md", "CONTRIBUTING.md")
    return [page for page in list_pages() if page in users or page.startswith(("docs/", "examples/"))]


def read(page: str) -> str:
    """Returns a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def find_snippets(page: str, text: str) -> Iterator[Snippet]:
    """Yields the fenced blocks of a page, with what the comments right before them say."""
    lines = text.splitlines()
    notes: dict[str, str] = {}
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence:
            begin = at = at + 1
            end = re.compile(rf"^ *{re.escape(fence[2])}\s*$")
            while at < len(lines) and not end.match(lines[at]):
                at += 1
            body = "".join(line.removeprefix(fence[1]) + "\n" for line in lines[begin:at])
            yield Snippet(page, begin + 1, fence[3].strip(), body, notes)
            notes = {}
        elif lines[at].lstrip().startswith("<!--"):
            begin = at
            while "-->" not in lines[at] and at + 1 < len(lines):
                at += 1
            comment = _COMMENT.match("\n".join(lines[begin : at + 1]).strip())
            if comment and comment[1] in NOTES:
                notes[comment[1]] = (comment[2] or "").strip("\n").rstrip()
        elif lines[at].strip():
            notes = {}
        at += 1


def list_snippets() -> list[Snippet]:
    """Returns all snippets of all pages for users."""
    return [snippet for page in list_snippet_pages() for snippet in find_snippets(page, read(page))]


def without_code(text: str) -> str:
    """Returns a page's text without its fenced blocks."""
    return re.sub(r"^( *)(`{3,}|~{3,}).*?^ *\2\s*?$", "", text, flags=re.DOTALL | re.MULTILINE)


def find_anchors(text: str) -> set[str]:
    """Returns the anchors of a page's headings, as repositories and MyST make them."""
    seen: Counter[str] = Counter()
    anchors = set()
    for heading in _HEADING.findall(without_code(text)):
        shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown).lower().replace(" ", "-")
        anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return anchors


def find_links(text: str) -> list[str]:
    """Returns the targets of a page's links, without those in code."""
    return _LINK.findall(_CODE.sub("``", without_code(text)))


def is_dead(page: str, target: str) -> bool:
    """Whether a relative link leads to no file, or to no heading of it; one to another site is not followed."""
    if "://" in target or target.startswith("mailto:"):
        return False
    path, _, anchor = target.partition("#")
    file = ((ROOT / page).parent / path).resolve() if path else ROOT / page
    if not file.exists() or not file.is_relative_to(ROOT):
        return True
    return bool(anchor) and file.suffix == ".md" and anchor not in find_anchors(file.read_text(encoding="utf-8"))


def find_dead_links() -> list[str]:
    """Returns the dead links of all pages, each with its page."""
    return [f"{page}: {target}" for page in list_pages() for target in find_links(read(page)) if is_dead(page, target)]


def find_unlinked_pages() -> list[str]:
    """Returns pages of docs/ that no table of contents has."""
    listed = set()
    for page in list_pages():
        for snippet in find_snippets(page, read(page)):
            if snippet.language == "{toctree}":
                folder = Path(page).parent
                names = [line.strip() for line in snippet.text.splitlines() if line.strip() and line[0] != ":"]
                for name in names:
                    listed |= {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob(f"{name}.md")}
    return [page for page in list_pages() if page.startswith("docs/") and page not in {*listed, "docs/index.md"}]


def main() -> int:
    """Print the figures."""
    size = len((ROOT / "README.md").read_bytes())
    links = sum(len(find_links(read(page))) for page in list_pages())
    dead, unlinked, snippets = find_dead_links(), find_unlinked_pages(), list_snippets()
    untested = [snippet.name for snippet in snippets if snippet.state == "untested"]
    states = Counter(f"{one.language} {one.state}" for one in snippets if one.state in ("tested", "not run"))
    print(f"README.md         {size} bytes of at most {README_BYTES}")
    print(f"pages             {len(list_pages())}, of them in docs/ {sum(p.startswith('docs/') for p in list_pages())}")
    print(f"links             {links}, dead {len(dead)}")
    print(f"snippets          {', '.join(f'{count} {state}' for state, count in sorted(states.items()))}")
    print(f"without a test    {len(untested)}")
    for snippet in snippets:
        if snippet.state == "not run":
            print(f"  not run         {snippet.name}: {snippet.notes['not run'].strip()}")
    for text in (*dead, *unlinked, *untested):
        print(f"  wrong           {text}")
    return int(bool(size > README_BYTES or dead or unlinked or untested))


if __name__ == "__main__":
    sys.exit(main())
