"""The facade: a door to it for those who import it from here."""

from otelog._capture.facade import Logger, bound

__all__ = ["Logger", "bound"]
