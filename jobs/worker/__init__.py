"""From Redis to the end of the CLI: the RQ worker, and what it does for a run."""
