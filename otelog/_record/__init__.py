"""What a record is: a row, its values, its severity, its stack trace, and the SDK's record made of it."""
