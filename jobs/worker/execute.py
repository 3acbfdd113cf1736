"""A run comes into the hands of a worker: it claims the run before it forks, and RQ calls a function after that."""

import os
from datetime import UTC, datetime
from typing import NamedTuple

from jobs.queue.job import Job, current_job, save_to_job
from jobs.queue.records import change_record, close_interrupted
from jobs.run.record import RunRecord
from jobs.run.verdict import STOPPED, Interruption
from jobs.worker.execution import Execution, shutdown_flag
from runner.cli.machine import machine_id
from runner.cli.process import end_processes
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


def claim_run(files: RunFiles, job: Job, task_id: str | None, worker: str) -> Claim | None:
    """Record that this worker starts the run; None if it was started, stopped or ended before, since Redis may
    deliver a job more than once. Raises `NoSuchRun` if there is no record of it, and `OSError`."""
    run_id, task = parse_run_id(job.id), parse_task_id(task_id or "")
    if run_id is None or task is None:
        raise NoSuchRun(job.id)
    folder = files.folder(task, run_id)
    try:
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
            claim, files = job.claim, project_files(settings)
            return Execution(job, claim.folder, claim.record, claim.worker_pid, files, settings, shutdown).run().state
    except (OwnershipLost, RecordUnreadable) as error:
        log_event("ownership_lost", run=job.id, error=error)
        return LOST


def close_dead(
    files: RunFiles, folder: RunFolder, record: RunRecord, interruption: Interruption, job: Job | None = None
) -> RunRecord:
    """Take over a run whose worker or work-horse died, end what is left of it on this machine, and record the end:
    STOPPED if that was requested. Raises `OwnershipLost`, `RecordUnreadable`, and without a job `OSError`.

    It is taken over first: whoever still watches the CLI cannot record then how it ends, which is our doing.
    """
    try:
        record = change_record(folder, record.epoch, epoch=record.epoch + 1)
    except OSError:
        if job is None:
            raise
    end_processes(folder.path)
    return close_interrupted(folder, record, STOPPED if folder.stop_requested() else interruption, job, files)
