"""Runs as RQ jobs: enqueueing them, executing them in a worker, and saying how they stand."""
