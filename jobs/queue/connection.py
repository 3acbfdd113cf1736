"""How our processes talk to Redis: the worker waits for it, the web process answers at once without it."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import redis.asyncio
from redis import Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.connection import URL_QUERY_ARGUMENT_PARSERS, ConnectionPool
from redis.exceptions import (
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from runner.log import log_event
from runner.values import Rejected, check_redis_url

CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 2.0  # the front end gives up a request after 10 s
READING_CONNECTIONS = 32  # of the web process, which all its clients share
WORKER_ANSWER_SECONDS = 3.0  # longer than the worker's blocking pop, short enough to leave in time
REFUSED_SECONDS = 0.25  # from a refused write to the next try
LEAVING_POLL = 0.05
OPTIONS = (*URL_QUERY_ARGUMENT_PARSERS, "username", "password", "client_name")  # that a URL may have, beside ssl_...
T = TypeVar("T")

WAITS_FOR = ("MISCONF", "UNBLOCKED", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "LOADING")
"""Errors, by their first words, of a Redis that is just failing over, or takes no writes for now."""
OF_PIPELINE = " of pipeline caused error: "  # ends what redis-py puts before the words of Redis


class Leaving:
    """Whether this process is about to end. No lock is involved, since it is set by handlers of signals."""

    is_set = False

    def wait(self, seconds: float) -> None:
        """Return after so many seconds, or a moment after it is set."""
        deadline = time.monotonic() + seconds
        while not self.is_set and time.monotonic() < deadline:
            time.sleep(LEAVING_POLL)


_leaving = Leaving()


def stop_waiting() -> None:
    """From now on this process no longer waits for a Redis that does not answer: it is about to end."""
    _leaving.is_set = True


def refuses(error: Exception) -> bool:
    """Whether Redis has answered that it cannot do this for now: it is full, a replica, failing over, or cannot write
    its disk. Such a command had no effect, so it can be sent again."""
    for_now = (OutOfMemoryError, ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError)
    own_words = str(error).rpartition(OF_PIPELINE)[2]
    return isinstance(error, for_now) or (isinstance(error, ResponseError) and own_words.startswith(WAITS_FOR))


class PatientRetry(Retry):
    """Try again until Redis answers and takes writes, or until this process is about to end."""

    def __init__(self) -> None:
        waited_for = (RedisConnectionError, RedisTimeoutError, TimeoutError, ResponseError)
        super().__init__(ExponentialBackoff(cap=0.5, base=0.05), retries=-1, supported_errors=waited_for)

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[[Exception], Any] | Callable[[Exception, int], Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        """The answer of `do`. Raises redis's own errors once this process is about to end."""

        def worth_another_try(error: Exception) -> bool:
            if _leaving.is_set or (isinstance(error, ResponseError) and not refuses(error)):
                return False
            if isinstance(error, ResponseError):
                _leaving.wait(REFUSED_SECONDS)  # RQ itself tries a watched transaction again without any pause
            return is_retryable is None or is_retryable(error)

        return super().call_with_retry(do, fail, worth_another_try, with_failure_count)


class PatientRedis(Redis):
    """The worker's connection: it outlives a Redis that starts later, restarts, or pauses."""

    @classmethod
    def from_url(cls, url: str, **kwargs: Any) -> Redis:
        """A connection to a Redis that has answered once; waits for that. Ends the process with a message if the URL
        cannot be used, or that Redis cannot: this is the first thing of ours that a worker does."""
        try:
            check_redis_url(url)
            check_options(url)
        except Rejected as rejected:
            raise SystemExit(f"REDIS_URL must be {rejected}.") from None
        timeouts = {"socket_timeout": WORKER_ANSWER_SECONDS, "socket_connect_timeout": CONNECT_SECONDS}
        connection = super().from_url(url, **{**timeouts, "retry": Retry(NoBackoff(), 0), **kwargs})
        try:
            connection.ping()
        except (RedisConnectionError, RedisTimeoutError) as error:
            log_event("waiting_for_redis", level=logging.WARNING, url=printable_url(url), error=error)
        except ResponseError as error:
            if not refuses(error):  # it has no such database, say
                raise SystemExit(f"Redis at {printable_url(url)} cannot be used: {error}.") from None
        connection.set_retry(PatientRetry())
        connection.ping()
        return connection


def impatient(connection: Redis, seconds: float = ANSWER_SECONDS) -> Redis:
    """Another connection to the same Redis, for one that must never wait longer for an answer: it fails instead."""
    pool = connection.connection_pool
    timeouts = {"socket_timeout": seconds, "socket_connect_timeout": min(seconds, CONNECT_SECONDS)}
    kwargs = {**pool.connection_kwargs, **timeouts, "retry": Retry(NoBackoff(), 0)}
    return Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **kwargs))


def connect(url: str) -> Redis:
    """The web process's connection for writing: it fails fast, and never sends a command twice."""
    return Redis.from_url(
        url,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )


def connect_async(url: str) -> redis.asyncio.Redis:
    """The web process's connections for reading: they fail fast. Without a free one, a caller waits at most
    ANSWER_SECONDS for it."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=READING_CONNECTIONS,
        timeout=ANSWER_SECONDS,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        retry=redis.asyncio.retry.Retry(NoBackoff(), 1),
    )
    return redis.asyncio.Redis.from_pool(pool)


async def eviction_policy(redis: redis.asyncio.Redis) -> str | None:
    """Which keys Redis deletes when its memory is full: any but `noeviction` may take jobs. None if it does not say."""
    try:
        policy = (await redis.info("memory")).get("maxmemory_policy")
    except RedisError:
        return None
    return None if policy is None else str(policy)


def printable_url(url: str) -> str:
    """The URL without user name, password and options; only its name if a password may be anywhere in it."""
    try:
        check_redis_url(url)
    except Rejected:
        return "REDIS_URL"
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{parts.path if parts.scheme == 'unix' else f'{host}:{parts.port or 6379}{parts.path}'}"


def check_options(url: str) -> None:
    """Raise `Rejected` if redis-py would not make our connections of this URL. Nothing is connected."""
    if not _has_usable_options(url):
        raise Rejected("a URL with no options but those of redis-py, such as ?socket_timeout=5, with values that fit")


def _has_usable_options(url: str) -> bool:
    names = {option.partition("=")[0] for option in urlsplit(url).query.split("&") if option}
    if not all(name in OPTIONS or name.startswith("ssl_") for name in names):
        return False
    try:
        pools = ConnectionPool.from_url(url), redis.asyncio.ConnectionPool.from_url(url)
        for pool in pools:
            pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError, RedisError):
        return False
    return all(pool.connection_kwargs.get("db", 0) >= 0 for pool in pools)


CHECKS = {"REDIS_URL": check_options}
"""What `read_settings` checks where a process starts that connects to Redis."""
