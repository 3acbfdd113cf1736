"""One connection to a client: uvicorn's protocol, with limits on the time and the room that a request may take.

What is handed to the application is uvicorn's matter. What never gets there is answered here, as JSON like all else.
"""

import asyncio
import logging
from typing import Any, Literal, NamedTuple

import httptools
import msgspec
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from runner.log import log_event

HEAD_BYTES = 32 * 1024  # of the request line and all headers
HEADERS = 100
LINGER_SECONDS = 1.0  # in which a refused client can read why: closing at once would reset what it still sends


class Limits(NamedTuple):
    """What clients may take of the server."""

    connections: int
    """At once. One more ends the one that has waited longest for its client, or else gets 503."""
    request_seconds: float = 10.0
    """From the first byte of a request, or from the connection, until all of it is here."""


class TooLarge(Exception):
    """The head of a request is over its limits."""


class Protocol(HttpToolsProtocol):
    """The connection. A client that is waited for has a timer: the deadline here, or uvicorn's for an idle one."""

    def __init__(self, *args: Any, limits: Limits, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self._arriving: Literal["", "head", "body"] = ""  # the part of a request that is not all here
        self._head_bytes = self._head_lines = 0
        self._refused = False
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()
        if len(self.connections) > self._limits.connections:
            waiting = [one for one in self.connections if isinstance(one, Protocol) and one is not self and one.due]
            oldest = min(waiting, key=lambda one: one.due, default=self)
            oldest.refuse(503, "The server has too many connections; try again in a moment.", linger=0)

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        if self.cycle is not None and not (self.cycle.response_complete or self.cycle.disconnected):
            log_event("client_left", level=logging.DEBUG, path=self.cycle.scope["path"])
        super().connection_lost(exc)

    @property
    def due(self) -> float:
        """When, by the clock of the event loop, the client has to have sent something; 0 if it waits for us."""
        timer = self._deadline or self.timeout_keep_alive_task
        return 0.0 if timer is None else timer.when()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._unset_keepalive_if_required()
        began_before = self._arriving == "head"
        try:
            self.parser.feed_data(data)
            if began_before and self._arriving == "head":  # a line without an end would be kept until memory is full
                self._count(len(data), 0)
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False  # it is answered as if it had not asked; what follows it is not HTTP/1.1
        except (TooLarge, httptools.HttpParserError) as error:
            limit = error if isinstance(error, TooLarge) else error.__context__  # which a callback has raised
            if isinstance(limit, TooLarge):
                self.refuse(431, str(limit))
            else:
                self.refuse(400, "The request must be HTTP/1.1 that can be read, got something else.")
        if self._arriving or self.cycle is None or self.cycle.response_complete:
            self._expect()

    def on_message_begin(self) -> None:
        self._arriving, self._head_bytes, self._head_lines = "head", 0, 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url), 0)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value), 1)
        if self._arriving == "head":  # else it comes after the body, when the headers are judged already
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._arriving = "body"

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._arriving = ""
        self._expect_nothing()

    def shutdown(self) -> None:
        """The server ends: who has not sent its request by now need not send the rest."""
        if self._arriving:
            self.refuse(503, "The server is being stopped.")
        super().shutdown()

    def refuse(self, status: int, detail: str, linger: float = LINGER_SECONDS) -> None:
        """Close the connection: with this answer where it would be one to the request that is arriving."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        self._expect_nothing()
        self._unset_keepalive_if_required()
        log_event("connection_refused", level=logging.DEBUG, status=status, detail=detail)
        if self._may_answer:
            self.transport.write(_answer(status, detail))
            self.transport.write_eof()
            self.loop.call_later(linger, self.transport.close)
        else:
            self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    @property
    def _may_answer(self) -> bool:
        """Whether the client would take an answer for one to the request that is arriving."""
        if self.cycle is None:
            return True
        if self._arriving == "body":
            return not self.cycle.response_started and not self.pipeline
        return self.cycle.response_complete

    def _count(self, size: int, lines: int) -> None:
        self._head_bytes += size
        self._head_lines += lines
        if self._head_bytes > HEAD_BYTES:
            raise TooLarge(f"The request line and headers must be at most {HEAD_BYTES} bytes, got more.")
        if self._head_lines > HEADERS:
            raise TooLarge(f"A request must have at most {HEADERS} headers, got more.")

    def _expect(self) -> None:
        if self._deadline is None and not self._refused:
            self._deadline = self.loop.call_later(self._limits.request_seconds, self._on_deadline)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _on_deadline(self) -> None:
        self._deadline = None
        answering = self.cycle is not None and not self.cycle.response_complete and self._arriving != "body"
        if answering or self.flow.read_paused:
            self._expect()  # it is the client that waits for us
        elif self._arriving:
            seconds = f"{self._limits.request_seconds:g} seconds"
            self.refuse(408, f"The whole request must arrive within {seconds}, got only a part of it.")
        else:
            self.transport.close()


def _answer(status: int, detail: str) -> bytes:
    body = msgspec.json.encode({"detail": detail})
    head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return STATUS_LINE[status] + head.encode() + body
