"""Django with otelog: one access record a request, ids, fields, metrics, and a health entry::

    MIDDLEWARE = [
        "otelog.django.AccessLogMiddleware",
        ...
    ]

Needs the extra ``django``.
"""

from otelog.django.middleware import AccessLogMiddleware

__all__ = ["AccessLogMiddleware"]
