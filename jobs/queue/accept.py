"""Accept runs: record them on disk, then enqueue their jobs."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError, ResponseError
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimit, RateLimitRegistry
from rq.serializers import JSONSerializer

from jobs.queue.idempotency import Claim, Claims
from jobs.queue.job import changes_channel
from jobs.run.document import Origin, RunDocument, RunType, State
from jobs.run.merge import JobState, run_document
from jobs.run.record import EXECUTE_RUN, RunRecord, record_from_json, record_to_job_meta, record_to_json
from jobs.run.verdict import result_of
from jobs.status.task_document import browser_config, test_case
from runner.errors import NotAccepted, NotFound, NotPossible, QueueUnavailable, StorageUnavailable
from runner.ids import RunId, TaskId, check_run_id, new_run_id, shown
from runner.log import log_event
from runner.project.catalog import TaskCatalog
from runner.project.run_files import NOTHING_YET, RunFiles
from runner.project.run_folder import RunFolder
from runner.project.task import Task, browser_config_id
from runner.settings import Settings

CLAIM_SECONDS = 30.0  # that a request may take from its claim of a key to the record of its run
WAIT_SECONDS = 5.0  # that another one with this key waits for it
CLAIM_TICK = 0.02
JOB_MARGIN = 60  # seconds that RQ's own deadline comes after ours, which is the one that cleans up


class Known(NamedTuple):
    """A run as the disk knows it; `meta` is None for one that was made by hand with the CLI."""

    run_id: RunId
    task_id: TaskId
    meta: RunRecord | None


class Accepted(NamedTuple):
    """The run that a request was answered with, and whether that request has started it."""

    document: RunDocument
    is_new: bool


class RunQueue:
    """Accepts runs of one project into one queue. Its methods block for a few milliseconds.

    All of them raise `NotFound`, `NotPossible` and `TaskBroken` for what was asked for, `QueueUnavailable` and
    `StorageUnavailable` when no run can be accepted now. The record on disk comes before the job, and a worker starts
    nothing without it: a job that slipped into Redis although we answer with an error is never carried out.
    """

    def __init__(self, settings: Settings, redis: Redis, files: RunFiles, catalog: TaskCatalog) -> None:
        self._settings = settings
        self._files = files
        self._catalog = catalog
        self._claims = Claims(redis, settings.run_ttl)
        self._queue = Queue(settings.queue_name, connection=redis, serializer=JSONSerializer)

    def start(self, task_name: str, browser_config: str, key: str | None = None) -> Accepted:
        """Accept a run of the task by the agent."""

        def prepare() -> tuple[Task, RunRecord]:
            task = self._task(task_name, browser_config)
            return task, self._new_record(task, RunType.AGENTIC)

        return self._once(key, f"start {task_name} {browser_config}", prepare)

    def replay_task(self, task_name: str, browser_config: str, key: str | None = None, *, healing: bool) -> Accepted:
        """Accept a replay of the newest run of the task that the agent made and that passed."""

        def prepare() -> tuple[Task, RunRecord]:
            task = self._task(task_name, browser_config)
            original = next(self._passed_runs(task.id), None)
            if original is None:
                raise NotFound(f"Task '{task.id}' has no run that passed, so there is nothing to replay. Run it first.")
            return task, self._replay_record(task, original, healing=healing)

        return self._once(key, f"replay task {task_name} {browser_config} {healing}", prepare)

    def replay_run(self, run_id: str, key: str | None = None, *, healing: bool) -> Accepted:
        """Accept a replay of this run, which must have passed."""

        def prepare() -> tuple[Task, RunRecord]:
            original = self._find(run_id)
            if not self._passed(original):
                raise NotPossible(f"Run '{original.run_id}' has not passed; only a run that passed can be replayed.")
            task = self._catalog.find(original.task_id)
            return task, self._replay_record(task, original, healing=healing)

        return self._once(key, f"replay run {run_id} {healing}", prepare)

    def rerun(self, run_id: str, key: str | None = None) -> Accepted:
        """Accept the same again: a run of the same task, or a replay of the same run."""

        def prepare() -> tuple[Task, RunRecord]:
            earlier = self._find(run_id)
            task = self._catalog.find(earlier.task_id)
            return task, self._same_again(earlier, self._new_record(task, RunType.AGENTIC))

        return self._once(key, f"rerun {run_id}", prepare)

    def _once(self, key: str | None, request: str, prepare: Callable[[], tuple[Task, RunRecord]]) -> Accepted:
        """Accept what `prepare` gives; but if this request came with the same key before, give the run of then."""
        if key is None:
            return Accepted(self._accept(*prepare()), is_new=True)
        try:
            return self._once_per_key(key, request, prepare)
        except RedisError as error:
            raise unavailable(error) from None

    def _once_per_key(self, key: str, request: str, prepare: Callable[[], tuple[Task, RunRecord]]) -> Accepted:
        claim = self._claims.find(key)
        while claim is None:
            task, meta = prepare()
            mine = Claim(request, meta.run_id, task.id)
            if self._claims.take(key, mine):
                return self._accept_claimed(key, mine, task, meta)
            claim = self._claims.find(key)
        if claim.request != request:
            raise NotPossible("This Idempotency-Key was used for another request; take a new key for a new request.")
        record = self._record_of(key, claim)
        if record is None:  # whoever used the key was not able to accept its run, or it was deleted since
            self._claims.give_back(key, claim)
            return self._once_per_key(key, request, prepare)
        return Accepted(run_document(record, JobState.UNKNOWN, NOTHING_YET, []), is_new=False)

    def _accept_claimed(self, key: str, claim: Claim, task: Task, meta: RunRecord) -> Accepted:
        try:
            return Accepted(self._accept(task, meta), is_new=True)
        except NotAccepted:
            with suppress(RedisError):  # then the key is found without a run
                self._claims.give_back(key, claim)
            raise

    def _record_of(self, key: str, claim: Claim) -> RunRecord | None:
        """The run that the key stands for, or None if that will never be. Raises `NotPossible` if it may still be."""
        deadline = time.monotonic() + WAIT_SECONDS
        folder = RunFolder(self._settings.tasks_root, claim.task_id, claim.run_id)
        while (meta := record_from_json(folder.read_record() or b"")) is None:
            if self._claims.age(key) > CLAIM_SECONDS:
                return None
            if time.monotonic() > deadline:
                raise NotPossible("A request with this Idempotency-Key is just being accepted. Ask again in a moment.")
            time.sleep(CLAIM_TICK)
        return meta

    def _same_again(self, earlier: Known, meta: RunRecord) -> RunRecord:
        if earlier.meta is None:
            if self._is_replay(earlier):
                raise NotPossible(f"Run '{earlier.run_id}' is a replay made by hand; of which run is not known.")
            return meta
        return msgspec.structs.replace(
            meta,
            run_type=earlier.meta.run_type,
            original_run_id=earlier.meta.original_run_id,
            original_traversal_id=earlier.meta.original_traversal_id,
        )

    def _task(self, name: str, browser_config: str) -> Task:
        task = self._catalog.find(name)
        if browser_config not in (task.browser_config_id, browser_config_id(TaskId(name))):
            raise NotFound(
                f"Task '{task.id}' has no browser configuration '{shown(browser_config)}'; "
                f"it has one, '{task.browser_config_id}'."
            )
        return task

    def _find(self, text: str) -> Known:
        run_id = check_run_id(text)
        task_id = self._files.task_of(run_id)
        record = RunFolder(self._settings.tasks_root, task_id, run_id).read_record()
        return Known(run_id, task_id, record_from_json(record) if record is not None else None)

    def _passed_runs(self, task_id: TaskId) -> Iterator[Known]:
        """The task's runs by the agent that passed, newest file first."""
        owners = {meta.traversal_id: meta for meta in self._records(task_id)}
        for traversal_id in self._files.newest_first(task_id):
            meta = owners.get(traversal_id)
            known = Known(meta.run_id if meta else traversal_id, task_id, meta)
            if self._passed(known) and not self._is_replay(known):
                yield known

    def _records(self, task_id: TaskId) -> Iterator[RunRecord]:
        for run_id in self._files.run_ids(task_id):
            record = RunFolder(self._settings.tasks_root, task_id, run_id).read_record()
            meta = record_from_json(record) if record is not None else None
            if meta is not None:
                yield meta

    def _passed(self, known: Known) -> bool:
        """Whether the run passed, and its file is still there to be replayed."""
        reading = self._files.read(known.task_id, _traversal_id(known))
        if reading.traversal is None or reading.problem is not None:
            return False
        if known.meta is None:
            return result_of(reading.traversal) is State.FINISHED
        return known.meta.outcome is not None and known.meta.outcome.state is State.FINISHED

    def _is_replay(self, known: Known) -> bool:
        if known.meta is not None:
            return known.meta.run_type is not RunType.AGENTIC
        traversal = self._files.read(known.task_id, known.run_id).traversal
        return traversal is not None and traversal.is_replay

    def _new_record(self, task: Task, run_type: RunType) -> RunRecord:
        clean = self._files.redactor(task.id).text
        return RunRecord(
            run_id=new_run_id(),
            task_id=task.id,
            test_case=test_case(task, clean),
            browser_config=browser_config(task, clean),
            run_type=run_type,
            origin=Origin.WEB_UI,
            queued_at=datetime.now(UTC),
        )

    def _replay_record(self, task: Task, original: Known, *, healing: bool) -> RunRecord:
        run_type = RunType.REPLAY_WITH_HEALING if healing else RunType.REPLAY
        meta = self._new_record(task, run_type)
        return msgspec.structs.replace(
            meta, original_run_id=original.run_id, original_traversal_id=_traversal_id(original)
        )

    def _accept(self, task: Task, meta: RunRecord) -> RunDocument:
        folder = RunFolder(self._settings.tasks_root, task.id, meta.run_id)
        try:
            folder.create(record_to_json(meta))
        except OSError as error:
            raise StorageUnavailable(
                f"The run was not accepted: the folder tasks/{task.id}/runs cannot be written to ({error.strerror})."
            ) from None
        try:
            self.enqueue(meta)
        except RedisError as error:
            folder.remove()
            log_event("not_accepted", run=meta.run_id, task=task.id, because=error)
            raise unavailable(error) from None
        log_event("accepted", run=meta.run_id, task=task.id, type=meta.run_type, original=meta.original_run_id)
        return run_document(meta, JobState.WAITING, NOTHING_YET, [])

    def enqueue(self, meta: RunRecord) -> None:
        """Put the run's job into the queue, or behind the runs of its task. Raises redis's errors.

        No two jobs can have one ID: the ID is fresh, and the run's folder could only be made once.
        """
        rate_limit = self._rate_limit(meta.task_id)
        job = self._queue.create_job(
            EXECUTE_RUN,
            kwargs={"task_id": meta.task_id},
            job_id=meta.run_id,
            timeout=self._settings.run_timeout + JOB_MARGIN,
            result_ttl=self._settings.run_ttl,
            failure_ttl=self._settings.run_ttl,
            description=f"run {meta.run_id} of task {meta.task_id}",
            meta=record_to_job_meta(meta),
            status=JobStatus.RATE_LIMITED if rate_limit else JobStatus.QUEUED,
            rate_limit=rate_limit,
        )
        with self._queue.connection.pipeline() as pipeline:
            if rate_limit is not None:
                self._wait_for_turn(job, pipeline)
            else:
                self._queue.enqueue_job(job, pipeline=pipeline)
            pipeline.publish(changes_channel(self._queue.name), meta.run_id)
            pipeline.execute()

    def _rate_limit(self, task_id: TaskId) -> RateLimit | None:
        limit = self._settings.runs_per_task
        return RateLimit(f"{self._queue.name}:{task_id}", limit) if limit else None

    def _wait_for_turn(self, job: Job, pipeline: Pipeline) -> None:
        """What `Queue.enqueue_job` does with a job that has a rate limit, but in one step, and with the exact time.

        RQ 3.0 orders those that wait by whole seconds, and by job ID within one.
        """
        registry = RateLimitRegistry.from_job(job)
        limit = self._settings.runs_per_task
        pipeline.sadd(Queue.redis_queues_keys, self._queue.key)
        registry.register(limit, pipeline)
        job.save(pipeline=pipeline)
        registry.add_to_rate_limited(job.id, pipeline, timestamp=time.time())
        registry.acquire_and_enqueue(limit, pipeline=pipeline)


def unavailable(error: RedisError) -> QueueUnavailable:
    """What to answer when a run cannot be enqueued."""
    why = f"does not take it ({error})" if isinstance(error, ResponseError) else "does not answer"
    return QueueUnavailable(f"The run was not accepted: Redis {why}. Try again in a moment.")


def _traversal_id(known: Known) -> RunId:
    return (known.meta.traversal_id if known.meta else None) or known.run_id
