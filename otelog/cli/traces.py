"""Whether a Collector keeps traces: asked once, before a program is started that would send them."""

from __future__ import annotations

from importlib.util import find_spec

from otelog._config.resolve import Settings
from otelog._otlp.exchange import TransportFailure
from otelog._otlp.open import TRACES_METHOD, TRACES_PATH, open_transport
from otelog._setup.targets import make_target
from otelog.exceptions import ConfigurationError

ASK_SECONDS = 1.0
"""How long the Collector may take to answer; one that does not keeps none."""

KEPT_HEADER, KEPT = "otelog-traces", "kept"
"""What the Collector of the stack says with each answer when there is something behind it that keeps traces."""

_ENCODER = "opentelemetry.exporter.otlp.proto.common.trace_encoder"


def keeps_traces(settings: Settings) -> bool:
    """Returns whether traces can be sent from here, and the Collector says that it keeps them. Never raises.

    By gRPC it cannot say it.

    Args:
        settings: What the program will be set up with.
    """
    if settings.sdk_disabled or not _can_send():
        return False
    try:
        transport = open_transport(make_target(settings, TRACES_PATH, TRACES_METHOD))
    except ConfigurationError:
        return False
    try:
        answer = transport.post(b"", timeout=ASK_SECONDS)
    except TransportFailure:
        return False
    finally:
        transport.close()
    return answer.status == 200 and answer.headers.get(KEPT_HEADER) == KEPT


def _can_send() -> bool:
    try:
        return find_spec(_ENCODER) is not None
    except ModuleNotFoundError:
        return False
