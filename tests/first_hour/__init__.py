"""What a new user meets in the first hour: the pages that show how to begin, followed command by command."""
