"""`otelog query` and `otelog tail`: records out of Loki or log files."""
