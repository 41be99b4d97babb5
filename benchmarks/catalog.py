"""All peers by their names, and which of them make up which table."""

from __future__ import annotations

from benchmarks.peers import FLOOR, OTLP_PEERS, Peer
from benchmarks.sink_peers import SINK_PEERS

PEERS: dict[str, Peer] = {**OTLP_PEERS, **SINK_PEERS}
OTLP_TABLE = tuple(OTLP_PEERS)
SINK_TABLE = (FLOOR, *SINK_PEERS)
