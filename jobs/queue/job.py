"""The RQ job of a run: built, enqueued, found, put back, ended. Only this module and the worker class know RQ's layout.

The job's ID is the run's ID, and its `meta` a copy of the run's record.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.client import Pipeline
from redis.exceptions import RedisError
from rq import get_current_job
from rq.exceptions import DeserializationError, InvalidJobOperation, NoSuchJobError
from rq.job import Job as Job
from rq.job import JobStatus
from rq.queue import Queue as Queue
from rq.rate_limit import RateLimit, RateLimitRegistry
from rq.serializers import JSONSerializer
from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from jobs.run.document import QueuePlace
from jobs.run.record import RunRecord, record_from_job_meta, record_to_job_meta
from jobs.run.state import JobState
from runner.ids import RunId, TaskId, parse_run_id, parse_task_id
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


def enqueue(queue: Queue, record: RunRecord, settings: Settings) -> None:
    """Put the run's job into the queue, or behind the runs of its task. Raises redis's errors.

    No two jobs can have one ID: the ID is fresh, and the run's folder could only be made once.
    """
    job = build_job(queue, record, settings)
    with queue.connection.pipeline() as pipeline:
        if settings.runs_per_task:
            _rate_limited_enqueue(queue, job, settings.runs_per_task, pipeline)
        else:
            queue.enqueue_job(job, pipeline=pipeline)
        pipeline.publish(changes_channel(queue.name), record.run_id)
        pipeline.execute()


def build_job(queue: Queue, record: RunRecord, settings: Settings) -> Job:
    """The run's job; nothing is sent to Redis."""
    limit = settings.runs_per_task
    rate_limit = RateLimit(f"{queue.name}:{record.task_id}", limit) if limit else None
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


def _rate_limited_enqueue(queue: Queue, job: Job, limit: int, pipeline: Pipeline) -> None:
    """As `Queue.enqueue_job` for a job with a rate limit, but in one step, and with the exact time.

    RQ 3.0 orders those that wait by whole seconds, and by job ID within one.
    """
    registry = RateLimitRegistry.from_job(job)
    pipeline.sadd(Queue.redis_queues_keys, queue.key)
    registry.register(limit, pipeline)
    job.save(pipeline=pipeline)
    registry.add_to_rate_limited(job.id, pipeline, timestamp=time.time())
    registry.acquire_and_enqueue(limit, pipeline=pipeline)


def current_job() -> Job:
    """The job that this work-horse executes. Raises `RuntimeError` outside of one."""
    job = get_current_job()
    if job is None:
        raise RuntimeError("execute_run is called by RQ workers only")
    return job


def fetch_job(redis: Redis, run_id: RunId) -> Job | None:
    """The run's job; None if Redis has none, or only a late field of one that it lost. Raises redis's errors."""
    try:
        job = Job.fetch(run_id, redis, JSONSerializer)
    except NoSuchJobError:
        return None
    return None if job_state(job) is JobState.ABSENT else job


def job_state(job: Job) -> JobState:
    """Where the job stood when it was fetched."""
    return STATES[job.get_status(refresh=False)]


def is_queued_or_started(job: Job) -> bool:
    """Whether the job is in the queue, or a worker has it, as Redis says now."""
    return job.get_status() in (JobStatus.QUEUED, JobStatus.STARTED)


def task_of_job(job: Job) -> TaskId | None:
    """The task that the job is about; None for a job of another program, whatever it holds."""
    try:
        kwargs = job.kwargs
    except DeserializationError:
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
    """The Redis channel on which the IDs of runs of this queue are published that have just changed."""
    return f"bugninja-runner:changed:{queue_name}"


def publish_change(redis: Redis, queue_name: str, run_id: str) -> None:
    """Publish that the run has changed: a hint, so a failure is only logged."""
    try:
        redis.publish(changes_channel(queue_name), run_id)
    except RedisError as error:
        log_event("publish_failed", run=run_id, error=error)


def restore_if_lost(job: Job) -> bool:
    """Save a running job again, with its place in the rate limit, if Redis was emptied; whether it was."""
    if job.connection.hexists(job.key, "status"):
        return False
    job.save()
    if job.rate_limit_key and job.rate_limit_concurrency:
        registry = RateLimitRegistry.from_job(job)
        with job.connection.pipeline() as pipeline:
            registry.register(job.rate_limit_concurrency, pipeline)
            pipeline.zadd(registry.allowed_key, {job.id: time.time()})
            pipeline.execute()
    return True


def cancel_job(redis: Redis, record: RunRecord, ttl: int) -> None:
    """Take the job of a run that has not started out of the queue, and keep it for `ttl` seconds.

    If that fails, a worker finds that the run is over and leaves it.
    """
    try:
        job = Job.fetch(record.run_id, redis, JSONSerializer)
        save_to_job(job, record)
        job.cancel()
        redis.expire(job.key, ttl)
    except (RedisError, NoSuchJobError, InvalidJobOperation) as error:
        log_event("cancel_failed", run=record.run_id, error=error)


def delete_job(redis: Redis, run_id: RunId) -> None:
    """Delete the job from Redis. Raises redis's errors."""
    try:
        Job.fetch(run_id, redis, JSONSerializer).delete()
    except NoSuchJobError:
        redis.delete(Job.key_for(run_id))


def started_jobs(queue: Queue) -> Iterator[tuple[RunId, Job]]:
    """The jobs of the queue that RQ counts as started. Raises redis's errors."""
    for job_id in queue.started_job_registry.get_job_ids(cleanup=False):
        run_id = parse_run_id(job_id)
        job = fetch_job(queue.connection, run_id) if run_id is not None else None
        if run_id is not None and job is not None and job_state(job) is JobState.STARTED:
            yield run_id, job


def stray_ids(queue: Queue) -> set[str]:
    """The jobs that a worker has popped and not begun: they stay there if it died. Raises redis's errors."""
    ids = queue.connection.lrange(queue.intermediate_queue_key, 0, -1)
    return {as_text(job_id) for job_id in ids if isinstance(job_id, bytes)}


def return_stray(queue: Queue, job_id: str) -> None:
    """Put such a job back to the front of its queue, unless a worker has prepared to execute it after all."""
    job = queue.fetch_job(job_id)
    if job is not None and job.get_executions():
        return
    if job is not None and job.get_status(refresh=False) is JobStatus.QUEUED:
        return_popped(queue, job_id)
        log_event("job_returned", run=job_id)
    else:
        queue.connection.lrem(queue.intermediate_queue_key, 1, job_id)


def return_popped(queue: Queue, job_id: str) -> None:
    """Put a job that was popped back to the front of its queue. Raises redis's errors."""
    with queue.connection.pipeline() as pipeline:
        queue.push_job_id(job_id, pipeline=pipeline, at_front=True)
        pipeline.lrem(queue.intermediate_queue_key, 1, job_id)
        pipeline.execute()


def clean_rate_limits(redis: Redis) -> None:
    """Enqueue the next run of each task whose previous run is gone. Raises redis's errors."""
    for registry in RateLimitRegistry.all(redis):
        registry.cleanup()


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
    except RedisError:
        return JobView(JobState.UNKNOWN)
    except NoSuchJobError:
        return NO_JOB
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
