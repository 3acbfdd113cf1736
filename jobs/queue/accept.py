"""Accept runs: write their record to the disk, then enqueue their job."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from jobs.queue.idempotency import IdempotencyKeys, Reservation, request_text
from jobs.queue.job import enqueue, make_queue
from jobs.queue.records import find_run, read_file_record, read_record, show_record
from jobs.run.document import RunDocument, run_document
from jobs.run.record import RunRecord, record_to_json
from jobs.run.state import JobState, Origin, RunType, Trigger
from jobs.run.test_case import browser_config, test_case
from runner.errors import (
    Busy,
    NotFound,
    NotPossible,
    QueueUnavailable,
    RecordUnreadable,
    StorageUnavailable,
    printable,
)
from runner.ids import TaskId, new_run_id
from runner.log import log_event
from runner.project.adoption import adopter
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from runner.project.run_folder import task_lock
from runner.project.task import Task, browser_config_id
from runner.settings import Settings

Labels = Mapping[str, str]


class Accepted(NamedTuple):
    """The run that a request was answered with, and whether that request has started it."""

    document: RunDocument
    is_new: bool


class RunAcceptor:
    """Accepts runs of one project into one queue. Its methods block for a few milliseconds.

    All of them raise `NotFound`, `NotPossible` and `TaskBroken` because of the request, `QueueUnavailable` and
    `StorageUnavailable` when no run can be accepted now. `key` is the client's `Idempotency-Key`: the same request with
    the same key gives the run of the first one. `labels` are those that the client gave, None if it gave none. Every
    error comes before the record, and a worker starts nothing without it: a request that was answered with an error
    never runs.
    """

    def __init__(self, settings: Settings, redis: Redis, files: RunFiles, catalog: TaskCatalog) -> None:
        self._settings = settings
        self._files = files
        self._catalog = catalog
        self._keys = IdempotencyKeys(redis, settings.queue_name, settings.run_ttl)
        self._queue = make_queue(redis, settings.queue_name)

    def start(
        self,
        task_name: str,
        browser_config: str,
        key: str | None = None,
        labels: Labels | None = None,
        trigger: Trigger = Trigger.API,
    ) -> Accepted:
        """Accept a run of the task by the agent."""
        request = request_text(f"start {task_name} {browser_config}", labels)
        if earlier := self._earlier(key, request):
            return earlier
        task = self._task(task_name, browser_config)
        return self._accept(self._new_record(task, RunType.AGENTIC, labels, trigger), key, request)

    def replay_task(
        self,
        task_name: str,
        browser_config: str,
        key: str | None = None,
        labels: Labels | None = None,
        trigger: Trigger = Trigger.API,
        *,
        healing: bool,
    ) -> Accepted:
        """Accept a replay of the newest run of the task that the agent made and that passed."""
        request = request_text(f"replay task {task_name} {browser_config} {healing}", labels)
        if earlier := self._earlier(key, request):
            return earlier
        task = self._task(task_name, browser_config)
        original = next(self._passed_runs(task.id), None)
        if original is None:
            raise NotFound(f"Task '{task.id}' has no run that passed, so there is nothing to replay. Run it first.")
        return self._accept(self._replay_record(task, original, labels, trigger, healing=healing), key, request)

    def replay_run(
        self,
        run_id: str,
        key: str | None = None,
        labels: Labels | None = None,
        trigger: Trigger = Trigger.API,
        *,
        healing: bool,
    ) -> Accepted:
        """Accept a replay of this run, which must have passed."""
        request = request_text(f"replay run {run_id} {healing}", labels)
        if earlier := self._earlier(key, request):
            return earlier
        original = find_run(self._files, run_id)
        _refuse_pruned(original)
        if not self._can_be_replayed(original):
            raise NotPossible(f"Run '{original.run_id}' has not passed; only a run that passed can be replayed.")
        task = self._catalog.find(original.task_id)
        return self._accept(self._replay_record(task, original, labels, trigger, healing=healing), key, request)

    def rerun(
        self, run_id: str, key: str | None = None, labels: Labels | None = None, trigger: Trigger = Trigger.API
    ) -> Accepted:
        """Accept the same again: a run of the same task, or a replay of the same run; with its labels, if none are
        given. What started it is always called a rerun."""
        request = request_text(f"rerun {run_id}", labels)
        if earlier := self._earlier(key, request):
            return earlier
        original = find_run(self._files, run_id)
        task = self._catalog.find(original.task_id)
        if original.is_made_by_hand and original.run_type.is_replay:
            raise NotPossible(f"Run '{original.run_id}' is a replay made by hand; of which run is not known.")
        record = msgspec.structs.replace(
            self._new_record(task, original.run_type, original.labels if labels is None else labels, Trigger.RERUN),
            original_run_id=original.original_run_id,
            original_traversal_id=original.original_traversal_id,
        )
        return self._accept(record, key, request)

    def _earlier(self, key: str | None, request: str) -> Accepted | None:
        """The run that this request was answered with before; None if there is none. Raises `NotPossible`."""
        if key is None:
            return None
        with _needing_redis():
            reservation = self._keys.find(key)
        return None if reservation is None else self._accepted_as(reservation, request)

    def _accepted_as(self, reservation: Reservation, request: str) -> Accepted | None:
        """The run of an earlier use of a key; None if that one was not accepted. Raises `NotPossible`."""
        if reservation.request != request:
            message = "This Idempotency-Key was used for another request; take a new key for a new request."
            raise NotPossible(message)
        record = show_record(self._files.folder(reservation.task_id, reservation.run_id))
        return None if record is None else Accepted(run_document(record, JobState.UNKNOWN), is_new=False)

    def _accept(self, record: RunRecord, key: str | None, request: str) -> Accepted:
        """Accept this run, unless the same request with the same key was accepted: then that one's run.

        It is accepted as soon as its record is on the disk. Redis has just taken a write, so it will take the job, too;
        where it does not, or does not say so, the workers find the record and enqueue the run.
        """
        with _needing_redis():
            reservation = self._keys.reserve(key, Reservation(request, record.run_id, record.task_id))
        if reservation.run_id != record.run_id and (earlier := self._accepted_as(reservation, request)):
            return earlier
        record = msgspec.structs.replace(record, run_id=reservation.run_id)
        try:
            self._create(record)
        except FileExistsError:  # the same request was accepted in this moment
            return self._accept(msgspec.structs.replace(record, run_id=new_run_id()), key, request)
        try:
            enqueue(self._queue, record, self._settings)
        except RedisError as error:
            log_event("enqueue_failed", level=logging.WARNING, run=record.run_id, task=record.task_id, error=error)
        log_event(
            "accepted", run=record.run_id, task=record.task_id, type=record.run_type, original=record.original_run_id
        )
        return Accepted(run_document(record, JobState.WAITING), is_new=True)

    def _create(self, record: RunRecord) -> None:
        """Write the first record. Raises `FileExistsError`, `StorageUnavailable`, and `NotPossible` for a replay of
        a run that was deleted in this moment."""
        folder, root = self._files.folder(record.task_id, record.run_id), self._files.tasks_root
        try:
            if record.original_traversal_id is None:
                folder.create(record_to_json(record))
                return
            with task_lock(root, record.task_id):  # so that the original is not deleted in between
                if record.original_run_id is not None:
                    _refuse_pruned(show_record(self._files.folder(record.task_id, record.original_run_id)))
                if self._files.identity(record.task_id, record.original_traversal_id) is None:
                    raise NotPossible(f"Run '{record.original_run_id}' has no file any more, so it cannot be replayed.")
                folder.create(record_to_json(record))
        except FileExistsError:
            raise
        except TimeoutError:
            raise Busy("The run was not accepted: runs of its task are just being deleted. Try again soon.") from None
        except OSError as error:
            place = f"tasks/{record.task_id}/runs"
            raise StorageUnavailable(
                f"The run was not accepted: the folder {place} cannot be written to ({error.strerror or error})."
            ) from None

    def _task(self, name: str, browser_config: str) -> Task:
        task = self._catalog.find(name)
        if browser_config not in (task.browser_config_id, browser_config_id(TaskId(name))):
            raise NotFound(
                f"Task '{task.id}' has no browser configuration '{printable(browser_config)}'; "
                f"it has one, '{task.browser_config_id}'."
            )
        return task

    def _passed_runs(self, task_id: TaskId) -> Iterator[RunRecord]:
        """The task's runs by the agent that passed, newest file first; reads no more of them than are asked for."""
        for file_id in self._files.newest_first(task_id):
            owner = adopter(self._files.tasks_root, task_id, file_id) or file_id
            folder = self._files.folder(task_id, owner)
            with suppress(RecordUnreadable, OSError):
                record = read_record(folder) or read_file_record(self._files, folder)
                if record is not None and not record.run_type.is_replay and self._can_be_replayed(record):
                    yield record

    def _can_be_replayed(self, record: RunRecord) -> bool:
        """Whether the run passed, and its file is still there and whole."""
        if not record.passed or record.artifacts:
            return False
        reading = self._files.read_unredacted(record.task_id, record.file_id)
        return reading.traversal is not None

    def _new_record(self, task: Task, run_type: RunType, labels: Labels | None, trigger: Trigger) -> RunRecord:
        clean = self._files.redactor(task.id).text
        return RunRecord(
            run_id=new_run_id(),
            task_id=task.id,
            test_case=test_case(task, clean),
            browser_config=browser_config(task, clean),
            run_type=run_type,
            origin=Origin.WEB_UI,
            trigger=trigger,
            labels={key: clean(value) for key, value in (labels or {}).items()},
            queued_at=datetime.now(UTC),
        )

    def _replay_record(
        self, task: Task, original: RunRecord, labels: Labels | None, trigger: Trigger, *, healing: bool
    ) -> RunRecord:
        run_type = RunType.REPLAY_WITH_HEALING if healing else RunType.REPLAY
        return msgspec.structs.replace(
            self._new_record(task, run_type, labels, trigger),
            original_run_id=original.run_id,
            original_traversal_id=original.file_id,
        )


def _refuse_pruned(original: RunRecord | None) -> None:
    """Raise `NotPossible` if the files of a run that is to be replayed were deleted."""
    if original is not None and original.artifacts:
        message = f"The files of run '{original.run_id}' were deleted by `make prune`, so it cannot be replayed."
        raise NotPossible(message)


@contextmanager
def _needing_redis() -> Iterator[None]:
    """Inside it redis's errors become `QueueUnavailable`."""
    try:
        yield
    except RedisError as error:
        why = f"does not take it ({error})" if isinstance(error, ResponseError) else "does not answer"
        raise QueueUnavailable(f"The run was not accepted: Redis {why}. Try again in a moment.") from None
