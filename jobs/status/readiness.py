"""Whether runs would be executed now."""

from msgspec import Struct
from redis.asyncio import Redis
from redis.exceptions import RedisError
from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from jobs.queue.heartbeat import heartbeat_key


class Health(Struct, frozen=True):
    """The process lives."""

    status: str


class Ready(Struct, frozen=True, omit_defaults=True):
    """Whether runs would be carried out now. `workers` counts the living ones of our queue, `detail` says what is
    missing."""

    status: str
    redis: bool
    workers: int
    detail: str | None = None


async def check_readiness(redis: Redis, queue_name: str) -> Ready:
    """Whether Redis answers, and how many workers of the queue have sent a heartbeat lately."""
    try:
        keys = await redis.smembers(WORKERS_BY_QUEUE_KEY % queue_name)
        names = [as_text(key).rpartition(":")[2] for key in keys]
        alive = await redis.exists(*map(heartbeat_key, names)) if names else 0
    except RedisError:
        return Ready("not ready", False, 0, "Redis does not answer.")
    if not alive:
        return Ready("not ready", True, 0, "No worker is alive: start one with `honcho start worker`.")
    return Ready("ready", True, alive)
