"""Text as it may be shown to a person: without secrets, and without characters that nobody sees. Pure."""

from __future__ import annotations

import re

HIDDEN = "\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
"""Beside the controls below a space: what may end a line, steer a terminal or change the order of its letters."""

_UNSAFE = re.compile(f"[\x00-\x1f{HIDDEN}\ud800-\udfff]")


def show_hidden(text: str) -> str:
    """Return a text as one line that steers no terminal: what would is written as Python writes it.

    Never raises for a `str`. Safe in any thread.
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


_USER = re.compile(r"(?<=//)[^\s/?#'\"]*@")
_QUERY = re.compile(r"(//[^\s?#'\"]*\?)([^\s#'\"]*)")


def hide_secrets(text: str) -> str:
    """Return a text without what URLs in it may have of secrets: user and password, and the values of a query.

    Never raises for a `str`. Safe in any thread.
    """
    if "//" not in text:
        return text
    return _QUERY.sub(lambda found: found[1] + "&".join(map(_hide_value, found[2].split("&"))), _USER.sub("***@", text))


def _hide_value(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}=***" if equals else "***" if pair else ""
