"""Remember in Redis which run a client's `Idempotency-Key` has started, so that a repeated request starts no second."""

import hashlib

import msgspec
from msgspec import Struct
from redis import Redis

from runner.errors import Invalid
from runner.ids import RunId, TaskId, shown

LONGEST = 255  # characters of a key
FORGET = "if redis.call('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end"


class Claim(Struct, frozen=True):
    """What a key stands for: a request, and the run that it was answered with."""

    request: str
    run_id: RunId
    task_id: TaskId


class Claims:
    """The keys that clients have used. Kept for `ttl` seconds. All methods raise redis's errors."""

    def __init__(self, redis: Redis, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    def find(self, key: str) -> Claim | None:
        """What the key stands for, or None if nobody has used it."""
        content = self._redis.get(_name(key))
        return msgspec.json.decode(content, type=Claim) if isinstance(content, bytes) else None

    def take(self, key: str, claim: Claim) -> bool:
        """Let the key stand for this claim; False if it stands for one already."""
        return bool(self._redis.set(_name(key), msgspec.json.encode(claim), nx=True, ex=self._ttl))

    def age(self, key: str) -> float:
        """How many seconds ago the key was used, by Redis's own clock."""
        return self._ttl - self._redis.pttl(_name(key)) / 1000

    def give_back(self, key: str, claim: Claim) -> None:
        """Forget the key if it (still) stands for this claim."""
        self._redis.eval(FORGET, 1, _name(key), msgspec.json.encode(claim))


def check_key(key: str | None) -> str | None:
    """The header's value, if it can be a key. Raises `Invalid`."""
    if key is not None and not (0 < len(key) <= LONGEST and key.isascii() and key.isprintable()):
        raise Invalid(f"Idempotency-Key is '{shown(key)}'; expected are 1 to {LONGEST} printable ASCII characters.")
    return key


def _name(key: str) -> str:
    return f"bugninja-runner:idempotency:{hashlib.sha256(key.encode()).hexdigest()}"
