"""Read and write the records of runs, on disk first, then in Redis. The first outcome that is recorded stays.

`close_run` records an outcome. It is made by `close_executed` (the CLI has ended), `close_interrupted` (it was killed
together with its work-horse) or `close_unstarted` (it was never started).
"""

import logging
from datetime import UTC, datetime

import msgspec

from jobs.queue.job import Job, record_of_job, save_to_job
from jobs.run.record import Outcome, RunRecord, make_outcome, record_from_json, record_of_file, record_to_json
from jobs.run.verdict import CliResult, Interruption, interrupted_verdict, judge
from runner.errors import NoSuchRun
from runner.log import log_event
from runner.project.run_files import RunFiles, is_abandoned
from runner.project.run_folder import RunFolder


def read_record(folder: RunFolder) -> RunRecord | None:
    """The run's record; None if the run was never accepted (or was deleted). Raises `OSError`."""
    content = folder.read_record()
    return None if content is None else record_from_json(content)


def write_record(folder: RunFolder, record: RunRecord) -> None:
    """Replace the run's record durably. Raises `OSError`."""
    folder.write_record(record_to_json(record))


def find_run(files: RunFiles, text: str) -> RunRecord:
    """The run with this ID (text from outside), accepted or made by hand. Raises `NotFound`."""
    folder = files.find_folder(text)
    record = read_record(folder) or read_file_record(files, folder)
    if record is None:
        raise NoSuchRun(folder.run_id)
    return record


def read_file_record(files: RunFiles, folder: RunFolder) -> RunRecord | None:
    """The record of a run made by hand, from its traversal; None if there is none. Its message may hold secrets."""
    reading = files.read_unredacted(folder.task_id, folder.run_id)
    abandoned = reading.modified is not None and is_abandoned(reading.modified)
    return record_of_file(folder.task_id, folder.run_id, reading, abandoned=abandoned)


def save_record(job: Job, folder: RunFolder, record: RunRecord) -> None:
    """Write the record to the disk first, then to Redis: the disk is there also when Redis is not."""
    write_record(folder, record)
    save_to_job(job, record)


def close_run(folder: RunFolder, record: RunRecord, outcome: Outcome, job: Job | None) -> RunRecord:
    """Record the outcome for good; returns the record that stands then, with the outcome that came first.

    If the disk takes no record (it is full, or gone), the copy in Redis holds it until the disk does again.
    """
    closed = msgspec.structs.replace(record, outcome=outcome)
    try:
        earlier = _write_first_outcome(folder, closed)
    except OSError as error:
        log_event("outcome_not_on_disk", level=logging.ERROR, run=record.run_id, error=error.strerror)
        if job is None:
            return closed
        earlier = record_of_job(job, refresh=True)
    if earlier is not None and earlier.outcome is not None:
        return earlier
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
    outcome = make_outcome(judge(result, reading), reading.traversal, datetime.now(UTC), result)
    return close_run(folder, record, outcome, job)


def close_interrupted(
    folder: RunFolder, record: RunRecord, interruption: Interruption, job: Job | None, files: RunFiles
) -> RunRecord:
    """Record the end of a run whose CLI was killed together with the process that watched it."""
    result = CliResult(None, interruption, is_replay=record.run_type.is_replay)
    return close_executed(folder, record, result, job, files)


def close_unstarted(folder: RunFolder, record: RunRecord, why: Interruption, job: Job | None) -> RunRecord:
    """Record the end of a run whose CLI was never started."""
    return close_run(folder, record, make_outcome(interrupted_verdict(why), None, datetime.now(UTC)), job)


def _write_first_outcome(folder: RunFolder, closed: RunRecord) -> RunRecord | None:
    """Write the record, unless there is one with an outcome already: then that one. Raises `OSError`."""
    with folder.lock():
        present = read_record(folder)
        if present is not None and present.outcome is not None:
            return present
        write_record(folder, closed)
        folder.release()
    return None
