"""The README on a package index: no link is dead there, with an address of the repository or without one."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tests.docs.shell import PROJECT, ROOT
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


def test_a_wheel_that_is_built_from_the_source_distribution_has_that_page(tmp_path: Path) -> None:
    def build(kind: str, folder: Path) -> Path:
        command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(tmp_path)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        (built,) = tmp_path.glob("*.tar.gz" if kind == "sdist" else "*.whl")
        return built

    with tarfile.open(build("sdist", ROOT)) as source:
        source.extractall(tmp_path, filter="data")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert (folder / "README.md").read_text(encoding="utf-8") == read("README.md")
    with zipfile.ZipFile(build("wheel", folder)) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith("/METADATA"))
        metadata = message_from_bytes(wheel.read(name))
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = make_page(read("README.md"), PROJECT.get("urls", {}).get("Source"))
    assert metadata.get_payload(decode=True).decode().strip() == page.strip()
