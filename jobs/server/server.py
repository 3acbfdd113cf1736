"""The web process as a server: its sockets, uvicorn, and what lives as long as the application does."""

import asyncio
import errno
import ipaddress
import logging
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any

import uvicorn
from anyio import CapacityLimiter
from starlette.applications import Starlette
from starlette.types import ASGIApp

from jobs.api.responses import Pacer
from jobs.server.protocol import Limits, Protocol
from jobs.services import Services
from runner.errors import SettingsError
from runner.log import log_event
from runner.settings import Settings

STOPPING_THREADS = 8  # for stopping runs, which may wait for locks
ACCEPTING_THREADS = 16  # for accepting runs, which may wait; those that show runs have their own
SHUTDOWN_SECONDS = 2  # for clients to take their answers when the process is asked to end
SIGNALS = (signal.SIGHUP, signal.SIGQUIT)  # end it like SIGTERM and SIGINT, which uvicorn looks after
DESCRIPTORS = 16384  # as many as the process asks for and uses, if it may
OTHER_DESCRIPTORS = 128  # that are no connection of a client
UNTAKEN_SECONDS = 60  # that a client may take nothing of what is sent to it
SWITCH_SECONDS = 0.001  # the longest that a thread which reads files delays the event loop; Python's default is 0.005

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[dict[str, Services]]]


def make_lifespan(settings: Settings, connect: Callable[[Settings], Services]) -> Lifespan:
    """The application's lifespan: `connect` makes its services when it starts, and they are closed when it ends."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Services]]:
        sys.setswitchinterval(SWITCH_SECONDS)
        services = app.state.services = connect(settings)
        app.state.pacer = Pacer()
        app.state.accepting = CapacityLimiter(ACCEPTING_THREADS)
        app.state.stopping = CapacityLimiter(STOPPING_THREADS)
        log_event("web_ready", url=settings.base_url, project=settings.project_root)
        log_hint(services)
        background = [asyncio.create_task(services.changes.run())]
        yield {"services": services}
        services.changes.end()
        for task in background:
            task.cancel()
        await asyncio.gather(*background)
        await services.close()

    return lifespan


def log_hint(services: Services) -> None:
    """Log where the pages are, and how to start a first run, in a line that can be pasted into a shell."""
    settings, first, logger = services.settings, services.tasks.first(), logging.getLogger("bugninja_runner")
    if settings.ui:
        logger.info("Open in a browser:  %s/", settings.base_url)
    if first is None:
        log_event("no_tasks", level=logging.WARNING, folder=settings.tasks_root)
        return
    path = "/test-runs/execute-configuration/{}/{}".format(*first)
    logger.info("Start a run:  curl -X POST %s%s", settings.base_url, path)


def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Sockets that listen at each address of the host. Raises `SettingsError` if there is none that can be used."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise SettingsError([f"HOST must be a name or an address of this machine, got {host!r}: {error}."]) from None
    sockets = []
    for family, address in dict.fromkeys((family, address) for family, *_, address in found):
        try:
            sockets.append(_listen(family, address, backlog))
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise SettingsError([_port_problem(error, port)]) from None
    if not sockets:
        raise SettingsError([f"HOST must be an address of this machine, got {host!r}."])
    return sockets


def _listen(family: int, address: Any, backlog: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; the connections inherit it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNTAKEN_SECONDS * 1000)
        listener.bind(address)
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def _port_problem(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        from runner.cli.machine import listener_on  # only here, since it takes long to import

        holder = listener_on(port)
        return f"PORT must be a free port, got {port}, which {holder or 'another process'} listens on."
    if error.errno == errno.EACCES:
        return f"PORT must be a port that this user may listen on, got {port}; most may from 1024."
    return f"HOST and PORT must be where this machine can listen, got port {port}: {error.strerror}."


def warn_if_open(settings: Settings, sockets: list[socket.socket]) -> None:
    """Warn if other machines can reach the web process, and need no token."""
    addresses = [ipaddress.ip_address(listener.getsockname()[0]) for listener in sockets]
    if not settings.api_token and not all(address.is_loopback for address in addresses):
        advice = "Who reaches this address may start tests: set API_TOKEN, or set HOST to 127.0.0.1."
        log_event("no_token", level=logging.WARNING, host=settings.host, advice=advice)


def connection_limit() -> int:
    """How many clients can be connected at once. Each may have a file open, so it is half of what is left of
    `RLIMIT_NOFILE`, which is raised before as far as it may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(8, (wanted - OTHER_DESCRIPTORS) // 2)


class Server(uvicorn.Server):
    """Uvicorn's, which ends the streams of changes before it waits for connections to close, and breaks off those that
    do not. It would cancel what serves them, which is an error in its log."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        services: Services = self.lifespan.state["services"]
        services.changes.end()
        asyncio.get_running_loop().call_later(SHUTDOWN_SECONDS, self._break_off)
        await super().shutdown(sockets)

    def _break_off(self) -> None:
        for connection in [*self.server_state.connections]:
            connection.transport.abort()


def make_server(app: ASGIApp, log_level: str, limits: Limits) -> Server:
    """The server of this application, which does not listen yet."""
    http: Any = partial(Protocol, limits=limits)
    config = uvicorn.Config(
        lambda: app,
        factory=True,  # else uvicorn calls the application, to see whether it is one
        loop="uvloop",
        http=http,
        ws="none",
        lifespan="on",  # "auto" would go on without one that fails
        log_config=None,  # its lines go the way of ours
        log_level=log_level.lower(),
        access_log=log_level == "DEBUG",
        server_header=False,
        backlog=limits.connections,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS + 1,
    )
    return Server(config)


def serve(app: ASGIApp, settings: Settings, limits: Limits | None = None) -> bool:
    """Serve until a signal comes; whether the server could start at all. Raises `SettingsError` if it cannot listen
    where the settings say."""
    limits = limits or Limits(connection_limit())
    sockets = listen(settings.host, settings.port, limits.connections)
    warn_if_open(settings, sockets)
    server = make_server(app, settings.log_level, limits)
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # which `nohup` wants to stay
            signal.signal(number, lambda _, frame: server.handle_exit(signal.SIGTERM, frame))
    with suppress(KeyboardInterrupt):  # which uvicorn raises again when it has ended
        server.run(sockets)
    return server.started
