"""The parts of a page that change, and a stream that sends those that have changed.

A part is one HTML element with an ID. The page shows each as it was when the page was made, and a script puts the newer
one in its place; both are made by the same templates.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.events import last_event, stream
from jobs.page.templates import element
from jobs.queue.heartbeat import count_living_workers
from jobs.queue.places import COUNT_SECONDS
from jobs.services import Services
from jobs.status.cache import RenderedJSON, render_json
from runner.errors import NotFound

Parts = Mapping[str, str]
"""Elements by their IDs, in the order of the page."""


def as_document(parts: Parts, *, is_final: bool = False) -> RenderedJSON:
    """The parts as a document, whose ID says which version of the page they are."""
    return render_json({name: str(part) for name, part in parts.items()}, is_final=is_final)


async def read_notice(services: Services) -> Parts:
    """The part of each page that says what is missing, if anything is."""
    workers = None
    with suppress(TimeoutError):
        async with asyncio.timeout(COUNT_SECONDS):
            workers = await count_living_workers(services.reading, services.settings.queue_name)
    return {"notice": element("parts.html", "notice", workers, services.lists.projection.indexing())}


async def stream_parts(request: Request, run_id: str | None, read: Callable[[], Awaitable[RenderedJSON]]) -> Response:
    """Server-sent events with the parts that `read` returns: those that differ from the ones before.

    `version` in the query names the parts that the page shows already, as `Last-Event-ID` does. If they are of
    something that was deleted, the last event says so; without it, `NotFound` is raised.
    """
    seen = last_event(request) or request.query_params.get("version")

    async def read_or_end() -> RenderedJSON:
        try:
            return await read()
        except NotFound as error:
            if seen is None:
                raise
            return as_document({"notice": element("parts.html", "deleted", str(error))}, is_final=True)

    return await stream(request, run_id, read_or_end, seen, only_changes)


async def only_changes(following: AsyncIterator[RenderedJSON | None]) -> AsyncIterator[RenderedJSON | None]:
    """The same documents, each without the parts that the one before it had, too."""
    before: Parts = {}
    async for rendered in following:
        if rendered is None:
            yield None
            continue
        parts = msgspec.json.decode(rendered.body, type=dict[str, str])
        changed = {name: part for name, part in parts.items() if before.get(name) != part}
        before = parts
        yield rendered._replace(body=msgspec.json.encode(changed))
