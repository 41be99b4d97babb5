"""The options: declared in one table, read from keywords, environment and file, and checked."""
