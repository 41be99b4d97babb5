"""The handler for code that logs through the standard library: a door to it for those who import it from here."""

from otelog._capture.handler import LoggingHandler

__all__ = ["LoggingHandler"]
