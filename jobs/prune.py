"""Delete old runs, with their files and their keys in Redis: `python -m jobs.prune`, and `--yes` to do it.

What is too old or too much is said by RUNS_KEEP_DAYS and RUNS_KEEP. Only runs that are over are deleted.
"""

import argparse
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from redis import Redis
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs.queue.connection import connect
from jobs.run.document import FINAL, Reason
from jobs.run.record import record_from_json
from jobs.status.entry import Entry
from jobs.status.history import RunHistory
from jobs.worker.adopt import claim_key
from runner.errors import ProjectGone, SettingsError
from runner.ids import RunId, TaskId
from runner.log import configure_logging, log_event
from runner.project.catalog import TaskCatalog
from runner.project.removal import files_of_run, remove, size_of
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from runner.settings import Settings, read_settings

LOST_FOR = timedelta(days=1)  # a recording that nobody completes may still be somebody's for so long
MEGABYTE = 1_000_000


class Plan(NamedTuple):
    """A run to be deleted, and how many bytes its files take."""

    entry: Entry
    folder: RunFolder
    size: int


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
        if entry.state not in FINAL or over_at is None or _traversal_id(entry) in needed:
            continue
        if entry.reason is Reason.LOST and now - over_at < LOST_FOR:
            continue
        if (keep_days and now - over_at > timedelta(days=keep_days)) or (keep and rank[entry.task_id] > keep):
            yield entry


def make_plans(settings: Settings, now: datetime) -> list[Plan]:
    """What there is to delete, the newest first. Raises `ProjectGone`."""
    files = RunFiles(settings.tasks_root)
    entries = RunHistory(files, TaskCatalog(settings.tasks_root)).index().newest_first
    needed = frozenset(_being_replayed(settings, entries))
    plans = []
    for entry in choose(entries, settings.runs_keep_days, settings.runs_keep, now, needed):
        folder = RunFolder(settings.tasks_root, entry.task_id, entry.run_id)
        size = sum(map(size_of, files_of_run(folder, _traversal_id(entry))))
        plans.append(Plan(entry, folder, size))
    return plans


def carry_out(plan: Plan, redis: Redis) -> None:
    """Delete one run: from Redis, then its files, its own folder last. Raises redis's errors and `OSError`."""
    traversal_id = _traversal_id(plan.entry)
    try:
        Job.fetch(plan.entry.run_id, redis, JSONSerializer).delete()
    except NoSuchJobError:
        redis.delete(Job.key_for(plan.entry.run_id))
    redis.delete(claim_key(traversal_id))
    for path in files_of_run(plan.folder, traversal_id):
        remove(path)
    log_event("pruned", run=plan.entry.run_id, task=plan.entry.task_id, state=plan.entry.state)


def _being_replayed(settings: Settings, entries: Iterable[Entry]) -> Iterator[RunId]:
    """The traversals that runs which are not over yet still need."""
    for entry in entries:
        if entry.state not in FINAL:
            record = RunFolder(settings.tasks_root, entry.task_id, entry.run_id).read_record()
            meta = record_from_json(record or b"")
            if meta is not None and meta.original_traversal_id is not None:
                yield meta.original_traversal_id


def _traversal_id(entry: Entry) -> RunId:
    return entry.traversal_id or entry.run_id


def shown(plans: Sequence[Plan]) -> str:
    """The runs as a table."""
    rows = [f"{'task':30} {'run':24} {'state':8} {'over since':20} {'MB':>8}"]
    rows += [
        f"{plan.entry.task_id:30} {plan.entry.run_id:24} {plan.entry.state:8} "
        f"{plan.entry.finished_at:%Y-%m-%d %H:%M:%S} {plan.size / MEGABYTE:9.2f}"
        for plan in plans
    ]
    return "\n".join(rows)


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit code: 1 if nothing, or not all, could be done that should be."""
    parser = argparse.ArgumentParser(prog="python -m jobs.prune", description="Delete old runs.")
    parser.add_argument("--yes", action="store_true", help="do it, instead of saying what would be done")
    really = parser.parse_args(arguments).yes
    try:
        settings = read_settings(environ)
        plans = make_plans(settings, datetime.now(UTC))
    except (SettingsError, ProjectGone) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    configure_logging(settings.log_level)
    if not settings.runs_keep_days and not settings.runs_keep:
        sys.stdout.write("RUNS_KEEP_DAYS and RUNS_KEEP are 0, so all runs are kept.\n")
        return 0
    total = f"{len(plans)} runs, {sum(plan.size for plan in plans) / MEGABYTE:.2f} MB"
    if not really or not plans:
        sys.stdout.write(f"{shown(plans)}\n{total} would be deleted; with --yes they are.\n")
        return 0
    redis = connect(settings.redis_url)
    try:
        redis.ping()
        for plan in plans:
            carry_out(plan, redis)
    except (RedisError, OSError) as error:
        sys.stderr.write(f"Not all was deleted: {error}\n")
        return 1
    sys.stdout.write(f"{shown(plans)}\n{total} were deleted.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
