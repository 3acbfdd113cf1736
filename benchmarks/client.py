"""HTTP clients that cost as little as a client can: one that waits for each answer, and many at once.

`python -m benchmarks.client PORT PATH [PATH ...]` asks for each path without a pause, until it is ended.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Self, cast

import uvloop

HOST = "127.0.0.1"
FOR_EVER = 3600.0  # seconds
CHUNK = 256 * 1024
END_OF_HEAD = b"\r\n\r\n"


def request_bytes(path: str, method: str = "GET", headers: str = "") -> bytes:
    """A request as it goes over the wire; `headers` are whole lines."""
    length = "content-length: 0\r\n" if method == "POST" else ""
    return f"{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{length}{headers}\r\n".encode()


def body_length(head: bytes) -> int:
    """How many bytes follow the head of an answer."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


class Client:
    """One connection, one request at a time."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes, bytes]:
        """Status, head and body of the answer."""
        self._socket.sendall(request)
        content = self._socket.recv(CHUNK)
        while (end := content.find(END_OF_HEAD)) < 0:
            content += self._receive()
        head, body = content[:end], [content[end + len(END_OF_HEAD) :]]
        missing = body_length(head) - len(body[0])
        while missing > 0:
            body.append(self._receive())
            missing -= len(body[-1])
        return int(head[9:12]), head, b"".join(body)

    def events(self, path: str) -> Iterator[tuple[float, bytes]]:
        """The server-sent events of the path: when each was here (as `time.perf_counter` says it), and its text."""
        self._socket.sendall(request_bytes(path))
        content = b""
        while True:
            content += self._receive()
            while (end := content.find(b"\n\n")) >= 0:
                event, content = content[:end], content[end + 2 :]
                if b"data: " in event:
                    yield time.perf_counter(), event

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _receive(self) -> bytes:
        chunk = self._socket.recv(CHUNK)
        if not chunk:
            raise ConnectionError("the server closed the connection in the middle of an answer")
        return chunk


class Asking(asyncio.Protocol):
    """One of many clients: asks again as soon as it was answered. All answers to its request have the same length."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.answers = 0
        self._length: int | None = None
        self._seen = 0
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        """Count the answer, and ask again, once all of it is here."""
        self._seen += len(data)
        if self._length is None:
            self._head += data
            end = self._head.find(END_OF_HEAD)
            if end < 0:
                return
            self._length = end + len(END_OF_HEAD) + body_length(self._head[:end])
        if self._seen >= self._length and self._transport is not None:
            self._seen = 0
            self.answers += 1
            self._transport.write(self.request)


def requests_per_second(port: int, requests: Sequence[bytes], seconds: float) -> float:
    """How many are answered per second. There is a client for each request, which repeats it without a pause."""

    async def ask() -> float:
        loop = asyncio.get_running_loop()
        pairs = [await loop.create_connection(partial(Asking, request), HOST, port) for request in requests]
        began, before = time.perf_counter(), sum(asking.answers for _, asking in pairs)
        await asyncio.sleep(seconds)
        answers = sum(asking.answers for _, asking in pairs) - before
        took = time.perf_counter() - began
        for transport, _ in pairs:
            transport.abort()
        return answers / took

    return uvloop.run(ask())


if __name__ == "__main__":
    requests_per_second(int(sys.argv[1]), [request_bytes(path) for path in sys.argv[2:]], FOR_EVER)
