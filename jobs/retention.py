"""Which runs lose their files, which their record, too; and how that is done: `jobs.prune` is the command.

A run that is pruned is marked first, so whoever is interrupted can begin again. The disk is read, not an index; of each
run little is kept, since there may be very many.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, Self

from redis import Redis

from jobs.queue.batches import read_batch
from jobs.queue.job import delete_job
from jobs.queue.records import create_pruned, mark_pruned, read_file_record, show_record
from jobs.run.record import RunRecord
from jobs.run.state import Reason, State
from jobs.status.row import current_task
from runner.errors import OwnershipLost, RecordUnreadable
from runner.ids import RunId, TaskId
from runner.log import log_event
from runner.project.adoption import adoption_link
from runner.project.batch_files import BatchFile, Mark
from runner.project.catalog import TaskCatalog
from runner.project.project import read_retention_policy
from runner.project.removal import TaskFiles, all_but_record, remove, size_of
from runner.project.run_files import project_files
from runner.project.run_folder import task_lock
from runner.settings import DAY, Settings

HOLD_SECONDS = 0.5  # for which a task is locked at a time: replays of its runs wait for that


class Limits(NamedTuple):
    """How long runs are kept. 0 days or 0 runs set no limit, unless they are those of a policy."""

    days: int
    runs: int
    records_days: int
    by_policy: bool = False
    """Whether files are kept that are young enough or among the newest of their kind, as Bugninja says it; else those
    that are both young enough and among the newest of their task."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings; `[retention_policy]` of the project if they say nothing about files."""
        days, runs = settings.runs_keep_days, settings.runs_keep
        policy = read_retention_policy(settings.project_root) if days is None and runs is None else None
        if policy is None:
            return cls(days or 0, runs or 0, settings.records_keep_days)
        return cls(policy.max_age_days, policy.keep_last_runs, settings.records_keep_days, by_policy=True)

    @property
    def are_none(self) -> bool:
        """Whether everything is kept for ever."""
        return not (self.days or self.runs or self.records_days or self.by_policy)

    def end_files(self, age: float, rank: int) -> bool:
        """Whether a run of this age in seconds loses its files. Its rank is 1 if it is the newest."""
        is_old, is_beyond = age > self.days * DAY, rank > self.runs
        if self.by_policy:
            return is_old and is_beyond
        return bool((self.days and is_old) or (self.runs and is_beyond))


class Run(NamedTuple):
    """What there is to know of a run. Times are in seconds since 1970."""

    run_id: RunId
    file_id: RunId
    state: State
    queued_at: float
    over_at: float
    """Infinite if it is not over, or if that cannot be said."""
    is_replay: bool
    is_lost: bool
    has_record: bool
    is_readable: bool
    is_pruned: bool
    needs: RunId | None
    """The traversal that a replay needs which is not over."""


class Plan(NamedTuple):
    """A run to be pruned."""

    task_id: TaskId
    run: Run
    is_whole: bool
    """Whether the record is deleted, too."""
    size: int
    """Bytes of what is deleted."""


def choose(runs: Sequence[Run], limits: Limits, now: float) -> Iterator[tuple[Run, bool]]:
    """Which of these runs of one task are too old or too many, the newest first, and whether their record is. Pure.

    Never one that is not over, or that a replay needs which is not over. A `lost` recording may still be in use for a
    day. A run that is marked is always chosen: its files should be gone.
    """
    needed = {run.needs for run in runs}
    rank = {True: 0, False: 0}
    for run in sorted(runs, key=lambda run: (run.queued_at, run.run_id), reverse=True):
        kind = limits.by_policy and run.is_replay
        rank[kind] += 1
        age = now - run.over_at
        if run.file_id in needed or age < (DAY if run.is_lost else -math.inf) or run.over_at == math.inf:
            continue
        is_whole = bool(limits.records_days and age > limits.records_days * DAY)
        if is_whole or (run.is_readable and (run.is_pruned or limits.end_files(age, rank[kind]))):
            yield run, is_whole


class Pruner:
    """Plans what to delete, and deletes it. Raises `ProjectGone` if there is no project."""

    def __init__(self, settings: Settings) -> None:
        self._files, self._catalog = project_files(settings), TaskCatalog(settings.tasks_root)
        self._files.check_project()
        self.limits = Limits.of(settings)
        self.failed = 0  # runs that could not be pruned
        self._known: dict[TaskId, frozenset[RunId]] = {}

    def plans(self, now: float, tell: Callable[[str], None] = lambda _: None) -> list[Plan]:
        """What there is to delete at this time (seconds since 1970), task by task. `tell` gets lines that say how far
        this has come."""
        self._known = {task_id: frozenset(self._files.run_ids(task_id)) for task_id in self._files.task_ids()}
        accepted = {run_id for known in self._known.values() for run_id in known}
        plans, awaited = list[Plan](), self._awaited()
        for task_id in self._known:
            runs = []
            for run in self._runs(task_id, accepted):
                runs.append(run)
                tell(f"{task_id}: {len(runs)} runs read")
            found = TaskFiles(self._files.tasks_root, task_id)
            for run, is_whole in choose(runs, self.limits, now):
                if is_whole and run.run_id in awaited:
                    continue
                size = self._size(task_id, run, found, is_whole)
                if size or not run.is_pruned:
                    plans.append(Plan(task_id, run, is_whole, size))
        return plans

    def _awaited(self) -> set[str]:
        """The runs of batches that are not over: how they ended is not recorded there yet."""
        found = set[str]()
        for file in self._files.batches.marked(Mark.ACCEPTING, Mark.OPEN):
            with suppress(OSError, RecordUnreadable):
                batch = read_batch(file)
                found |= {run.run_id for run in batch.runs} if batch else set()
        return found

    def old_batches(self, now: float) -> list[BatchFile]:
        """The batches that ended before RECORDS_KEEP_DAYS; their runs are deleted then, too."""
        limit = now - self.limits.records_days * DAY if self.limits.records_days else -math.inf
        files = self._files.batches.all().values()
        return [file for file in files if file.queued_at.timestamp() < limit and self._ended_at(file) < limit]

    def _ended_at(self, file: BatchFile) -> float:
        """When all runs of the batch had ended, in seconds since 1970; infinite if that is not recorded."""
        try:
            batch = read_batch(file)
        except (OSError, RecordUnreadable):
            return math.inf
        times = [line.finished_at for line in (batch.lines if batch else None) or () if line.finished_at]
        return max(times).timestamp() if times else math.inf

    def _runs(self, task_id: TaskId, accepted: set[RunId]) -> Iterator[Run]:
        """The runs of the task: those with a record, and those made by hand. No file is a run of its own that a run of
        ours has adopted or may soon adopt, or that is named as a run which another task has accepted."""
        own, others, earliest = self._known[task_id], set[RunId](), math.inf
        for run_id in own:
            record = show_record(self._files.folder(task_id, run_id))
            if record is None:
                continue
            others |= {run_id, record.file_id}
            if record.state is State.RUNNING and record.traversal_id is None and record.started_at is not None:
                earliest = min(earliest, record.started_at.timestamp())
            yield _as_run(record, has_record=True)
        for file_id in self._files.traversal_ids(task_id) - others - (accepted - own):
            record = read_file_record(self._files, self._files.folder(task_id, file_id))
            run = None if record is None else _as_run(record, has_record=False)
            if run is not None and run.over_at <= earliest:
                yield run

    def _size(self, task_id: TaskId, run: Run, found: TaskFiles, is_whole: bool) -> int:
        folder = self._files.folder(task_id, run.run_id)
        own = [folder.path] if is_whole else all_but_record(folder)
        return sum(map(size_of, [*own, *found.of_run(run.run_id, run.file_id)]))

    def prune(self, task_id: TaskId, plans: Sequence[Plan], redis: Redis) -> Iterator[Plan]:
        """Do what is planned for this task; what is done of it. Raises redis's errors, and `OSError` if the task cannot
        be locked.

        A replay that was accepted after the plan may need the files, which are then kept; as long as this holds the
        lock of the task none can be accepted.
        """
        found, waiting = TaskFiles(self._files.tasks_root, task_id), deque(plans)
        while waiting:
            done: list[Plan] = []
            with task_lock(self._files.tasks_root, task_id):
                needed, until = self._needed_since(task_id), time.monotonic() + HOLD_SECONDS
                while waiting and time.monotonic() < until:
                    plan = waiting.popleft()
                    if self._could_prune(plan, found, needed, redis):
                        done.append(plan)
            yield from done

    def _could_prune(self, plan: Plan, found: TaskFiles, needed: set[RunId | None], redis: Redis) -> bool:
        """Whether the run is pruned: not if a replay needs it, if it is going on after all, or if that fails."""
        error: Exception | str = "a replay of it was accepted"
        if plan.run.file_id not in needed:
            try:
                self._prune(plan, found, redis)
            except OwnershipLost as lost:
                error = lost
            except (OSError, RecordUnreadable) as failure:
                self.failed += 1
                error = failure
            else:
                return True
        log_event("not_pruned", level=logging.WARNING, run=plan.run.run_id, task=plan.task_id, error=error)
        return False

    def _prune(self, plan: Plan, found: TaskFiles, redis: Redis) -> None:
        """Mark the run, unless all of it goes; then delete its job, its files, and what is in its own folder. That
        goes last, since the run is known as long as it is there: who is interrupted can begin again."""
        task_id, run = plan.task_id, plan.run
        folder = self._files.folder(task_id, run.run_id)
        if not plan.is_whole and run.has_record:
            mark_pruned(self._files, folder)
        elif not plan.is_whole:
            create_pruned(self._files, folder, *current_task(self._files, self._catalog, task_id))
        delete_job(redis, run.run_id, task_id)
        for path in found.of_run(run.run_id, run.file_id):
            remove(path)
        if plan.is_whole:
            remove(adoption_link(self._files.tasks_root, task_id, run.file_id))
            folder.remove()
        else:
            for path in all_but_record(folder):
                remove(path)

    def _needed_since(self, task_id: TaskId) -> set[RunId | None]:
        """The traversals that replays need which were accepted since the plan."""
        new = self._files.run_ids(task_id) - self._known[task_id]
        records = (show_record(self._files.folder(task_id, run_id)) for run_id in new)
        return {record.original_traversal_id for record in records if record is not None}


def _as_run(record: RunRecord, *, has_record: bool) -> Run:
    outcome = None if record.is_unread else record.outcome
    return Run(
        record.run_id,
        record.file_id,
        record.state,
        record.queued_at.timestamp(),
        math.inf if outcome is None else outcome.finished_at.timestamp(),
        is_replay=record.run_type.is_replay,
        is_lost=outcome is not None and outcome.reason is Reason.LOST,
        has_record=has_record,
        is_readable=record.is_readable,
        is_pruned=record.artifacts is not None,
        needs=record.original_traversal_id if record.outcome is None else None,
    )
