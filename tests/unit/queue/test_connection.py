"""Connections to Redis."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis
from redis._parsers.base import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from jobs.queue.connection import (
    ANSWER_SECONDS,
    CHECKS,
    Leaving,
    PatientRedis,
    PatientRetry,
    impatient,
    printable_url,
    refuses,
    stop_waiting,
)
from runner.errors import SettingsError
from runner.settings import read_settings


@pytest.mark.parametrize(
    ("url", "printable"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://user:hunter2@host/1", "rediss://host:6379/1"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("unix://:hunter2@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis://[::1]/0?password=hunter2", "redis://[::1]:6379/0"),
        ("redis://:pa#hunter2@h/0", "REDIS_URL"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, printable: str) -> None:
    assert printable_url(url) == printable


POSITIONS = (
    "redis://:{}@h/0",
    "redis://user:{}@h/0",
    "redis://{}@h/0",
    "rediss://{}:x@h",
    "redis://h/0?password={}",
    "redis://h?db=1&password={}",
    "unix://:{}@/run/redis.sock",
    "unix:///run/redis.sock?password={}",
    "redis://{}:6379/0?db=x",
    "http://:{}@h",
    "{}",
)


@given(st.sampled_from(POSITIONS), st.text("#?/@:&=%[]ab1"), st.text("#?/@:&=%[]ab1"))
@example("redis://:{}@h/0", "pa#", "")
@example("redis://{}@h/0", "", "/")
@example("redis://user:{}@h/0", "1?", "=")
@example("unix://:{}@/run/redis.sock", "pa/", "")
@example("redis://{}@h/0", "", "?a=")
def test_no_password_is_shown_wherever_it_is_in_the_url(position: str, before: str, after: str) -> None:
    url = position.format(f"{before}hunter2{after}")
    try:
        read_settings({"REDIS_URL": url}, CHECKS)
        said = printable_url(url)
    except SettingsError as error:
        said = str(error)
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "url",
    [
        "redis://h/0?foo=bar",
        "redis://h/0?socket_timeout=abc",
        "redis://h/0?db=-1",
        "redis://h/0?db=x",
        "redis://h/0?protocol=9",
        "redis://h/0?timeout=1",
        "redis://h/0?retry=3",
        "redis://h/0?decode_responses=1",
        "redis://h/0?ssl_cert_reqs=none",
        "rediss://h/0?ssl_cert_reqs=klingon",
        "unix:///run/redis.sock?ssl_cert_reqs=none",
    ],
)
def test_an_option_that_would_be_found_wrong_later_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL must be a URL with no options but those of redis-py"):
        read_settings({"REDIS_URL": url}, CHECKS)
    with pytest.raises(SystemExit, match="REDIS_URL must be a URL with no options but those of redis-py"):
        PatientRedis.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h/0?socket_timeout=5&client_name=x&db=3",
        "redis://h?username=u&password=p",
        "rediss://h/0?ssl_cert_reqs=none",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_an_option_that_works_is_taken(url: str) -> None:
    read_settings({"REDIS_URL": url}, CHECKS)


def test_a_worker_whose_redis_has_no_such_database_leaves_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def ping(connection: Redis) -> None:
        raise error

    monkeypatch.setattr(Redis, "ping", ping)
    error: Exception = ResponseError("DB index is out of range")
    with pytest.raises(SystemExit, match=r"^Redis at redis://h:6379/99 cannot be used: DB index is out of range\.$"):
        PatientRedis.from_url("redis://:hunter2@h/99")
    monkeypatch.setattr(Redis, "set_retry", lambda connection, retry: (_ for _ in ()).throw(TimeoutError))
    error = ResponseError("TRYAGAIN in a moment")
    with pytest.raises(TimeoutError):
        PatientRedis.from_url("redis://h/99")


def test_a_worker_without_a_usable_url_leaves_with_a_sentence() -> None:
    with pytest.raises(SystemExit, match=r"^REDIS_URL must be a URL that ends with the number of a database"):
        PatientRedis.from_url("redis://h/hunter")


@pytest.mark.parametrize(
    "answer",
    [
        "OOM command not allowed when used memory > 'maxmemory'.",
        "READONLY You can't write against a read only replica.",
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
        "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        "NOREPLICAS Not enough good replicas to write.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
    ],
)
def test_a_worker_waits_for_a_redis_that_is_failing_over(answer: str) -> None:
    error = BaseParser.parse_error(answer)  # type: ignore[no-untyped-call]
    left = [1, 2]

    def command() -> str:
        if left:
            left.pop()
            raise error
        return "done"

    assert refuses(error)
    assert PatientRetry().call_with_retry(command, lambda _: None) == "done"


@pytest.mark.parametrize("answer", ["WRONGTYPE Operation against a key", "ERR unknown command", "NOPERM this user"])
def test_a_worker_does_not_wait_for_what_never_comes(answer: str) -> None:
    error = BaseParser.parse_error(answer)  # type: ignore[no-untyped-call]
    assert not refuses(error)

    def command() -> str:
        raise error

    with pytest.raises(type(error)):
        PatientRetry().call_with_retry(command, lambda _: None)


def test_a_worker_that_leaves_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = Leaving()
    monkeypatch.setattr("jobs.queue.connection._leaving", leaving)
    began = time.monotonic()
    leaving.wait(0.2)
    assert time.monotonic() - began >= 0.2
    tries: list[int] = []

    def command() -> str:
        tries.append(1)
        if len(tries) == 3:
            stop_waiting()
        raise RedisConnectionError("away")

    with pytest.raises(RedisConnectionError):
        PatientRetry().call_with_retry(command, lambda _: None)
    assert len(tries) == 3
    began = time.monotonic()
    leaving.wait(60)
    assert time.monotonic() - began < 10


def test_a_thread_has_a_connection_that_fails_instead_of_waiting() -> None:
    patient: Redis = Redis(port=1, db=3, retry=PatientRetry(), socket_timeout=60)
    connection = impatient(patient)
    kwargs = connection.connection_pool.connection_kwargs
    assert (kwargs["port"], kwargs["db"], kwargs["socket_timeout"]) == (1, 3, ANSWER_SECONDS)
    assert connection.connection_pool is not patient.connection_pool
    with pytest.raises(RedisConnectionError):
        connection.ping()


@pytest.mark.parametrize("words", ["NOREPLICAS Not enough good replicas to write.", "MISCONF no save", "WRONGTYPE no"])
def test_a_refusal_is_the_same_in_a_pipeline(words: str) -> None:
    """redis-py puts words of its own before those of Redis then."""
    error = ResponseError(words)
    alone = refuses(error)
    Redis().pipeline().annotate_exception(error, 1, ("SET", "a", "1"))  # type: ignore[no-untyped-call]
    assert str(error) != words
    assert refuses(error) is alone is not words.startswith("WRONGTYPE")
    assert refuses(ReadOnlyError("You can't write against a read only replica."))
