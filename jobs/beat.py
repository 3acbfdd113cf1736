"""The sign of life that a worker gives: a key that Redis forgets by its own clock when it is not renewed."""

import logging

from redis import Redis
from redis.exceptions import RedisError

from runner.log import log_event

BEAT_SECONDS = 5
BEAT_LIFE = 3 * BEAT_SECONDS  # three missed beats: a slow machine is not a dead one


def beat_key(worker_name: str) -> str:
    """The Redis key that exists as long as the worker lives."""
    return f"bugninja-runner:beat:{worker_name}"


def beat(connection: Redis, worker_name: str) -> None:
    """Say that the worker lives. A beat that Redis does not take is logged; the next one follows."""
    try:
        connection.set(beat_key(worker_name), "alive", ex=BEAT_LIFE)
    except RedisError as error:
        log_event("beat_missed", level=logging.WARNING, worker=worker_name, because=error)


def worker_lives(connection: Redis, worker_name: str | None) -> bool:
    """Whether the worker gave a sign of life lately. Raises redis's errors."""
    return worker_name is not None and bool(connection.exists(beat_key(worker_name)))
