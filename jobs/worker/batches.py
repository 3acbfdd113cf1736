"""Bring batches to their end: accept the rest of one that was cut off, start nothing more of one that was stopped or in
which enough has failed, and record how all of its runs ended."""

import logging
from collections.abc import Iterator, Mapping, Set
from datetime import UTC, datetime
from functools import partial

import msgspec
from redis import Redis

from jobs.queue.batches import BatchAcceptor, read_batch
from jobs.queue.records import show_record
from jobs.queue.stop import RunStopper
from jobs.run.batch import (
    BatchRecord,
    BatchRun,
    RunLine,
    batch_to_json,
    has_failed_enough,
    missing_line,
    run_line,
)
from jobs.run.record import RunRecord
from jobs.run.verdict import HELD, STOPPED, Interruption
from runner.errors import RunnerError
from runner.ids import RunId, TaskId
from runner.log import log_event
from runner.project.batch_files import BatchFile, Mark
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from runner.settings import Settings


def read_lines(files: RunFiles, file: BatchFile, batch: BatchRecord) -> list[RunLine]:
    """How all runs of the batch stand, by the disk alone. Raises `ProjectGone`."""
    missing = partial(missing_line, batch, now=datetime.now(UTC), accepting=file.has(Mark.ACCEPTING))
    found = [(run, show_record(files.folder(run.task_id, run.run_id))) for run in batch.runs]
    if any(record is None for _, record in found):
        files.check_project()  # or it is all that is gone
    return [missing(run) if record is None else run_line(run, record) for run, record in found]


def why_held(files: RunFiles, batch_id: RunId | None) -> Interruption | None:
    """Why no run of the batch is to be started any more; None if it may be."""
    file = files.batches.all().get(batch_id) if batch_id else None
    if file is None:
        return None
    return STOPPED if file.has(Mark.STOP) else HELD if file.has(Mark.HOLD) else None


def hold_if_failed(files: RunFiles, run: RunRecord | None) -> None:
    """Let no run of the batch be started any more, if this one was a failure too many."""
    if run is None or run.batch_id is None or not run.state.is_failure:
        return
    try:
        file = files.batches.find(run.batch_id)
        batch = read_batch(file)
        if batch is not None and has_failed_enough(batch.fail_fast, read_lines(files, file, batch)):
            file.mark(Mark.HOLD)
    except (RunnerError, OSError) as error:  # the leader looks again
        log_event("batch_not_held", level=logging.WARNING, batch=run.batch_id, error=error)


class BatchRecovery:
    """Looks after the batches of one queue. Its methods raise `RecordUnreadable` and `OSError`."""

    def __init__(self, settings: Settings, redis: Redis, files: RunFiles) -> None:
        self._files = files
        self._acceptor = BatchAcceptor(settings, redis, files, TaskCatalog(settings.tasks_root))
        self._stopper = RunStopper(settings, redis, files)

    def unfinished(self) -> Iterator[BatchFile]:
        """The batches with work left."""
        return self._files.batches.marked(Mark.ACCEPTING, Mark.OPEN)

    def look_after(self, file: BatchFile, over: Mapping[TaskId, Set[RunId]]) -> None:
        """Do what is to be done about this batch now. `over` are runs that are known to be over."""
        batch = read_batch(file)
        if batch is None:  # its process died before there was one, or it was deleted
            file.forget()
        elif batch.lines is not None:
            file.finish()
        elif file.has(Mark.ACCEPTING):
            accepted = self._acceptor.complete(file, batch)
            log_event("batch_completed", batch=batch.batch_id, runs=len(accepted))
        else:
            self._look_after_open(file, batch, over)

    def _look_after_open(self, file: BatchFile, batch: BatchRecord, over: Mapping[TaskId, Set[RunId]]) -> None:
        if batch.fail_fast is None and not file.has(Mark.STOP) and any(self._is_open(run, over) for run in batch.runs):
            return
        lines = read_lines(self._files, file, batch)
        if all(line.current_state.is_final for line in lines):
            file.replace(batch_to_json(msgspec.structs.replace(batch, lines=tuple(lines))))
            file.finish()
            log_event("batch_ended", batch=batch.batch_id)
        elif file.has(Mark.STOP):
            self._stopper.cancel_jobs(self._stopper.stop_runs(batch, STOPPED))
        elif file.has(Mark.HOLD) or has_failed_enough(batch.fail_fast, lines):
            file.mark(Mark.HOLD)
            self._stopper.cancel_jobs(self._stopper.stop_runs(batch, HELD))

    def _is_open(self, run: BatchRun, over: Mapping[TaskId, Set[RunId]]) -> bool:
        if run.run_id in over.get(run.task_id, ()):
            return False
        record = show_record(self._files.folder(run.task_id, run.run_id))
        return record is not None and record.outcome is None
