"""The CLI of one run: its command, its processes, and what it prints."""
