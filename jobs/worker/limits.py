"""How long a run may go on, and why it is ended before its CLI ends by itself."""

from collections.abc import Callable
from typing import NamedTuple

from jobs.run.verdict import Cut, idle, too_long
from runner.cli.command import ProcessEnd
from runner.cli.process import CliProcess
from runner.settings import Settings

TICK = 0.25  # seconds between two looks at the deadline and at what was asked of us


class Limits:
    """The times that a run is given. The clock is the caller's: seconds that only grow."""

    def __init__(self, settings: Settings, now: float) -> None:
        self._run_timeout, self._idle_timeout = settings.run_timeout, settings.run_idle_timeout
        self._started = self._lived = now
        self._sign: object = None

    def passed(self, now: float, sign_of_life: object) -> Cut | None:
        """Which of them has passed; `sign_of_life` is another value whenever the run has done something."""
        if sign_of_life != self._sign:
            self._sign, self._lived = sign_of_life, now
        if now - self._started > self._run_timeout:
            return too_long(self._run_timeout)
        if self._idle_timeout and now - self._lived > self._idle_timeout:
            return idle(self._idle_timeout)
        return None


class Followed(NamedTuple):
    """How a started CLI ended, and why we ended it (None if it ended by itself)."""

    end: ProcessEnd
    cut: Cut | None


def follow(
    process: CliProcess,
    grace: Callable[[], float],
    why_end: Callable[[], Cut | None],
    on_tick: Callable[[], None],
) -> Followed:
    """Wait for the CLI, or end it as soon as there is a reason; it has `grace` seconds then."""
    while (end := process.wait(TICK)) is None:
        cut = why_end()
        if cut is not None:
            return Followed(process.end(grace()), cut)
        on_tick()
    return Followed(end, None)
