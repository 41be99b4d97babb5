"""Peers side by side: what a log call costs with otelog and with its alternatives; ``python -m benchmarks``."""
