"""The RQ job of a run: built, enqueued, found, copied to, put back. RQ's layout is known here, in `places.py`, and by
the worker class.

The job's ID is the run's ID, and its `meta` a copy of the run's record.
"""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import get_current_job
from rq.exceptions import InvalidJobOperation, NoSuchJobError
from rq.job import Job as Job
from rq.job import JobStatus
from rq.queue import Queue as Queue
from rq.rate_limit import RateLimit, RateLimitRegistry
from rq.serializers import JSONSerializer
from rq.utils import as_text
from rq.worker import BaseWorker as BaseWorker
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from jobs.run.document import QueuePlace
from jobs.run.record import RunRecord, record_from_job_meta, record_to_job_meta
from jobs.run.state import JobState
from runner.ids import RunId, TaskId, parse_task_id
from runner.log import log_event
from runner.settings import Settings

EXECUTE_RUN = "jobs.worker.execute.execute_run"
TIMEOUT_MARGIN = 60  # seconds that RQ's own deadline comes after ours, which is the one that cleans up

STATES: Mapping[JobStatus, JobState] = {
    JobStatus.CREATED: JobState.ABSENT,  # Redis has lost the job, and a worker has then written one field of it
    JobStatus.QUEUED: JobState.WAITING,
    JobStatus.DEFERRED: JobState.WAITING,
    JobStatus.SCHEDULED: JobState.WAITING,
    JobStatus.RATE_LIMITED: JobState.WAITING,
    JobStatus.READY_TO_ENQUEUE: JobState.WAITING,
    JobStatus.STARTED: JobState.STARTED,
    JobStatus.FINISHED: JobState.ENDED,
    JobStatus.FAILED: JobState.ENDED,
    JobStatus.STOPPED: JobState.CANCELED,
    JobStatus.CANCELED: JobState.CANCELED,
}


def make_queue(redis: Redis, name: str) -> Queue:
    return Queue(name, connection=redis, serializer=JSONSerializer)


def enqueue(queue: Queue, records: Iterable[RunRecord], settings: Settings, *, again: bool = False) -> None:
    """Put the jobs of these runs into the queue, or behind the runs of their tasks, in one step. Raises redis's errors.

    `again` replaces whatever Redis has of a job, and takes a turn back that it has already.
    """
    with queue.connection.pipeline() as pipeline:
        for record in records:
            job = build_job(queue, record, settings)
            if again:
                pipeline.delete(job.key)
            if settings.runs_per_task:
                _rate_limited_enqueue(queue, job, record, settings.runs_per_task, pipeline)
            else:
                pipeline.sadd(Queue.redis_queues_keys, queue.key)  # `enqueue_job` takes no pipeline with anything in it
                job.save(pipeline=pipeline)
                queue.push_job_id(job.id, pipeline=pipeline)
            pipeline.publish(changes_channel(queue.name), f"{record.run_id} {record.task_id}")
        pipeline.execute()


def build_job(queue: Queue, record: RunRecord, settings: Settings) -> Job:
    """The run's job; nothing is sent to Redis."""
    limit = settings.runs_per_task
    rate_limit = RateLimit(turn_key(queue, record.turn_of), limit) if limit else None
    return queue.create_job(
        EXECUTE_RUN,
        kwargs={"task_id": record.task_id},
        job_id=record.run_id,
        timeout=settings.run_timeout + TIMEOUT_MARGIN,
        result_ttl=settings.run_ttl,
        failure_ttl=settings.run_ttl,
        description=f"run {record.run_id} of task {record.task_id}",
        meta=record_to_job_meta(record),
        status=JobStatus.RATE_LIMITED if rate_limit else JobStatus.QUEUED,
        rate_limit=rate_limit,
    )


def turn_key(queue: Queue, task_id: str) -> str:
    """The key of RQ's rate limit for the runs of this task."""
    return f"{queue.name}:{task_id}"


def _rate_limited_enqueue(queue: Queue, job: Job, record: RunRecord, limit: int, pipeline: Pipeline) -> None:
    """As `Queue.enqueue_job` for a job with a rate limit, but in one step, and with the exact time of its acceptance.

    RQ 3.0 orders those that wait by whole seconds, and by job ID within one.
    """
    registry = RateLimitRegistry.from_job(job)
    pipeline.sadd(Queue.redis_queues_keys, queue.key)
    registry.register(limit, pipeline)
    job.save(pipeline=pipeline)
    pipeline.zrem(registry.allowed_key, job.id)
    registry.add_to_rate_limited(job.id, pipeline, timestamp=record.queued_at.timestamp())
    registry.acquire_and_enqueue(limit, pipeline=pipeline)


def current_job() -> Job:
    """The job that this work-horse executes. Raises `RuntimeError` outside of one."""
    job = get_current_job()
    if job is None:
        raise RuntimeError("execute_run is called by RQ workers only")
    return job


def fetch_job(redis: Redis, run_id: str) -> Job | None:
    """The run's job; None if Redis has none that RQ can load, or only a late field of one that it lost.

    Raises redis's errors.
    """
    try:
        job = Job.fetch(run_id, redis, JSONSerializer)
        return None if job_state(job) is JobState.ABSENT else job
    except NoSuchJobError:
        return None
    except Exception as error:
        if not is_unusable(error):
            raise
        log_event("job_unusable", level=logging.WARNING, run=run_id, error=error)
        return None


def is_unusable(error: Exception) -> bool:
    """Whether this says that a key in Redis does not hold what RQ or we have put there: RQ raises whatever comes."""
    return "WRONGTYPE" in str(error) if isinstance(error, RedisError) else True


def job_state(job: Job) -> JobState:
    """Where the job stood when it was fetched."""
    return STATES[job.get_status(refresh=False)]


def task_of_job(job: Job) -> TaskId | None:
    """The task that the job is about; None for a job of another program, whatever it holds."""
    try:
        kwargs = job.kwargs
    except Exception:  # noqa: BLE001 (RQ raises whatever the content provokes)
        return None
    return parse_task_id(str(kwargs.get("task_id"))) if isinstance(kwargs, dict) else None


def record_of_job(job: Job, *, refresh: bool = False) -> RunRecord | None:
    """The copy of the run's record in the job; `refresh` asks Redis for it."""
    return record_from_job_meta(job.get_meta(refresh=True) if refresh else job.meta)


def save_to_job(job: Job, record: RunRecord) -> None:
    """Copy the record into the job, and publish that the run has changed. Raises redis's errors."""
    job.meta = record_to_job_meta(record)
    job.save_meta()
    publish_change(job.connection, job.origin, record.run_id)


def changes_channel(queue_name: str) -> str:
    """The Redis channel on which the IDs of runs of this queue are published that have just changed; behind that of a
    new one, and a blank, is its task."""
    return f"bugninja-runner:changed:{queue_name}"


def publish_change(redis: Redis, queue_name: str, run_id: str) -> None:
    """Publish that the run has changed: a hint, so a failure is only logged."""
    try:
        redis.publish(changes_channel(queue_name), run_id)
    except RedisError as error:
        log_event("publish_failed", run=run_id, error=error)


def restore_if_lost(job: Job) -> bool:
    """Save a running job, and its turn, again if Redis has lost them; whether it had. Raises redis's errors."""
    redis, limit = job.connection, job.rate_limit_concurrency
    registry = RateLimitRegistry.from_job(job) if job.rate_limit_key and limit else None
    has_turn = registry is None or redis.zscore(registry.allowed_key, job.id) is not None
    if has_turn and redis.hexists(job.key, "status"):
        return False
    job.save()
    if registry is not None and limit:
        hold_turn(redis, registry.key, job.id, limit)
    return True


def hold_turn(redis: Redis, key: str, run_id: str, limit: int) -> None:
    """Note (again) that this run has a turn of its task, whose rate limit has this key. Raises redis's errors."""
    registry = RateLimitRegistry(key, redis)
    with redis.pipeline() as pipeline:
        registry.register(limit, pipeline)
        pipeline.zadd(registry.allowed_key, {run_id: time.time()})
        pipeline.execute()


def cancel_job(redis: Redis, record: RunRecord, ttl: int) -> None:
    """Take the job of a run that has not started out of the queue, and keep it for `ttl` seconds.

    If that fails, a worker finds that the run is over and leaves it.
    """
    try:
        job = fetch_job(redis, record.run_id)
        if job is not None:
            save_to_job(job, record)
            job.cancel()
            redis.expire(job.key, ttl)
    except (RedisError, InvalidJobOperation) as error:
        log_event("cancel_failed", run=record.run_id, error=error)


def delete_job(redis: Redis, run_id: RunId, task_id: TaskId) -> None:
    """Delete the job of this task's run from Redis. Raises redis's errors."""
    job = fetch_job(redis, run_id)
    if job is None:
        redis.delete(Job.key_for(run_id))
    elif task_of_job(job) == task_id:  # and not that of another one that this task is a copy of
        job.delete()


class JobView(NamedTuple):
    """What Redis says about a run."""

    state: JobState
    record: RunRecord | None = None
    place: QueuePlace | None = None
    fields: Mapping[Any, Any] | None = None
    """The hash that this was made of, to see whether it has changed."""


NO_JOB = JobView(JobState.ABSENT)
NO_CONNECTION = Redis()  # RQ's classes want one to exist; it is never used


async def view_job(redis: AsyncRedis, run_id: RunId, before: JobView | None = None) -> JobView:
    """What Redis says now: `before` itself, if that is the same. UNKNOWN if Redis does not answer."""
    try:
        fields = await redis.hgetall(Job.key_for(run_id))
        if not fields:
            return NO_JOB
        if before is not None and before.state is not JobState.WAITING and before.fields == fields:
            return before
        job = Job(run_id, connection=NO_CONNECTION, serializer=JSONSerializer)
        job.restore(fields)
        place = await _place(redis, job) if job_state(job) is JobState.WAITING else None
    except Exception as error:  # noqa: BLE001 (as above)
        return NO_JOB if is_unusable(error) else JobView(JobState.UNKNOWN)
    return JobView(job_state(job), record_of_job(job), place, fields)


async def _place(redis: AsyncRedis, job: Job) -> QueuePlace | None:
    """Where the job waits; None if it has just left its place."""
    if job.get_status(refresh=False) is not JobStatus.RATE_LIMITED:
        place = await redis.lpos(f"{Queue.redis_queue_namespace_prefix}{job.origin}", job.id)
        return QueuePlace(place + 1, waiting_for=None) if isinstance(place, int) else None
    registry = RateLimitRegistry(job.rate_limit_key or "", connection=NO_CONNECTION)
    rank = await redis.zrank(registry.rate_limited_key, job.id)
    ahead = [as_text(run) for run in await redis.zrange(registry.allowed_key, 0, 0) if isinstance(run, bytes)]
    return QueuePlace(rank + 1, waiting_for=ahead[0] if ahead else None) if isinstance(rank, int) else None


async def registered_workers(redis: AsyncRedis, queue_name: str) -> list[str]:
    """The names of the workers of the queue that RQ knows, also of dead ones. Raises redis's errors."""
    keys = await redis.smembers(WORKERS_BY_QUEUE_KEY % queue_name)
    return [as_text(key).rpartition(":")[2] for key in keys]
