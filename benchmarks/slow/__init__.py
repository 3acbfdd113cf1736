"""A stand-in for a CLI: it imports for two seconds, and then acts at once. `python -m benchmarks.slow TASK`."""
