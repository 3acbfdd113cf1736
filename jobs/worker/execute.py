"""The function that an RQ worker calls for a run: claim it, execute it, or deal with a job that is delivered again."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec

from jobs.queue.connection import stop_waiting
from jobs.queue.heartbeat import is_executing
from jobs.queue.job import Job, current_job, recorded_in, save_to_job
from jobs.queue.records import close_interrupted, close_unstarted, read_record, write_record
from jobs.run.record import Outcome, RunRecord
from jobs.run.state import Reason, State
from jobs.run.verdict import STOPPED, WORKER_DIED, Verdict
from jobs.worker.execution import Execution, ShutdownFlag
from runner.cli.process import end_processes
from runner.ids import parse_run_id, parse_task_id, printable
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from runner.redaction import Secret
from runner.secrets import read_environment_secrets
from runner.settings import Settings, read_settings

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
    folder, files = _folder(settings, job.id, task_id), run_files(settings)
    try:
        record, is_ours = claim_run(folder, job.worker_name)
    except OSError as error:
        return _close_unstartable(job, folder, error)
    if record is None:
        return _refuse(job)
    if not is_ours:
        return handle_redelivery(job, folder, record, files)
    save_to_job(job, record)
    with shutdown_flag() as shutdown:
        return _state(Execution(job, folder, record, files, settings, shutdown).run())


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


def handle_redelivery(job: Job, folder: RunFolder, record: RunRecord, files: RunFiles) -> str:
    """Bring a run to its end that this call does not execute; returns its state."""
    if record.outcome is not None:
        return record.outcome.state
    other_worker = record.worker != job.worker_name
    if other_worker and is_executing(job.connection, record.worker, record.run_id):
        return State.RUNNING
    end_processes(record.run_id)
    interruption = STOPPED if folder.stop_requested() else WORKER_DIED
    return _state(close_interrupted(folder, record, interruption, job, files))


@contextmanager
def shutdown_flag() -> Iterator[ShutdownFlag]:
    """Inside it SIGTERM sets the flag, instead of ending this process without a word."""
    flag = ShutdownFlag()

    def on_signal(number: int, frame: FrameType | None) -> None:
        flag.is_set = True
        stop_waiting()

    def ignore(number: int, frame: FrameType | None) -> None:
        """Ctrl-C is the worker's affair. A function, since the CLI would inherit SIG_IGN."""

    before = signal.signal(signal.SIGTERM, on_signal), signal.signal(signal.SIGINT, ignore)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def run_files(settings: Settings) -> RunFiles:
    """The files of the runs, with the secrets of this process's environment and of its project.

    What the worker has read of them before it forks, its work-horses need not read again.
    """
    return _run_files(settings.tasks_root, tuple(read_environment_secrets(os.environ, settings.project_root)))


@lru_cache(maxsize=1)
def _run_files(tasks_root: Path, secrets: tuple[Secret, ...]) -> RunFiles:
    return RunFiles(tasks_root, secrets)


def _folder(settings: Settings, run_id: str, task_id: str) -> RunFolder:
    """The run's folder. Raises `ValueError`: what stands in Redis is checked before it becomes a path."""
    run, task = parse_run_id(run_id), parse_task_id(task_id)
    if run is None or task is None:
        raise ValueError(f"no run can be called {printable(run_id)!r} in a task {printable(task_id)!r}")
    return RunFolder(settings.tasks_root, task, run)


def _state(record: RunRecord) -> str:
    return State.ERROR if record.outcome is None else record.outcome.state


def _close_unstartable(job: Job, folder: RunFolder, error: OSError) -> str:
    """Close the run of a job whose start cannot be recorded, so that it is not started at all."""
    record = recorded_in(job)
    if record is None:
        return _refuse(job)
    message = f"The run could not be started: its record cannot be written ({error.strerror})."
    return _state(close_unstarted(folder, record, Verdict(State.ERROR, Reason.CLI_ERROR, message), job))


def _refuse(job: Job) -> str:
    """Close the job of a run that was never accepted (or whose files are not here); there is no record to write."""
    record = recorded_in(job)
    log_event("refused", run=job.id, error=NOT_ACCEPTED)
    if record is not None:
        outcome = Outcome(State.ERROR, Reason.LOST, NOT_ACCEPTED, datetime.now(UTC))
        save_to_job(job, msgspec.structs.replace(record, outcome=outcome))
    return State.ERROR
