"""What follows the pages finds out what is wrong on one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tools.walkthrough import Reader, read_page

FINE = """
<!-- file: said.txt -->
```ini
one
```

<!-- for somebody else: nothing -->
<!-- append: said.txt -->
```ini
two
```

<!-- terminal: 1 -->
```sh
cat said.txt; cat
```

```text
one
two
```

```sh
echo 'took 0.35 s in 7fa63e82ab'
echo 'and 12 records more'
```

```text
took 1.20 s in 0f0f0f0f11
and … more
```

<!-- fails -->
```sh
false
```

<!-- Ctrl-C in terminal: 1 -->

<!-- not run: it would fail -->
```sh
false
```
"""


def follow(page: str, folder: Path, *, install: bool = False) -> Reader:
    with Reader(folder, os.environ, {"HERE": "there"}, install=install) as reader:
        reader.follow(read_page(page))
    return reader


def test_a_page_that_is_right_is_followed_to_its_end(tmp_path: Path) -> None:
    reader = follow(FINE, tmp_path)
    assert (tmp_path / "said.txt").read_text(encoding="utf-8") == "one\n\n\ntwo\n"
    assert [(timing.typed, timing.until) for timing in reader.timings] == [
        ("cat said.txt; cat", "two"),
        ("echo 'took 0.35 s in 7fa63e82ab'\necho 'and 12 records more'", "its end"),
        ("false", "its end"),
    ]


def test_other_words_are_typed_instead(tmp_path: Path) -> None:
    follow("```sh\ntest HERE = there\n```\n", tmp_path)


def test_an_install_is_run_only_where_it_is_asked_for(tmp_path: Path) -> None:
    page = "<!-- install -->\n```sh\ntouch installed\n```\n"
    follow(page, tmp_path)
    assert not (tmp_path / "installed").exists()
    follow(page, tmp_path, install=True)
    assert (tmp_path / "installed").exists()


def test_a_command_is_typed_again_until_it_shows_what_it_should(tmp_path: Path) -> None:
    page = "<!-- repeat -->\n```sh\necho x >> n\ntr -d '\\n' < n\n```\n\n```text\nxxx\n```\n"
    follow(page, tmp_path)
    assert (tmp_path / "n").read_text(encoding="utf-8") == "x\n" * 3


@pytest.mark.parametrize(
    ("page", "line"),
    [
        ("\n```sh\nfalse\n```\n", 2),
        ("\n```sh\nfalse\ntrue\n```\n", 2),
        ("\n<!-- fails -->\n```sh\ntrue\n```\n", 2),
        ("\n```sh\necho one\n```\n\n```text\ntwo\n```\n", 6),
        ("\n```sh\necho one; echo two\n```\n\n```text\ntwo\none\n```\n", 6),
        ("\n```sh\necho 'order 7 is asked for'\n```\n\n```text\norder seven is asked for\n```\n", 6),
        ("\n<!-- terminal: 1 -->\n```sh\necho one\n```\n\n```text\ntwo\n```\n", 7),
    ],
    ids=["fails", "first fails", "succeeds", "another text", "another order", "another word", "in a terminal"],
)
def test_what_is_wrong_is_found_and_its_line_is_named(page: str, line: int, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=rf"^line {line}:"):
        follow(page, tmp_path)
