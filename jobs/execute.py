"""The function that an RQ worker calls for a run: command -> process -> traversal -> outcome."""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec
from redis.exceptions import RedisError
from rq import get_current_job
from rq.job import Job

from jobs.adopt import FileSearch
from jobs.connection import stop_waiting, without_waiting
from jobs.document import Reason, RunType, State
from jobs.meta import Outcome, RunMeta, meta_from_job, meta_from_json, meta_to_job
from jobs.outcome import close_run, save
from jobs.verdict import Ending, Verdict, judge
from runner.cli_log import last_title, last_words
from runner.command import Replay, build_command
from runner.errors import CommandNotStarted
from runner.files import read_tail
from runner.ids import parse_run_id, parse_task_id, shown
from runner.log import log_event
from runner.process import CliProcess, ProcessEnd, end_processes
from runner.redaction import Redactor, Secret
from runner.run_folder import RunFolder
from runner.secrets import secrets_of_environment
from runner.settings import Settings, read_settings
from runner.traversal_file import RunFiles

EXECUTE_RUN = "jobs.execute.execute_run"  # what a job of ours calls, by its dotted name
TICK = 0.25  # seconds between two looks at the deadline and at what was asked of us
GRACE = 2.0  # seconds between SIGTERM and SIGKILL for the CLI; honcho gives the whole stack 5
LOG_TAIL = 64 * 1024  # bytes of the log in which the last words are looked for

NOT_ACCEPTED = (
    "The worker found no record of this run in its PROJECT_ROOT, so it did not run it: either the request was answered "
    "with an error, or the worker and the web process have different PROJECT_ROOTs."
)
DIED_BEFORE = "The worker that carried out this run died."


class EndRequest:
    """Why this run shall end before its CLI does; None as long as nobody asked for it."""

    reason: Reason | None = None


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
        end_processes(meta.run_id)
        return _state(close_run(folder, meta, Verdict(State.ERROR, Reason.INTERRUPTED, DIED_BEFORE), job))
    meta = msgspec.structs.replace(meta, started_at=datetime.now(UTC), worker=job.worker_name)
    run = Execution(job, folder, meta, RunFiles(settings.tasks_root, environment_secrets(settings)))
    run.save(meta)
    with end_requests() as request:
        return run.carry_out(settings, request)


class Execution:
    """One run in the hands of a worker."""

    def __init__(self, job: Job, folder: RunFolder, meta: RunMeta, files: RunFiles) -> None:
        self.job, self.folder, self.meta, self.files = job, folder, meta, files

    def save(self, meta: RunMeta) -> None:
        """Remember the metadata here, on disk and in Redis."""
        self.meta = meta
        save(self.job, self.folder, meta)

    def carry_out(self, settings: Settings, request: EndRequest) -> str:
        """Run the CLI to its end, however it comes, and record the outcome; returns the final state."""
        search = FileSearch(self.files, self.folder, self.job.connection, settings.run_ttl)
        ending = self._run_cli(settings, request, search)
        self._note_file(search, cli_ended=True)
        reading = self.files.read(self.meta.task_id, self.meta.traversal_id or self.meta.run_id)
        return _state(close_run(self.folder, self.meta, judge(ending, reading), self.job, ending.end))

    def _run_cli(self, settings: Settings, request: EndRequest, search: FileSearch) -> Ending:
        command = build_command(settings, self.meta.task_id, self.meta.run_id, os.environ, _replay(self.meta))
        redactor = Redactor(self.files.secrets(self.meta.task_id))
        try:
            process = CliProcess(command, self.meta.run_id, self.folder.log, redactor)
        except CommandNotStarted as error:
            return Ending(end=None, cut=None, not_started=str(error), words=None, limit=settings.run_timeout)
        log_event("started", run=self.meta.run_id, task=self.meta.task_id, pid=process.pid)
        deadline = time.monotonic() + settings.run_timeout
        try:
            followed = follow(process, deadline, request, lambda: self._note_file_so_far(search))
        finally:
            left = process.clear()
            if left:
                log_event("processes_left", level=logging.ERROR, run=self.meta.run_id, count=left)
        return _ending(followed, _tail(self.folder.log), _replay(self.meta) is not None, settings.run_timeout)

    def _note_file_so_far(self, search: FileSearch) -> None:
        """The same while the CLI runs, when nothing may hold us up: what fails now is done at the end."""
        try:
            with without_waiting(self.job.connection):
                self._note_file(search, cli_ended=False)
        except (RedisError, OSError) as error:
            log_event("file_not_noted", level=logging.WARNING, run=self.meta.run_id, because=error)

    def _note_file(self, search: FileSearch, *, cli_ended: bool) -> None:
        if self.meta.traversal_id is not None:
            return
        found = search.look(cli_ended=cli_ended)
        if found is not None:
            self.save(msgspec.structs.replace(self.meta, traversal_id=found))


def _folder_of(settings: Settings, run_id: str, task_id: str) -> RunFolder:
    """The run's folder. Raises `ValueError`: what stands in Redis is checked before it becomes a path."""
    run, task = parse_run_id(run_id), parse_task_id(task_id)
    if run is None or task is None:
        raise ValueError(f"no run can be called {shown(run_id)!r} in a task {shown(task_id)!r}")
    return RunFolder(settings.tasks_root, task, run)


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


def follow(process: CliProcess, deadline: float, request: EndRequest, on_tick: Callable[[], None]) -> Followed:
    """Wait for the CLI; end it at the deadline (monotonic seconds), on request, or when the worker has died."""
    worker = os.getppid()
    while (end := process.wait(TICK)) is None:
        on_tick()
        if request.reason is not None:
            return Followed(process.end(GRACE), request.reason)
        if os.getppid() != worker:
            return Followed(process.end(GRACE), Reason.INTERRUPTED)
        if time.monotonic() > deadline:
            return Followed(process.end(GRACE), Reason.TIMEOUT)
    return Followed(end, None)


def _state(meta: RunMeta) -> str:
    return State.ERROR if meta.outcome is None else meta.outcome.state


def environment_secrets(settings: Settings) -> tuple[Secret, ...]:
    """What is secret in this process's environment and around its project."""
    return tuple(secrets_of_environment(os.environ, settings.project_root))


def _replay(meta: RunMeta) -> Replay | None:
    if meta.original_traversal_id is None:
        return None
    return Replay(meta.original_traversal_id, healing=meta.run_type is RunType.REPLAY_WITH_HEALING)


def _ending(followed: Followed, printed: str, is_replay: bool, limit: int) -> Ending:
    said = last_title(printed) if is_replay else None
    return Ending(followed.end, followed.cut, None, last_words(printed), limit, said)


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
    return read_tail(path, LOG_TAIL).decode("utf-8", errors="replace")
