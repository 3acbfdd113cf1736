"""Probes: does the process live, would a run be executed now, and how is it all in numbers?"""

from typing import Annotated

from anyio import to_thread
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.responses import JSONResponse, RenderedResponse, services
from jobs.queue.connection import eviction_policy
from jobs.queue.heartbeat import count_living_workers
from jobs.queue.places import count_queue
from jobs.status.metrics import MEDIA_TYPE, exposition
from runner.errors import NotFound


class Health(Struct, frozen=True):
    """The process lives."""

    status: str


class Ready(Struct, frozen=True, omit_defaults=True):
    """Whether runs would be executed now."""

    status: str
    redis: bool
    workers: Annotated[int, Meta(description="workers of the queue that are alive")]
    detail: Annotated[str | None, Meta(description="what is missing")] = None
    warning: Annotated[str | None, Meta(description="what should be changed, although runs are executed")] = None


def readiness(workers: int | None, eviction: str | None = None) -> Ready:
    """The answer for so many living workers (None if Redis does not answer), and a Redis with this policy of
    eviction."""
    if workers is None:
        return Ready("not ready", False, 0, "Redis does not answer.")
    if not workers:
        return Ready("not ready", True, 0, "No worker is alive: start one with `python -m jobs.stack start worker`.")
    if eviction in (None, "noeviction"):
        return Ready("ready", True, workers)
    return Ready("ready", True, workers, warning=f"Redis must have maxmemory-policy noeviction, got {eviction}.")


async def health(request: Request) -> Response:
    """Say that the process lives."""
    return JSONResponse(Health("ok"))


async def ready(request: Request) -> Response:
    """Say whether a run would be executed now: 503 with what is missing if not."""
    found = services(request)
    workers = await count_living_workers(found.reading, found.settings.queue_name)
    answer = readiness(workers, await eviction_policy(found.reading) if workers else None)
    return JSONResponse(answer, status_code=503 if answer.detail else 200)


async def metrics(request: Request) -> Response:
    """Show all numbers to Prometheus, as they are now."""
    found = services(request)
    if found.settings.metrics == "off":
        raise NotFound("There are no metrics: METRICS is off.")
    queue = await count_queue(found.reading, found.settings.queue_name)
    text = await to_thread.run_sync(lambda: exposition(found.statistics.numbers(), queue))
    return RenderedResponse(text, headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)
