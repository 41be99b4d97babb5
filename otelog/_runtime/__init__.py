"""What every room stands on: threads, waiting, forks and ends of the process, late imports, words on standard error."""
