"""The `Idempotency-Key`s of clients in Redis: a repeated request starts no second run.

The header itself is checked in `jobs/api/parameters.py`.
"""

import hashlib

import msgspec
from msgspec import Struct
from redis import Redis

from runner.ids import RunId, TaskId

DELETE_IF_EQUAL = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"


class Reservation(Struct, frozen=True):
    """The use of a key: for a request, which was answered with this run."""

    request: str
    run_id: RunId
    task_id: TaskId


class IdempotencyKeys:
    """The keys that clients have used; they expire after `ttl` seconds. All methods raise redis's errors."""

    def __init__(self, redis: Redis, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    def find(self, key: str) -> Reservation | None:
        """The use of the key; None if it is new."""
        content = self._redis.get(_name(key))
        return msgspec.json.decode(content, type=Reservation) if isinstance(content, bytes) else None

    def reserve(self, key: str, reservation: Reservation) -> bool:
        """Use the key for this request; False if it was used already."""
        return bool(self._redis.set(_name(key), msgspec.json.encode(reservation), nx=True, ex=self._ttl))

    def age(self, key: str) -> float:
        """How many seconds ago the key was used, by Redis's own clock."""
        return self._ttl - self._redis.pttl(_name(key)) / 1000

    def release(self, key: str, reservation: Reservation) -> None:
        """Forget the key if it is (still) used for this request."""
        self._redis.eval(DELETE_IF_EQUAL, 1, _name(key), msgspec.json.encode(reservation))


def _name(key: str) -> str:
    return f"bugninja-runner:idempotency:{hashlib.sha256(key.encode()).hexdigest()}"
