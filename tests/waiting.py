"""Waiting for a condition with a deadline: no test sleeps for luck."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
STEP = 0.02


def wait_for(condition: Callable[[], T], seconds: float = 40.0, what: str = "the condition", step: float = STEP) -> T:
    """The first true value of the condition. Fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(step)
    return value
