"""A Bugninja project on disk: its tasks, its traversals, and the folder of each run."""
