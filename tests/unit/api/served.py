"""The application on a real socket, served by a thread of this process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jobs.server.protocol import Limits
from jobs.server.server import Server, listen, make_server
from tests.waiting import wait_for


class Served:
    """A server that runs, and its port."""

    def __init__(self, app: Any, limits: Limits, log_level: str) -> None:
        self.server: Server = make_server(app, log_level, limits)
        (listener,) = listen("127.0.0.1", 0, 100)
        self.port: int = listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, args=[listener])
        self.thread.start()
        wait_for(lambda: self.server.started or not self.thread.is_alive(), 10, "the start of the server")
        assert self.server.started

    @property
    def connections(self) -> int:
        return len(self.server.server_state.connections)

    def _run(self, listener: socket.socket) -> None:
        with listener:
            self.server.run([listener])

    def end(self) -> None:
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive()


@contextmanager
def serving(app: Any, connections: int = 100, seconds: float = 10.0, log_level: str = "INFO") -> Iterator[Served]:
    """Serve the application with these limits."""
    served = Served(app, Limits(connections, seconds), log_level)
    try:
        yield served
    finally:
        served.end()
