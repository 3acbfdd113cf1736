"""The web process: routes, JSON in and out, and one table from our exceptions to HTTP statuses."""

import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import msgspec
import uvicorn
from anyio import to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from jobs.queue import Runs
from runner.errors import (
    NotFound,
    QueueUnavailable,
    RunnerError,
    SettingsError,
    StorageUnavailable,
    TaskBroken,
)
from runner.ids import shown
from runner.log import configure_logging, log_event
from runner.settings import Settings, read_settings
from runner.traversal_file import RunFiles

PREFIX = "/api/v1"
SHUTDOWN_SECONDS = 2  # for requests under way when the process is asked to end

STATUS_OF: Mapping[type[RunnerError], int] = {
    NotFound: 404,
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
    """Accept a run and answer its document at once: 202, and `Location` says where to watch it."""
    runs: Runs = request.app.state.runs
    document = await to_thread.run_sync(
        runs.start, request.path_params["test_case_id"], request.path_params["browser_config_id"]
    )
    prefix = PREFIX if request.url.path.startswith(f"{PREFIX}/") else ""
    return JSON(document, status_code=202, headers={"Location": f"{prefix}/test-runs/{document.id}"})


async def get_run(request: Request) -> Response:
    """The run as it stands now."""
    runs: Runs = request.app.state.runs
    return JSON(await runs.get(request.path_params["run_id"]), headers={"Cache-Control": "no-store"})


async def health(request: Request) -> Response:
    """The process lives."""
    return JSON({"status": "ok"})


async def ready(request: Request) -> Response:
    """200 if a run would be carried out now, else 503 with what is missing."""
    runs: Runs = request.app.state.runs
    readiness = await runs.readiness()
    if not readiness.redis:
        missing = "Redis does not answer."
    elif not readiness.workers:
        missing = "No worker is alive: start one with `honcho start worker`."
    else:
        return JSON({"status": "ready", "redis": True, "workers": readiness.workers})
    return JSON({"detail": missing, "redis": readiness.redis, "workers": readiness.workers}, status_code=503)


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
