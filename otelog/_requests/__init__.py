"""What a request's records are made of, whatever framework has the request: one code, so the names are the same."""
