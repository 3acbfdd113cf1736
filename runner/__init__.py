"""A Bugninja project and its CLI: settings, files, processes. Knows nothing of HTTP, Redis or RQ."""
