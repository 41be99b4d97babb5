"""Standard `logging` calls with the short way and without it: nobody may be able to tell which it was."""
