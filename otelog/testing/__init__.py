"""Tools for tests of applications that log through otelog.

`capture_logs` collects what is logged, wherever it would have gone. `OTLPServer` is a real OTLP/HTTP server on loopback
that answers, and fails, as a script says.
"""

from otelog.testing.capture import CAPTURE_SECONDS, CapturedLogs, capture_logs
from otelog.testing.server import LOGS_PATH, Fault, OTLPServer, Reply, Request

__all__ = ["CAPTURE_SECONDS", "LOGS_PATH", "CapturedLogs", "Fault", "OTLPServer", "Reply", "Request", "capture_logs"]

for _class in (CapturedLogs, OTLPServer, Reply, Request):
    _class.__module__ = __name__
