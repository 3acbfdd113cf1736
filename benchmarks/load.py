"""Clients that ask without a pause, until they are ended. `python -m benchmarks.load PORT PATH [PATH ...]`."""

import sys

from benchmarks.client import request_bytes, requests_per_second

FOR_EVER = 3600.0


def main() -> None:
    """One client per path, all in this process."""
    port, paths = int(sys.argv[1]), sys.argv[2:]
    requests_per_second(port, [request_bytes(path) for path in paths], FOR_EVER)


if __name__ == "__main__":
    main()
