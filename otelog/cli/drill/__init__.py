"""`otelog drill`: a thing that alerts are for is made to happen, seen, and undone."""
