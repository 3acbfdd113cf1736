"""A run as lists and statistics know it, read from the disk. Its record is written before its job is enqueued and at
each change of its state, so nothing here needs Redis."""

import time
from typing import NamedTuple

from jobs.queue.records import show_record
from jobs.run.record import RunRecord, has_final_word, record_of_file
from jobs.run.steps import count_steps
from jobs.run.test_case import BrowserConfig, TestCase, browser_config, test_case, unreadable_test_case
from runner.errors import NotFound, TaskBroken
from runner.ids import RunId, TaskId
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles, is_abandoned

SETTLING_SECONDS = 2.0  # for which a CLI may still touch its file after it has written the result


class Row(NamedTuple):
    """A run, and what it was read from."""

    record: RunRecord
    """Of a run made by hand, that which its file stands for."""
    is_recorded: bool
    """Whether the record is on the disk."""
    steps: tuple[int, int]
    """How many passed, and how many failed."""
    file: str | None
    """The name of its traversal, where that is known."""
    modified: float
    """When that last changed, in seconds since 1970; 0 for a run with a record."""
    seen: str | None
    """How its files were; None if the run will not change any more."""

    @property
    def is_settled(self) -> bool:
        return self.seen is None


def look(files: RunFiles, task_id: TaskId, run_id: RunId, file: str | None) -> str:
    """A text that is another one as soon as the run has to be read again. Looks at times only."""
    record, traversal = files.identities(task_id, run_id, file)
    changed = time.time() if traversal is None else traversal[1] / 1e9
    is_lost = record is None and is_abandoned(changed)
    return f"{record} {traversal} {time.time() - changed >= SETTLING_SECONDS} {is_lost}"


def read_row(files: RunFiles, task_id: TaskId, run_id: RunId, file: str | None) -> Row | None:
    """The run, whose traversal has the name `file` if that is known; None if there is nothing of it."""
    row = _read(files, task_id, run_id, file, None)
    if row is not None and not row.is_settled:  # read it again, so that a change after the look is noticed
        row = _read(files, task_id, run_id, row.file, look(files, task_id, run_id, row.file))
    return row


def _read(files: RunFiles, task_id: TaskId, run_id: RunId, file: str | None, seen: str | None) -> Row | None:
    record = show_record(files.folder(task_id, run_id))
    if record is None:
        file = file or files.list_traversals(task_id).get(run_id)
        return _read_file(files, task_id, run_id, file, seen) if file else None
    if record.outcome is not None:
        steps = record.outcome.passed_steps, record.outcome.failed_steps
        return Row(record, True, steps, file, 0.0, None if record.is_readable else f"{seen} {record.is_unread}")
    if file is None and record.traversal_id is not None:
        file = files.list_traversals(task_id).get(record.traversal_id)
    traversal = files.read_unredacted(task_id, run_id, file).traversal if file else None
    return Row(record, True, count_steps(traversal, record.state), file, 0.0, seen or "")


def _read_file(files: RunFiles, task_id: TaskId, run_id: RunId, file: str, seen: str | None) -> Row | None:
    """A run made by hand."""
    reading = files.read_unredacted(task_id, run_id, file)
    modified = reading.modified or 0.0
    record = record_of_file(task_id, run_id, reading, abandoned=is_abandoned(modified))
    if record is None:
        return None
    is_settled = has_final_word(record, reading) and time.time() - modified >= SETTLING_SECONDS
    steps = count_steps(reading.traversal, record.state)
    return Row(record, False, steps, file, modified, None if is_settled else seen or "")


def current_task(files: RunFiles, catalog: TaskCatalog, task_id: TaskId) -> tuple[TestCase, BrowserConfig | None]:
    """The task as its file is now, for a run without a record of how it was."""
    clean = files.redactor(task_id).text
    try:
        task = catalog.find(task_id)
    except (NotFound, TaskBroken):  # it was deleted or damaged since; its runs are still there
        return unreadable_test_case(task_id), None
    return test_case(task, clean), browser_config(task, clean)
