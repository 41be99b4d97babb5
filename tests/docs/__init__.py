"""Tests of the pages: README.md, docs/, and those for who changes otelog."""
