"""Statistics of all runs, out of the rows: of tasks, of failures, and for Prometheus.

What the numbers mean is in `jobs.run.statistics`, `jobs.run.fingerprint` and `jobs.status.metrics`.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from datetime import datetime, timedelta
from functools import partial
from sqlite3 import Connection
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from jobs.run.fingerprint import Example, FailureGroup
from jobs.run.state import Reason, State
from jobs.run.statistics import (
    FLAKY_VERDICTS,
    TREND_RUNS,
    EndedRun,
    SortWord,
    Streak,
    TaskStatistics,
    in_order,
    task_statistics,
)
from jobs.status.database import Database
from jobs.status.metrics import BUCKETS, Histogram, Numbers
from jobs.status.projection import encode
from jobs.status.query import Order
from jobs.status.table import to_microseconds, to_time
from runner.project.catalog import TaskCatalog

LAST = 30  # verdicts, unless another number is asked for
BATCH = 25  # tasks whose statistics are made in one transaction
MOST_FAILURES = 200  # groups, those with most runs
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

TOTALS = """
    SELECT name, state, sum(n),
        max((SELECT started_at FROM runs WHERE group_id = groups.id ORDER BY queued_at DESC LIMIT 1))
    FROM groups JOIN tasks ON tasks.id = task WHERE n > 0 GROUP BY task, state"""
COUNTS = """
    SELECT state, sum(n) FROM groups JOIN tasks ON tasks.id = task WHERE name = ? AND n > 0 GROUP BY state"""
STORED = """
    SELECT name, value FROM tasks JOIN statistics ON tasks.id = task
    WHERE last = ? AND name IN (SELECT value FROM json_each(?))"""
STORE = "INSERT OR REPLACE INTO statistics SELECT id, ?, ? FROM tasks WHERE name = ?"
VERDICTS = """
    SELECT run_id, state = 'FINISHED', queued_at / 1e6, finished_at / 1e6, (finished_at - started_at) / 1e6, wait,
        first_step, warm
    FROM groups JOIN tasks ON tasks.id = groups.task JOIN runs ON runs.id IN
        (SELECT id FROM runs WHERE group_id = groups.id ORDER BY queued_at DESC LIMIT :last)
    WHERE state IN ('FINISHED', 'FAILED') AND n > 0 AND name = :task ORDER BY queued_at DESC"""
STREAK = """
    SELECT sum(iif(:after < 0, n, (SELECT count(*) FROM runs WHERE group_id = groups.id AND queued_at > :after))),
        min((SELECT min(queued_at) FROM runs WHERE group_id = groups.id AND queued_at > :after))
    FROM groups JOIN tasks ON tasks.id = task WHERE name = :task AND state = :state AND n > 0"""
FIRST = """
    SELECT run_id, finished_at FROM tasks JOIN groups ON groups.task = tasks.id JOIN runs ON group_id = groups.id
    WHERE name = :task AND state = :state AND queued_at = :first"""
FAILURES = """
    SELECT fingerprint, count(*), min(finished_at), max(finished_at), json_group_array(DISTINCT name), run_id, name,
        reason, failure
    FROM runs JOIN groups ON groups.id = group_id JOIN tasks ON tasks.id = runs.task
    WHERE fingerprint IS NOT NULL AND finished_at >= ? GROUP BY fingerprint
    ORDER BY count(*) DESC, max(finished_at) DESC LIMIT ?"""
ENDED = """
    SELECT name, state, reason, sum(ended) FROM groups JOIN tasks ON tasks.id = task WHERE ended > 0
    GROUP BY task, state, reason"""
LAST_VERDICTS = """
    SELECT name, state = 'FINISHED', max((SELECT max(queued_at) FROM runs WHERE group_id = groups.id))
    FROM groups JOIN tasks ON tasks.id = task WHERE state IN ('FINISHED', 'FAILED') AND n > 0 GROUP BY task"""


Sort = Annotated[SortWord, Meta(description="task, health, pass_rate, flip_rate, duration, trend or last_run")]


class Statistics(Struct, frozen=True):
    """The runs of a task in numbers."""

    total_runs: int = 0
    passed_runs: int = 0
    failed_runs: Annotated[int, Meta(description="FAILED and ERROR")] = 0
    pending_runs: Annotated[int, Meta(description="PENDING and RUNNING")] = 0
    success_rate: Annotated[float, Meta(description="percentage of passed ones among final ones; 0 without any")] = 0.0
    last_run_at: datetime | None = None


class StatisticsQuery(Struct, frozen=True):
    """Over how many verdicts of a task."""

    last: Annotated[int, Meta(ge=2, le=200, description="an integer from 2 to 200 (verdicts)")] = LAST


class AllStatisticsQuery(StatisticsQuery, frozen=True):
    """The same for all tasks, in which order."""

    sort: Sort = "task"
    sort_order: Order = "asc"
    format: Annotated[Literal["json", "csv"], Meta(description="json or csv")] | None = None


class FailuresQuery(Struct, frozen=True):
    """Failures of which time."""

    since: Annotated[
        str, Meta(pattern="^[0-9]{1,4}[mhdw]$", description="a number of m, h, d or w (minutes to weeks), such as 7d")
    ] = "7d"


class RunStatistics:
    """Of one project."""

    def __init__(self, database: Database, catalog: TaskCatalog) -> None:
        self._database = database
        self._catalog = catalog

    def totals(self) -> Mapping[str, Statistics]:
        """The runs of each task that has any, in numbers."""
        found: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
        for task, state, count, last in self._query(TOTALS):
            found[task][state] = count, last
        return {task: _totals(states) for task, states in found.items()}

    def of_task(self, name: str, last: int) -> TaskStatistics:
        """The statistics of this task. Raises `NotFound`."""
        return self.of_tasks({self._catalog.find_or_broken(name).id}, last)[0]

    def of_tasks(self, tasks: Set[str], last: int = LAST) -> list[TaskStatistics]:
        """The statistics of these tasks, by the names of their folders and in the order of these. One without any run
        may be among them."""
        found: dict[str, str] = dict(self._query(STORED, last, encode(sorted(tasks))))
        missing = sorted(tasks - found.keys())
        for start in range(0, len(missing), BATCH):
            found |= self._database.write(partial(_store, missing[start : start + BATCH], last))
        return [msgspec.json.decode(found[task], type=TaskStatistics) for task in sorted(tasks)]

    def of_all(self, query: AllStatisticsQuery) -> Sequence[TaskStatistics]:
        """The statistics of all tasks, in the order that is asked for."""
        every = self.of_tasks({task.id for task in self._catalog.all()}, query.last)
        return in_order(every, query.sort, descending=query.sort_order == "desc")

    def failures(self, query: FailuresQuery, now: datetime) -> Sequence[FailureGroup]:
        """The failures since then, those that are alike together; the most frequent first."""
        since = now - int(query.since[:-1]) * UNITS[query.since[-1]]
        return [_failure_group(*row) for row in self._query(FAILURES, to_microseconds(since), MOST_FAILURES)]

    def numbers(self) -> Numbers:
        """All that Prometheus is told of the runs."""
        now = dict(self._query("SELECT state, sum(n) FROM groups WHERE state IN ('PENDING', 'RUNNING') GROUP BY state"))
        found: dict[tuple[str, int], list[tuple[float, int, float]]] = defaultdict(list)
        for name, warm, *bucket in self._query("SELECT * FROM durations"):
            found[name, warm].append((bucket[0], bucket[1], bucket[2]))
        histograms = {key: _histogram(buckets) for key, buckets in found.items()}
        nothing = _histogram([])
        return Numbers(
            now={State(state): count for state, count in now.items()},
            ended=self._query(ENDED),
            run_duration=histograms.get(("run", -1), nothing),
            queue_wait=histograms.get(("wait", -1), nothing),
            first_step={bool(warm): histograms.get(("first_step", warm), nothing) for warm in (0, 1)},
            verdicts={task: bool(passed) for task, passed, _ in self._query(LAST_VERDICTS)},
        )

    def _query(self, statement: str, *values: Any) -> list[Any]:
        return self._database.read(lambda it: it.execute(statement, values).fetchall())


def _store(tasks: Sequence[str], last: int, connection: Connection) -> dict[str, str]:
    """The statistics of these tasks, as JSON, which are there from then on. In one transaction, so that none of their
    runs changes meanwhile."""
    found: dict[str, str] = {task: encode(_statistics(connection, task, last)) for task in tasks}
    connection.executemany(STORE, [(last, value, task) for task, value in found.items()])
    return found


def _statistics(connection: Connection, task: str, last: int) -> TaskStatistics:
    counts = {State(state): count for state, count in connection.execute(COUNTS, (task,))}
    enough = max(last, TREND_RUNS, FLAKY_VERDICTS)
    rows = connection.execute(VERDICTS, {"last": enough, "task": task})
    runs = [EndedRun._make([*run, None if warm is None else bool(warm)]) for *run, warm in rows]
    passed = [run for run in runs if run.passed][:enough]
    return task_statistics(task, counts, runs[:enough], passed, _streak(connection, task, runs, enough), last)


def _streak(connection: Connection, task: str, runs: Sequence[EndedRun], enough: int) -> Streak | None:
    """The newest verdicts that are all the same, if they are more than `enough`."""
    if len({run.passed for run in runs[:enough]}) != 1 or len(runs) < enough:
        return None
    state = State.FINISHED if runs[0].passed else State.FAILED
    before = next((run.queued_at for run in runs if run.passed != runs[0].passed), None)
    values = {"task": task, "state": state, "after": -1 if before is None else round(before * 1e6)}
    length, first = connection.execute(STREAK, values).fetchone()
    run_id, finished_at = connection.execute(FIRST, {**values, "first": first}).fetchone()
    return Streak(state, length, to_time(finished_at), run_id)


def _totals(states: Mapping[str, tuple[int, int]]) -> Statistics:
    total = sum(count for count, _ in states.values())
    passed = states.get(State.FINISHED, (0, 0))[0]
    failed = sum(count for state, (count, _) in states.items() if State(state).is_failure)
    return Statistics(
        total_runs=total,
        passed_runs=passed,
        failed_runs=failed,
        pending_runs=total - passed - failed,
        success_rate=round(100 * passed / (passed + failed), 2) if passed + failed else 0.0,
        last_run_at=to_time(max(last for _, last in states.values())),
    )


def _failure_group(
    fingerprint: str, count: int, first: int, last: int, tasks: str, run_id: str, task: str, reason: str, failure: str
) -> FailureGroup:
    shown = msgspec.json.decode(failure)
    return FailureGroup(
        id=fingerprint,
        reason=Reason(reason),
        action=shown["action"],
        message=shown["message"],
        path=shown["path"],
        count=count,
        tasks=sorted(msgspec.json.decode(tasks)),
        first_seen=to_time(first),
        last_seen=to_time(last),
        example=Example(run_id, task, shown["example"]),
    )


def _histogram(buckets: Sequence[tuple[float, int, float]]) -> Histogram:
    counts = {bucket: count for bucket, count, _ in buckets}
    return Histogram([counts.get(bound, 0) for bound in (*BUCKETS, math.inf)], sum(total for *_, total in buckets))
