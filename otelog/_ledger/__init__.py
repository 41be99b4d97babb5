"""The counters of what became of every record, and three of the four places where they are read."""
