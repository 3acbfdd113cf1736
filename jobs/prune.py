"""Delete the files of old runs, their keys in Redis, and at last their records: `python -m jobs.prune`, and `--yes` to
do it.

RUNS_KEEP_DAYS and RUNS_KEEP, or else `[retention_policy]` of the project, decide whose files; RECORDS_KEEP_DAYS whose
records, too. Only runs that are over are pruned.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TextIO

from redis.exceptions import RedisError

from jobs.queue.connection import connect
from jobs.retention import Plan, Pruner
from runner.errors import ProjectGone, SettingsError
from runner.files import utc_time
from runner.log import configure_logging
from runner.project.batch_files import BatchFile
from runner.settings import Settings, read_settings

MEGABYTE = 1_000_000
REDRAWN = 0.1  # seconds from one state of the line of progress to the next
NO_LIMITS = (
    "RUNS_KEEP_DAYS, RUNS_KEEP and RECORDS_KEEP_DAYS set no limit, nor does [retention_policy] of bugninja.toml, so "
    "all runs are kept.\n"
)


class ProgressLine:
    """The last line of a terminal, which says how far the work has come. Where there is no terminal, nothing."""

    def __init__(self, output: TextIO) -> None:
        self._output, self._is_terminal, self._drawn_at = output, output.isatty(), -REDRAWN

    def show(self, text: str) -> None:
        """Show this in place of what was there; only if that has been there for a moment."""
        if self._is_terminal and time.monotonic() - self._drawn_at >= REDRAWN:
            self._output.write(f"\r\x1b[K{text}")
            self._output.flush()
            self._drawn_at = time.monotonic()

    def clear(self) -> None:
        """Make room for other lines."""
        if self._is_terminal:
            self._output.write("\r\x1b[K")


def as_row(plan: Plan) -> str:
    """What is done to one run."""
    what, over = "record" if plan.is_whole else "files", utc_time(plan.run.over_at)
    return (
        f"{plan.task_id:30} {plan.run.run_id:24} {plan.run.state:8} {over:%Y-%m-%d %H:%M:%S} "
        f"{what:6} {plan.size / MEGABYTE:9.2f} MB\n"
    )


def summary(plans: Sequence[Plan]) -> str:
    """The runs and their size, task by task and together."""
    by_task = [[*group] for _, group in groupby(plans, attrgetter("task_id"))]
    lines = [f"{group[0].task_id}: {_total(group)}\n" for group in by_task] if len(by_task) > 1 else []
    total = _total(plans)
    return "".join(lines) + total[0].upper() + total[1:]


def _total(plans: Sequence[Plan]) -> str:
    records = sum(plan.is_whole for plan in plans)
    with_records = f" ({records} with their records)" if records else ""
    return f"the files of {len(plans)} runs{with_records}, {sum(plan.size for plan in plans) / MEGABYTE:.2f} MB"


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Show or prune the runs; returns the exit code: 1 if not all of them could be."""
    parser = argparse.ArgumentParser(prog="python -m jobs.prune", description="Delete the files of old runs.")
    parser.add_argument("--yes", action="store_true", help="do it, instead of saying what would be done")
    really, progress = parser.parse_args(arguments).yes, ProgressLine(sys.stdout)
    try:
        settings = read_settings(environ)
        configure_logging(settings.log_level)
        pruner = Pruner(settings)
        plans = [] if pruner.limits.are_none else pruner.plans(time.time(), progress.show)
        batches = pruner.old_batches(time.time())
    except (SettingsError, ProjectGone) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    progress.clear()
    if pruner.limits.are_none:
        sys.stdout.write(NO_LIMITS)
        return 0
    if really and (plans or batches):
        return _prune(settings, pruner, plans, batches, progress)
    sys.stdout.writelines(map(as_row, plans))
    sys.stdout.write(f"{summary(plans)}{and_batches(batches)} would be deleted; with --yes they are.\n")
    return 0


def and_batches(batches: Sequence[BatchFile]) -> str:
    return f", and the records of {len(batches)} batches," if batches else ""


def _prune(
    settings: Settings, pruner: Pruner, plans: Sequence[Plan], batches: Sequence[BatchFile], progress: ProgressLine
) -> int:
    done: list[Plan] = []
    deleted: Sequence[BatchFile] = ()
    problem = None
    redis = connect(settings.redis_url)
    try:
        redis.ping()
        for task_id, group in groupby(plans, attrgetter("task_id")):
            for plan in pruner.prune(task_id, [*group], redis):
                done.append(plan)
                progress.show(f"{task_id}: {len(done)} of {len(plans)} runs pruned")
        for gone, batch in enumerate(batches, 1):
            batch.remove()
            deleted = batches[:gone]
    except (RedisError, OSError) as error:
        problem = str(error)
    progress.clear()
    sys.stdout.write(f"{summary(done)}{and_batches(deleted)} were deleted.\n")
    if pruner.failed:
        problem = f"{pruner.failed} runs could not be; the log says why."
    if problem:
        sys.stderr.write(f"Not all was deleted: {problem}\n")
    return int(problem is not None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
