"""What all ways to start it come to."""

import atexit
import sys
from pathlib import Path

from tests.warm_cli import endings, noisy, words

WORDS = {**vars(words), **vars(endings)}


def main() -> None:
    """Perform the words of the task's file `behaviour`: `name` or `name:value`."""
    atexit.register(print, f"farewell of {sys.argv[1]}, {len(noisy.BALLAST)} bytes")
    for step in Path("tasks", sys.argv[1], "behaviour").read_text().split():
        name, _, value = step.partition(":")
        WORDS[name.replace("-", "_")](value)
