"""Accept runs: write their record to the disk, then enqueue their job."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from jobs.queue.idempotency import IdempotencyKeys, Reservation, request_text
from jobs.queue.new_runs import Labels, NewRuns, refuse_pruned, repeat_of, replay_of
from jobs.queue.records import find_run, show_record
from jobs.run.document import RunDocument, run_document
from jobs.run.record import RunRecord
from jobs.run.state import JobState, RunType, Trigger
from runner.errors import (
    NotFound,
    NotPossible,
    QueueUnavailable,
    printable,
)
from runner.ids import TaskId, new_run_id
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from runner.project.task import Task, browser_config_id
from runner.settings import Settings


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
        self._files = files
        self._catalog = catalog
        self._keys = IdempotencyKeys(redis, settings.queue_name, settings.run_ttl)
        self._runs = NewRuns(settings, redis, files, catalog)

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
        return self._accept(self._runs.record(task, RunType.AGENTIC, labels, trigger), key, request)

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
        original = self._runs.last_passed(task.id)
        if original is None:
            raise NotFound(f"Task '{task.id}' has no run that passed, so there is nothing to replay. Run it first.")
        return self._accept(self._replay(task, original, labels, trigger, healing=healing), key, request)

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
        refuse_pruned(original)
        if not self._runs.can_be_replayed(original):
            raise NotPossible(f"Run '{original.run_id}' has not passed; only a run that passed can be replayed.")
        task = self._catalog.find(original.task_id)
        return self._accept(self._replay(task, original, labels, trigger, healing=healing), key, request)

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
        labels = original.labels if labels is None else labels
        record = repeat_of(self._runs.record(task, original.run_type, labels, Trigger.RERUN), original)
        return self._accept(record, key, request)

    def _earlier(self, key: str | None, request: str) -> Accepted | None:
        """The run that this request was answered with before; None if there is none. Raises `NotPossible`."""
        if key is None:
            return None
        with needing_redis():
            reservation = self._keys.find(key)
        return None if reservation is None else self._accepted_as(reservation, request)

    def _accepted_as(self, reservation: Reservation, request: str) -> Accepted | None:
        """The run of an earlier use of a key; None if that one was not accepted. Raises `NotPossible`."""
        check_request(reservation, request)
        record = show_record(self._files.folder(reservation.task_id, reservation.run_id))
        return None if record is None else Accepted(run_document(record, JobState.UNKNOWN), is_new=False)

    def _accept(self, record: RunRecord, key: str | None, request: str) -> Accepted:
        """Accept this run, unless the same request with the same key was accepted: then that one's run.

        It is accepted as soon as its record is on the disk.
        """
        with needing_redis():
            reservation = self._keys.reserve(key, Reservation(request, record.run_id, record.task_id))
        if reservation.run_id != record.run_id and (earlier := self._accepted_as(reservation, request)):
            return earlier
        record = msgspec.structs.replace(record, run_id=reservation.run_id)
        try:
            self._runs.create(record)
        except FileExistsError:  # the same request was accepted in this moment
            return self._accept(msgspec.structs.replace(record, run_id=new_run_id()), key, request)
        self._runs.enqueue(record)
        return Accepted(run_document(record, JobState.WAITING), is_new=True)

    def _replay(
        self, task: Task, original: RunRecord, labels: Labels | None, trigger: Trigger, *, healing: bool
    ) -> RunRecord:
        run_type = RunType.REPLAY_WITH_HEALING if healing else RunType.REPLAY
        return replay_of(self._runs.record(task, run_type, labels, trigger), original)

    def _task(self, name: str, browser_config: str) -> Task:
        task = self._catalog.find(name)
        if browser_config not in (task.browser_config_id, browser_config_id(TaskId(name))):
            raise NotFound(
                f"Task '{task.id}' has no browser configuration '{printable(browser_config)}'; "
                f"it has one, '{task.browser_config_id}'."
            )
        return task


def check_request(reservation: Reservation, request: str) -> None:
    """See that the key was used for this request. Raises `NotPossible`."""
    if reservation.request != request:
        message = "This Idempotency-Key was used for another request; take a new key for a new request."
        raise NotPossible(message)


@contextmanager
def needing_redis() -> Iterator[None]:
    """Inside it redis's errors become `QueueUnavailable`: nothing was accepted."""
    try:
        yield
    except RedisError as error:
        why = f"does not take it ({error})" if isinstance(error, ResponseError) else "does not answer"
        raise QueueUnavailable(f"Nothing was accepted: Redis {why}. Try again in a moment.") from None
