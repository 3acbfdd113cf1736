"""Waiting for a condition with a deadline: no test sleeps for luck. And how many cases of a slow test there are."""

import os
import time
from collections.abc import Callable, Sequence
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


def first(cases: Sequence[T], count: int = 1) -> Sequence[T]:
    """So many of the cases in `make test`; all of them in `make soak`, which sets LONG."""
    return cases if os.environ.get("LONG") else cases[:count]
