"""HTTP over a plain socket: what no client library would send, and what comes back."""

import contextlib
import io
import json
import socket
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple


class RawAnswer(NamedTuple):
    """One answer: its status, its headers by their lower-case names, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def detail(self) -> Any:
        """The sentence of an error."""
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)["detail"]


class KeptReader(io.BufferedReader):
    """What the socket sends. It stays open when an answer is read, since others may follow."""

    def makefile(self, mode: str) -> "KeptReader":
        return self

    def close(self) -> None:
        pass


class Talk:
    """A connection to a port of this machine. Use it in a `with`."""

    def __init__(self, port: int, sent: bytes = b"", seconds: float = 10) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self.reader = KeptReader(socket.SocketIO(self.socket, "r"))
        self.send(sent)

    def __enter__(self) -> "Talk":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, content: bytes) -> None:
        """Send it, as far as the other side takes it."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(content)

    def answer(self, method: str = "GET") -> RawAnswer | None:
        """The next answer; None if the connection is closed instead."""
        reader: Any = self.reader
        response = HTTPResponse(reader, method=method)
        try:
            response.begin()
            body = response.read()
        except (HTTPException, ConnectionResetError):
            return None
        return RawAnswer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)

    def is_closed(self) -> bool:
        """Whether the other side closes the connection without another word."""
        try:
            return self.reader.read(1) == b""
        except ConnectionResetError:
            return True


def ask(port: int, sent: bytes, method: str = "GET") -> RawAnswer | None:
    """The answer to these bytes on a connection of their own."""
    with Talk(port, sent) as talk:
        return talk.answer(method)


def get(path: str, *headers: str) -> bytes:
    """A whole GET request."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()
