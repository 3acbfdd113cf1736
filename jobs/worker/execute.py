"""The function that an RQ worker calls for a run: command -> process -> traversal -> outcome."""

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import msgspec
from redis.exceptions import RedisError
from rq import get_current_job
from rq.job import Job
from rq.rate_limit import RateLimitRegistry

from jobs.queue.connection import stop_waiting, without_waiting
from jobs.queue.heartbeat import is_executing
from jobs.queue.job import save_to_job
from jobs.queue.records import close_cut_off, close_run, save
from jobs.run.document import Reason, RunType, State
from jobs.run.record import Outcome, RunRecord, record_from_job_meta, record_from_json, record_to_json
from jobs.run.verdict import (
    SHUT_DOWN,
    STOPPED,
    WORKER_DIED,
    Cut,
    Ending,
    Verdict,
    judge,
)
from jobs.worker.adopt import FileSearch
from jobs.worker.limits import Followed, Limits, follow
from runner.cli.command import Replay, build_command
from runner.cli.output import last_title, last_words
from runner.cli.process import CliProcess, end_processes
from runner.errors import CommandNotStarted
from runner.files import read_tail
from runner.ids import parse_run_id, parse_task_id, shown
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from runner.redaction import Secret
from runner.secrets import secrets_of_environment
from runner.settings import Settings, read_settings

GRACE = 2.0  # seconds between SIGTERM and SIGKILL for the CLI when we have to leave; honcho gives the whole stack 5
JOB_SECONDS = 3.0  # between two looks whether Redis still has the job
LOG_TAIL = 64 * 1024  # bytes of the log in which the last words are looked for

NOT_ACCEPTED = (
    "The worker found no record of this run in its PROJECT_ROOT, so it did not run it: either the request was answered "
    "with an error, or the worker and the web process have different PROJECT_ROOTs."
)


class EndRequest:
    """Whether the worker of this run is being shut down."""

    shut_down = False


class Turn(NamedTuple):
    """A run's record, and whether this call is the one that carries it out. `meta` is None if there is no record."""

    meta: RunRecord | None
    is_ours: bool


def execute_run(task_id: str) -> str:
    """Carry out the run of the current RQ job; returns its state, which is also in `job.meta`.

    A job that is given to a worker a second time never starts a second CLI: a run that has an outcome keeps it, one
    that another worker is carrying out goes on there, and one whose worker died is closed as interrupted.
    """
    job = get_current_job()
    if job is None:
        raise RuntimeError("execute_run is called by RQ workers only")
    settings = read_settings(os.environ)
    folder = _folder_of(settings, job.id, task_id)
    try:
        meta, is_ours = take(folder, job.worker_name)
    except OSError as error:
        return _not_startable(job, folder, error)
    if meta is None:
        return _refuse(job)
    run = Execution(job, folder, meta, files_of(settings))
    if not is_ours:
        return run.end_of_another()
    save_to_job(job, meta)
    with end_requests() as request:
        return run.carry_out(settings, request)


def take(folder: RunFolder, worker: str | None) -> Turn:
    """Record that this worker starts the run, unless it was started, stopped or ended before. Raises `OSError`."""
    try:
        with folder.lock():
            meta = record_from_json(folder.read_record() or b"")
            if meta is None or meta.outcome is not None or meta.started_at is not None or folder.stop_requested():
                return Turn(meta, is_ours=False)
            meta = msgspec.structs.replace(meta, started_at=datetime.now(UTC), worker=worker)
            folder.write_record(record_to_json(meta))
            return Turn(meta, is_ours=True)
    except FileNotFoundError:
        return Turn(None, is_ours=False)


class Execution:
    """One run in the hands of a worker."""

    def __init__(self, job: Job, folder: RunFolder, meta: RunRecord, files: RunFiles) -> None:
        self.job, self.folder, self.meta, self.files = job, folder, meta, files
        self._job_seen = 0.0

    def end_of_another(self) -> str:
        """Bring a run to its end that this call does not carry out; returns its state."""
        if self.meta.outcome is not None:
            return self.meta.outcome.state
        another = self.meta.worker != self.job.worker_name
        if another and is_executing(self.job.connection, self.meta.worker, self.meta.run_id):
            return State.RUNNING
        end_processes(self.meta.run_id)
        cut = STOPPED if self.folder.stop_requested() else WORKER_DIED
        return _state(close_cut_off(self.folder, self.meta, cut, self.job, self.files))

    def save(self, meta: RunRecord) -> None:
        """Remember the metadata here, on disk and in Redis."""
        save(self.job, self.folder, meta)
        self.meta = meta

    def carry_out(self, settings: Settings, request: EndRequest) -> str:
        """Run the CLI to its end, however it comes, and record the outcome; returns the final state."""
        search = FileSearch(self.files, self.folder, self.job.connection, settings.run_ttl)
        ending = self._run_cli(settings, request, search)
        self.meta = self._with_file(search, cli_ended=True)
        reading = self.files.read(self.meta.task_id, self.meta.traversal_id or self.meta.run_id)
        return _state(
            close_run(self.folder, self.meta, judge(ending, reading), self.job, reading.traversal, ending.end)
        )

    def _run_cli(self, settings: Settings, request: EndRequest, search: FileSearch) -> Ending:
        command = build_command(settings, self.meta.task_id, self.meta.run_id, os.environ, _replay(self.meta))
        redactor = self.files.redactor(self.meta.task_id)
        try:
            process = CliProcess(command, self.meta.run_id, self.folder.log, redactor)
        except CommandNotStarted as error:
            return Ending(end=None, cut=None, not_started=str(error))
        log_event("started", run=self.meta.run_id, task=self.meta.task_id, pid=process.pid)
        limits, worker = Limits(settings, time.monotonic()), os.getppid()

        def must_leave() -> Cut | None:
            return SHUT_DOWN if request.shut_down else WORKER_DIED if os.getppid() != worker else None

        def why_end() -> Cut | None:
            if self.folder.stop_requested():
                return STOPPED
            return must_leave() or limits.passed(time.monotonic(), self._sign_of_life(process))

        def grace() -> float:
            return min(settings.stop_grace, GRACE) if must_leave() else settings.stop_grace

        try:
            followed = follow(process, grace, why_end, lambda: self._look_after(search))
        finally:
            left = process.clear()
            if left:
                log_event("processes_left", level=logging.ERROR, run=self.meta.run_id, count=left)
        ending = _ending(followed, _tail(self.folder.log), _replay(self.meta) is not None)
        if process.log_problem is None:
            return ending
        return ending._replace(
            words=f"nothing that was kept, since its log could not be written ({process.log_problem})."
        )

    def _sign_of_life(self, process: CliProcess) -> object:
        """Something that is another value whenever the CLI has printed something or written a step."""
        return process.printed, self.files.identity(self.meta.task_id, self.meta.traversal_id or self.meta.run_id)

    def _look_after(self, search: FileSearch) -> None:
        """What there is to do while the CLI runs, when nothing may hold us up: what fails now is done later."""
        try:
            with without_waiting(self.job.connection):
                self._note_file(search)
                self._put_job_back()
        except (RedisError, OSError) as error:
            log_event("not_looked_after", level=logging.WARNING, run=self.meta.run_id, because=error)

    def _put_job_back(self) -> None:
        """Redis may have been emptied: then it learns again that this job runs, and that its task has a run."""
        if time.monotonic() < self._job_seen + JOB_SECONDS:
            return
        self._job_seen = time.monotonic()
        if self.job.connection.hexists(self.job.key, "status"):
            return
        self.job.save()
        if self.job.rate_limit_key and self.job.rate_limit_concurrency:
            registry = RateLimitRegistry.from_job(self.job)
            with self.job.connection.pipeline() as pipeline:
                registry.register(self.job.rate_limit_concurrency, pipeline)
                pipeline.zadd(registry.allowed_key, {self.job.id: time.time()})
                pipeline.execute()
        log_event("job_put_back", run=self.meta.run_id)

    def _note_file(self, search: FileSearch) -> None:
        meta = self._with_file(search, cli_ended=False)
        if meta is not self.meta:
            self.save(meta)

    def _with_file(self, search: FileSearch, *, cli_ended: bool) -> RunRecord:
        """The metadata with the ID of the run's file, if that is known by now. Needs Redis to adopt a file only."""
        if self.meta.traversal_id is not None:
            return self.meta
        found = search.look(cli_ended=cli_ended)
        return self.meta if found is None else msgspec.structs.replace(self.meta, traversal_id=found)


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
        request.shut_down = True
        stop_waiting()

    def ignore(number: int, frame: FrameType | None) -> None:
        """Ctrl-C is the worker's affair. A function, since the CLI would inherit SIG_IGN."""

    before = signal.signal(signal.SIGTERM, on_signal), signal.signal(signal.SIGINT, ignore)
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def _state(meta: RunRecord) -> str:
    return State.ERROR if meta.outcome is None else meta.outcome.state


def files_of(settings: Settings) -> RunFiles:
    """The files of the runs, with what is secret in this process's environment and around its project.

    What the worker has read of them before it forks, its work-horses need not read again.
    """
    return _files(settings.tasks_root, tuple(secrets_of_environment(os.environ, settings.project_root)))


@lru_cache(maxsize=1)
def _files(tasks_root: Path, secrets: tuple[Secret, ...]) -> RunFiles:
    return RunFiles(tasks_root, secrets)


def _replay(meta: RunRecord) -> Replay | None:
    if meta.original_traversal_id is None:
        return None
    return Replay(meta.original_traversal_id, healing=meta.run_type is RunType.REPLAY_WITH_HEALING)


def _ending(followed: Followed, printed: str, is_replay: bool) -> Ending:
    said = last_title(printed) if is_replay else None
    return Ending(followed.end, followed.cut, None, last_words(printed), said, is_replay)


def _not_startable(job: Job, folder: RunFolder, error: OSError) -> str:
    """Close the run of a job whose start cannot be recorded, so that it is not started at all."""
    meta = record_from_job_meta(job.meta)
    if meta is None:
        return _refuse(job)
    because = f"The run could not be started: its record cannot be written ({error.strerror})."
    return _state(close_run(folder, meta, Verdict(State.ERROR, Reason.CLI_ERROR, because), job))


def _refuse(job: Job) -> str:
    """Close the job of a run that was never accepted (or whose files are not here); there is no record to write."""
    meta = record_from_job_meta(job.meta)
    log_event("refused", run=job.id, because=NOT_ACCEPTED)
    if meta is not None:
        outcome = Outcome(State.ERROR, Reason.LOST, NOT_ACCEPTED, datetime.now(UTC))
        save_to_job(job, msgspec.structs.replace(meta, outcome=outcome))
    return State.ERROR


def _tail(path: Path) -> str:
    return read_tail(path, LOG_TAIL).decode("utf-8", errors="replace")
