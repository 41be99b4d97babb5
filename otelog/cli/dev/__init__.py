"""`otelog dev`: a receiver for a developer's own machine."""
