"""The page of the workers and of the queue."""

import asyncio
from typing import NamedTuple

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.responses import services
from jobs.page.live import Parts, as_document, read_notice, stream_parts
from jobs.page.runs import read_page, read_runs
from jobs.page.templates import element, page
from jobs.queue.places import count_queue
from jobs.queue.workers import view_workers
from jobs.run.document import RunDocument
from jobs.services import Services
from jobs.status.cache import RenderedJSON
from jobs.status.changes import EVERY_RUN
from jobs.status.query import RunListQuery

MOST_RUNS = 50  # of those that are not over


class OpenRuns(NamedTuple):
    """Runs that are not over, the oldest first, and how many there are in all."""

    runs: list[RunDocument]
    total: int


async def show_workers(request: Request) -> Response:
    """Who works on what, and what waits for whom."""
    parts = await read_parts(services(request))
    version = as_document(parts).id
    return await page(request, "workers.html", parts=parts, live="/ui/events/workers", version=version)


async def watch_workers(request: Request) -> Response:
    """The changes of this page."""
    found = services(request)

    async def read() -> RenderedJSON:
        return as_document(await read_parts(found))

    return await stream_parts(request, EVERY_RUN, read)


async def read_parts(found: Services) -> Parts:
    """The parts of the page that change."""
    queue_name = found.settings.queue_name
    notice, workers, queue, runs = await asyncio.gather(
        read_notice(found),
        view_workers(found.reading, queue_name),
        count_queue(found.reading, queue_name),
        read_open_runs(found),
    )
    shown = await to_thread.run_sync(element, "workers_parts.html", "workers", workers, queue, queue_name, runs)
    return {**notice, "workers": shown}


async def read_open_runs(found: Services) -> OpenRuns:
    """The runs that are not over."""
    query = RunListQuery(status="PENDING", page_size=MOST_RUNS, sort_order="asc")
    listed = await read_page(found, query)
    documents = await read_runs(found, [run.id for run in listed.items])
    return OpenRuns([run for run in documents if not run.finished_at], listed.total_count)
