"""`otelog audit`: the counters of every hop, read, compared and shown."""
