"""The README as a package index shows it, away from the repository: hatchling asks for it when it builds the package.

With an address (`Source` of [project.urls]) relative links become absolute. Without one they become plain text, and
pictures their description: a page of an index has no files beside it, and a dead link helps nobody.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^]]*)\]\((?!\w+:|#)([^)\s]+)\)")
_COMMENT = re.compile(r"^<!--.*?-->\n", re.DOTALL | re.MULTILINE)


def make_page(text: str, address: str | None) -> str:
    """Returns the page with links that work anywhere.

    Args:
        text: Markdown with links relative to the repository's root.
        address: Where the repository's files are; None: nowhere yet.
    """

    def replace(found: re.Match[str]) -> str:
        picture, shown, path = found.groups()
        if address is None:
            return f"({shown})" if picture else shown
        # A picture is not the page that shows it.
        kind = "raw" if picture else "blob"
        return f"{picture}[{shown}]({address.rstrip('/')}/{kind}/HEAD/{path})"

    return _LINK.sub(replace, _COMMENT.sub("", text))


class CustomMetadataHook(MetadataHookInterface):
    """Sets the package's description."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Called by hatchling with the table [project]."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        page = make_page(text, metadata.get("urls", {}).get("Source"))
        metadata["readme"] = {"content-type": "text/markdown", "text": page}
