"""The function that an RQ worker calls for a run: claim it, execute it, or deal with a job that is delivered again."""

import os
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from jobs.queue.job import Job, current_job, record_of_job, save_to_job
from jobs.queue.records import close_unstarted, read_record, write_record
from jobs.run.record import Outcome, RunRecord
from jobs.run.state import Reason, State
from jobs.run.verdict import Interruption
from jobs.worker.execution import Execution, shutdown_flag
from jobs.worker.recover import handle_redelivery
from runner.ids import parse_run_id, parse_task_id
from runner.log import log_event
from runner.project.run_files import RunFiles, project_files
from runner.project.run_folder import RunFolder
from runner.settings import read_settings

NOT_ACCEPTED = (
    "The worker found no record of this run in its PROJECT_ROOT, so it did not run it: either the request was answered "
    "with an error, or the worker and the web process have different PROJECT_ROOTs."
)


class Claim(NamedTuple):
    """A run's record (None if there is none), and whether this call is the one that executes the run."""

    record: RunRecord | None
    is_ours: bool


def execute_run(task_id: str) -> str:
    """Execute the run of the current RQ job; returns its state, which is also in `job.meta`.

    A job that is delivered again never starts a second CLI: a run that has an outcome keeps it, one that another worker
    executes goes on there, and one whose worker died is closed as interrupted.
    """
    job, settings = current_job(), read_settings(os.environ)
    files = project_files(settings)
    folder = _folder(files, job.id, task_id)
    try:
        record, is_ours = claim_run(folder, job.worker_name)
    except OSError as error:
        return _close_unstartable(job, folder, error)
    if record is None:
        return _refuse(job)
    if not is_ours:
        return handle_redelivery(files, record, job)
    save_to_job(job, record)
    with shutdown_flag() as shutdown:
        return Execution(job, folder, record, files, settings, shutdown).run().state


def claim_run(folder: RunFolder, worker: str | None) -> Claim:
    """Record that this worker starts the run, unless it was started, stopped or ended before. Raises `OSError`."""
    try:
        with folder.lock():
            record = read_record(folder)
            if record is None or record.outcome is not None or record.started_at is not None or folder.stop_requested():
                return Claim(record, is_ours=False)
            record = msgspec.structs.replace(record, started_at=datetime.now(UTC), worker=worker)
            write_record(folder, record)
            return Claim(record, is_ours=True)
    except FileNotFoundError:
        return Claim(None, is_ours=False)


def _folder(files: RunFiles, run_id: str, task_id: str) -> RunFolder:
    """The run's folder. Raises `ValueError`: text from Redis is checked before it becomes a path."""
    run, task = parse_run_id(run_id), parse_task_id(task_id)
    if run is None or task is None:
        raise ValueError(f"no run can be called {run_id[:60]!r} in a task {task_id[:60]!r}")
    return files.folder(task, run)


def _close_unstartable(job: Job, folder: RunFolder, error: OSError) -> str:
    """Close the run of a job whose start cannot be recorded, so that it is not started at all."""
    record = record_of_job(job)
    if record is None:
        return _refuse(job)
    message = f"The run could not be started: its record cannot be written ({error.strerror})."
    return close_unstarted(folder, record, Interruption(Reason.CLI_ERROR, message), job).state


def _refuse(job: Job) -> str:
    """Close the job of a run that was never accepted (or whose files are not here); there is no record to write."""
    record = record_of_job(job)
    log_event("refused", run=job.id, error=NOT_ACCEPTED)
    if record is not None:
        outcome = Outcome(State.ERROR, Reason.LOST, NOT_ACCEPTED, datetime.now(UTC))
        save_to_job(job, msgspec.structs.replace(record, outcome=outcome))
    return State.ERROR
