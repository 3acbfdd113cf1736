"""Record what happens to a run, on disk and in Redis. An outcome is recorded once; the first one stays."""

import logging
from datetime import UTC, datetime

import msgspec
from rq.job import Job

from jobs.queue.job import save_to_job
from jobs.run.document import RunType
from jobs.run.record import Outcome, RunRecord, record_from_job_meta, record_from_json, record_to_json
from jobs.run.steps import count_steps
from jobs.run.verdict import Cut, Ending, Verdict, judge
from runner.cli.command import ProcessEnd
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from runner.project.traversal import Traversal


def save(job: Job | None, folder: RunFolder, meta: RunRecord) -> None:
    """Keep the metadata on disk first, then in Redis (if there is a job): the disk is there also when Redis is not."""
    folder.write_record(record_to_json(meta))
    if job is not None:
        save_to_job(job, meta)


def close_run(
    folder: RunFolder,
    meta: RunRecord,
    verdict: Verdict | Outcome,
    job: Job | None,
    traversal: Traversal | None = None,
    end: ProcessEnd | None = None,
) -> RunRecord:
    """Record the run's end for good; returns the metadata that stands then, with the outcome that came first.

    Where the disk takes no record (it is full, or gone), the job's copy in Redis says it, until the disk does again.
    """
    outcome = verdict if isinstance(verdict, Outcome) else _outcome(verdict, traversal, end)
    closed = msgspec.structs.replace(meta, outcome=outcome)
    try:
        earlier = _record(folder, closed)
    except OSError as error:
        log_event("outcome_not_on_disk", level=logging.ERROR, run=meta.run_id, because=error.strerror)
        if job is None:
            return closed
        earlier = _told_by(job)
    if earlier is not None:
        return earlier
    log_event(
        "ended",
        run=meta.run_id,
        task=meta.task_id,
        state=outcome.state,
        reason=outcome.reason,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
    )
    if job is not None:
        save_to_job(job, closed)
    return closed


def close_cut_off(folder: RunFolder, meta: RunRecord, cut: Cut, job: Job | None, files: RunFiles) -> RunRecord:
    """Record the end of a run whose CLI was ended, and whose last word is in its traversal, if it has one."""
    reading = files.read(meta.task_id, meta.traversal_id or meta.run_id)
    ending = Ending(end=None, cut=cut, is_replay=meta.run_type is not RunType.AGENTIC)
    return close_run(folder, meta, judge(ending, reading), job, reading.traversal)


def _record(folder: RunFolder, closed: RunRecord) -> RunRecord | None:
    """Write the record, unless there is one with an outcome already: then that one. Raises `OSError`."""
    with folder.lock():
        there = record_from_json(folder.read_record() or b"")
        if there is not None and there.outcome is not None:
            return there
        folder.write_record(record_to_json(closed))
        folder.release()
    return None


def _told_by(job: Job) -> RunRecord | None:
    """What Redis says of the run, if that has an outcome."""
    meta = record_from_job_meta(job.get_meta(refresh=True))
    return meta if meta is not None and meta.outcome is not None else None


def _outcome(verdict: Verdict, traversal: Traversal | None, end: ProcessEnd | None) -> Outcome:
    passed_steps, failed_steps = count_steps(traversal, verdict.state)
    return Outcome(
        state=verdict.state,
        reason=verdict.reason,
        error_message=verdict.message,
        finished_at=datetime.now(UTC),
        exit_code=end.exit_code if end else None,
        signal=end.signal if end else None,
        passed_steps=passed_steps,
        failed_steps=failed_steps,
    )
