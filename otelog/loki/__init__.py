"""A client for Loki: `LokiClient` asks for entries, counts and labels, and follows what comes in::

    with LokiClient("http://localhost:3100") as loki:
        for entry in loki.query_range('{service_name="checkout"} |= "paid"', start=start_ns, end=end_ns):
            print(entry.timestamp_ns, entry.line, entry.metadata.get("trace_id"))

Times are nanoseconds since 1970; a start is included, an end is not. Needs the extra ``loki``.
"""

from otelog.loki.client import DEFAULT_TIMEOUT, Entry, LokiClient, LokiError, Sample

__all__ = ["DEFAULT_TIMEOUT", "Entry", "LokiClient", "LokiError", "Sample"]

for _class in (Entry, LokiClient, LokiError, Sample):
    _class.__module__ = __name__
