"""A run comes into the hands of a worker: it claims the run before it forks, and RQ calls a function after that."""

import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from jobs.queue.job import Job, cancel_job, current_job, record_of_job, save_to_job
from jobs.queue.records import change_record, close_interrupted, close_unstarted, show_record
from jobs.run.record import RunRecord
from jobs.run.state import Reason
from jobs.run.verdict import HORSE_DIED, STOPPED, Interruption
from jobs.worker.batches import hold_if_failed, why_held
from jobs.worker.execution import Execution
from jobs.worker.signals import shutdown_flag
from runner.cli.children import Children
from runner.cli.machine import machine_id
from runner.cli.process import end_processes
from runner.cli.warm import Template
from runner.errors import NoSuchRun, OwnershipLost, RecordUnreadable
from runner.ids import parse_run_id, parse_task_id
from runner.log import log_event
from runner.project.run_files import RunFiles, project_files
from runner.project.run_folder import RunFolder
from runner.settings import read_settings

LOST = "LOST"  # what the function of a job returns whose run has another owner meanwhile


class Claim(NamedTuple):
    """A run that this worker owns, as it was recorded then."""

    folder: RunFolder
    record: RunRecord
    worker_pid: int


class ClaimedJob(Job):
    """The job of a run that this worker has claimed; the work-horse that it forks gets the very same object."""

    claim: Claim | None = None
    template: Template | None = None
    """Of the worker, which can fork the CLI."""


def claim_run(files: RunFiles, job: Job, task_id: str | None, worker: str) -> Claim | None:
    """Record that this worker starts the run; None if it was started, stopped or ended before, since Redis may
    deliver a job more than once. Raises `NoSuchRun` if there is no record of it, and `OSError`."""
    run_id, task = parse_run_id(job.id), parse_task_id(task_id or "")
    if run_id is None or task is None:
        raise NoSuchRun(job.id)
    folder, known = files.folder(task, run_id), record_of_job(job)
    try:
        if known is not None and (why := why_held(files, known.batch_id)):
            cancel_job(job.connection, close_unstarted(folder, known, why, None), job.result_ttl or 0)
            return None
        now, machine = datetime.now(UTC), machine_id()
        record = change_record(folder, 0, started_at=now, worker=worker, machine=machine, epoch=1)
    except FileNotFoundError:
        raise NoSuchRun(run_id) from None
    except (OwnershipLost, RecordUnreadable) as error:
        log_event("not_claimed", run=run_id, task=task, error=error)
    else:
        return Claim(folder, record, os.getpid())
    return None


def execute_run(task_id: str) -> str:
    """Execute the run of the current RQ job; returns its state, which is also in `job.meta`."""
    job = current_job()
    if not isinstance(job, ClaimedJob) or job.claim is None:
        raise RuntimeError(f"the run of {task_id} was not claimed; start workers as the Procfile does")
    settings = read_settings(os.environ)
    try:
        save_to_job(job, job.claim.record)
        with shutdown_flag() as shutdown:
            folder, record, worker_pid = job.claim
            execution = Execution(
                job, folder, record, worker_pid, project_files(settings), settings, shutdown, job.template
            )
            return execution.run().state
    except (OwnershipLost, RecordUnreadable) as error:
        log_event("ownership_lost", run=job.id, error=error)
        return LOST


def close_dead(
    files: RunFiles,
    folder: RunFolder,
    record: RunRecord,
    interruption: Interruption,
    job: Job | None = None,
    children: Children | None = None,
) -> RunRecord:
    """Take over a run whose worker or work-horse died, end what is left of it on this machine, with all `children` of
    its worker, and record the end: STOPPED if that was requested. Raises `OwnershipLost`, `RecordUnreadable`, and
    without a job `OSError`.

    It is taken over first: whoever still watches the CLI cannot record then how it ends, which is our doing.
    """
    try:
        record = change_record(folder, record.epoch, epoch=record.epoch + 1)
    except OSError:
        if job is None:
            raise
    end_processes(folder.path, children=children)
    return close_interrupted(folder, record, STOPPED if folder.stop_requested() else interruption, job, files)


def close_unstartable(files: RunFiles, job: Job, error: OSError) -> str:
    """Close the run of a job whose start cannot be recorded, so that it is not started at all; returns why."""
    message = f"The run could not be started: its record cannot be written ({error.strerror})."
    record = record_of_job(job)
    if record is not None and record.run_id == job.id:
        folder = files.folder(record.task_id, record.run_id)
        with suppress(OwnershipLost, RecordUnreadable):
            close_unstarted(folder, record, Interruption(Reason.CLI_ERROR, message), job)
    return message


def close_after_horse(files: RunFiles, job: ClaimedJob, children: Children, *, save: bool) -> None:
    """End what a dead work-horse left behind, also among these children of its worker; its run has an outcome then.
    `save` copies it into the job, too."""
    if job.claim is None:
        return
    folder, record, _ = job.claim
    try:
        close_dead(files, folder, record, HORSE_DIED, job if save else None, children)
    except (OwnershipLost, RecordUnreadable, OSError) as error:
        log_event("not_closed", level=logging.WARNING, run=job.id, error=error)


def finish_claim(files: RunFiles, job: ClaimedJob, children: Children) -> None:
    """End what its work-horse could not end, and what has become a child of the worker therefore; start nothing more of
    its batch if it was a failure too many."""
    if job.claim is not None and job.claim.record.batch_id:
        hold_if_failed(files, show_record(job.claim.folder))
    if job.claim is not None and children.are_left():
        left = end_processes(job.claim.folder.path, children=children)
        log_event("swept", level=logging.WARNING, run=job.id, left=left)
