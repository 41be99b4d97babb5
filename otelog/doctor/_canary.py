"""One record that is sent to see whether it arrives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import get_ident
from typing import Any

from opentelemetry.sdk.resources import Resource

from otelog._otlp.encode import Encoder
from otelog._record.attributes import DEFAULT_ATTRIBUTES
from otelog._record.row import Source, Special
from otelog._record.severity import severity_number

EVENT_NAME = "otelog.doctor.canary"
SCOPE = "otelog.doctor"

_INFO = 20


def make_request(resource_attributes: Mapping[str, Any]) -> bytes:
    """Returns an ``ExportLogsServiceRequest`` with one record.

    Args:
        resource_attributes: Whose record it is, as in the settings.
    """
    resource = Resource.create(dict(resource_attributes))
    source = Special(Source(SCOPE, severity_number(_INFO), "INFO"), event_name=EVENT_NAME)
    row = [time.time_ns(), source, None, "otelog doctor was here", None, None, None, 0, get_ident()]
    batch, _ = Encoder(resource.attributes, resource.schema_url, DEFAULT_ATTRIBUTES).encode(row, lambda: None)
    return batch.payload(0, len(batch))
