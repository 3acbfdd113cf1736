"""Rows -> SQL: the table of runs in one transaction."""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from sqlite3 import Connection
from typing import Any

import msgspec

from jobs.run.fingerprint import failure_fingerprint
from jobs.run.record import RunRecord
from jobs.run.state import Reason
from jobs.run.test_case import BrowserConfig, TestCase
from jobs.status.metrics import BUCKETS
from jobs.status.row import Row, current_task
from runner.files import file_identity
from runner.ids import RunId, TaskId
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MESSAGE_CHARACTERS = 500  # of a failure's message that are kept
AS_NOW = 0  # the case of a run that the task describes as it is now

COLUMNS = (
    *("run_id", "task", "group_id", "recorded", "queued_at", "started_at", "finished_at"),
    *("passed_steps", "failed_steps", "traversal_id", "file", "batch_id", "labels"),
    *("wait", "first_step", "warm", "fingerprint", "failure", "seen", "counted"),
)
FOUND = "SELECT group_id, counted FROM runs WHERE run_id = ? AND task = ?"
UPSERT = (
    f"INSERT INTO runs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
    f" ON CONFLICT DO UPDATE SET ({', '.join(COLUMNS)}) = ({', '.join(f'excluded.{name}' for name in COLUMNS)})"
    f" WHERE ({', '.join(f'runs.{name}' for name in COLUMNS)})"
    f" IS NOT ({', '.join(f'excluded.{name}' for name in COLUMNS)})"
)
TAKEN = (  # whether a file belongs to a run that has adopted it, or that another task has accepted
    "SELECT 1 FROM runs WHERE traversal_id = :run AND task = :task AND run_id != :run"
    " UNION ALL SELECT 1 FROM runs WHERE run_id = :run AND task != :task AND recorded"
)
CLAIMED = (  # whether a run may be about to adopt a file that last changed then
    "SELECT 1 FROM groups JOIN runs ON group_id = groups.id WHERE groups.task = ? AND state = 'RUNNING' AND recorded"
    " AND file IS NULL AND traversal_id IS NULL AND started_at < ?"
)
NOT_OWN = (  # files that are no runs of their own now that this run is there
    "DELETE FROM runs WHERE NOT recorded AND"
    " ((run_id = :file AND task = :task AND run_id != :run) OR (run_id = :run AND task != :task))"
)
GROUP = "task = ? AND case_id = ? AND state = ? AND reason = ? AND run_type = ? AND origin = ? AND trigger = ?"


class RunTable:
    """For one transaction."""

    def __init__(self, connection: Connection, files: RunFiles, catalog: TaskCatalog) -> None:
        self._connection = connection
        self._files = files
        self._catalog = catalog
        self._ids: dict[tuple[object, ...], int] = {}
        self._durations: Counter[tuple[str, int, float]] = Counter()
        self._seconds: dict[tuple[str, int, float], float] = defaultdict(float)
        self._ended: Counter[int] = Counter()

    def put(self, task_id: TaskId, row: Row) -> bool:
        """Insert or update the row of a run; whether anything has changed."""
        record, task = row.record, self.task(task_id)
        if not row.is_recorded and self._one(TAKEN, {"run": record.run_id, "task": task}):
            return self.delete(task_id, record.run_id)
        known = self._one(FOUND, (record.run_id, task))
        if row.is_recorded:
            self._connection.execute(NOT_OWN, {"run": record.run_id, "file": record.file_id, "task": task})
        is_listed = row.is_recorded or (known is not None and known[0] is not None)
        is_listed = is_listed or self._one(CLAIMED, (task, int(row.modified * 1e6))) is None
        group = self._group(task, record) if is_listed else None
        was_counted = known is not None and bool(known[1])
        is_counted = was_counted or (group is not None and row.seen is None)
        if group is not None and is_counted and not was_counted:
            self._count(group, record)
        values = (*self._values(task, group, row), is_counted)
        return self._connection.execute(UPSERT, values).rowcount > 0

    def delete(self, task_id: TaskId, run_id: RunId) -> bool:
        """Delete the row of a run; whether there was one."""
        found = self._connection.execute(
            "DELETE FROM runs WHERE run_id = ? AND task = ? RETURNING recorded", (run_id, self.task(task_id))
        ).fetchone()
        if found and found[0]:  # files that were its own, or named as it, may be runs of their own now
            self._connection.execute("UPDATE tasks SET listed = NULL")
        return found is not None

    def task(self, task_id: TaskId) -> int:
        """The key of the task, which is as its file says now."""
        if (task_id,) not in self._ids:
            file = str(file_identity(self._files.task_file(task_id)))
            found = self._one("SELECT id, file FROM tasks WHERE name = ?", (task_id,))
            if found is None or found[1] != file:
                case = self._case(*current_task(self._files, self._catalog, task_id))
                self._connection.execute(
                    "INSERT INTO tasks (name, case_id, file) VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET case_id = excluded.case_id, file = excluded.file",
                    (task_id, case, file),
                )
                found = self._one("SELECT id, file FROM tasks WHERE name = ?", (task_id,))
            self._ids[(task_id,)] = found[0]
        return self._ids[(task_id,)]

    def finish(self) -> None:
        """Write what was counted. To be called once, at the end."""
        self._connection.executemany(
            "UPDATE groups SET ended = ended + ? WHERE id = ?", [(n, group) for group, n in self._ended.items()]
        )
        self._connection.executemany(
            "INSERT INTO durations VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET n = n + excluded.n, total = total + excluded.total",
            [(*key, n, self._seconds[key]) for key, n in self._durations.items()],
        )

    def _count(self, group: int, record: RunRecord) -> None:
        self._ended[group] += 1
        finished = None if record.outcome is None else record.outcome.finished_at
        wait, first_step = _waits(record)
        measured = (("run", -1, _seconds(record.started_at, finished)), ("wait", -1, wait))
        for name, warm, seconds in (*measured, ("first_step", int(record.warm or False), first_step)):
            if seconds is not None:
                key = name, warm, ([*BUCKETS, math.inf][bisect_left(BUCKETS, seconds)])
                self._durations[key] += 1
                self._seconds[key] += seconds

    def _group(self, task: int, record: RunRecord) -> int:
        case = AS_NOW if record.test_case is None else self._case(record.test_case, record.browser_config)
        reason = record.outcome.reason if record.outcome else None
        key = (task, case, record.state, reason or "", record.run_type, record.origin, record.effective_trigger)
        if key not in self._ids:
            self._connection.execute(
                "INSERT OR IGNORE INTO groups (task, case_id, state, reason, run_type, origin, trigger)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                key,
            )
            self._ids[key] = self._one(f"SELECT id FROM groups WHERE {GROUP}", key)[0]
        return self._ids[key]

    def _case(self, case: TestCase, browser: BrowserConfig | None) -> int:
        key = (case, browser)
        if key not in self._ids:
            texts = msgspec.json.encode(case).decode(), msgspec.json.encode(browser).decode()
            search = "\n".join((case.id, case.test_name, case.test_description)).casefold()
            insert = "INSERT OR IGNORE INTO cases (test_case, browser_config, search) VALUES (?, ?, ?)"
            self._connection.execute(insert, (*texts, search))
            select = "SELECT id FROM cases WHERE test_case = ? AND browser_config = ?"
            self._ids[key] = self._one(select, texts)[0]
        return self._ids[key]

    def _one(self, statement: str, values: Any) -> Any:
        return self._connection.execute(statement, values).fetchone()

    def _values(self, task: int, group: int | None, row: Row) -> tuple[Any, ...]:
        record, outcome = row.record, row.record.outcome
        finished = None if outcome is None else to_microseconds(outcome.finished_at)
        return (
            record.run_id,
            task,
            group,
            row.is_recorded,
            to_microseconds(record.queued_at),
            to_microseconds(record.started_at or record.queued_at),
            finished,
            *row.steps,
            record.traversal_id if record.file_id != record.run_id else None,
            row.file,
            record.batch_id,
            msgspec.json.encode(record.labels).decode() if record.labels else None,
            *_waits(record),
            record.warm,
            *self._failure(row),
            row.seen,
        )

    def _failure(self, row: Row) -> tuple[str | None, str | None]:
        """The fingerprint of a run's failure, and what is shown of it; a run that a user stopped has not failed."""
        outcome = row.record.outcome
        if outcome is None or outcome.reason in (None, Reason.STOPPED):
            return None, None
        message, url = outcome.error_message or "", outcome.failed_url
        if not row.is_recorded:
            clean = self._files.redactor(row.record.task_id).text
            message, url = clean(message), clean(url or "")
        found = failure_fingerprint(outcome.reason, outcome.failed_action, message, url)
        shown = {"message": found.text, "action": found.action, "path": found.path}
        return found.id, msgspec.json.encode({**shown, "example": message[:MESSAGE_CHARACTERS]}).decode()


def to_microseconds(time: datetime) -> int:
    """Since 1970."""
    return (time - EPOCH) // timedelta(microseconds=1)


def to_time(microseconds: int) -> datetime:
    """The time so many microseconds after the beginning of 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def _waits(record: RunRecord) -> tuple[float | None, float | None]:
    """Seconds from its acceptance until a worker took the run, and from then to its first step."""
    if record.is_made_by_hand or record.started_at is None:
        return None, None
    return _seconds(record.queued_at, record.started_at), _seconds(record.started_at, record.first_step_at)


def _seconds(began: datetime | None, ended: datetime | None) -> float | None:
    return None if began is None or ended is None else max(0.0, (ended - began).total_seconds())
