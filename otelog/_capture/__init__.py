"""The caller's thread: the facade, the handler, and the bounded queue that they put records in."""
