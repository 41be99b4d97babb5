"""What logging costs a request: a Flask view under gunicorn, with each way of delivering its records."""
