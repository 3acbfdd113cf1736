"""The sign of life that a worker gives: a key that Redis forgets by its own clock when it is not renewed."""

import logging

from redis import Redis
from redis.exceptions import RedisError

from runner.log import log_event

BEAT_SECONDS = 3
BEAT_LIFE = 3 * BEAT_SECONDS  # three missed beats: a slow machine is not a dead one


def beat_key(worker_name: str) -> str:
    """The Redis key that exists as long as the worker lives."""
    return f"bugninja-runner:beat:{worker_name}"


def beat(connection: Redis, worker_name: str, run_id: str | None) -> None:
    """Say that the worker lives, and which run it carries out. A beat that Redis does not take is only logged."""
    try:
        connection.set(beat_key(worker_name), run_id or "", ex=BEAT_LIFE)
    except RedisError as error:
        log_event("beat_missed", level=logging.WARNING, worker=worker_name, because=error)


def carries_out(connection: Redis, worker_name: str | None, run_id: str) -> bool:
    """Whether the worker said lately that it carries out this run. Raises redis's errors."""
    said = connection.get(beat_key(worker_name)) if worker_name is not None else None
    return said is not None and said in (run_id, run_id.encode())
