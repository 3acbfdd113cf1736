"""The web process: routes, JSON in and out, and one table from our exceptions to HTTP statuses."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from socket import socket
from typing import Any, NamedTuple, NoReturn

import msgspec
import uvicorn
from anyio import CapacityLimiter, to_thread
from openapi_ui_bundles import swagger_ui
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.answer import Answer, make_answer
from jobs.changes import EVERY_RUN, Changes
from jobs.document import RunDocument, RunItem
from jobs.idempotency import check_key
from jobs.openapi import Operation, Reply, openapi
from jobs.page import (
    HealingQuery,
    LogQuery,
    NoQuery,
    Page,
    PartQuery,
    Q,
    RunListQuery,
    RunsOfTaskQuery,
    TaskListQuery,
    WaitQuery,
    of_task,
    parse_query,
)
from jobs.queue import Accepted
from jobs.reader import Health, Ready
from jobs.runs import Runs
from jobs.task_document import BrowserConfigDocument, BrowserTypes, ProjectDocument, SecretDocument, TaskDocument
from runner.errors import (
    BodyNotRead,
    BodyTooLarge,
    Invalid,
    NotFound,
    NotPossible,
    ProjectGone,
    QueueUnavailable,
    RunnerError,
    SettingsError,
    StorageUnavailable,
    TaskBroken,
)
from runner.gate import Refuse, refuse_stranger, refuse_without_token
from runner.ids import RunId, shown
from runner.log import configure_logging, log_event
from runner.media import MEDIA_TYPES, find_media
from runner.settings import Settings, read_settings
from runner.span import Span, file_size, last_lines, parse_range, read_span
from runner.traversal_file import RunFiles

PREFIX = "/api/v1"
EVENTS = "text/event-stream"
PLAIN = "text/plain; charset=utf-8"
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
BODY_BYTES = 64 * 1024  # no call needs a body at all
SMALL_BYTES = 8 * 1024  # of an answer that holds up nobody
PIECE_BYTES = 64 * 1024  # of a large answer that are sent at once
STARTING_THREADS = 16  # for accepting runs, which may wait; those that show runs have their own
SWITCH_SECONDS = (
    0.001  # that a thread which reads files may hold up the event loop; Python's own default is 5 times that
)
SHUTDOWN_SECONDS = 2  # for requests under way when the process is asked to end

STATUS_OF: Mapping[type[RunnerError], int] = {
    NotFound: 404,
    NotPossible: 409,
    ProjectGone: 500,
    BodyTooLarge: 413,
    BodyNotRead: 415,
    Invalid: 422,
    TaskBroken: 422,
    QueueUnavailable: 503,
    StorageUnavailable: 507,
}

CORS_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID", "Range")
CORS_SHOWN = ("Location", "ETag", "X-Next-Offset", "Content-Range", "Accept-Ranges")
CORS_METHODS = (
    "GET",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
)  # the last three get 405, with a sentence that must be readable

OF_THE_CLI = ("/tasks", "/test-cases", "/project", "/browser-configs", "/secret-values", "/file-upload")
CHANGED_BY_CLI = "Tasks and the project are made, changed and deleted with the Bugninja CLI, not here."

DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Bugninja Runner</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", validatorUrl: null})</script>
</body>
</html>
"""


class JSON(Response):
    """A JSON answer, of anything that msgspec can write."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The content as UTF-8 JSON."""
        return msgspec.json.encode(content)


class Turn:
    """Lets one large document, or one piece of one, be sent per turn of the event loop, in the order of their coming.

    So small answers need not wait for all the large ones that are ready.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def come(self) -> None:
        """Wait for it."""
        async with self._lock:
            await asyncio.sleep(0)


class Document(Response):
    """JSON as it is sent. One that is not small takes its turn, and a large one goes in pieces, so that others are
    answered in between."""

    media_type = JSON.media_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        turn: Turn = scope["app"].state.turn
        if len(self.body) <= PIECE_BYTES:
            if len(self.body) > SMALL_BYTES:
                await turn.come()
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for piece in pieces(self.body):
            await turn.come()
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def pieces(content: bytes | memoryview) -> Iterator[memoryview]:
    """The content in parts of at most PIECE_BYTES; nothing is copied."""
    view = memoryview(content)
    return (view[start : start + PIECE_BYTES] for start in range(0, len(view), PIECE_BYTES))


async def start_run(request: Request) -> Response:
    """Start a run of a task."""
    task, config = request.path_params["test_case_id"], request.path_params["browser_config_id"]
    return await accepted(request, partial(runs_of(request).queue.start, task, config))


async def replay_task(request: Request) -> Response:
    """Replay the newest run of a task that passed."""
    task, config = request.path_params["test_case_id"], request.path_params["browser_config_id"]
    replay = runs_of(request).queue.replay_task
    return await accepted(request, partial(replay, task, config, healing=query_of(request, HealingQuery).healing))


async def replay_run(request: Request) -> Response:
    """Replay a run that passed."""
    replay = partial(runs_of(request).queue.replay_run, request.path_params["run_id"])
    return await accepted(request, partial(replay, healing=query_of(request, HealingQuery).healing))


async def rerun(request: Request) -> Response:
    """Start the same again: a run of the same task, or a replay of the same run."""
    return await accepted(request, partial(runs_of(request).queue.rerun, request.path_params["run_id"]))


async def stop_run(request: Request) -> Response:
    """Stop a run: 200 and it is over if it had not started, else 202 and it is being ended."""
    await refuse_body(request)
    run_id = await to_thread.run_sync(runs_of(request).stopper.stop, request.path_params["run_id"])
    runs_of(request).changes.tell(run_id)
    answer = await runs_of(request).reader.get(run_id)
    return Document(answer.body, 200 if answer.is_final else 202)


async def accepted(request: Request, accept: Callable[..., Accepted]) -> Response:
    """Answer the run that `accept` accepts, at once: 202, and `Location` says where to watch it.

    200 and the run as it stands now if the same request came before with the same `Idempotency-Key`.
    """
    key = check_key(request.headers.get("idempotency-key"))
    await refuse_body(request)
    run, is_new = await to_thread.run_sync(partial(accept, key=key), limiter=request.app.state.starting)
    runs_of(request).changes.tell(RunId(run.id))
    answer = make_answer(run) if is_new else await runs_of(request).reader.get(run.id)
    prefix = PREFIX if request.url.path.startswith(f"{PREFIX}/") else ""
    return Document(answer.body, 202 if is_new else 200, {"Location": f"{prefix}/test-runs/{run.id}"})


async def refuse_body(request: Request) -> None:
    """See that the request has no body but `{}`. Raises `BodyTooLarge`, `BodyNotRead` and `Invalid`."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise BodyTooLarge(f"The body is larger than {BODY_BYTES} bytes; expected is none.")
    if not body:
        return
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON.media_type:
        expected = f"expected is no body, or {{}} as {JSON.media_type}"
        raise BodyNotRead(f"The body is of type '{shown(media_type)}'; {expected}.")
    if body.strip() not in (b"{}", b"null"):
        raise Invalid("The body is not empty; expected is no body, or {}.")


async def list_runs(request: Request) -> Response:
    """List runs, newest first: those that wait, those that run, and all that are over, also those made by hand."""
    return unless_known(request, await runs_of(request).lists.page(await list_query(request)))


async def list_runs_of_task(request: Request) -> Response:
    """List the runs of a task, newest first."""
    query = of_task(request.path_params["test_case_id"], query_of(request, RunsOfTaskQuery))
    return unless_known(request, await runs_of(request).lists.page(query))


async def get_run(request: Request) -> Response:
    """Show a run as it stands now; with `wait`, at its next change, or after so many seconds.

    A client that says what it knows (`If-None-Match`) is answered at once if that is over.
    """
    runs, run_id, seconds = runs_of(request), request.path_params["run_id"], query_of(request, WaitQuery).wait
    answer = await runs.reader.get(run_id)
    if not seconds or answer.is_final or not is_known(request, answer.etag, default=True):
        return unless_known(request, answer)
    following = runs.changes.follow(RunId(run_id), partial(runs.reader.get, run_id))
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds), aclosing(following):
            async for found in following:
                if found is not None and found.etag != answer.etag:
                    return unless_known(request, found)
    return unless_known(request, answer)


async def watch_run(request: Request) -> Response:
    """Show a run now and whenever it changes, as server-sent events. The stream ends when the run is over."""
    runs, run_id = runs_of(request), request.path_params["run_id"]
    return await stream(request, run_id, partial(runs.reader.get, run_id))


async def watch_runs(request: Request) -> Response:
    """Show a page of the list of runs now and whenever it changes, as server-sent events. The stream does not end."""
    query = await list_query(request)
    return await stream(request, EVERY_RUN, partial(runs_of(request).lists.page, query))


async def stream(request: Request, run_id: RunId | None, ask: Callable[[], Awaitable[Answer]]) -> Response:
    """What `ask` answers, as server-sent events. 204, which tells an `EventSource` not to come back, if the client has
    seen the last of them (`Last-Event-ID`)."""
    answer, seen = await ask(), request.headers.get("last-event-id")
    if answer.is_final and answer.id == seen:
        return Response(status_code=204)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if request.method == "HEAD":
        return Response(media_type=EVENTS, headers=headers)
    following = runs_of(request).changes.follow(run_id, ask)
    return StreamingResponse(events(following, seen), media_type=EVENTS, headers=headers)


async def events(following: AsyncIterator[Answer | None], seen: str | None) -> AsyncIterator[bytes | memoryview]:
    """The answers as events, their IDs with them; a comment where there is none. Ends when the run is deleted."""
    try:
        async for answer in following:
            if answer is None:
                yield b": nothing has changed\n\n"
            elif answer.id != seen:
                seen = answer.id
                yield f"id: {seen}\ndata: ".encode()
                for piece in pieces(answer.body):
                    yield piece
                yield b"\n\n"
    except RunnerError as error:
        log_event("events_ended", because=error)


async def get_log(request: Request) -> Response:
    """Show what the run's CLI has printed so far: all of it, its last lines, or what came after an offset."""
    query = query_of(request, LogQuery)
    path = await runs_of(request).reader.log(request.path_params["run_id"])
    return await to_thread.run_sync(log_response, request, query, path)


def log_response(request: Request, query: LogQuery, path: Path) -> Response:
    """The part of the log that was asked for, by `tail` (lines), `offset` (bytes) or a `Range` header.

    `X-Next-Offset` is the `offset` to ask for next when following a log that grows.
    """
    size = file_size(path)
    headers = {"Cache-Control": "no-store"}
    if query.tail is not None:
        text = last_lines(path, query.tail)
        return Response(text, media_type=PLAIN, headers={**NO_SNIFFING, **headers, "X-Next-Offset": str(size)})
    following = None if query.offset is None else Span(min(query.offset, size), size, 200)
    span = following or parse_range(request.headers.get("range"), size)
    headers["X-Next-Offset"] = str(size if span.status == 416 else span.end)
    return span_response(request, path, span, size, PLAIN, headers)


def span_response(
    request: Request, path: Path, span: Span, size: int, media_type: str, headers: Mapping[str, str]
) -> Response:
    """This part of the file (of this size)."""
    about = {**NO_SNIFFING, "Accept-Ranges": "bytes", **headers}
    if span.status != 200:
        about["Content-Range"] = span.content_range(size)
    if span.status == 416:
        return JSON({"detail": f"The file has {size} bytes, and none of those that Range asks for."}, 416, about)
    about["Content-Length"] = str(span.end - span.start)
    if request.method == "HEAD":
        return Response(None, span.status, about, media_type)
    try:
        body = read_span(path, span.start, span.end)
    except FileNotFoundError:  # it was there a moment ago
        raise NotFound(f"{shown(request.url.path)} was deleted.") from None
    return StreamingResponse(body, span.status, about, media_type)


async def list_tasks(request: Request) -> Response:
    """List the tasks of the project, with their runs in numbers. One whose file is broken says what is wrong."""
    return await answer(request, runs_of(request).tasks.page, query_of(request, TaskListQuery))


async def get_task(request: Request) -> Response:
    """Show a task, by the name of its folder or by its CUID."""
    return await answer(request, runs_of(request).tasks.get, request.path_params["test_case_id"])


async def get_project(request: Request) -> Response:
    """Show the project."""
    return await answer(request, runs_of(request).tasks.project)


async def get_browser_types(request: Request) -> Response:
    """Show what browsers can be set to."""
    return await answer(request, runs_of(request).tasks.browser_types)


async def list_browser_configs(request: Request) -> Response:
    """List the browser configurations of the project's tasks."""
    query = query_of(request, PartQuery)
    return await answer(request, runs_of(request).tasks.browser_configs, request.path_params["project_id"], query)


async def list_secrets(request: Request) -> Response:
    """List the secrets of the project's tasks by their names; values never leave."""
    return await answer(
        request, runs_of(request).tasks.secrets, request.path_params["project_id"], query_of(request, PartQuery)
    )


async def get_media(request: Request) -> Response:
    """Show a screenshot or a recording."""
    place = (request.path_params[name] for name in ("test_case_id", "folder", "path"))
    media = await to_thread.run_sync(find_media, runs_of(request).tasks.root, *place)
    headers = {"Cache-Control": "no-cache", "ETag": media.etag}
    if is_known(request, media.etag):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range") if request.headers.get("if-range", media.etag) == media.etag else None
    return span_response(request, media.path, parse_range(wanted, media.size), media.size, media.type, headers)


async def health(request: Request) -> Response:
    """Say that the process lives."""
    return JSON(Health("ok"))


async def ready(request: Request) -> Response:
    """Say whether a run would be carried out now: 503 with what is missing if not."""
    ready = await runs_of(request).reader.readiness()
    return JSON(ready, status_code=503 if ready.detail else 200)


async def docs(request: Request) -> Response:
    """Show this documentation."""
    return HTMLResponse(DOCS, headers=NO_SNIFFING)


async def describe(request: Request) -> Response:
    """Show the OpenAPI document of this server."""
    return JSON(request.app.state.openapi)


def is_known(request: Request, etag: str, *, default: bool = False) -> bool:
    """Whether the client has this content already, and said so; `default` if it has not said what it has."""
    said = request.headers.get("if-none-match")
    if said is None:
        return default
    tags = [tag.strip().removeprefix("W/") for tag in said.split(",")]
    return etag in tags or "*" in tags


async def list_query(request: Request) -> RunListQuery:
    """Which runs are asked for. Raises `Invalid`, and `NotFound` for another project."""
    query = query_of(request, RunListQuery)
    if query.project_id is not None:
        await to_thread.run_sync(runs_of(request).tasks.check_project, query.project_id)
    return query


async def answer(request: Request, ask: Callable[..., Any], *questions: Any) -> Response:
    """What `ask` says, which may read the disk."""
    return unless_known(request, await to_thread.run_sync(lambda: make_answer(ask(*questions))))


def unless_known(request: Request, answer: Answer) -> Response:
    """The answer, or 304 if the client has it already."""
    headers = {"Cache-Control": "private, no-cache", "ETag": answer.etag}
    if is_known(request, answer.etag):
        return Response(status_code=304, headers=headers)
    return Document(answer.body, headers=headers)


def runs_of(request: Request) -> Runs:
    """The application's runs."""
    runs: Runs = request.app.state.runs
    return runs


def query_of(request: Request, kind: type[Q]) -> Q:
    """The request's parameters, checked. Raises `Invalid`."""
    return parse_query(kind, request.query_params)


class Endpoint(NamedTuple):
    """A route, and what it is documented with."""

    operation: Operation
    handler: Callable[[Request], Awaitable[Response]]


def endpoint(
    method: str,
    path: str,
    handler: Callable[[Request], Awaitable[Response]],
    answers: Mapping[int, Reply],
    errors: Iterable[int] = (),
    query: type[msgspec.Struct] = NoQuery,
) -> Endpoint:
    """The endpoint of a handler: its name and the first line of its docstring stand in the documentation."""
    summary = (handler.__doc__ or "").partition("\n")[0]
    return Endpoint(Operation(method, path, handler.__name__, summary, answers, tuple(errors), query), handler)


def shows(kind: Any, meaning: str) -> dict[int, Reply]:
    """The answers of a route that shows a document, or that the client has it."""
    return {200: Reply(meaning, kind, headers=("ETag",)), 304: Reply("it has not changed", headers=("ETag",))}


STARTED = {
    202: Reply("the run was accepted", RunDocument, headers=("Location",)),
    200: Reply("the same request with the same key has started this run before", RunDocument, headers=("Location",)),
}
STOPPING = {
    200: Reply("the run had not started, and is over", RunDocument),
    202: Reply("the run is being ended", RunDocument),
}
STREAMED = {200: Reply("the stream; the data of each event is what a plain GET answers", media=(EVENTS,))}
OVER = Reply("the run is over, and its last event was seen (`Last-Event-ID`)")
MEDIA = tuple(dict.fromkeys(MEDIA_TYPES.values()))
LOGGED = {
    200: Reply("the log, or what was asked for of it", media=(PLAIN,), headers=("X-Next-Offset",)),
    206: Reply("the range that was asked for", media=(PLAIN,), headers=("X-Next-Offset",)),
}
PICTURE = {
    200: Reply("the file", media=MEDIA, headers=("ETag",)),
    206: Reply("the range of it that was asked for", media=MEDIA, headers=("ETag",)),
    304: Reply("it has not changed", headers=("ETag",)),
}
READY = {200: Reply("runs would be carried out", Ready), 503: Reply("something is missing", Ready)}

ENDPOINTS = (  # they are tried in this order, so those that are asked for most come first
    endpoint("GET", "/health", health, {200: Reply("the process lives", Health)}),
    endpoint("GET", "/test-runs/events", watch_runs, STREAMED, [404, 422], RunListQuery),
    endpoint("GET", "/test-runs/{run_id}", get_run, shows(RunDocument, "the run"), [404, 422], WaitQuery),
    endpoint("GET", "/test-runs", list_runs, shows(Page[RunItem], "the runs"), [404, 422], RunListQuery),
    endpoint(
        "POST",
        "/test-runs/execute-configuration/{test_case_id}/{browser_config_id}",
        start_run,
        STARTED,
        [404],
    ),
    endpoint(
        "POST",
        "/test-runs/replay/{test_case_id}/{browser_config_id}",
        replay_task,
        STARTED,
        [404],
        HealingQuery,
    ),
    endpoint("POST", "/test-runs/replay-run/{run_id}", replay_run, STARTED, [404], HealingQuery),
    endpoint("POST", "/test-runs/{run_id}/rerun", rerun, STARTED, [404]),
    endpoint("POST", "/test-runs/{run_id}/stop", stop_run, STOPPING, [404]),
    endpoint(
        "GET",
        "/test-runs/test-case/{test_case_id}",
        list_runs_of_task,
        shows(Page[RunItem], "the runs of the task"),
        [404, 422],
        RunsOfTaskQuery,
    ),
    endpoint("GET", "/test-runs/{run_id}/events", watch_run, {**STREAMED, 204: OVER}, [404]),
    endpoint("GET", "/test-runs/{run_id}/log", get_log, LOGGED, [404, 416, 422], LogQuery),
    endpoint("GET", "/tasks", list_tasks, shows(Page[TaskDocument], "the tasks"), [404, 422], TaskListQuery),
    endpoint("GET", "/tasks/{test_case_id}", get_task, shows(TaskDocument, "the task"), [404]),
    endpoint("GET", "/tasks/{test_case_id}/{folder}/{path:path}", get_media, PICTURE, [404, 416]),
    endpoint("GET", "/project", get_project, shows(ProjectDocument, "the project")),
    endpoint("GET", "/browser-types", get_browser_types, shows(BrowserTypes, "the settings")),
    endpoint(
        "GET",
        "/browser-configs/project/{project_id}",
        list_browser_configs,
        shows(list[BrowserConfigDocument], "the configurations"),
        [404, 422],
        PartQuery,
    ),
    endpoint(
        "GET",
        "/secret-values/project/{project_id}",
        list_secrets,
        shows(list[SecretDocument], "the secrets"),
        [404, 422],
        PartQuery,
    ),
    endpoint("GET", "/ready", ready, READY),
)


def routes() -> list[BaseRoute]:
    """All routes; those of the API exist with and without the prefix."""
    api: list[BaseRoute] = [
        Route(operation.path, handler, methods=[operation.method], name=operation.name)
        for operation, handler in ENDPOINTS
    ]
    pages: list[BaseRoute] = [
        Route("/openapi.json", describe),
        Route("/docs", docs),
        Mount("/docs/assets", StaticFiles(directory=swagger_ui.static_path)),
    ]
    return [Mount(PREFIX, routes=[*api, *pages]), *api, *pages]


async def on_runner_error(request: Request, error: Exception) -> Response:
    """One of our own errors, as the status of its kind and its own sentence."""
    status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
    return JSON({"detail": str(error)}, status_code=status)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own errors (no such path, wrong method), as JSON; and OPTIONS, which says what a path allows."""
    if not isinstance(error, HTTPException):
        raise error
    allowed = (error.headers or {}).get("Allow")
    if request.method == "OPTIONS" and allowed is not None:
        return Response(status_code=204, headers={"Allow": f"{allowed}, OPTIONS"})
    if error.status_code in (404, 405) and is_for_the_cli(request):
        return JSON({"detail": CHANGED_BY_CLI}, status_code=405, headers={"Allow": allowed or ""})
    detail = f"{request.method} {shown(request.url.path)}: {error.detail}"
    return JSON({"detail": detail}, status_code=error.status_code, headers=error.headers)


def is_for_the_cli(request: Request) -> bool:
    """Whether the request would change a task or the project (the front end's own paths, and its slips of them)."""
    path = request.url.path.removeprefix(PREFIX)
    return request.method in ("POST", "PUT", "PATCH", "DELETE") and path.startswith(OF_THE_CLI)


async def on_unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours: the trace goes to the log, a sentence to the client."""
    return JSON({"detail": "The server made an error, which is in its log. Nothing was lost."}, status_code=500)


class Gate:
    """Lets in only what `refuse` has nothing against."""

    def __init__(self, app: ASGIApp, settings: Settings, refuse: Refuse) -> None:
        self.app, self.settings, self.refuse = app, settings, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application's answer, or why there is none."""
        refused = None
        if scope["type"] == "http":
            refused = self.refuse(self.settings, scope["method"], scope["path"], Headers(scope=scope))
        if refused is None:
            await self.app(scope, receive, send)
            return
        headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
        await JSON({"detail": refused.detail}, refused.status, headers)(scope, receive, send)


class JSONCORSMiddleware(CORSMiddleware):
    """Starlette's, whose refusals are JSON, too."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """What this page may do."""
        response = super().preflight_response(request_headers)
        if response.status_code < 400:
            return response
        detail = f"{bytes(response.body).decode()}; CORS_ORIGINS says which pages may read the answers."
        return JSON({"detail": detail}, response.status_code)


def create_app(settings: Settings, connect: Callable[[Settings], Runs] = Runs.connect) -> ASGIApp:
    """The application; its connections are made (by `connect`) when it starts and given back when it ends.

    The gates and CORS are around all of it, also around its answers to its own faults.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Changes]]:
        runs = app.state.runs = connect(settings)
        app.state.turn = Turn()
        app.state.starting = CapacityLimiter(STARTING_THREADS)
        log_event("web_ready", url=base_url(settings), project=settings.project_root)
        log_hint(settings)
        watching = asyncio.create_task(runs.changes.run())
        filling = asyncio.create_task(runs.lists.fill())
        yield {"changes": runs.changes}
        runs.changes.end()
        for task in (watching, filling):
            task.cancel()
        await asyncio.gather(watching, filling)
        await runs.close()

    app = Starlette(
        routes=routes(),
        lifespan=lifespan,
        exception_handlers={
            RunnerError: on_runner_error,
            HTTPException: on_http_exception,
            Exception: on_unexpected,
        },
    )
    operations = [operation for operation, _ in ENDPOINTS]
    needs_token = bool(settings.api_token)
    app.state.openapi = openapi(operations, version("bugninja-runner"), PREFIX, needs_token=needs_token)
    readable = JSONCORSMiddleware(
        Gate(app, settings, refuse_without_token),
        allow_origins=settings.cors_origins,
        allow_methods=CORS_METHODS,
        allow_headers=CORS_HEADERS,
        expose_headers=CORS_SHOWN,
    )
    return Gate(readable, settings, refuse_stranger)


def base_url(settings: Settings) -> str:
    """Where a person on this machine reaches the web process."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def log_hint(settings: Settings) -> None:
    """Tell a person what to do next, in one line that can be pasted into a shell."""
    task = next(RunFiles(settings.tasks_root).task_ids(), None)
    if task is None:
        log_event("no_tasks", level=logging.WARNING, folder=settings.tasks_root)
        return
    path = f"/test-runs/execute-configuration/{task}/{task}_default"
    logging.getLogger("bugninja_runner").info("Start a run:  curl -X POST %s%s", base_url(settings), path)


class Server(uvicorn.Server):
    """Uvicorn's, which lets those who wait for changes go before it waits for them to leave."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End all connections."""
        changes: Changes = self.lifespan.state["changes"]
        changes.end()
        await super().shutdown(sockets)


def main() -> None:
    """Serve until a signal comes. Exits with a sentence if the settings cannot be used."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        fail(error)
    configure_logging(settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        log_level=settings.log_level.lower(),
        access_log=settings.log_level == "DEBUG",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = Server(config)
    with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended
        server.run()
    if not server.started:
        sys.exit("The web process could not start; its log says why.")


def fail(error: SettingsError) -> NoReturn:
    """End the process with the error's sentences."""
    sys.exit(str(error))


if __name__ == "__main__":
    main()
