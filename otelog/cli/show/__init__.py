"""What several commands share: filters, and how records look on a terminal."""
