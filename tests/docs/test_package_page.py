"""The README on a package index: no link is dead there, with an address of the repository or without one."""

from __future__ import annotations

import re
from importlib.metadata import metadata

import pytest

from tests.docs.shell import PROJECT
from tools.package_page import make_page
from tools.reader import read

ADDRESS = "https://git.example/otelog/otelog"


def test_without_an_address_links_are_text_and_pictures_are_their_description() -> None:
    page = make_page("See [how](docs/how.md#now) and [them](https://other.example/) ![A plot](plot.svg)", None)
    assert page == "See how and [them](https://other.example/) (A plot)"


def test_with_an_address_links_are_absolute() -> None:
    page = make_page("See [how](docs/how.md#now) ![A plot](plot.svg)", f"{ADDRESS}/")
    assert page == f"See [how]({ADDRESS}/blob/HEAD/docs/how.md#now) ![A plot]({ADDRESS}/raw/HEAD/plot.svg)"


@pytest.mark.parametrize("address", [None, ADDRESS])
def test_the_readme_has_no_relative_link_left_and_no_comment(address: str | None) -> None:
    page = make_page(read("README.md"), address)
    assert [target for target in re.findall(r"\]\(([^)]+)\)", page) if "://" not in target] == []
    assert "<!--" not in page
    assert (f"({ADDRESS}/blob/HEAD/docs/how-to/flask.md)" in page) == (address is not None)


def test_the_package_has_that_page() -> None:
    assert metadata("otelog")["Description-Content-Type"] == "text/markdown"
    assert "readme" in PROJECT["dynamic"]
