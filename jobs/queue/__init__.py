"""From a request into Redis and back: accept, enqueue, stop, record."""
