"""Unhandled exceptions: each is one record, in the trace of its request.

Flask logs an exception itself and answers 500, or it lets it go, to the test, the debugger or the server. So there is
one rule: what leaves the application has not been logged by Flask, and is recorded here.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import flask

from otelog._requests.exceptions import reaches_pipeline

if TYPE_CHECKING:
    from flask import Flask


def is_logged_by_flask(app: Flask) -> bool:
    """Returns whether the record that Flask makes of an exception which it answers with 500 arrives in the pipeline.

    An application that overrides ``log_exception`` has decided for itself.
    """
    if "log_exception" in vars(app) or type(app).log_exception is not flask.Flask.log_exception:
        return True
    return reaches_pipeline(app.logger, logging.ERROR)
