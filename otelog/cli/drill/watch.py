"""What Prometheus says of alerts."""

from __future__ import annotations

import json
import time
from datetime import datetime, timezone

import urllib3

PAUSE = 1.0
"""Seconds between two looks."""

CALM_AFTER, CALM_UNTIL = 300.0, 2 * 3600.0
"""Seconds from a drill's end: when its service would be missed for the first time, and when no more."""


def read_states(prometheus: str) -> dict[str, str] | None:
    """Returns the alerts that are pending or firing by name, or None if Prometheus does not say.

    Args:
        prometheus: Its base URL.
    """
    try:
        with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
            answer = pool.request("GET", f"{prometheus}/api/v1/alerts")
        states: dict[str, str] = {}
        for alert in json.loads(answer.data)["data"]["alerts"]:
            name = alert["labels"]["alertname"]
            if states.get(name) != "firing":
                states[name] = alert["state"]
        return states
    except (urllib3.exceptions.HTTPError, OSError, ValueError, KeyError):
        return None


def calm(alertmanager: str, service: str) -> bool:
    """Have Alertmanager not miss the service of a drill that is over; returns whether it will.

    Not at once: the end of the alert is still to be told.
    """
    now = time.time()
    begin, end = (datetime.fromtimestamp(now + after, timezone.utc).isoformat() for after in (CALM_AFTER, CALM_UNTIL))
    matchers = [
        {"name": "alertname", "value": "OtelogLogSilence|OtelogApplicationSilent", "isRegex": True, "isEqual": True},
        {"name": "job", "value": f"(.+/)?{service}", "isRegex": True, "isEqual": True},
    ]
    silence = {
        "matchers": matchers,
        "startsAt": begin,
        "endsAt": end,
        "createdBy": "otelog drill",
        "comment": "The drill is over, and its service has ended.",
    }
    try:
        with urllib3.PoolManager(retries=False, timeout=5.0) as pool:
            answer = pool.request("POST", f"{alertmanager}/api/v2/silences", json=silence)
        return answer.status == 200
    except (urllib3.exceptions.HTTPError, OSError):
        return False
