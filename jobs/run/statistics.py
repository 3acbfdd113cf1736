"""How a task does: the definitions of all its statistics, over the runs of it that ended. Pure."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from operator import ne
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from jobs.run.state import State
from runner.files import utc_time

NEW_BELOW = 5  # verdicts
BROKEN_AFTER = 3  # failures in a row
FLAKY_FLIPS, FLAKY_VERDICTS = 2, 10
TREND_RECENT, TREND_RUNS = 5, 25  # passed runs: those that are compared with the others, and all of them
SLOW_TREND, SLOW_SECONDS = 1.5, 10.0

SortWord = Literal["task", "health", "pass_rate", "flip_rate", "duration", "trend", "last_run"]
Rate = Annotated[float, Meta(ge=0, le=1)]
NO_RUNS = dict.fromkeys(State, 0)


class EndedRun(NamedTuple):
    """A run with a verdict: the test passed (FINISHED) or failed (FAILED). An ERROR says nothing about the test."""

    run_id: str
    passed: bool
    queued_at: float
    """Seconds since 1970, like `finished_at`."""
    finished_at: float
    duration: float | None = None
    """Seconds, like `wait` (from acceptance to a worker) and `first_step` (from there to the first step)."""
    wait: float | None = None
    first_step: float | None = None
    warm: bool | None = None


class Health(StrEnum):
    """How a task does, in a word; the worst first."""

    BROKEN = "broken"  #: the last 3 verdicts are failures
    FLAKY = "flaky"  #: not broken, and at least 2 flips in the last 10 verdicts
    SLOW = "slow"  #: a trend above 1.5, and the last 5 passed runs took more than 10 seconds
    NEW = "new"  #: fewer than 5 verdicts
    STABLE = "stable"  #: none of these


class Spread(Struct, frozen=True):
    """Percentiles in seconds, interpolated between the two nearest values (p50 is the median); null without any."""

    p50: float | None
    p90: float | None


class FirstStep(Struct, frozen=True):
    """From the start to the first step, by the way in which the CLI was started."""

    warm: Spread
    cold: Spread


class Streak(Struct, frozen=True):
    """The newest verdicts that are all the same."""

    state: State
    length: Annotated[int, Meta(ge=1)]
    since: Annotated[datetime, Meta(description="the end of its first run")]
    first_run: str


class LastPassed(Struct, frozen=True):
    """The newest run that passed."""

    id: str
    finished_at: datetime


class TaskStatistics(Struct, frozen=True):
    """How a task does. Verdicts are the runs that are FINISHED or FAILED; an ERROR is none. Times are UTC."""

    task_id: str
    health: Health
    counts: Annotated[dict[State, int], Meta(description="all runs, by their state")]
    last: Annotated[int, Meta(description="how many verdicts, the newest ones, are behind the rates and percentiles")]
    pass_rate: Annotated[Rate | None, Meta(description="passed ones among these verdicts; null without any")]
    flips: Annotated[int, Meta(description="neighbours among these verdicts that differ")]
    flip_rate: Annotated[Rate | None, Meta(description="flips among all neighbours; null with fewer than two verdicts")]
    streak: Streak | None
    last_run_at: Annotated[datetime | None, Meta(description="the end of the newest verdict")]
    last_passed: LastPassed | None
    duration: Annotated[Spread, Meta(description="of the newest passed runs")]
    trend: Annotated[
        float | None,
        Meta(
            description="median duration of the 5 newest passed runs / of up to 20 before; null with fewer than 5 + 5"
        ),
    ]
    queue_wait: Annotated[Spread, Meta(description="from acceptance to a worker")]
    first_step: FirstStep


def task_statistics(
    task_id: str,
    counts: Mapping[State, int],
    verdicts: Sequence[EndedRun],
    passed: Sequence[EndedRun],
    streak: Streak | None,
    last: int,
) -> TaskStatistics:
    """The statistics over the `last` newest verdicts; health and trend do not depend on that number.

    Both sequences are newest first, and complete if they are short: else there are at least `last` in each, and at
    least FLAKY_VERDICTS and TREND_RUNS. `streak` is needed only if all the verdicts are the same and there are more.
    """
    results = [run.passed for run in verdicts]
    window, runs = results[:last], verdicts[:last]
    durations = [run.duration for run in passed if run.duration is not None]
    trend, flips = _trend(durations), count_flips(window)
    return TaskStatistics(
        task_id=task_id,
        health=_health(results, trend, durations),
        counts={**NO_RUNS, **counts},
        last=len(window),
        pass_rate=sum(window) / len(window) if window else None,
        flips=flips,
        flip_rate=flips / (len(window) - 1) if len(window) > 1 else None,
        streak=_streak(verdicts, results, streak),
        last_run_at=utc_time(verdicts[0].finished_at) if verdicts else None,
        last_passed=LastPassed(passed[0].run_id, utc_time(passed[0].finished_at)) if passed else None,
        duration=_spread(durations[:last]),
        trend=trend,
        queue_wait=_spread([run.wait for run in runs]),
        first_step=FirstStep(
            warm=_spread([run.first_step for run in runs if run.warm]),
            cold=_spread([run.first_step for run in runs if run.warm is False]),
        ),
    )


def count_flips(results: Sequence[bool]) -> int:
    """How many neighbours differ."""
    return sum(map(ne, results, results[1:]))


def percentile(ordered: Sequence[float], part: float) -> float:
    """The value below which this part (0 to 1) of the ascending values is, interpolated between the two nearest."""
    place = (len(ordered) - 1) * part
    below = int(place)
    return ordered[below] + (ordered[below + (place > below)] - ordered[below]) * (place - below)


def _spread(values: Iterable[float | None]) -> Spread:
    ordered = sorted([value for value in values if value is not None])
    return Spread(percentile(ordered, 0.5), percentile(ordered, 0.9)) if ordered else Spread(None, None)


def _median(values: Iterable[float]) -> float:
    return percentile(sorted(values), 0.5)


def _trend(durations: Sequence[float]) -> float | None:
    if len(durations) < 2 * TREND_RECENT:
        return None
    before = _median(durations[TREND_RECENT:TREND_RUNS])
    return _median(durations[:TREND_RECENT]) / before if before > 0 else None


def _health(results: Sequence[bool], trend: float | None, durations: Sequence[float]) -> Health:
    if len(results) < NEW_BELOW:
        return Health.NEW
    if not any(results[:BROKEN_AFTER]):
        return Health.BROKEN
    if count_flips(results[:FLAKY_VERDICTS]) >= FLAKY_FLIPS:
        return Health.FLAKY
    slow = trend is not None and trend > SLOW_TREND and _median(durations[:TREND_RECENT]) > SLOW_SECONDS
    return Health.SLOW if slow else Health.STABLE


def _streak(verdicts: Sequence[EndedRun], results: Sequence[bool], longer: Streak | None) -> Streak | None:
    if not results:
        return None
    other = not results[0]
    length = results.index(other) if other in results else len(results)
    if longer and length == len(results):
        return longer
    first = verdicts[length - 1]
    state = State.FINISHED if first.passed else State.FAILED
    return Streak(state, length, utc_time(first.finished_at), first.run_id)


SEVERITY = tuple(Health)
SORT_KEYS: Mapping[SortWord, Callable[[TaskStatistics], Any]] = {
    "task": lambda task: task.task_id,
    "health": lambda task: SEVERITY.index(task.health),
    "pass_rate": lambda task: task.pass_rate,
    "flip_rate": lambda task: task.flip_rate,
    "duration": lambda task: task.duration.p50,
    "trend": lambda task: task.trend,
    "last_run": lambda task: task.last_run_at,
}


def in_order(statistics: Iterable[TaskStatistics], word: SortWord, *, descending: bool) -> list[TaskStatistics]:
    """Sorted by this word, equal ones by their task; those without a value are last in both orders."""
    key = SORT_KEYS[word]
    by_task = sorted(statistics, key=SORT_KEYS["task"])
    known = sorted((task for task in by_task if key(task) is not None), key=key, reverse=descending)
    return known + [task for task in by_task if key(task) is None]


CSV_COLUMNS = (
    *("task_id", "health", *(f"counts.{state}" for state in State), "last", "pass_rate", "flips", "flip_rate"),
    *("streak.state", "streak.length", "streak.since", "streak.first_run", "last_run_at"),
    *("last_passed.id", "last_passed.finished_at", "duration.p50", "duration.p90", "trend"),
    *("queue_wait.p50", "queue_wait.p90", "first_step.warm.p50", "first_step.warm.p90"),
    *("first_step.cold.p50", "first_step.cold.p90"),
)
"""The paths of all values in the JSON."""


def as_csv(statistics: Iterable[TaskStatistics]) -> str:
    """A line per task after the names of the columns; null is an empty cell. No cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(CSV_COLUMNS)
    paths = [column.split(".") for column in CSV_COLUMNS]
    writer.writerows([_cell(task, path) for path in paths] for task in map(msgspec.to_builtins, statistics))
    return text.getvalue()


def _cell(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value and value[key]
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
