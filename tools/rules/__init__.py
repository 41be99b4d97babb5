"""Alert rules as code: `python -m tools.rules` (`make rules`) writes the YAML that is committed in collector/."""
