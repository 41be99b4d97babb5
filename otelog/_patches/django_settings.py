"""Django's instrumentation, which is loaded when Django has its settings.

opentelemetry-instrumentation-django puts its middleware into the settings as it is loaded, which is when Python starts:
before `manage.py` has said which settings there are, and before their module can be imported. It then configures empty
ones, for good, and the application has no URLs, no applications and no hosts. `django.setup()` is what every way into
Django calls first (`manage.py`, `get_wsgi_application`, `get_asgi_application`, Celery): after it the settings are
there, and no request has been taken yet. So that public function is replaced until it has succeeded once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from importlib import import_module
from typing import Any

__all__ = ["after_setup", "put_middleware"]


def after_setup(act: Callable[[], None]) -> Callable[[], None]:
    """Call something once, after Django's settings have been loaded and its applications are there.

    Args:
        act: Must not raise.

    Returns:
        A function that takes it back. Idempotent.

    Raises:
        ImportError: There is no Django.
    """
    django: Any = __import__("django")
    standard = django.setup
    waiting = [act]

    def undo() -> None:
        waiting.clear()
        if django.setup is setup:
            django.setup = standard

    @wraps(standard)
    def setup(*arguments: Any, **keywords: Any) -> None:
        # It raises for wrong settings, as it does without otelog; there may be another attempt.
        standard(*arguments, **keywords)
        acts = waiting.copy()
        undo()
        for one in acts:
            one()

    django.setup = setup
    return undo


def put_middleware(path: str, behind: str) -> None:
    """Put a middleware into the settings, which are there, unless it, or one that is made from it, is among them.

    Args:
        path: Of the class.
        behind: Of the one that it comes right after, if that is there; otherwise it is the first.
    """
    settings: Any = import_module("django.conf").settings
    import_string: Any = import_module("django.utils.module_loading").import_string
    there = list(settings.MIDDLEWARE)
    ours = import_string(path)
    for one in there:
        # What cannot be imported is Django's to complain of.
        with suppress(Exception):
            found = import_string(one)
            if isinstance(found, type) and issubclass(found, ours):
                return
    place = there.index(behind) + 1 if behind in there else 0
    settings.MIDDLEWARE = [*there[:place], path, *there[place:]]
