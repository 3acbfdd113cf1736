"""What a client's key stands for in Redis."""

import hashlib
from typing import Any

import fakeredis
import pytest

from jobs.queue.idempotency import IdempotencyKeys, Reservation
from runner.ids import RunId, TaskId

FIRST = Reservation("start buy", RunId("a" * 24), TaskId("buy"))
SECOND = Reservation("start sell", RunId("b" * 24), TaskId("sell"))
NAME = f"bugninja-runner:idempotency:q:{hashlib.sha256(b'one').hexdigest()}"


@pytest.fixture
def redis() -> Any:
    return fakeredis.FakeRedis()


@pytest.fixture
def keys(redis: Any) -> IdempotencyKeys:
    return IdempotencyKeys(redis, "q", 100)


def test_a_key_stands_for_its_first_use(keys: IdempotencyKeys, redis: Any) -> None:
    assert keys.find("one") is None
    assert keys.reserve("one", FIRST) == FIRST
    assert keys.reserve("one", SECOND) == keys.find("one") == FIRST
    assert redis.keys("*") == [NAME.encode()]
    assert 90 < redis.ttl(NAME) <= 100


def test_each_key_and_each_queue_has_its_own_use(keys: IdempotencyKeys, redis: Any) -> None:
    other = IdempotencyKeys(redis, "other", 100)
    assert keys.reserve("one", FIRST) == FIRST
    assert keys.reserve("two", SECOND) == other.reserve("one", SECOND) == SECOND
    assert (keys.find("one"), keys.find("two"), other.find("one"), other.find("two")) == (FIRST, SECOND, SECOND, None)


@pytest.mark.parametrize("content", [b"{", b'{"request": 3}', b"\xff", b""])
def test_a_key_whose_use_cannot_be_read_is_as_good_as_new(keys: IdempotencyKeys, redis: Any, content: bytes) -> None:
    redis.set(NAME, content)
    assert keys.find("one") is None
    assert keys.reserve("one", SECOND) == SECOND


def test_without_a_key_redis_is_written_to_and_soon_forgets_it(keys: IdempotencyKeys, redis: Any) -> None:
    assert keys.reserve(None, FIRST) == FIRST
    assert [(key, redis.get(key)) for key in redis.keys("*")] == [(b"bugninja-runner:probe", b"")]
    assert 0 < redis.pttl("bugninja-runner:probe") <= 1000
