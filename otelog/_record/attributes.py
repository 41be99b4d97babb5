"""A queued record's body and attributes: what the user gave, and what otelog adds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from otelog._record.row import FIELD_BYTES, SLOT_BYTES, CodeSite, Source, Special
from otelog._record.stacktrace import CapturedStack, line_number, qualified_name, render_exception, render_stack
from otelog._record.values import (
    DEFAULT_LIMITS,
    TRUNCATED_KEY,
    AnyValue,
    Limits,
    clean_text,
    is_longer,
    note_truncated,
    safe_str,
    to_any_value,
    to_attributes,
)
from otelog._runtime.interruption import is_interruption

RESERVED_KEYS = frozenset(
    {
        "code.file.path",
        "code.function.name",
        "code.line.number",
        "exception.type",
        "exception.message",
        "exception.stacktrace",
        "message_template.text",
        "message_template.args",
        "thread.id",
        "thread.name",
    }
)
"""Attributes that otelog sets itself; a field of the same name given by the user replaces otelog's."""

PAUSE_EVERY = 100
"""Records between two calls of ``pause``, so that an application thread gets the interpreter lock soon."""

MOST_CACHED_KEYS = 4096
MOST_CACHED_SITES = 1024
"""Bounds of the caches; what goes beyond them is encoded anew each time."""

MOST_FIELDS = SLOT_BYTES // FIELD_BYTES
"""Fields that a record may have before it is counted as large, and so made a `Special`."""

_MOST_OWN = 5
"""The attributes of otelog's own that the fast way adds: ``code.*`` and ``thread.*``."""


class AttributeBuilder:
    """Decides which attributes a record gets.

    Args:
        limits: Bounds of attributes.
        code_attributes: Whether ``code.*`` attributes are added.
        thread_names: Returns a thread's name by its id, or None; None leaves ``thread.*`` attributes out.
        message_template: Whether the template and its arguments are added, for grouping.
    """

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        *,
        code_attributes: bool = True,
        thread_names: Callable[[int], str | None] | None = None,
        message_template: bool = False,
    ) -> None:
        self.limits = limits
        self.code_attributes = code_attributes
        self.thread_names = thread_names
        self.message_template = message_template

    def build(
        self,
        source: Any,
        message: Any,
        arguments: tuple[Any, ...] | None,
        fields: dict[str, Any] | None,
        code: CodeType | None,
        offset: int,
        thread: int,
    ) -> tuple[dict[str, AnyValue], int]:
        """Returns all attributes of a row, otelog's own and the user's, and how many were discarded over the limit."""
        special: Special | None = source if source.special else None
        base: Source = special.source if special is not None else source
        if base.sdk is not None:
            # The SDK has applied its own limits, and counted what it discarded.
            return to_attributes(fields or {}, _NO_LIMITS)[0], special.discarded if special is not None else 0
        own: dict[str, Any] = {}
        if self.code_attributes:
            site = base.site if code is None else find_site(code, offset, short_names=base.short_names)
            if site is not None:
                own["code.file.path"] = site.file_path
                own["code.function.name"] = site.function_name
                own["code.line.number"] = site.line_number
        if self.thread_names is not None:
            own["thread.id"] = thread
            name = self.thread_names(thread)
            if name is not None:
                own["thread.name"] = name
        if self.message_template and type(message) is str:
            own["message_template.text"] = message
            if arguments:
                own["message_template.args"] = list(arguments)
        if special is not None:
            if special.exception is not None:
                kind, text, stacktrace = render_exception(special.exception)
                own["exception.type"] = kind
                own["exception.message"] = text
                own["exception.stacktrace"] = stacktrace
            if special.stack is not None:
                stack = special.stack
                own["code.stacktrace"] = render_stack(stack) if isinstance(stack, CapturedStack) else stack
        # The user's own values beat ours, also where the limit cuts.
        merged = {**fields, **{key: value for key, value in own.items() if key not in fields}} if fields else own
        attributes, discarded = to_attributes(merged, self.limits)
        if self.limits.max_value_length is not None:
            self._note_truncated(attributes, merged, own)
        return attributes, discarded + (special.discarded if special is not None else 0)

    def _note_truncated(self, attributes: dict[str, AnyValue], given: dict[str, Any], own: dict[str, Any]) -> None:
        """Have attributes say which of them the limit has cut; the place of the call stays whole, as it is short."""
        length = self.limits.max_value_length or 0
        names: list[str] = []
        # Both are in the same order; a limit on their number may have left out the last ones.
        for name, (key, value) in zip(list(attributes), given.items(), strict=False):
            if not is_longer(value, length) or key == TRUNCATED_KEY:
                continue
            place: Any = own.get(key) if key in _PLACE_KEYS else None
            if place is not None and place is value:
                attributes[name] = clean_text(place)
            else:
                names.append(name)
        note_truncated(attributes, names)


_PLACE_KEYS = frozenset({"code.file.path", "code.function.name", "thread.name"})
_NO_LIMITS = Limits(max_attributes=sys.maxsize)
DEFAULT_ATTRIBUTES = AttributeBuilder()


def gives_all_attributes(attributes: AttributeBuilder) -> bool:
    """Returns whether a row that is no `Special` has no attributes but its fields and ``code.*`` and ``thread.*``.

    Such a record is small, so that the usual limit cannot stand in its way.
    """
    return not attributes.message_template and attributes.limits.max_attributes >= MOST_FIELDS + _MOST_OWN


def show_unfilled(message: str, arguments: Any) -> str:
    """Returns a template and the arguments that do not fit it, readably. Never raises."""
    try:
        return clean_text(f"{message} {arguments!r}")
    except BaseException as failure:
        if is_interruption(failure):
            raise
        return f"{clean_text(message)} {safe_str(to_any_value(arguments))}"


def build_body(message: Any, arguments: tuple[Any, ...] | None) -> Any:
    """Returns the body: the template filled in; one that does not fit its arguments keeps both, readably."""
    if not arguments:
        return message
    try:
        return message % arguments
    except Exception:
        return show_unfilled(message, arguments)


def find_site(code: CodeType, offset: int, *, short_names: bool = False) -> CodeSite:
    """Returns the file, function and line of an instruction."""
    name = code.co_name if short_names else qualified_name(code)
    return CodeSite(code.co_filename, name, line_number(code, offset))
