"""What a new user types first."""
