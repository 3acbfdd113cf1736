"""The `Idempotency-Key`s of clients in Redis: a repeated request starts no second run.

A key stands for one run ID, from before that run is accepted. Whoever sends the request again accepts the run under
this same ID, and its folder can be made only once. The header itself is checked in `jobs/api/parameters.py`.
"""

import hashlib
from collections.abc import Mapping
from datetime import datetime

import msgspec
from msgspec import Struct
from redis import Redis

from runner.ids import RunId, TaskId

PROBE = "bugninja-runner:probe"


class Reservation(Struct, frozen=True):
    """The use of a key: for a request, which is answered with this run, or with this batch of no task."""

    request: str
    run_id: RunId
    task_id: TaskId
    queued_at: datetime | None = None
    """When the batch was accepted, which is in the name of its file."""


def request_text(call: str, labels: Mapping[str, str] | None) -> str:
    """The call with its labels as a `Reservation` holds it. Their values may be secret, so they are not in it."""
    if labels is None:
        return call
    return f"{call} {hashlib.sha256(msgspec.json.encode(labels, order='sorted')).hexdigest()}"


class IdempotencyKeys:
    """The keys that clients have used; they expire after `ttl` seconds. All methods raise redis's errors."""

    def __init__(self, redis: Redis, queue_name: str, ttl: int) -> None:
        self._redis, self._queue_name, self._ttl = redis, queue_name, ttl

    def find(self, key: str) -> Reservation | None:
        """The use of the key; None if it is new, or no longer readable."""
        content = self._redis.get(self._name(key))
        try:
            return msgspec.json.decode(content, type=Reservation) if isinstance(content, bytes) else None
        except msgspec.DecodeError:
            return None

    def reserve(self, key: str | None, reservation: Reservation) -> Reservation:
        """Use the key for this request; returns what it is used for, which may be an earlier one.

        Without a key nothing is used, but Redis is written to all the same: who gets no error can enqueue, too.
        """
        if key is None:
            self._redis.set(PROBE, "", ex=1)
            return reservation
        content = msgspec.json.encode(reservation)
        if self._redis.set(self._name(key), content, nx=True, ex=self._ttl):
            return reservation
        return self.find(key) or reservation

    def _name(self, key: str) -> str:
        digest = hashlib.sha256(key.encode()).hexdigest()
        return f"bugninja-runner:idempotency:{self._queue_name}:{digest}"
