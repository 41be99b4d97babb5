"""Sinks of otelog's own, beside the Collector: where a process's records go as lines of text."""
