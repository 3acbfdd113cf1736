"""Responses: JSON, 304, and large bodies that are sent in turns."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from jobs.services import Services
from jobs.status.cache import RenderedJSON, render_json

API_PREFIX = "/api/v1"
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
SMALL_BYTES = 8 * 1024  # a body up to this size does not wait for its turn
CHUNK_BYTES = 64 * 1024  # of a large body, sent at once


class JSONResponse(Response):
    """JSON of anything that msgspec can write."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class Pacer:
    """Lets one large body, or one chunk of one, be sent per turn of the event loop, first come, first served.

    So small responses need not wait for all the large ones that are ready.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def wait(self) -> None:
        """Return when it is the caller's turn."""
        async with self._lock:
            await asyncio.sleep(0)


class RenderedResponse(Response):
    """JSON that is rendered already. A body over SMALL_BYTES waits for its turn, a large one for one per chunk."""

    media_type = JSONResponse.media_type

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pacer: Pacer = scope["app"].state.pacer
        if len(self.body) <= CHUNK_BYTES:
            if len(self.body) > SMALL_BYTES:
                await pacer.wait()
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for chunk in chunks(self.body):
            await pacer.wait()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if self.background is not None:
            await self.background()


def chunks(content: bytes | memoryview) -> Iterator[memoryview]:
    """The content in parts of at most CHUNK_BYTES; nothing is copied."""
    view = memoryview(content)
    return (view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES))


def services(request: Request) -> Services:
    """The services of the application that serves the request."""
    found: Services = request.app.state.services
    return found


def prefix_of(request: Request) -> str:
    """The prefix with which the client called, for the addresses that it is told."""
    return API_PREFIX if request.url.path.startswith(f"{API_PREFIX}/") else ""


def etag_matches(request: Request, etag: str, *, default: bool = False) -> bool:
    """Whether `If-None-Match` names this ETag; `default` if the request has no such header."""
    header = request.headers.get("if-none-match")
    if header is None:
        return default
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags


def not_modified_or(request: Request, rendered: RenderedJSON) -> Response:
    """304 if the client has this content already, else the content."""
    headers = {"Cache-Control": "private, no-cache", "ETag": rendered.etag}
    if etag_matches(request, rendered.etag):
        return Response(status_code=304, headers=headers)
    return RenderedResponse(rendered.body, headers=headers)


async def respond(request: Request, read: Callable[..., Any], *arguments: Any) -> Response:
    """What `read` returns, called in a thread because it may read the disk; 304 if the client has it already."""
    return not_modified_or(request, await to_thread.run_sync(lambda: render_json(read(*arguments))))
