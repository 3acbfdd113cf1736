"""Server-sent events: a run, or a page of the list, now and at each change."""

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from jobs.api.responses import chunks, services
from jobs.api.runs import list_query, wanted_labels
from jobs.status.cache import RenderedJSON
from jobs.status.changes import EVERY_RUN
from runner.errors import RunnerError
from runner.log import log_event

Following = AsyncIterator[RenderedJSON | None]
MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def watch_run(request: Request) -> Response:
    """Show a run now and whenever it changes, as server-sent events. The stream ends when the run is over."""
    run_id = request.path_params["run_id"]
    return await stream(request, run_id, partial(services(request).reader.get, run_id), last_event(request))


async def watch_runs(request: Request) -> Response:
    """Show a page of the list of runs now and whenever it changes, as server-sent events. The stream does not end."""
    query, labels = await list_query(request), wanted_labels(request)
    return await stream(request, EVERY_RUN, partial(services(request).lists.page, query, labels), last_event(request))


def last_event(request: Request) -> str | None:
    """The ID of the last event that the client has seen."""
    return request.headers.get("last-event-id")


async def stream(
    request: Request,
    run_id: str | None,
    read: Callable[[], Awaitable[RenderedJSON]],
    last_id: str | None,
    narrow: Callable[[Following], Following] | None = None,
) -> Response:
    """What `read` returns at each change, as server-sent events; only what `narrow` leaves of it, if that is given.

    204, which keeps an `EventSource` from coming back, if `last_id` names the last event there will be.
    """
    rendered = await read()
    if rendered.is_final and rendered.id == last_id:
        return Response(status_code=204)
    if request.method == "HEAD":
        return Response(media_type=MEDIA_TYPE, headers=HEADERS)
    following: Following = services(request).changes.follow(run_id, read)
    narrowed = narrow(following) if narrow else following
    return StreamingResponse(events(narrowed, last_id), media_type=MEDIA_TYPE, headers=HEADERS)


async def events(following: Following, last_id: str | None) -> AsyncIterator[bytes | memoryview]:
    """The documents as events with their IDs, a comment for each None. Ends if the run is deleted."""
    try:
        async for rendered in following:
            if rendered is None:
                yield b": nothing has changed\n\n"
            elif rendered.id != last_id:
                last_id = rendered.id
                yield f"id: {last_id}\ndata: ".encode()
                for chunk in chunks(rendered.body):
                    yield chunk
                yield b"\n\n"
    except RunnerError as error:
        log_event("events_ended", error=error)
