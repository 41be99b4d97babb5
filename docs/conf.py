"""How Sphinx builds these pages: `make docs`."""

import re

import click
from sphinx.application import Sphinx

from otelog import __version__

project = "otelog"
project_copyright = "The otelog authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"otelog {release}"

# Links to headings, as in a repository's own view of the page.
myst_heading_anchors = 4

# A docstring says `name` of a name.
default_role = "code"
autodoc_member_order = "groupwise"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_use_rtype = False

_OUTSIDE = re.compile(r"\[([^]]+)\]\(((?:\.\./)+(?:benchmarks|tools|examples|[A-Z]+\.md)[^)#]*)\)")


def _carry_files(_app: Sphinx, page: str, source: list[str]) -> None:
    """Have a link to a file outside of docs/ lead to a copy of it: the pages may be read away from the repository."""
    depth = page.count("/") + 1

    def replace(found: re.Match[str]) -> str:
        leaves = found[2].startswith("../" * depth)
        return f"{{download}}`{found[1]} <{found[2]}>`" if leaves else found[0]

    source[0] = _OUTSIDE.sub(replace, source[0])


def _escape_help(_app: Sphinx, _context: click.Context, lines: list[str]) -> None:
    """Have what a command says of itself shown as it is: the help is no reStructuredText."""
    # Lines that begin with a bar are what click was told not to wrap.
    lines[:] = [re.sub(r"(?<!^)([|*])", r"\\\1", line) for line in lines]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _carry_files)
    app.connect("sphinx-click-process-description", _escape_help)
    app.connect("sphinx-click-process-options", _escape_help)
