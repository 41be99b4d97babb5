"""What options may be given: a URL, and a number of seconds."""

from __future__ import annotations

import math
from typing import Any

import click

from otelog._runtime.shown_text import hide_secrets
from otelog._runtime.urls import UnusableError, parse_endpoint


class Url(click.ParamType):  # type: ignore[type-arg]
    """The URL of a server: http:// or https://, without a user."""

    name = "url"

    def __init__(self, example: str) -> None:
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it, or refuse it in a BadParameter."""
        text = str(value).strip()
        try:
            parse_endpoint(text)
        except UnusableError as error:
            self.fail(f"{hide_secrets(text)!r} is no URL: {error}; give one such as {self._example}", param, ctx)
        return text


class Number(click.FloatRange):
    """A number in a range, as `click.FloatRange` has it, that is a number, and finite."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return it, or refuse it in a BadParameter."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number that can be waited for.", param, ctx)
        return number


COLLECTOR_URL = Url("http://localhost:4318")
