"""What Django adds to records of its own, of which some is worth keeping.

Its lines have the request as a field, which has nothing to say as a text (``<WSGIRequest: GET '/'>``), and in those of
runserver it is the connection. The time is the record's own. What remains is the status.
"""

from __future__ import annotations

from typing import Any

_LOGGERS = "django."
_STATUS, _STATUS_FIELD = "status_code", "http.response.status_code"


def tidy(logger_name: str, fields: dict[str, Any]) -> None:
    """Take the request and the time out of the fields of one of Django's own records, and give the status its name."""
    if not logger_name.startswith(_LOGGERS):
        return
    del fields["request"]
    fields.pop("server_time", None)
    if type(fields.get(_STATUS)) is int:
        fields.setdefault(_STATUS_FIELD, fields.pop(_STATUS))
