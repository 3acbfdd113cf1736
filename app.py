"""The web process: routes, JSON in and out, and one table from our exceptions to HTTP statuses."""

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route

from jobs.document import RunDocument
from jobs.runs import Runs
from runner.errors import (
    Invalid,
    NotFound,
    NotPossible,
    QueueUnavailable,
    RunnerError,
    SettingsError,
    StorageUnavailable,
    TaskBroken,
)
from runner.ids import shown
from runner.log import configure_logging, log_event
from runner.log_slice import Span, file_size, last_lines, parse_range, read_span
from runner.settings import Settings, read_settings
from runner.traversal_file import RunFiles

PREFIX = "/api/v1"
PLAIN = "text/plain; charset=utf-8"
FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}
SHUTDOWN_SECONDS = 2  # for requests under way when the process is asked to end

STATUS_OF: Mapping[type[RunnerError], int] = {
    NotFound: 404,
    NotPossible: 409,
    Invalid: 422,
    TaskBroken: 422,
    QueueUnavailable: 503,
    StorageUnavailable: 507,
}


class JSON(Response):
    """A JSON answer, of anything that msgspec can write."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The content as UTF-8 JSON."""
        return msgspec.json.encode(content)


async def start_run(request: Request) -> Response:
    """Accept a run of a task."""
    task, config = request.path_params["test_case_id"], request.path_params["browser_config_id"]
    return await accepted(request, partial(runs_of(request).queue.start, task, config))


async def replay_task(request: Request) -> Response:
    """Accept a replay of the newest run of a task that passed."""
    task, config = request.path_params["test_case_id"], request.path_params["browser_config_id"]
    replay = runs_of(request).queue.replay_task
    return await accepted(request, partial(replay, task, config, healing=flag(request, "healing")))


async def replay_run(request: Request) -> Response:
    """Accept a replay of a run that passed."""
    replay = runs_of(request).queue.replay_run
    return await accepted(request, partial(replay, request.path_params["run_id"], healing=flag(request, "healing")))


async def rerun(request: Request) -> Response:
    """Accept the same again."""
    return await accepted(request, partial(runs_of(request).queue.rerun, request.path_params["run_id"]))


async def accepted(request: Request, accept: Callable[[], RunDocument]) -> Response:
    """Answer the run that `accept` accepts, at once: 202, and `Location` says where to watch it."""
    document = await to_thread.run_sync(accept)
    prefix = PREFIX if request.url.path.startswith(f"{PREFIX}/") else ""
    return JSON(document, status_code=202, headers={"Location": f"{prefix}/test-runs/{document.id}"})


async def get_run(request: Request) -> Response:
    """The run as it stands now."""
    document = await runs_of(request).reader.get(request.path_params["run_id"])
    return JSON(document, headers={"Cache-Control": "no-store"})


async def get_log(request: Request) -> Response:
    """What the run's CLI has printed so far: all of it, its last lines, or what came after an offset."""
    path = await runs_of(request).reader.log(request.path_params["run_id"])
    return await to_thread.run_sync(log_response, request, path)


def log_response(request: Request, path: Path) -> Response:
    """The part of the log that was asked for, by `tail` (lines), `offset` (bytes) or a `Range` header.

    `X-Next-Offset` is the `offset` to ask for next when following a log that grows.
    """
    size = file_size(path)
    tail, offset = number(request, "tail"), number(request, "offset")
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Accept-Ranges": "bytes"}
    if tail is not None:
        text = last_lines(path, tail)
        return Response(text, media_type=PLAIN, headers={**headers, "X-Next-Offset": str(size)})
    span = Span(min(offset, size), size, 200) if offset is not None else parse_range(request.headers.get("range"), size)
    if span.status != 200:
        headers["Content-Range"] = span.content_range(size)
    headers |= {"X-Next-Offset": str(span.end), "Content-Length": str(span.end - span.start)}
    body = read_span(path, span.start, span.end)
    return StreamingResponse(body, span.status, media_type=PLAIN, headers=headers)


async def health(request: Request) -> Response:
    """The process lives."""
    return JSON({"status": "ok"})


async def ready(request: Request) -> Response:
    """200 if a run would be carried out now, else 503 with what is missing."""
    readiness = await runs_of(request).reader.readiness()
    if not readiness.redis:
        missing = "Redis does not answer."
    elif not readiness.workers:
        missing = "No worker is alive: start one with `honcho start worker`."
    else:
        return JSON({"status": "ready", "redis": True, "workers": readiness.workers})
    return JSON({"detail": missing, "redis": readiness.redis, "workers": readiness.workers}, status_code=503)


def runs_of(request: Request) -> Runs:
    """The application's runs."""
    runs: Runs = request.app.state.runs
    return runs


def flag(request: Request, name: str) -> bool:
    """A query parameter that is true or false; false if it is not there. Raises `Invalid`."""
    text = request.query_params.get(name, "false").lower()
    if text not in FLAGS:
        raise Invalid(f"{name} is '{shown(text)}'; expected is true or false.")
    return FLAGS[text]


def number(request: Request, name: str) -> int | None:
    """A query parameter that is a whole number from 0; None if it is not there. Raises `Invalid`."""
    text = request.query_params.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Invalid(f"{name} is '{shown(text)}'; expected is a whole number from 0.")
    return int(text)


async def on_runner_error(request: Request, error: Exception) -> Response:
    """One of our own errors, as the status of its kind and its own sentence."""
    status = next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)
    return JSON({"detail": str(error)}, status_code=status)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own errors (no such path, wrong method), as JSON."""
    if not isinstance(error, HTTPException):
        raise error
    detail = f"{request.method} {shown(request.url.path)}: {error.detail}"
    return JSON({"detail": detail}, status_code=error.status_code, headers=error.headers)


async def on_unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours: the trace goes to the log, a sentence to the client."""
    return JSON({"detail": "The server made an error, which is in its log. Nothing was lost."}, status_code=500)


def routes() -> list[BaseRoute]:
    """All routes; those of the API exist with and without the prefix."""
    api: list[BaseRoute] = [
        Route(
            "/test-runs/execute-configuration/{test_case_id}/{browser_config_id}",
            start_run,
            methods=["POST"],
            name="start_run",
        ),
        Route(
            "/test-runs/replay/{test_case_id}/{browser_config_id}", replay_task, methods=["POST"], name="replay_task"
        ),
        Route("/test-runs/replay-run/{run_id}", replay_run, methods=["POST"], name="replay_run"),
        Route("/test-runs/{run_id}/rerun", rerun, methods=["POST"], name="rerun"),
        Route("/test-runs/{run_id}/log", get_log, name="get_log"),
        Route("/test-runs/{run_id}", get_run, name="get_run"),
        Route("/health", health, name="health"),
        Route("/ready", ready, name="ready"),
    ]
    return [Mount(PREFIX, routes=api), *api]


def create_app(settings: Settings, connect: Callable[[Settings], Runs] = Runs.connect) -> Starlette:
    """The application; its connections are made (by `connect`) when it starts and given back when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.runs = connect(settings)
        log_event("web_ready", url=base_url(settings), project=settings.project_root)
        log_hint(settings)
        yield
        await app.state.runs.close()

    return Starlette(
        routes=routes(),
        lifespan=lifespan,
        middleware=[Middleware(CORSMiddleware, allow_origins=settings.cors_origins, allow_methods=["GET", "POST"])],
        exception_handlers={
            RunnerError: on_runner_error,
            HTTPException: on_http_exception,
            Exception: on_unexpected,
        },
    )


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


def main() -> None:
    """Serve until a signal comes. Exits with a sentence if the settings cannot be used."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        fail(error)
    configure_logging(settings.log_level)
    uvicorn.run(
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


def fail(error: SettingsError) -> NoReturn:
    """End the process with the error's sentences."""
    sys.exit(str(error))


if __name__ == "__main__":
    main()
