"""The web process as a server: uvicorn, and what lives as long as the application does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from socket import socket

import uvicorn
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.types import ASGIApp

from jobs.api.responses import Pacer
from jobs.services import Services
from runner.log import log_event
from runner.settings import Settings

STOPPING_THREADS = 8  # for stopping runs, which may wait for locks
ACCEPTING_THREADS = 16  # for accepting runs, which may wait; those that show runs have their own
SHUTDOWN_SECONDS = 2  # for requests under way when the process is asked to end

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[dict[str, Services]]]


def make_lifespan(settings: Settings, connect: Callable[[Settings], Services]) -> Lifespan:
    """The application's lifespan: `connect` makes its services when it starts, and they are closed when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Services]]:
        services = app.state.services = connect(settings)
        app.state.pacer = Pacer()
        app.state.accepting = CapacityLimiter(ACCEPTING_THREADS)
        app.state.stopping = CapacityLimiter(STOPPING_THREADS)
        log_event("web_ready", url=base_url(settings), project=settings.project_root)
        log_hint(services)
        background = [asyncio.create_task(services.changes.run()), asyncio.create_task(services.lists.fill())]
        yield {"services": services}
        services.changes.end()
        for task in background:
            task.cancel()
        await asyncio.gather(*background)
        await services.close()

    return lifespan


def base_url(settings: Settings) -> str:
    """Where a person on this machine reaches the web process."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def log_hint(services: Services) -> None:
    """Log how to start a first run, in one line that can be pasted into a shell."""
    settings, first = services.settings, services.tasks.first()
    if first is None:
        log_event("no_tasks", level=logging.WARNING, folder=settings.tasks_root)
        return
    path = "/test-runs/execute-configuration/{}/{}".format(*first)
    logging.getLogger("bugninja_runner").info("Start a run:  curl -X POST %s%s", base_url(settings), path)


class Server(uvicorn.Server):
    """Uvicorn's, which ends the streams of changes before it waits for connections to close."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        services: Services = self.lifespan.state["services"]
        services.changes.end()
        await super().shutdown(sockets)


def serve(app: ASGIApp, settings: Settings) -> bool:
    """Serve until a signal comes; whether the server could start at all."""
    config = uvicorn.Config(
        app,
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
    return server.started
