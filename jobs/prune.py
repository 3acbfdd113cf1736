"""Delete old runs, with their files and their keys in Redis: `python -m jobs.prune`, and `--yes` to do it.

RUNS_KEEP_DAYS and RUNS_KEEP decide which. Only runs that are over are deleted.
"""

import argparse
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from redis import Redis
from redis.exceptions import RedisError

from jobs.queue.connection import connect
from jobs.queue.job import delete_job
from jobs.queue.records import show_record
from jobs.run.state import Reason
from jobs.status.entry import Entry
from jobs.status.history import RunHistory
from runner.errors import ProjectGone, SettingsError
from runner.ids import RunId, TaskId
from runner.log import configure_logging, log_event
from runner.project.catalog import TaskCatalog
from runner.project.removal import files_of_run, remove, size_of
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder, task_lock
from runner.settings import Settings, read_settings

LOST_FOR = timedelta(days=1)  # an incomplete recording may still be in use for so long
MEGABYTE = 1_000_000


class Plan(NamedTuple):
    """A run to be deleted."""

    entry: Entry
    folder: RunFolder
    size: int
    """Bytes that they take."""


def choose(
    entries: Sequence[Entry], keep_days: int, keep: int, now: datetime, needed: Collection[RunId] = ()
) -> Iterator[Entry]:
    """Which of these runs (the newest first) are too old or too many. Pure.

    Never one that is not over, or whose traversal is in `needed`. 0 days or 0 runs set no limit.
    """
    rank: dict[TaskId, int] = {}
    for entry in entries:
        rank[entry.task_id] = rank.get(entry.task_id, 0) + 1
        over_at = entry.finished_at
        if not entry.state.is_final or over_at is None or entry.file_id in needed:
            continue
        if entry.reason is Reason.LOST and now - over_at < LOST_FOR:
            continue
        if (keep_days and now - over_at > timedelta(days=keep_days)) or (keep and rank[entry.task_id] > keep):
            yield entry


class Pruner:
    """Plans what to delete, and deletes it. Raises `ProjectGone` if there is no project."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._files = settings, RunFiles(settings.tasks_root)
        self._entries = RunHistory(self._files, TaskCatalog(settings.tasks_root)).index().newest_first
        self._known = {entry.run_id for entry in self._entries}

    def plans(self, now: datetime) -> list[Plan]:
        """What there is to delete, the newest first."""
        settings, needed = self._settings, frozenset(_being_replayed(self._files, self._entries))
        plans = []
        for entry in choose(self._entries, settings.runs_keep_days, settings.runs_keep, now, needed):
            folder = self._files.folder(entry.task_id, entry.run_id)
            plans.append(Plan(entry, folder, sum(map(size_of, [folder.path, *files_of_run(folder, entry.file_id)]))))
        return plans

    def delete(self, plan: Plan, redis: Redis) -> bool:
        """Delete one run: from Redis, then its files, its own folder last; False if it has to be kept now after all.

        A replay that was accepted after the plan may need the files; as long as this holds the lock of the task none
        can be accepted. Raises redis's errors and `OSError`.
        """
        entry = plan.entry
        with task_lock(self._settings.tasks_root, entry.task_id):
            if entry.file_id in self._needed_since(entry.task_id):
                log_event("kept", run=entry.run_id, task=entry.task_id, error="a replay of it was accepted")
                return False
            delete_job(redis, entry.run_id, entry.task_id)
            for path in files_of_run(plan.folder, entry.file_id):
                remove(path)
            plan.folder.remove()
        log_event("pruned", run=entry.run_id, task=entry.task_id, state=entry.state)
        return True

    def _needed_since(self, task_id: TaskId) -> set[RunId | None]:
        """The traversals that replays need which were accepted since the entries were read."""
        folders = (self._files.folder(task_id, run_id) for run_id in self._files.run_ids(task_id) - self._known)
        return {record.original_traversal_id for folder in folders if (record := show_record(folder))}


def _being_replayed(files: RunFiles, entries: Iterable[Entry]) -> Iterator[RunId]:
    """The traversals that waiting or running replays need."""
    for entry in entries:
        if not entry.state.is_final:
            record = show_record(files.folder(entry.task_id, entry.run_id))
            if record is not None and record.original_traversal_id is not None:
                yield record.original_traversal_id


def as_table(plans: Sequence[Plan]) -> str:
    rows = [f"{'task':30} {'run':24} {'state':8} {'over since':20} {'MB':>8}"]
    rows += [
        f"{plan.entry.task_id:30} {plan.entry.run_id:24} {plan.entry.state:8} "
        f"{plan.entry.finished_at:%Y-%m-%d %H:%M:%S} {plan.size / MEGABYTE:9.2f}"
        for plan in plans
    ]
    return "\n".join(rows)


def _total(plans: Sequence[Plan]) -> str:
    return f"{len(plans)} runs, {sum(plan.size for plan in plans) / MEGABYTE:.2f} MB"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Show or delete the runs; returns the exit code: 1 if not all of them could be."""
    parser = argparse.ArgumentParser(prog="python -m jobs.prune", description="Delete old runs.")
    parser.add_argument("--yes", action="store_true", help="do it, instead of saying what would be done")
    really = parser.parse_args(arguments).yes
    try:
        settings = read_settings(environ)
        pruner = Pruner(settings)
        plans = pruner.plans(datetime.now(UTC))
    except (SettingsError, ProjectGone) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    configure_logging(settings.log_level)
    if not settings.runs_keep_days and not settings.runs_keep:
        sys.stdout.write("RUNS_KEEP_DAYS and RUNS_KEEP are 0, so all runs are kept.\n")
        return 0
    if not really or not plans:
        sys.stdout.write(f"{as_table(plans)}\n{_total(plans)} would be deleted; with --yes they are.\n")
        return 0
    redis = connect(settings.redis_url)
    try:
        redis.ping()
        deleted = [plan for plan in plans if pruner.delete(plan, redis)]
    except (RedisError, OSError) as error:
        sys.stderr.write(f"Not all was deleted: {error}\n")
        return 1
    sys.stdout.write(f"{as_table(deleted)}\n{_total(deleted)} were deleted.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
