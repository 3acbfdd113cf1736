"""Accept batches of runs: choose their tasks, write the record of the batch, then accept its runs.

All IDs are drawn before the record is written, and it is on the disk before the first run is: whoever finds a batch
that was cut off accepts the rest of it under the same IDs.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from itertools import starmap
from typing import NamedTuple

import msgspec
from msgspec import Struct
from redis import Redis

from jobs.queue.accept import check_request, needing_redis
from jobs.queue.idempotency import IdempotencyKeys, Reservation
from jobs.queue.new_runs import Labels, NewRuns
from jobs.queue.stop import WRITERS
from jobs.run.batch import BatchRecord, BatchRun, Dropped, Mode, batch_from_json, batch_to_json
from jobs.run.record import RunRecord
from jobs.run.state import Trigger
from jobs.run.test_case import Clean
from runner.errors import (
    Busy,
    Invalid,
    NotFound,
    NotPossible,
    RunnerError,
    StorageUnavailable,
    TaskBroken,
    TooMany,
    printable,
)
from runner.files import is_folder, is_there
from runner.ids import RunId, TaskId, new_run_id
from runner.log import log_event
from runner.project.batch_files import BatchFile, Mark
from runner.project.catalog import Dependencies, TaskCatalog
from runner.project.run_files import RunFiles
from runner.project.task import Task
from runner.settings import Settings

MAX_RUNS = 500  # of a batch
ENQUEUED = 250  # at once: Redis does nothing else for some hundredths of a second
NO_TASK = TaskId("")  # in the place of a run's task, where a key stands for a batch


class Wanted(Struct, frozen=True):
    """What a batch is to be: `tasks`, `tags` or `all` says of which tasks."""

    tasks: Sequence[str] | None = None
    tags: Sequence[Sequence[str]] | None = None
    """Groups: a task is chosen if it has all tags of one of them."""
    all: bool = False
    name: str = ""
    labels: Labels = {}
    mode: Mode = Mode.AGENTIC
    fail_fast: int | None = None


class AcceptedBatch(NamedTuple):
    """The batch that a request was answered with, and whether that request has started it."""

    record: BatchRecord
    is_new: bool


def read_batch(file: BatchFile) -> BatchRecord | None:
    """The record of the batch; None if there is none. Raises `RecordUnreadable` and `OSError`."""
    content = file.read()
    return None if content is None else batch_from_json(content, file.batch_id)


class BatchAcceptor:
    """Accepts batches of one project into one queue. Raises what `RunAcceptor` does, and `TooMany`.

    A batch is accepted as soon as its record is on the disk: what cannot be done for its runs then is done by the
    workers.
    """

    def __init__(self, settings: Settings, redis: Redis, files: RunFiles, catalog: TaskCatalog) -> None:
        self._files = files
        self._catalog = catalog
        self._keys = IdempotencyKeys(redis, settings.queue_name, settings.run_ttl)
        self._runs = NewRuns(settings, redis, files, catalog)

    def start(self, wanted: Wanted, key: str | None = None) -> AcceptedBatch:
        """Accept a batch of runs, one of each chosen task."""
        return self._once(key, wanted, lambda: self._new(wanted))

    def rerun(
        self, batch: BatchRecord, run_ids: Set[str], labels: Labels | None, key: str | None = None
    ) -> AcceptedBatch:
        """Accept the same again for these runs of the batch; with its labels, if none are given."""
        return self._once(key, (batch.batch_id, sorted(run_ids), labels), lambda: self._again(batch, run_ids, labels))

    def _once(self, key: str | None, request: object, make: Callable[[], BatchRecord]) -> AcceptedBatch:
        """Accept the batch that is made, unless the same request with the same key was accepted: then that one's."""
        digest = hashlib.sha256(msgspec.json.encode(request, order="sorted")).hexdigest()
        with needing_redis():
            known = None if key is None else self._keys.find(key)
        if known is not None and (earlier := self._accepted_as(known, f"batch {digest}")):
            return earlier
        batch = make()
        mine = Reservation(f"batch {digest}", batch.batch_id, NO_TASK, batch.queued_at)
        with needing_redis():
            reservation = self._keys.reserve(key, mine)
        if reservation is not mine and (earlier := self._accepted_as(reservation, mine.request)):
            return earlier
        batch = msgspec.structs.replace(
            batch, batch_id=reservation.run_id, queued_at=reservation.queued_at or batch.queued_at
        )
        file = self._files.batches.new(batch.batch_id, batch.queued_at)
        try:
            file.create(batch_to_json(batch))
        except FileExistsError:  # the same request was accepted in this moment
            return AcceptedBatch(read_batch(file) or batch, is_new=False)
        except OSError as error:
            why = f"the folder batches cannot be written to ({error.strerror or error})"
            raise StorageUnavailable(f"The batch was not accepted: {why}.") from None
        log_event("batch_accepted", batch=batch.batch_id, runs=len(batch.runs), mode=batch.mode)
        self.complete(file, batch)
        return AcceptedBatch(batch, is_new=True)

    def _accepted_as(self, reservation: Reservation, request: str) -> AcceptedBatch | None:
        """The batch of an earlier use of a key; None if that one was not accepted. Raises `NotPossible`."""
        check_request(reservation, request)
        file = self._files.batches.all().get(reservation.run_id)
        record = None if file is None else read_batch(file)
        return None if record is None else AcceptedBatch(record, is_new=False)

    def complete(self, file: BatchFile, batch: BatchRecord) -> list[RunId]:
        """Accept those of its runs that are not accepted yet, and note when all are; returns their IDs. A run whose
        task is gone by now is left out."""
        make = partial(self._create, batch, self._catalog.dependencies())
        with ThreadPoolExecutor(WRITERS) as pool:
            made = [*pool.map(make, range(len(batch.runs)))]
        accepted = [record for record in made if isinstance(record, RunRecord)]
        for start in range(0, len(accepted), ENQUEUED):  # not before all are on the disk, which workers would hold up
            self._runs.enqueue(*accepted[start : start + ENQUEUED])
        if is_folder(self._files.tasks_root) and not any(isinstance(it, StorageUnavailable | Busy) for it in made):
            with suppress(OSError):  # or it is completed once more, and nothing is left to do then
                file.mark(Mark.OPEN)
                file.unmark(Mark.ACCEPTING)
        return [record.run_id for record in accepted]

    def _create(self, batch: BatchRecord, dependencies: Dependencies, index: int) -> RunRecord | RunnerError | None:
        """Accept one run; None if it is accepted already."""
        run = batch.runs[index]
        if is_there(self._files.folder(run.task_id, run.run_id).record):
            return None
        try:
            task = self._catalog.find(run.task_id)
            record = msgspec.structs.replace(
                self._runs.record(task, batch.mode.run_type, batch.labels, Trigger.BATCH, dependencies, run.run_id),
                batch_id=batch.batch_id,
                original_run_id=run.original_run_id,
                original_traversal_id=run.original_traversal_id,
                queued_at=batch.queued_at + timedelta(microseconds=index),  # they stay in this order
            )
            self._runs.create(record)
        except FileExistsError:
            return None
        except RunnerError as error:
            log_event("batch_run_not_accepted", batch=batch.batch_id, run=run.run_id, error=error)
            return error
        return record

    def _new(self, wanted: Wanted) -> BatchRecord:
        """The record of the batch that is wanted."""
        tasks, dropped = choose(wanted, self._catalog)
        check_number(len(tasks))
        originals = self._originals(tasks) if wanted.mode.run_type.is_replay else {}
        clean = self._clean(tasks)
        return BatchRecord(
            batch_id=new_run_id(),
            name=clean(wanted.name),
            labels={key: clean(value) for key, value in wanted.labels.items()},
            mode=wanted.mode,
            fail_fast=wanted.fail_fast,
            queued_at=datetime.now(UTC),
            runs=tuple(self._run(task, originals.get(task.id)) for task in tasks),
            dropped=dropped,
        )

    def _originals(self, tasks: Sequence[Task]) -> dict[TaskId, RunRecord]:
        """The runs to replay. Raises `NotPossible`."""
        found = {task.id: self._runs.last_passed(task.id) for task in tasks}
        if missing := [task_id for task_id, record in found.items() if record is None]:
            raise NotPossible(f"These tasks have no run that passed, so there is nothing to replay: {named(missing)}.")
        return {task_id: record for task_id, record in found.items() if record is not None}

    def _run(self, task: Task, original: RunRecord | None) -> BatchRun:
        name = self._files.redactor(task.id).text(task.name)
        if original is None:
            return BatchRun(new_run_id(), task.id, name)
        return BatchRun(new_run_id(), task.id, name, original.run_id, original.file_id)

    def _clean(self, tasks: Iterable[Task]) -> Clean:
        """Takes the secrets of all these tasks out of a text: it is shown with each of them."""
        redactors = [self._files.environment, *(self._files.redactor(task.id) for task in tasks)]
        return lambda text: reduce(lambda left, redactor: redactor.text(left), redactors, text)

    def _again(self, batch: BatchRecord, run_ids: Set[str], labels: Labels | None) -> BatchRecord:
        """The record of a batch with the same runs once more."""
        runs = [run for run in batch.runs if run.run_id in run_ids]
        tasks = find_tasks([run.task_id for run in runs], self._catalog)
        lost = [
            run.task_id
            for run in runs
            if run.original_traversal_id and self._files.identity(run.task_id, run.original_traversal_id) is None
        ]
        if lost:
            raise NotPossible(f"The runs that were replayed are gone, so they cannot be replayed again: {named(lost)}.")
        clean = self._clean(tasks)
        return msgspec.structs.replace(
            batch,
            batch_id=new_run_id(),
            labels=batch.labels if labels is None else {key: clean(value) for key, value in labels.items()},
            queued_at=datetime.now(UTC),
            runs=tuple(msgspec.structs.replace(run, run_id=new_run_id()) for run in runs),
            dropped=(),
            rerun_of=batch.batch_id,
            lines=None,
        )


def check_number(runs: int) -> None:
    """Raise `TooMany` for more runs than a batch may have."""
    if runs > MAX_RUNS:
        raise TooMany(f"A batch must have at most {MAX_RUNS} runs, got {runs}.")


def choose(wanted: Wanted, catalog: TaskCatalog) -> tuple[list[Task], tuple[Dropped, ...]]:
    """The tasks that are wanted, and those of them that the CLI runs in the run of another. Raises `NotFound` and
    `Invalid`."""
    every = [*catalog.all()]
    if wanted.tasks is not None:
        check_number(len({*wanted.tasks}))  # before each is looked for
        tasks = find_tasks(wanted.tasks, catalog)
    else:
        if broken := [task.error for task in every if task.error]:  # it may be one of those that are meant
            raise Invalid(f"No task is left out in silence, and these cannot be used: {' '.join(broken)}")
        groups = [{*group} for group in wanted.tags or ()]
        tasks = [task for task in every if wanted.all or any(map({*task.tags}.issuperset, groups))]
        if not tasks:
            tags = " or ".join("+".join(group) for group in wanted.tags or ())
            what = "any task" if wanted.all else f"a task with {printable(tags, 200)}"
            raise Invalid(f"The project must have {what}, got none.")
    if wanted.mode.run_type.is_replay:  # which runs no other task
        return tasks, ()
    needed = needed_by([task.id for task in tasks], Dependencies(every))
    return [task for task in tasks if task.id not in needed], tuple(starmap(Dropped, needed.items()))


def needed_by(chosen: Sequence[TaskId], dependencies: Dependencies) -> dict[TaskId, TaskId]:
    """Those of the chosen tasks that another one needs which is not among them, and which that is. Pure."""
    needs = {task_id: dependencies.of(task_id) for task_id in chosen}
    found: dict[TaskId, TaskId] = {}
    for task_id in chosen:
        others = [other for other in chosen if other not in found and task_id in needs[other]]
        if others:
            found[task_id] = others[-1]
    for task_id in reversed(found):
        found[task_id] = found.get(found[task_id], found[task_id])  # one that runs itself
    return found


def find_tasks(names: Iterable[str], catalog: TaskCatalog) -> list[Task]:
    """The tasks with these names, each once. Raises `NotFound` and `Invalid`, which name all that cannot be used."""
    found: dict[TaskId, Task] = {}
    unknown, broken = list[str](), list[str]()
    for name in names:
        try:
            task = catalog.find(name)
            found[task.id] = task
        except NotFound:
            unknown.append(name)
        except TaskBroken as error:
            broken.append(str(error))
    if unknown:
        raise NotFound(f"The project has no task {named(unknown)}.")
    if broken:
        raise Invalid(f"These tasks cannot be used: {' '.join(broken)}")
    return [*found.values()]


def named(names: Iterable[str]) -> str:
    """The names as a sentence has them."""
    return ", ".join(f"'{printable(name)}'" for name in names)
