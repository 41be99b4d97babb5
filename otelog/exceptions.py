"""What otelog raises.

OtelogError
└── ConfigurationError   an option is unknown, of the wrong kind, or out of its range
"""

from __future__ import annotations

__all__ = ["ConfigurationError", "OtelogError"]


class OtelogError(Exception):
    """Anything that otelog raises on purpose."""


class ConfigurationError(OtelogError, ValueError):
    """An option has a value that cannot be used; the message names it and says what is allowed."""
