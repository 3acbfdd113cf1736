"""Runs over HTTP: start, replay, rerun, stop, list and get."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.parameters import (
    NO_BODY,
    HealingQuery,
    WaitQuery,
    check_empty,
    check_idempotency_key,
    check_labels,
    parse_body,
    parse_query,
)
from jobs.api.responses import JSONResponse, RenderedResponse, etag_matches, not_modified_or, prefix_of, services
from jobs.queue.accept import Accepted
from jobs.run.state import Trigger
from jobs.status.cache import RenderedJSON
from jobs.status.projection import Place
from jobs.status.query import Labels, RunListQuery, RunsOfTaskQuery, for_task
from runner.errors import BodyNotRead, BodyTooLarge, printable
from runner.ids import RunId, TaskId

LABEL_PREFIX = "label."
BODY_BYTES = 64 * 1024  # more than any labels need


async def start_run(request: Request) -> Response:
    """Start a run of a task."""
    task, config = request.path_params["test_case_id"], request.path_params["browser_config_id"]
    return await accept_run(request, partial(services(request).acceptor.start, task, config))


async def replay_task(request: Request) -> Response:
    """Replay the newest run of a task that passed."""
    task, config = request.path_params["test_case_id"], request.path_params["browser_config_id"]
    healing = parse_query(HealingQuery, request.query_params).healing
    return await accept_run(request, partial(services(request).acceptor.replay_task, task, config, healing=healing))


async def replay_run(request: Request) -> Response:
    """Replay a run that passed."""
    healing = parse_query(HealingQuery, request.query_params).healing
    replay = services(request).acceptor.replay_run
    return await accept_run(request, partial(replay, request.path_params["run_id"], healing=healing))


async def rerun(request: Request) -> Response:
    """Start the same again: a run of the same task, or a replay of the same run."""
    return await accept_run(request, partial(services(request).acceptor.rerun, request.path_params["run_id"]))


async def stop_run(request: Request) -> Response:
    """Stop a run: 200 with its final state if it had not started, else 202 while it is being stopped."""
    check_empty(await read_body(request))
    stop, limiter = services(request).stopper.stop, request.app.state.stopping
    run_id = await to_thread.run_sync(stop, request.path_params["run_id"], limiter=limiter)
    services(request).changes.notify(run_id)
    rendered = await services(request).reader.get(run_id)
    return RenderedResponse(rendered.body, 200 if rendered.is_final else 202)


async def accept_run(request: Request, accept: Callable[..., Accepted]) -> Response:
    """Answer with the run that `accept` accepts, at once: 202, and `Location` says where to watch it.

    200 and the run as it stands now if the same request came before with the same `Idempotency-Key`.
    """
    key = check_idempotency_key(request.headers.get("idempotency-key"))
    body = parse_body(await read_body(request))
    accept = partial(accept, key=key, labels=body.labels, trigger=Trigger(body.trigger))
    run, is_new = await to_thread.run_sync(accept, limiter=request.app.state.accepting)
    place = Place(TaskId(run.test_case.id), RunId(run.id)) if run.test_case else None
    services(request).changes.notify(run.id, place)
    headers = {"Location": f"{prefix_of(request)}/test-runs/{run.id}"}
    if is_new:
        return JSONResponse(run, 202, headers)
    known = await services(request).reader.get(run.id)
    return RenderedResponse(known.body, 200, headers)


async def read_body(request: Request, expected: str = JSONResponse.media_type, limit: int = BODY_BYTES) -> bytes:
    """The request's body, which has to be of this media type; `{}` if it has none. Raises `BodyTooLarge` and
    `BodyNotRead`."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise BodyTooLarge(f"The body must be at most {limit} bytes, got more.")
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if body and media_type != expected:
        raise BodyNotRead(f"The body must be empty or {expected}, got the type '{printable(media_type)}'.")
    return body or NO_BODY


async def list_runs(request: Request) -> Response:
    """List runs, newest first: those that wait, those that run, and all that are over, also those made by hand."""
    query, labels = await list_query(request), wanted_labels(request)
    return not_modified_or(request, await services(request).lists.page(query, labels))


async def list_runs_of_task(request: Request) -> Response:
    """List the runs of a task, newest first."""
    query = parse_query(RunsOfTaskQuery, request.query_params)
    query = for_task(request.path_params["test_case_id"], query)
    page = services(request).lists.page(query, wanted_labels(request))
    return not_modified_or(request, await page)


async def list_query(request: Request) -> RunListQuery:
    """The filters and the page of a list. Raises `Invalid`, and `NotFound` for another project."""
    query = parse_query(RunListQuery, request.query_params)
    if query.project_id is not None:
        await to_thread.run_sync(services(request).tasks.check_project, query.project_id)
    return query


def wanted_labels(request: Request) -> Labels:
    """What `label.KEY=VALUE` asks for. Raises `Invalid`."""
    wanted = {
        name.removeprefix(LABEL_PREFIX): value
        for name, value in request.query_params.items()
        if name.startswith(LABEL_PREFIX)
    }
    return tuple(sorted((check_labels(wanted) or {}).items()))


async def get_run(request: Request) -> Response:
    """Show a run as it stands now; with `wait`, at its next change, or after so many seconds.

    A client that sends `If-None-Match` is answered at once if its copy is out of date.
    """
    run_id = request.path_params["run_id"]
    return await answer_at_change(request, run_id, partial(services(request).reader.get, run_id))


async def answer_at_change(
    request: Request, run_id: str | None, read: Callable[[], Awaitable[RenderedJSON]]
) -> Response:
    """What `read` returns about the run, or (None) about any run: now; or, as `wait` in the query says, when it
    changes."""
    seconds, rendered = parse_query(WaitQuery, request.query_params).wait, await read()
    if not seconds or rendered.is_final or not etag_matches(request, rendered.etag, default=True):
        return not_modified_or(request, rendered)
    following = services(request).changes.follow(run_id, read)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), aclosing(following):
            async for found in following:
                if found is not None and found.etag != rendered.etag:
                    return not_modified_or(request, found)
    return not_modified_or(request, rendered)
