"""The ledger's identities. Imports nothing that a program would import late, in whatever thread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def find_broken_identities(stats: Mapping[str, Any]) -> list[str]:
    """Return which identities of the ledger a snapshot breaks."""
    broken = []
    created = sum(stats["refused"].values()) + stats["queued"] + sum(stats["removed"].values()) + stats["accepted"]
    if stats["created"] != created:
        broken.append(f"created {stats['created']} is not refused + queued + removed + accepted, {created}")
    for name, one in stats["exporters"].items():
        accepted = one["filtered"] + one["exported"] + sum(one["dropped"].values()) + one["waiting"] + one["in_flight"]
        if one["accepted"] != accepted:
            broken.append(f"{name}: accepted {one['accepted']} is not what became of them, {accepted}")
        if min(one["filtered"], one["exported"], one["waiting"], one["in_flight"], *one["dropped"].values()) < 0:
            broken.append(f"{name}: a negative figure")
    return broken
