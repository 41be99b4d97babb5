"""`otelog doctor`: why records do not arrive."""
