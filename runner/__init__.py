"""What touches a Bugninja project: its files, its command line and the processes that it starts."""
