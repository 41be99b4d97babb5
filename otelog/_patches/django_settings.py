"""Django's instrumentation, which is loaded when Django has its settings.

opentelemetry-instrumentation-django puts its middleware into the settings as it is loaded, which is when Python starts:
before `manage.py` has said which settings there are, and before their module can be imported. It then configures empty
ones, for good, and the application has no URLs, no applications and no hosts. `django.setup()` is what every way into
Django calls first (`manage.py`, `get_wsgi_application`, `get_asgi_application`, Celery): after it the settings are
there, and no request has been taken yet. So that public function is replaced until it has succeeded once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["after_setup"]


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
