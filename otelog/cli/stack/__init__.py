"""`otelog stack`: the back end for a developer's machine, with Docker or as native processes."""
