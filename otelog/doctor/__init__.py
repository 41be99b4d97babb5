"""Find out why records do not arrive: `otelog doctor`, or `examine` inside a running application."""

from otelog.doctor._examination import examine
from otelog.doctor._findings import Area, Finding, Report

__all__ = ["Area", "Finding", "Report", "examine"]
