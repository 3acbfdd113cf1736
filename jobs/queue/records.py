"""Read and write the records of runs. The disk is the truth; Redis gets a copy. The first outcome that is recorded
stays.

`change_record` is the only function that changes a record before its run is over; after that only `mark_pruned` does,
and nothing of how it ended. `close_run` records an outcome with it; that one is made by
`close_executed` (the CLI has ended), `close_interrupted` (it was killed together with its work-horse) or
`close_unstarted` (it was never started).
"""

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from jobs.queue.job import Job, record_of_job, save_to_job
from jobs.run.record import (
    UNREAD,
    UNREADABLE,
    Outcome,
    RunRecord,
    make_outcome,
    pruned_record,
    record_from_json,
    record_of_file,
    record_to_json,
    task_in_record,
    unreadable_record,
)
from jobs.run.test_case import BrowserConfig, TestCase
from jobs.run.verdict import CliResult, Interruption, interrupted_verdict, judge
from runner.errors import Gone, NoSuchRun, OwnershipLost, RecordUnreadable
from runner.files import file_identity
from runner.ids import RunId, TaskId, check_run_id, parse_task_id, run_ids_in
from runner.log import log_event
from runner.project.adoption import adopted_file, adopter
from runner.project.run_files import RunFiles, is_abandoned
from runner.project.run_folder import RunFolder
from runner.project.traversal import Reading, traversal_to_json

LONGEST_NAME = 255  # characters of the name of a file


def read_record(folder: RunFolder) -> RunRecord | None:
    """The run's record; None if the run was never accepted (or was deleted). Raises `OSError` and
    `RecordUnreadable`."""
    content = folder.read_record()
    return None if content is None else record_from_json(content, folder.task_id, folder.run_id)


def show_record(folder: RunFolder) -> RunRecord | None:
    """The same, for those who only show it: one that cannot be read is an ERROR that says why."""
    try:
        return read_record(folder)
    except RecordUnreadable as error:
        problem, version = error.problem, UNREADABLE
    except OSError as error:
        problem, version = f"it cannot be read ({error.strerror})", UNREAD
    identity = file_identity(folder.record)
    modified = 0.0 if identity is None else identity[1] / 1e9
    return unreadable_record(folder.task_id, folder.run_id, problem, modified, version)


def change_record(folder: RunFolder, owner_epoch: int, /, **changes: Any) -> RunRecord:
    """Change these fields of a run that is not over and whose owner has this epoch; returns the record that is on the
    disk then. Raises `OwnershipLost`, `RecordUnreadable` and `OSError`; then nothing has changed.

    All that is decided about a run is decided here, under its lock: of two that want to change it, one loses.
    """
    with folder.lock():
        record = read_record(folder)
        if record is None or record.outcome is not None or record.epoch != owner_epoch:
            raise OwnershipLost(folder.run_id)
        record = msgspec.structs.replace(record, **changes)
        folder.write_record(record_to_json(record, task_in_record(folder.read_record() or b"")))
        if record.outcome is not None:
            folder.release()
    return record


def mark_pruned(files: RunFiles, folder: RunFolder) -> None:
    """Say in the record of a run that is over that its files were deleted, before they are. Nothing else changes, and
    nothing at all if it says so already. Raises `OwnershipLost` if it is not over, `RecordUnreadable` and `OSError`."""
    with folder.lock():
        record = read_record(folder)
        if record is None or record.outcome is None:
            raise OwnershipLost(folder.run_id)
        if record.artifacts is None:
            reading = files.read_kept(folder, record.epoch) or files.read(folder.task_id, record.file_id)
            marked = pruned_record(record, reading.traversal)
            folder.write_record(record_to_json(marked, task_in_record(folder.read_record() or b"")))


def create_pruned(
    files: RunFiles, folder: RunFolder, test_case: TestCase, browser_config: BrowserConfig | None
) -> None:
    """Give a run made by hand the record that stays when its files are deleted, with the task as it is now, and without
    secrets. Raises `OwnershipLost` if it is not over, and `OSError`."""
    reading = files.read(folder.task_id, folder.run_id)
    record = _record_of(folder, reading)
    if record is None or record.outcome is None:
        raise OwnershipLost(folder.run_id)
    marked = msgspec.structs.replace(
        pruned_record(record, reading.traversal), test_case=test_case, browser_config=browser_config
    )
    folder.create(record_to_json(marked))


def check_kept(folder: RunFolder) -> None:
    """See that the files of the run were not pruned. Raises `Gone`."""
    record = show_record(folder)
    if record is not None and record.artifacts:
        raise Gone(
            f"The pictures, recordings, steps and log of run '{folder.run_id}' were deleted by `make prune`, as "
            "RUNS_KEEP_DAYS and RUNS_KEEP, or [retention_policy] of bugninja.toml, say; its record is kept."
        )


def check_media_kept(tasks_root: Path, task: str, path: str) -> None:
    """The same for the run of a picture or recording of the task (texts from outside): its path begins with the ID of
    the run, or of a file that the run has adopted."""
    task_id = parse_task_id(task)
    if task_id is None:
        return
    for file_id in run_ids_in(path.partition("/")[0][:LONGEST_NAME]):
        check_kept(RunFolder(tasks_root, task_id, adopter(tasks_root, task_id, file_id) or file_id))


def find_folder(files: RunFiles, text: str) -> RunFolder:
    """The folder of the run with this ID (text from outside). Raises `NotFound`.

    It need not exist: a run made by hand has none, but only a traversal.
    """
    run_id = check_run_id(text)
    task_id = find_task(files, run_id)
    if task_id is None:
        raise NoSuchRun(run_id)
    return files.folder(task_id, run_id)


def find_task(files: RunFiles, run_id: RunId) -> TaskId | None:
    """The task of the run; of a task that was copied together with its runs, the original. None if there is no such
    run."""
    folders = [files.folder(task_id, run_id) for task_id in files.tasks_of(run_id)]
    if len(folders) > 1:
        folders.sort(key=_seems_moved)
    return folders[0].task_id if folders else None


def was_moved(folder: RunFolder) -> bool:
    """Whether the record was written for another task, whose folder was then renamed or copied. Raises `OSError`."""
    content = folder.read_record()
    return content is not None and task_in_record(content) not in (None, folder.task_id)


def _seems_moved(folder: RunFolder) -> bool:
    try:
        return was_moved(folder)
    except OSError:
        return False


def find_run(files: RunFiles, text: str) -> RunRecord:
    """The run with this ID (text from outside), accepted or made by hand. Raises `NotFound` and `RecordUnreadable`."""
    folder = find_folder(files, text)
    try:
        record = read_record(folder) or read_file_record(files, folder)
    except OSError as error:
        raise RecordUnreadable(folder.run_id, f"it cannot be read ({error.strerror})") from None
    if record is None:
        raise NoSuchRun(folder.run_id)
    return record


def read_file_record(files: RunFiles, folder: RunFolder) -> RunRecord | None:
    """The record of a run made by hand, from its traversal; None if there is none. Its message may hold secrets."""
    return _record_of(folder, files.read_unredacted(folder.task_id, folder.run_id))


def _record_of(folder: RunFolder, reading: Reading) -> RunRecord | None:
    abandoned = reading.modified is not None and is_abandoned(reading.modified)
    return record_of_file(folder.task_id, folder.run_id, reading, abandoned=abandoned)


def close_run(folder: RunFolder, record: RunRecord, outcome: Outcome, job: Job | None) -> RunRecord:
    """Record the outcome for good, and what else `record` knows that the disk does not; returns the record then.

    If the disk takes no record (it is full, or gone), the copy in Redis holds it until the disk does again. Raises
    `OwnershipLost` and `RecordUnreadable`, and without a job `OSError`.
    """
    closed = msgspec.structs.replace(record, outcome=outcome)
    try:
        closed = change_record(folder, record.epoch, outcome=outcome, **record.progress)
    except OSError as error:
        if job is None:
            raise
        log_event("outcome_not_on_disk", level=logging.ERROR, run=record.run_id, error=error.strerror or error)
        kept = record_of_job(job, refresh=True)
        if kept is not None and kept.outcome is not None:
            raise OwnershipLost(record.run_id) from None
    log_event(
        "ended",
        run=record.run_id,
        task=record.task_id,
        state=outcome.state,
        reason=outcome.reason,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
    )
    if job is not None:
        save_to_job(job, closed)
    return closed


def close_executed(
    folder: RunFolder, record: RunRecord, result: CliResult, job: Job | None, files: RunFiles
) -> RunRecord:
    """Record the end of a run whose CLI has ended: its traversal, if there is one, has the last word."""
    reading = files.read(record.task_id, record.file_id)
    _keep(folder, record, reading)
    outcome = make_outcome(judge(result, reading), reading.traversal, datetime.now(UTC), result)
    return close_run(folder, record, outcome, job)


def _keep(folder: RunFolder, record: RunRecord, reading: Reading) -> None:
    """Keep a copy of the traversal without secrets, if there is one, under the epoch of this owner: another one that
    takes the run over makes its own."""
    if reading.traversal is None or reading.modified is None:
        return
    try:
        folder.keep_traversal(record.epoch, traversal_to_json(reading.traversal), reading.modified)
    except OSError as error:  # a full disk; the run is shown from the CLI's file then
        log_event("traversal_not_kept", level=logging.WARNING, run=record.run_id, error=error.strerror or error)


def close_interrupted(
    folder: RunFolder, record: RunRecord, interruption: Interruption, job: Job | None, files: RunFiles
) -> RunRecord:
    """Record the end of a run whose CLI was killed together with the process that watched it. That one may just have
    adopted a file, and not have recorded it."""
    if record.traversal_id is None:
        adopted = adopted_file(files.tasks_root, record.task_id, record.run_id)
        record = msgspec.structs.replace(record, traversal_id=adopted)
    result = CliResult(None, interruption, is_replay=record.run_type.is_replay)
    return close_executed(folder, record, result, job, files)


def close_unstarted(folder: RunFolder, record: RunRecord, why: Interruption, job: Job | None) -> RunRecord:
    """Record the end of a run whose CLI was never started."""
    return close_run(folder, record, make_outcome(interrupted_verdict(why), None, datetime.now(UTC)), job)
