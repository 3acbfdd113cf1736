"""The heartbeat of a worker: a key that expires by the clock of Redis unless the worker renews it."""

import logging

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from jobs.queue.job import registered_workers
from runner.log import log_event

HEARTBEAT_SECONDS = 3
HEARTBEAT_TTL = 3 * HEARTBEAT_SECONDS  # three missed beats: a slow machine is not a dead one


def heartbeat_key(worker_name: str) -> str:
    """The Redis key that exists as long as the worker lives."""
    return f"bugninja-runner:heartbeat:{worker_name}"


def send_heartbeat(connection: Redis, worker_name: str, run_id: str | None) -> None:
    """Say that the worker lives, and which run it executes. A heartbeat that Redis does not take is only logged."""
    try:
        connection.set(heartbeat_key(worker_name), run_id or "", ex=HEARTBEAT_TTL)
    except RedisError as error:
        log_event("heartbeat_failed", level=logging.WARNING, worker=worker_name, error=error)


def is_executing(connection: Redis, worker_name: str | None, run_id: str) -> bool:
    """Whether the last heartbeat of the worker names this run. Raises redis's errors."""
    said = connection.get(heartbeat_key(worker_name)) if worker_name is not None else None
    return said is not None and said in (run_id, run_id.encode())


async def count_living_workers(redis: AsyncRedis, queue_name: str) -> int | None:
    """How many workers of the queue have sent a heartbeat lately; None if Redis does not answer."""
    try:
        names = await registered_workers(redis, queue_name)
        return await redis.exists(*map(heartbeat_key, names)) if names else 0
    except RedisError:
        return None
