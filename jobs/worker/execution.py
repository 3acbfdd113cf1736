"""One run in the hands of a worker: start its CLI, watch it, end it in time, record the outcome."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import msgspec
from redis.exceptions import RedisError

from jobs.queue.connection import impatient
from jobs.queue.job import Job, restore_if_lost, save_to_job
from jobs.queue.records import change_record, close_executed, read_record
from jobs.run.record import RunRecord
from jobs.run.verdict import (
    SHUT_DOWN,
    STOPPED,
    WORKER_DIED,
    CliResult,
    Interruption,
    idle_timeout_exceeded,
    memory_limit_exceeded,
    run_timeout_exceeded,
)
from jobs.worker.adopt import FileSearch
from jobs.worker.signals import ShutdownFlag
from runner.cli.command import ProcessExit, Replay, build_command
from runner.cli.output import last_title, last_words
from runner.cli.process import CliProcess
from runner.cli.warm import Template
from runner.errors import CommandNotStarted, OwnershipLost, RecordUnreadable
from runner.files import Identity, identity_now, read_tail, utc_time
from runner.ids import RunId
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from runner.settings import Settings

TICK = 0.25  # seconds between two checks of the deadlines and of requests to stop
SHUTDOWN_GRACE = 2.0  # seconds that the CLI has to end by itself at shutdown
HORSE_SECONDS = 3.2  # seconds that the work-horse has for that and for the outcome; jobs.stack kills everything after 5
JOB_CHECK_SECONDS = 3.0  # between two checks whether Redis still has the job
REDIS_SECONDS = 0.3  # for which Redis may keep the one waiting who watches the CLI
MEMORY_SECONDS = 1.0  # between two measurements of the run's memory
MB = 1024 * 1024
LOG_TAIL = 64 * 1024  # bytes of the log in which the last words are looked for


class Limits:
    """The deadlines of a run, and the limit of its memory. The clock is the caller's: seconds that only grow."""

    def __init__(self, settings: Settings, now: float) -> None:
        self._run_timeout, self._idle_timeout = settings.run_timeout, settings.run_idle_timeout
        self._memory = settings.run_memory_mb
        self._started = self._last_active = self._measured = now
        self._activity: object = None

    def exceeded(self, now: float, activity: object, memory: Callable[[], int]) -> Interruption | None:
        """The limit that is exceeded. `activity` is another value whenever the run has done something. `memory` tells
        how many bytes it takes; it is called once in MEMORY_SECONDS, and only if that is limited."""
        if activity != self._activity:
            self._activity, self._last_active = activity, now
        if now - self._started > self._run_timeout:
            return run_timeout_exceeded(self._run_timeout)
        if self._idle_timeout and now - self._last_active > self._idle_timeout:
            return idle_timeout_exceeded(self._idle_timeout)
        return self._memory_exceeded(now, memory) if self._memory else None

    def _memory_exceeded(self, now: float, memory: Callable[[], int]) -> Interruption | None:
        if now - self._measured < MEMORY_SECONDS:
            return None
        self._measured = now
        used = math.ceil(memory() / MB)
        return memory_limit_exceeded(used, self._memory) if used > self._memory else None


class Execution:
    """Starts, watches and ends the CLI of one run. Make it before the CLI starts: `FileSearch` notes present files."""

    def __init__(
        self,
        job: Job,
        folder: RunFolder,
        record: RunRecord,
        worker_pid: int,
        files: RunFiles,
        settings: Settings,
        shutdown: ShutdownFlag,
        template: Template | None = None,
    ) -> None:
        self.job, self.folder, self.record = job, folder, record
        self._files, self._settings, self._shutdown, self._template = files, settings, shutdown, template
        self._redis = impatient(job.connection, REDIS_SECONDS)
        self._search = FileSearch(files, folder)
        self._worker_pid = worker_pid
        self._seen: Identity | None = None  # of the record, when it was found to be ours
        self._looked: Identity | None = None  # of the traversal, when it had no step yet
        self._started: dict[str, Any] = {}  # what is known of the start of the CLI
        self._job_checked = 0.0

    def run(self) -> RunRecord:
        """Run the CLI to its end, however it comes; returns the record with the outcome.

        Raises `OwnershipLost` and `RecordUnreadable` as soon as another process owns the run; the CLI is ended then, or
        not even started: this process may have waited for Redis for long.
        """
        if self._is_lost():
            raise OwnershipLost(self.record.run_id)
        result = self._run_cli()
        succeeded = result.exit is not None and result.exit.exit_code == 0 and result.interruption is None
        try:
            self.record = self._with_progress(cli_succeeded=succeeded)
        except OSError as error:
            log_event("housekeeping_failed", level=logging.WARNING, run=self.record.run_id, error=error)
        return close_executed(self.folder, self.record, result, self.job, self._files)

    def _run_cli(self) -> CliResult:
        record, redactor = self.record, self._files.redactor(self.record.task_id)
        command = build_command(self._settings, self.folder, os.environ, self._replay())
        try:
            process = CliProcess(command, self.folder, redactor, self._template)
        except CommandNotStarted as error:
            return CliResult(None, start_error=str(error))
        log_event("started", run=record.run_id, task=record.task_id, pid=process.pid, warm=process.is_warm)
        self._started = {"cli_started_at": datetime.now(UTC), "warm": process.is_warm}
        try:
            process_exit, interruption = self._watch(process)
        finally:
            left = process.clear()
            if left:
                log_event("processes_left", level=logging.ERROR, run=record.run_id, count=left)
        return self._result(process, process_exit, interruption)

    def _watch(self, process: CliProcess) -> tuple[ProcessExit, Interruption | None]:
        """Wait for the CLI, or end it as soon as there is a reason to interrupt it."""
        limits = Limits(self._settings, time.monotonic())
        while (process_exit := process.wait(TICK)) is None:
            if self._is_lost():
                process.end(0)
                raise OwnershipLost(self.record.run_id)
            interruption = self._requested_end() or limits.exceeded(
                time.monotonic(), self._activity(process), process.memory
            )
            if interruption is not None:
                return process.end(self._settings.stop_grace, self._longest_grace), interruption
            self._maintain()
        return process_exit, None

    def _is_lost(self) -> bool:
        """Whether another process has closed or taken over the run. A disk that does not answer is no other owner."""
        try:
            identity = identity_now(self.folder.record, self.folder.tasks_root)
            if identity is not None and identity == self._seen:
                return False
            record = read_record(self.folder)
        except RecordUnreadable:
            return True
        except OSError:
            return False
        self._seen = identity
        return record is None or record.outcome is not None or record.epoch != self.record.epoch

    def _requested_end(self) -> Interruption | None:
        return STOPPED if self.folder.stop_requested() else self._leaving()

    def _leaving(self) -> Interruption | None:
        """Why this process has to end soon; None if it has not."""
        if self._shutdown.is_set:
            return SHUT_DOWN
        return None if self._worker_pid in (os.getppid(), os.getpid()) else WORKER_DIED

    def _longest_grace(self) -> float:
        """Seconds that the CLI may have at most to end by itself."""
        return SHUTDOWN_GRACE if self._leaving() else math.inf

    def _activity(self, process: CliProcess) -> object:
        """Another value whenever the CLI has printed something or written a step."""
        return process.printed, self._files.identity(self.record.task_id, self.record.file_id)

    def _maintain(self) -> None:
        """Keep record and job up to date while the CLI runs, without waiting for Redis; a failure is repaired later."""
        try:
            with self._impatient():
                record = self._with_progress(cli_succeeded=False)
                if record != self.record:
                    self.record = change_record(self.folder, record.epoch, **record.progress)
                    save_to_job(self.job, self.record)
                self._check_job()
        except (RedisError, OSError) as error:
            log_event("housekeeping_failed", level=logging.WARNING, run=self.record.run_id, error=error)

    @contextmanager
    def _impatient(self) -> Iterator[None]:
        """Inside it the job uses a connection that fails soon."""
        patient, self.job.connection = self.job.connection, self._redis
        try:
            yield
        finally:
            self.job.connection = patient

    def _check_job(self) -> None:
        """Put the job back if Redis was emptied."""
        if time.monotonic() < self._job_checked + JOB_CHECK_SECONDS:
            return
        self._job_checked = time.monotonic()
        if restore_if_lost(self.job):
            log_event("job_restored", run=self.record.run_id)

    def _with_progress(self, *, cli_succeeded: bool) -> RunRecord:
        """The record with all that is known by now. Raises `OSError`."""
        record = msgspec.structs.replace(self._with_file(cli_succeeded=cli_succeeded), **self._started)
        if record.first_step_at is not None:
            return record
        return msgspec.structs.replace(record, first_step_at=self._first_step_at(record.file_id))

    def _first_step_at(self, file_id: RunId) -> datetime | None:
        """When the file was written, if it has a step now and had none before."""
        identity = self._files.identity(self.record.task_id, file_id)
        if identity is None or identity == self._looked:
            return None
        self._looked = identity
        reading = self._files.read_unredacted(self.record.task_id, file_id)
        traversal = reading.traversal
        has_step = traversal is not None and (traversal.brain_states or traversal.actions)
        return utc_time(reading.modified) if has_step and reading.modified is not None else None

    def _with_file(self, *, cli_succeeded: bool) -> RunRecord:
        """The record with the ID of the run's file, if that is known by now. Raises `OSError`."""
        if self.record.traversal_id is not None:
            return self.record
        found = self._search.find(cli_succeeded=cli_succeeded)
        return self.record if found is None else msgspec.structs.replace(self.record, traversal_id=found)

    def _replay(self) -> Replay | None:
        if self.record.original_traversal_id is None:
            return None
        return Replay(self.record.original_traversal_id, healing=self.record.run_type.heals)

    def _result(self, process: CliProcess, process_exit: ProcessExit, interruption: Interruption | None) -> CliResult:
        printed = read_tail(self.folder.log, self.folder.tasks_root, LOG_TAIL).decode("utf-8", errors="replace")
        is_replay = self._replay() is not None
        words = last_words(printed)
        if process.log_problem is not None:
            words = f"nothing that was kept, since its log could not be written ({process.log_problem})."
        return CliResult(
            exit=process_exit,
            interruption=interruption,
            last_words=words,
            replay_title=last_title(printed) if is_replay else None,
            is_replay=is_replay,
        )
