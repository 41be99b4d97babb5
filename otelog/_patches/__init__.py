"""Everything that otelog replaces in other libraries, each with its reason and its undoing."""
