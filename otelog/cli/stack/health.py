"""What is wrong although every server answers: what Prometheus does not see, and which alerts fire."""

from __future__ import annotations

from otelog.audit.http import Client, SourceError

_WATCHED = ("otelog-collector", "loki")
"""Without these Prometheus's alerts are silent, whatever happens."""


def find_notes(prometheus: str) -> list[str]:
    """Returns what there is to say beside the servers' states; empty where nothing is known to be wrong. Never raises.

    Args:
        prometheus: Its address.
    """
    client = Client(prometheus)
    try:
        targets = [(one["metric"], float(one["value"][1])) for one in client.get_data("/api/v1/query", {"query": "up"})]
        firing = client.get_data("/api/v1/query", {"query": 'ALERTS{alertstate="firing"}'})
        names = sorted({str(one["metric"].get("alertname", "")) for one in firing})
    except (SourceError, KeyError, TypeError, ValueError, IndexError) as error:
        return [f"Prometheus answers no query, so alerts are not known ({error})"]
    finally:
        client.close()
    down = [f"{labels.get('job')} at {labels.get('instance')}" for labels, value in targets if not value]
    seen = {labels.get("job") for labels, _ in targets}
    notes = [f"Prometheus does not reach {what}: alerts about that are silent" for what in down]
    notes += [f"Prometheus has not seen {job} yet: alerts are silent" for job in _WATCHED if job not in seen]
    return notes + [f"an alert fires: {name} ({prometheus}/alerts)" for name in names]
