"""A TCP proxy in front of a server, which can delay, hold back or cut what goes through it."""

import socket
import threading
import time
from contextlib import suppress

REQUESTS, ANSWERS = "requests", "answers"  # the two directions
CHUNK = 64 * 1024


class Proxy:
    """Listens on `port` and forwards to the port `target` of this machine, which may change for new connections.
    `delay` holds each piece of data for so many seconds."""

    def __init__(self, target: int, delay: float = 0.0) -> None:
        self.delay = delay
        self.target = target
        self._flows = {REQUESTS: threading.Event(), ANSWERS: threading.Event()}
        self._word: bytes | None = None
        self._after_word = ANSWERS
        self._connections: set[socket.socket] = set()
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])
        self.heal()

    def block(self, *directions: str) -> None:
        """From now on hold back all data in these directions (without any, in both); connections stay open."""
        for direction in directions or (REQUESTS, ANSWERS):
            self._flows[direction].clear()

    def block_answers_to(self, word: bytes) -> None:
        """Forward the next request that contains this word, but neither its answer nor any later one."""
        self._word, self._after_word = word, ANSWERS

    def block_requests_from(self, word: bytes) -> None:
        """Forward neither the next request that contains this word nor any later one."""
        self._word, self._after_word = word, REQUESTS

    def has_met_word(self) -> bool:
        """Whether that request has come."""
        return self._word is None

    def heal(self) -> None:
        """Forward everything again, also what was held back; accept connections again."""
        self._word = None
        for flow in self._flows.values():
            flow.set()
        if self._listener.fileno() < 0:
            self._listener = self._listen(self.port)

    def cut(self) -> None:
        """Close all connections, and refuse new ones."""
        self._shut(self._listener)
        self.drop()

    def drop(self) -> None:
        """Close all connections; new ones are accepted."""
        for connection in list(self._connections):
            self._shut(connection)

    def close(self) -> None:
        """Cut everything, and let the threads end."""
        self.cut()
        for flow in self._flows.values():
            flow.set()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            self._connections |= {client, server}
            for source, sink, direction in ((client, server, REQUESTS), (server, client, ANSWERS)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._forward, args=(source, sink, direction), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, direction: str) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK):
                if self.delay:
                    time.sleep(self.delay)
                if direction == REQUESTS and self._word is not None and self._word in data:
                    self._flows[self._after_word].clear()
                    self._word = None
                self._flows[direction].wait()
                sink.sendall(data)
        self._flows[direction].wait()  # a partition hides the end of a connection, too
        for end in (source, sink):
            self._connections.discard(end)
            self._shut(end)

    @staticmethod
    def _shut(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # which wakes the thread that waits for it; close alone does not
        connection.close()
