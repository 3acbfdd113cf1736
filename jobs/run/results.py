"""The results of runs for other programs: what their files in JUnit and CTRF form are made of. Pure."""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from xml.sax.saxutils import escape

from msgspec import Struct

from jobs.run.failure import LOG_LINES, Failure
from jobs.run.state import Reason, State
from runner.terminal import clean_text

FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]+")  # in XML 1.0, or controls
CUT = " … (cut)"
NAME_BYTES = 500
MESSAGE_BYTES = 3000
FACT_BYTES = 1000
LINE_BYTES = 400  # so that all parts of one run together are below 20 kB


class RunResult(Struct, frozen=True):
    """How a run ended, or that it is not over. Times are UTC, `duration` is seconds."""

    run_id: str
    task_id: str
    test_name: str
    file: str
    """Of the task, from the project's folder on: `tasks/login/task_login.toml`."""
    state: State
    reason: Reason | None
    message: str | None
    started_at: datetime | None
    finished_at: datetime | None
    duration: float | None
    failure: Failure | None
    browser: str | None = None

    @property
    def is_skipped(self) -> bool:
        """Whether it says nothing about the test: a user stopped it, or it is not over."""
        return not self.state.is_final or self.reason is Reason.STOPPED

    @property
    def why(self) -> str:
        """A sentence on why it did not pass."""
        if not self.state.is_final:
            return f"The run is not over: it is {self.state}."
        return self.message or (self.failure and self.failure.message) or f"The run ended as {self.state}."


class Results(Struct, frozen=True):
    """The results of one run, or of all runs of a batch."""

    id: str
    name: str
    started_at: datetime | None
    finished_at: datetime | None
    duration: float | None
    runs: Sequence[RunResult]
    labels: Mapping[str, str] = {}


def clip(text: str, limit: int) -> str:
    """The text without escape sequences and what XML forbids, in at most so many bytes of XML; says if it was cut."""
    text = FORBIDDEN.sub("\ufffd", clean_text(text))
    if _size(text) <= limit:
        return text
    sizes = [*accumulate(map(_size, text[:limit]))]
    return text[: bisect_right(sizes, limit - _size(CUT))] + CUT


def _size(text: str) -> int:
    return len(escape(text, {'"': "&quot;"}).encode())


def one_line(text: str, limit: int = NAME_BYTES) -> str:
    """The same on one line."""
    return " ".join(clip(text, limit).split())


def unique_names(runs: Sequence[RunResult]) -> list[str]:
    """The names of the tests; the second with a name has a number behind it, since readers drop what they have."""
    taken: dict[str, None] = {}
    for run in runs:
        name = first = one_line(run.test_name) or run.task_id
        number = 1
        while name in taken:
            number += 1
            name = f"{first} ({number})"
        taken[name] = None
    return [*taken]


def details(run: RunResult) -> str:
    """What is known about why the run did not pass, in lines."""
    lines = [clip(run.why, MESSAGE_BYTES), f"Run: {run.run_id}"]
    if (card := run.failure) is None:
        return "\n".join(lines)
    facts = {"Step": card.step, "Action": card.action, "URL": card.url, "Goal": card.goal, "Signal": card.signal}
    lines += [f"{name}: {clip(str(value), FACT_BYTES)}" for name, value in facts.items() if value is not None]
    if card.log_tail:
        lines += ["", "End of the log:", *(clip(line, LINE_BYTES) for line in card.log_tail[-LOG_LINES:])]
    return "\n".join(lines)
