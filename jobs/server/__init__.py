"""The server that the web process runs: its protocol, its limits, its end."""
