"""The workers of a queue, one by one, as a page shows them."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from jobs.queue.heartbeat import heartbeat_key
from jobs.queue.job import BaseWorker, registered_workers
from jobs.queue.places import COUNT_SECONDS
from runner.errors import printable
from runner.ids import RunId, parse_run_id

LONGEST = 100  # characters of a text of RQ's that are shown


class WorkerView(NamedTuple):
    """A worker that RQ knows; RQ forgets a dead one after some minutes."""

    name: str
    is_alive: bool
    """Whether it has sent a heartbeat lately."""
    run_id: RunId | None
    """The run that it executes, as its last heartbeat says."""
    state: str
    """RQ's word."""
    host: str
    pid: str
    started_at: datetime | None
    succeeded: int
    """Jobs that it brought to their end, also those whose test failed."""
    failed: int


async def view_workers(redis: AsyncRedis, queue_name: str) -> list[WorkerView] | None:
    """The workers of this queue by their names, living ones first; None if Redis does not answer within
    COUNT_SECONDS."""
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            return await _view(redis, await registered_workers(redis, queue_name))
    except (RedisError, TimeoutError):
        return None


async def _view(redis: AsyncRedis, names: list[str]) -> list[WorkerView]:
    async with redis.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.get(heartbeat_key(name))
            pipeline.hgetall(f"{BaseWorker.redis_worker_namespace_prefix}{name}")
        answers = await pipeline.execute()
    views = [_worker(name, *answers[2 * n : 2 * n + 2]) for n, name in enumerate(names)]
    return sorted(views, key=lambda worker: (not worker.is_alive, worker.name))


def _worker(name: str, heartbeat: bytes | None, fields: Mapping[bytes, bytes]) -> WorkerView:
    """The worker, as far as what Redis has of it is what RQ writes."""
    texts = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in fields.items()}
    return WorkerView(
        name=printable(name, LONGEST),
        is_alive=heartbeat is not None,
        run_id=parse_run_id((heartbeat or b"").decode(errors="replace")),
        state=printable(texts.get("state", "unknown"), LONGEST),
        host=printable(texts.get("hostname", ""), LONGEST),
        pid=printable(texts.get("pid", ""), LONGEST),
        started_at=_time(texts.get("birth", "")),
        succeeded=_number(texts.get("successful_job_count", "")),
        failed=_number(texts.get("failed_job_count", "")),
    )


def _time(text: str) -> datetime | None:
    """RQ's time, which is UTC, with and without saying so."""
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):  # the first day that there is, in the east
        return None


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
