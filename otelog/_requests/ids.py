"""What a client says of its request's identity: a request id, and a trace id that is not W3C's."""

from __future__ import annotations

import os
import random
import re

MOST_CHARACTERS = 128
"""Bound of an id that a client may send."""

# Its own, which no application seeds; the system's would cost a call into the kernel for each request.
_random = random.Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)

_is_sane = re.compile(f"[!-~]{{1,{MOST_CHARACTERS}}}").fullmatch
_is_trace_id = re.compile("[0-9a-fA-F]{32}").fullmatch


def find_request_id(given: str | None) -> str:
    """Returns the client's request id, if it is 1 to 128 visible ASCII characters, or else a new one."""
    return given if given is not None and _is_sane(given) else f"{_random.getrandbits(128):032x}"


def parse_trace_id(given: str) -> int:
    """Returns the number that 32 hex digits mean, or 0 for anything else: zero is no trace id."""
    return int(given, 16) if _is_trace_id(given) else 0


def clean_trace_id(given: str) -> str:
    """Returns what is to be kept of an id of any other kind: its first 128 characters that can be shown."""
    kept = given.strip()[:MOST_CHARACTERS]
    return kept if kept.isprintable() else "".join(one for one in kept if one.isprintable())


def header_key(name: str) -> str:
    """Returns under which key a WSGI server gives a request's header."""
    return f"HTTP_{name.upper().replace('-', '_')}"
