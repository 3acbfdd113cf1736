"""The function that an RQ worker calls for a run: command -> process -> traversal -> outcome."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec
from rq import get_current_job
from rq.job import Job

from jobs.connection import stop_waiting
from jobs.document import Reason, State
from jobs.meta import Outcome, RunMeta, meta_from_job, meta_from_json, meta_to_job, meta_to_json
from jobs.verdict import Ending, Verdict, judge
from runner.cli_log import last_words
from runner.command import build_command
from runner.errors import CommandNotStarted
from runner.ids import parse_run_id, parse_task_id, shown
from runner.log import log_event
from runner.process import CliProcess, ProcessEnd, end_processes
from runner.run_folder import RunFolder
from runner.settings import Settings, read_settings
from runner.traversal_file import NOTHING_YET, Reading, RunFiles

EXECUTE_RUN = "jobs.execute.execute_run"  # what a job of ours calls, by its dotted name
TICK = 0.25  # seconds between two looks at the deadline and at what was asked of us
GRACE = 2.0  # seconds between SIGTERM and SIGKILL for the CLI; honcho gives the whole stack 5
LOG_TAIL = 64 * 1024  # bytes of the log in which the last words are looked for

NOT_ACCEPTED = (
    "The worker found no record of this run in its PROJECT_ROOT, so it did not run it: either the request was answered "
    "with an error, or the worker and the web process have different PROJECT_ROOTs."
)
DIED_BEFORE = "The worker that carried out this run died."


def execute_run(task_id: str) -> str:
    """Carry out the run of the current RQ job; returns its final state, which is also in `job.meta`.

    A job that is given to a worker a second time never starts a second CLI: a run that has an outcome keeps it, and
    one whose worker died is closed as interrupted.
    """
    job = get_current_job()
    if job is None:
        raise RuntimeError("execute_run is called by RQ workers only")
    settings = read_settings(os.environ)
    folder = _folder_of(settings, job.id, task_id)
    record = folder.read_record()
    meta = meta_from_json(record) if record is not None else None
    if meta is None:
        return _refuse(job)
    if meta.outcome is not None:
        return meta.outcome.state
    if meta.started_at is not None:
        return close_run(job, folder, meta, Verdict(State.ERROR, Reason.INTERRUPTED, DIED_BEFORE))
    meta = msgspec.structs.replace(meta, started_at=datetime.now(UTC), worker=job.worker_name)
    save(job, folder, meta)
    with end_requests() as request:
        ending = run_cli(settings, folder, request)
        reading = _read_traversal(settings, meta)
        return close_run(job, folder, meta, judge(ending, reading), ending.end)


def _folder_of(settings: Settings, run_id: str, task_id: str) -> RunFolder:
    """The run's folder. Raises `ValueError`: what stands in Redis is checked before it becomes a path."""
    run, task = parse_run_id(run_id), parse_task_id(task_id)
    if run is None or task is None:
        raise ValueError(f"no run can be called {shown(run_id)!r} in a task {shown(task_id)!r}")
    return RunFolder(settings.tasks_root, task, run)


def close_run(job: Job, folder: RunFolder, meta: RunMeta, verdict: Verdict, end: ProcessEnd | None = None) -> str:
    """End what the run left behind, record its outcome for good, and return its state."""
    left = end_processes(meta.run_id)
    outcome = Outcome(
        state=verdict.state,
        reason=verdict.reason,
        error_message=verdict.message,
        finished_at=datetime.now(UTC),
        exit_code=end.exit_code if end else None,
        signal=end.signal if end else None,
    )
    log_event(
        "ended",
        run=meta.run_id,
        task=meta.task_id,
        state=verdict.state,
        reason=verdict.reason,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        processes_left=left or None,
    )
    save(job, folder, msgspec.structs.replace(meta, outcome=outcome))
    return verdict.state


def save(job: Job, folder: RunFolder, meta: RunMeta) -> None:
    """Keep the metadata on disk first, then in Redis: the disk is there also when Redis is not."""
    folder.write_record(meta_to_json(meta))
    job.meta = meta_to_job(meta)
    job.save_meta()


class EndRequest:
    """Why this run shall end before its CLI does; None as long as nobody asked for it."""

    reason: Reason | None = None


@contextmanager
def end_requests() -> Iterator[EndRequest]:
    """Inside it SIGTERM asks the run to end, instead of ending this process without a word."""
    request = EndRequest()

    def on_signal(number: int, frame: FrameType | None) -> None:
        request.reason = Reason.INTERRUPTED
        stop_waiting()

    def ignore(number: int, frame: FrameType | None) -> None:
        """Ctrl-C is the worker's affair. A function, since the CLI would inherit SIG_IGN."""

    before = signal.signal(signal.SIGTERM, on_signal), signal.signal(signal.SIGINT, ignore)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


class Followed(NamedTuple):
    """How a started CLI ended, and why we ended it (None if it ended by itself)."""

    end: ProcessEnd
    cut: Reason | None


def run_cli(settings: Settings, folder: RunFolder, request: EndRequest) -> Ending:
    """Start the configured command for the run and stay with it until it and all its processes have ended."""
    command = build_command(settings, folder.task_id, folder.run_id, os.environ)
    try:
        process = CliProcess(command, folder.run_id, folder.log)
    except CommandNotStarted as error:
        return Ending(end=None, cut=None, not_started=str(error), words=None, limit=settings.run_timeout)
    log_event("started", run=folder.run_id, task=folder.task_id, pid=process.pid)
    followed = follow(process, time.monotonic() + settings.run_timeout, request)
    words = last_words(_tail(folder.log))
    return Ending(followed.end, followed.cut, not_started=None, words=words, limit=settings.run_timeout)


def follow(process: CliProcess, deadline: float, request: EndRequest) -> Followed:
    """Wait for the CLI; end it at the deadline (monotonic seconds), on request, or when the worker has died."""
    worker = os.getppid()
    while (end := process.wait(TICK)) is None:
        if request.reason is not None:
            return Followed(process.end(GRACE), request.reason)
        if os.getppid() != worker:
            return Followed(process.end(GRACE), Reason.INTERRUPTED)
        if time.monotonic() > deadline:
            return Followed(process.end(GRACE), Reason.TIMEOUT)
    return Followed(end, None)


def _read_traversal(settings: Settings, meta: RunMeta) -> Reading:
    files = RunFiles(settings.tasks_root)
    path = files.traversal_path(meta.task_id, meta.run_id)
    return NOTHING_YET if path is None else files.read(path)


def _refuse(job: Job) -> str:
    """Close the job of a run that was never accepted (or whose files are not here); there is no record to write."""
    meta = meta_from_job(job.meta)
    log_event("refused", run=job.id, because=NOT_ACCEPTED)
    if meta is not None:
        outcome = Outcome(State.ERROR, Reason.LOST, NOT_ACCEPTED, datetime.now(UTC))
        job.meta = meta_to_job(msgspec.structs.replace(meta, outcome=outcome))
        job.save_meta()
    return State.ERROR


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - LOG_TAIL))
        return file.read().decode("utf-8", errors="replace")
