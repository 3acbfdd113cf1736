"""Whether runs would be executed now."""

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError

from jobs.queue.heartbeat import heartbeat_key
from jobs.queue.job import registered_workers


class Health(Struct, frozen=True):
    """The process lives."""

    status: str


class Ready(Struct, frozen=True, omit_defaults=True):
    """Whether runs would be executed now."""

    status: str
    redis: bool
    workers: int
    """Workers of the queue that are alive."""
    detail: str | None = None
    """What is missing."""


async def check_readiness(redis: Redis, queue_name: str) -> Ready:
    """Whether Redis answers, and how many workers of the queue have sent a heartbeat lately."""
    try:
        names = await registered_workers(redis, queue_name)
        alive = await redis.exists(*map(heartbeat_key, names)) if names else 0
    except RedisError:
        return Ready("not ready", False, 0, "Redis does not answer.")
    if not alive:
        return Ready("not ready", True, 0, "No worker is alive: start one with `honcho start worker`.")
    return Ready("ready", True, alive)
