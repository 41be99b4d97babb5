"""gunicorn reads this file by itself."""

from otelog.gunicorn import child_exit

__all__ = ["child_exit"]

bind = "127.0.0.1:8000"
workers = 2
threads = 4
