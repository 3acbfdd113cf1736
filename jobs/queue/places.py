"""Where the jobs of a queue are in Redis, and how they are moved on: all of them at once, for those who look after
them."""

import asyncio
import time
from collections.abc import Iterable, Mapping, Set
from itertools import chain, islice
from typing import NamedTuple

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError
from rq.executions import Execution, ExecutionRegistry
from rq.job import JobStatus
from rq.rate_limit import RateLimitRegistry
from rq.utils import now
from rq.worker.base import WorkerStatus
from rq.worker_registration import clean_worker_registry

from jobs.queue.heartbeat import heartbeat_key
from jobs.queue.job import (
    NO_CONNECTION,
    BaseWorker,
    Job,
    Queue,
    fetch_job,
    make_queue,
    registered_workers,
)

COUNT_SECONDS = 0.5  # for Redis to answer who only wants numbers


class QueueView(NamedTuple):
    """Which jobs are where in the queue, at one moment."""

    waiting: Set[str]
    """In the queue, or behind other runs of their task."""
    popped: Set[str]
    """Taken by a worker that has not begun them."""
    started: Set[str]
    """What RQ counts as started."""
    turns: Mapping[str, str]
    """Jobs that have the turn of their task, and the keys of the rate limits of their tasks."""
    limits: Mapping[str, bool]
    """The keys of all rate limits, and whether jobs wait for a turn there."""


def view_queue(queue: Queue) -> QueueView:
    """Look at the whole queue in two round trips. Raises redis's errors."""
    redis = queue.connection
    keys = _limits_of(queue, redis.smembers(RateLimitRegistry.rl_keys_key))
    registries = [RateLimitRegistry(key, redis) for key in keys]
    with redis.pipeline() as pipeline:
        pipeline.lrange(queue.key, 0, -1)
        pipeline.lrange(queue.intermediate_queue_key, 0, -1)
        pipeline.zrange(queue.started_job_registry.key, 0, -1)
        for registry in registries:
            pipeline.zrange(registry.allowed_key, 0, -1)
            pipeline.zrange(registry.rate_limited_key, 0, -1)
        queued, popped, started, *limited = ([*map(_text, ids)] for ids in pipeline.execute())
    held_back = limited[1::2]
    return QueueView(
        waiting={*queued, *chain.from_iterable(held_back)},
        popped={*popped},
        started={*map(_job_of, started)},
        turns={job_id: key for key, ids in zip(keys, limited[::2], strict=True) for job_id in ids},
        limits={key: bool(ids) for key, ids in zip(keys, held_back, strict=True)},
    )


def _limits_of(queue: Queue, keys: Iterable[object]) -> list[str]:
    return sorted(key for key in map(_text, keys) if key.startswith(f"{queue.name}:") and key.isprintable())


class QueueNumbers(NamedTuple):
    """A queue in numbers."""

    name: str
    alive: int
    """Workers that have sent a heartbeat lately."""
    workers: Mapping[str, int]
    """Workers that RQ knows, also those that have just died, by their state."""
    jobs: Mapping[str, int]
    """Jobs by their status."""


async def count_queue(redis: AsyncRedis, name: str) -> QueueNumbers | None:
    """The queue of this name in numbers; None if Redis does not answer within COUNT_SECONDS."""
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            return await _count(redis, make_queue(NO_CONNECTION, name))
    except (RedisError, TimeoutError):
        return None


async def _count(redis: AsyncRedis, queue: Queue) -> QueueNumbers:
    names = await registered_workers(redis, queue.name)
    limits = _limits_of(queue, await redis.smembers(RateLimitRegistry.rl_keys_key))
    registries = {
        JobStatus.STARTED: queue.started_job_registry,
        JobStatus.FINISHED: queue.finished_job_registry,
        JobStatus.FAILED: queue.failed_job_registry,
        JobStatus.DEFERRED: queue.deferred_job_registry,
        JobStatus.SCHEDULED: queue.scheduled_job_registry,
        JobStatus.CANCELED: queue.canceled_job_registry,
    }
    async with redis.pipeline(transaction=False) as pipeline:
        pipeline.llen(queue.key)
        for registry in registries.values():
            pipeline.zcard(registry.key)
        for key in limits:
            pipeline.zcard(RateLimitRegistry(key, NO_CONNECTION).rate_limited_key)
        for worker in names:
            pipeline.exists(heartbeat_key(worker))
        for worker in names:
            pipeline.hget(f"{BaseWorker.redis_worker_namespace_prefix}{worker}", "state")
        answers = iter(await pipeline.execute())
    jobs = {status.value: next(answers) for status in (JobStatus.QUEUED, *registries)}
    jobs[JobStatus.RATE_LIMITED.value] = sum(islice(answers, len(limits)))
    alive, states = sum(islice(answers, len(names))), [*answers]
    workers = {status.value: states.count(status.value.encode()) for status in WorkerStatus}
    return QueueNumbers(queue.name, alive, workers, jobs)


def _text(value: object) -> str:
    """A key or an ID from Redis; bytes that are no text cannot be ours, but must not stop us."""
    return value.decode(errors="surrogateescape") if isinstance(value, bytes) else str(value)


def _bytes(text: str) -> bytes:
    """What `_text` was made of."""
    return text.encode(errors="surrogateescape")


def _job_of(execution: object) -> str:
    """The ID in an entry of what RQ counts as started."""
    return _text(execution).partition(":")[0]


def return_popped(queue: Queue, job_id: str, *, at_front: bool = True) -> None:
    """Put a job that was popped back into its queue. Raises redis's errors."""
    with queue.connection.pipeline() as pipeline:
        queue.push_job_id(job_id, pipeline=pipeline, at_front=at_front)
        pipeline.lrem(queue.intermediate_queue_key, 1, job_id)
        pipeline.execute()


def drop_popped(queue: Queue, job_id: str) -> None:
    """Forget that a job was popped; nothing else about it changes. Raises redis's errors."""
    queue.connection.lrem(queue.intermediate_queue_key, 1, _bytes(job_id))  # type: ignore[arg-type]


def end_job(worker: BaseWorker, job_id: str, message: str, turn: str | None) -> None:
    """End a job that no worker executes, wherever it stands: RQ's failed registry, and a free turn for the next run
    of its task. `turn` is the key of the rate limit where it has one, in case the job itself is gone. Raises redis's
    errors."""
    queue = worker.queues[0]
    job = fetch_job(queue.connection, job_id)
    if job is not None:
        job.ended_at = now()
        with queue.connection.pipeline() as pipeline:
            for execution in _executions(job):
                execution.delete(job=job, pipeline=pipeline)
            pipeline.execute()
        worker.handle_job_failure(job, queue, exc_string=message)
    if turn is not None:
        RateLimitRegistry(turn, queue.connection).release_and_enqueue(_bytes(job_id))  # type: ignore[arg-type]
    key = queue.started_job_registry.key
    for entry in map(_text, queue.connection.zrange(key, 0, -1)):
        if _job_of(entry) == job_id:  # RQ no longer has the job, or the execution
            queue.connection.zrem(key, _bytes(entry))
    drop_popped(queue, job_id)


def _executions(job: Job) -> list[Execution]:
    """RQ's own notes of who executes the job. `Job.get_executions` raises `ValueError` as soon as one has expired."""
    ids = ExecutionRegistry(job.id, job.connection).get_execution_ids()
    return [Execution(execution_id, job.id, job.connection, job.worker_name or "") for execution_id in ids]


def give_turns(queue: Queue, keys: Iterable[str], limit: int) -> None:
    """Enqueue the next runs where a turn is free, at most `limit` of a task at a time. Raises redis's errors."""
    registries = [RateLimitRegistry(key, queue.connection) for key in keys]
    with queue.connection.pipeline() as pipeline:
        for registry in registries:
            registry.register(limit, pipeline)
            registry.acquire_and_enqueue(limit, pipeline=pipeline)
        pipeline.execute()


def forget_expired(queue: Queue, limits: Iterable[str], ttl: int) -> None:
    """Let RQ forget ended jobs that Redis no longer has, dead workers, and empty rate limits. Raises redis's errors."""
    queue.finished_job_registry.cleanup()
    queue.failed_job_registry.cleanup()
    queue.connection.zremrangebyscore(queue.canceled_job_registry.key, 0, time.time() - ttl)  # which RQ never does
    clean_worker_registry(queue)
    for key in limits:
        RateLimitRegistry(key, queue.connection).cleanup()
