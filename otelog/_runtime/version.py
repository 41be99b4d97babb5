"""otelog's version, which is also its ``User-Agent``."""

__version__ = "0.1.0"
USER_AGENT = f"otelog/{__version__}"
