"""New runs: their first records, made of a task or of an earlier run, and brought to the disk and into the queue."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime

import msgspec
from redis import Redis
from redis.exceptions import RedisError

from jobs.queue.job import enqueue, make_queue
from jobs.queue.records import read_file_record, read_record, show_record
from jobs.run.record import RunRecord, record_to_json
from jobs.run.state import Origin, RunType, Trigger
from jobs.run.test_case import browser_config, test_case
from runner.errors import Busy, NotPossible, RecordUnreadable, StorageUnavailable
from runner.ids import RunId, TaskId, new_run_id
from runner.log import log_event
from runner.project.adoption import adopter
from runner.project.catalog import Dependencies, TaskCatalog
from runner.project.run_files import RunFiles
from runner.project.run_folder import task_lock
from runner.project.task import Task
from runner.settings import Settings

Labels = Mapping[str, str]


class NewRuns:
    """New runs of one project, for one queue."""

    def __init__(self, settings: Settings, redis: Redis, files: RunFiles, catalog: TaskCatalog) -> None:
        self._settings = settings
        self._files = files
        self._catalog = catalog
        self._queue = make_queue(redis, settings.queue_name)

    def record(
        self,
        task: Task,
        run_type: RunType,
        labels: Labels | None,
        trigger: Trigger,
        dependencies: Dependencies | None = None,
        run_id: RunId | None = None,
    ) -> RunRecord:
        """The first record of a run of the task. `dependencies` are those of all tasks, where they are known;
        `run_id` is its ID, if that was drawn before."""
        clean = self._files.redactor(task.id).text
        turn = (dependencies or self._catalog.dependencies()).turn(task.id)
        return RunRecord(
            run_id=run_id or new_run_id(),
            task_id=task.id,
            test_case=test_case(task, clean),
            browser_config=browser_config(task, clean),
            run_type=run_type,
            origin=Origin.WEB_UI,
            trigger=trigger,
            turn=turn if turn != task.id else None,
            labels={key: clean(value) for key, value in (labels or {}).items()},
            queued_at=datetime.now(UTC),
        )

    def last_passed(self, task_id: TaskId) -> RunRecord | None:
        """The newest run of the task by the agent that passed, and that can be replayed."""
        return next(self._passed(task_id), None)

    def _passed(self, task_id: TaskId) -> Iterator[RunRecord]:
        """All of them, newest file first; reads no more of them than are asked for."""
        for file_id in self._files.newest_first(task_id):
            owner = adopter(self._files.tasks_root, task_id, file_id) or file_id
            folder = self._files.folder(task_id, owner)
            with suppress(RecordUnreadable, OSError):
                record = read_record(folder) or read_file_record(self._files, folder)
                if record is not None and not record.run_type.is_replay and self.can_be_replayed(record):
                    yield record

    def can_be_replayed(self, record: RunRecord) -> bool:
        """Whether the run passed, and its file is still there and whole."""
        if not record.passed or record.artifacts:
            return False
        reading = self._files.read_unredacted(record.task_id, record.file_id)
        return reading.traversal is not None

    def create(self, record: RunRecord) -> None:
        """Write the first record. Raises `FileExistsError`, `Busy`, `StorageUnavailable`, and `NotPossible` for a
        replay of a run that was deleted in this moment."""
        folder, root = self._files.folder(record.task_id, record.run_id), self._files.tasks_root
        try:
            if record.original_traversal_id is None:
                folder.create(record_to_json(record))
                return
            with task_lock(root, record.task_id):  # so that the original is not deleted in between
                if record.original_run_id is not None:
                    refuse_pruned(show_record(self._files.folder(record.task_id, record.original_run_id)))
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

    def enqueue(self, *records: RunRecord) -> None:
        """Enqueue the jobs of runs whose records are on the disk. Redis has just taken a write, so it will take these,
        too; where it does not, or does not say so, the workers find the records and enqueue the runs."""
        try:
            enqueue(self._queue, records, self._settings)
        except RedisError as error:
            ids = ",".join(record.run_id for record in records)
            log_event("enqueue_failed", level=logging.WARNING, run=ids, error=error)
        for record in records:
            log_event(
                "accepted",
                run=record.run_id,
                task=record.task_id,
                type=record.run_type,
                original=record.original_run_id,
                batch=record.batch_id,
            )


def replay_of(new: RunRecord, original: RunRecord) -> RunRecord:
    """The record of a run that replays this one."""
    return msgspec.structs.replace(new, original_run_id=original.run_id, original_traversal_id=original.file_id)


def repeat_of(new: RunRecord, original: RunRecord) -> RunRecord:
    """The record of a run that does the same as this one. Raises `NotPossible`."""
    if original.is_made_by_hand and original.run_type.is_replay:
        raise NotPossible(f"Run '{original.run_id}' is a replay made by hand; of which run is not known.")
    return msgspec.structs.replace(
        new, original_run_id=original.original_run_id, original_traversal_id=original.original_traversal_id
    )


def refuse_pruned(original: RunRecord | None) -> None:
    """Raise `NotPossible` if the files of a run that is to be replayed were deleted."""
    if original is not None and original.artifacts:
        message = f"The files of run '{original.run_id}' were deleted by `make prune`, so it cannot be replayed."
        raise NotPossible(message)
