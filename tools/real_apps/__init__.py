"""Runs a Flask application that nobody here wrote under gunicorn with `otelog run`, and checks every record of it."""
