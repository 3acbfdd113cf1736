"""Files over HTTP: a run's log, its pictures and recordings, whole or in ranges."""

import re
from collections.abc import Callable, Mapping
from typing import BinaryIO, NamedTuple

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from jobs.api.parameters import LogQuery, parse_query
from jobs.api.responses import NO_SNIFFING, JSONResponse, etag_matches, services
from jobs.queue.records import check_media_kept
from runner.errors import NotFound
from runner.files import file_size, last_lines, read_span
from runner.project.media import Media, open_media

PLAIN_TEXT = "text/plain; charset=utf-8"
RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


class Span(NamedTuple):
    """The bytes from `start` up to `end` (not included), and the HTTP status that goes with them."""

    start: int
    end: int
    status: int

    def content_range(self, size: int) -> str:
        """The value of the Content-Range header for a file of this size."""
        return f"bytes */{size}" if self.status == 416 else f"bytes {self.start}-{self.end - 1}/{size}"


def parse_range(header: str | None, size: int) -> Span:
    """What a Range header asks for (RFC 9110): 206 a part, 416 a part that is not there, 200 everything.

    A header that is not understood asks for everything.
    """
    found = RANGE.fullmatch(header.strip()) if header is not None else None
    if found is None or found.groups() == ("", ""):
        return Span(0, size, 200)
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if (first and last and int(last) < int(first)) or start >= size:
        return Span(0, 0, 416)
    return Span(start, end, 206)


class FileResponse(StreamingResponse):
    """A part of an open file, which is closed at the end, also when the client has left."""

    def __init__(self, file: BinaryIO, span: Span, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(read_span(file, span.start, span.end), span.status, headers, media_type)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


async def get_log(request: Request) -> Response:
    """Show what the run's CLI has printed so far: all of it, its last lines, or what came after an offset."""
    query = parse_query(LogQuery, request.query_params)
    return await to_thread.run_sync(_read_log, request, query)


def _read_log(request: Request, query: LogQuery) -> Response:
    file = services(request).reader.open_log(request.path_params["run_id"])
    return answer_from(file, lambda: log_response(request, query, file))


def log_response(request: Request, query: LogQuery, file: BinaryIO) -> Response:
    """The part of the log that `tail` (lines), `offset` (bytes) or a `Range` header asks for.

    `X-Next-Offset` is the `offset` to ask for next when following a log that grows.
    """
    size = file_size(file)
    headers = {"Cache-Control": "no-store"}
    if query.tail is not None:
        text = last_lines(file, size, query.tail)
        return Response(text, media_type=PLAIN_TEXT, headers={**NO_SNIFFING, **headers, "X-Next-Offset": str(size)})
    following = None if query.offset is None else Span(min(query.offset, size), size, 200)
    span = following or parse_range(request.headers.get("range"), size)
    headers["X-Next-Offset"] = str(size if span.status == 416 else span.end)
    return span_response(request, file, span, size, PLAIN_TEXT, headers)


async def get_media(request: Request) -> Response:
    """Show a screenshot or a recording."""
    return await to_thread.run_sync(_read_media, request)


def _read_media(request: Request) -> Response:
    task, folder, path = (request.path_params[name] for name in ("test_case_id", "folder", "path"))
    tasks_root = services(request).settings.tasks_root
    try:
        media = open_media(tasks_root, task, folder, path)
    except NotFound:
        check_media_kept(tasks_root, task, path)
        raise
    return answer_from(media.file, lambda: media_response(request, media))


def media_response(request: Request, media: Media) -> Response:
    """The part of the picture or recording that a `Range` header asks for, or 304."""
    headers = {"Cache-Control": "no-cache", "ETag": media.etag}
    if etag_matches(request, media.etag):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("range") if request.headers.get("if-range", media.etag) == media.etag else None
    return span_response(request, media.file, parse_range(wanted, media.size), media.size, media.type, headers)


def answer_from(file: BinaryIO, answer: Callable[[], Response]) -> Response:
    """The answer, which is made of this file. The file is closed unless the answer will read it, and then close it."""
    response = None
    try:
        response = answer()
    finally:
        if not isinstance(response, FileResponse):
            file.close()
    return response


def span_response(
    request: Request, file: BinaryIO, span: Span, size: int, media_type: str, headers: Mapping[str, str]
) -> Response:
    """This part of the file, which has `size` bytes in all."""
    all_headers = {**NO_SNIFFING, "Accept-Ranges": "bytes", **headers}
    if span.status != 200:
        all_headers["Content-Range"] = span.content_range(size)
    if span.status == 416:
        detail = f"The file has {size} bytes, and none of those that Range asks for."
        return JSONResponse({"detail": detail}, 416, all_headers)
    all_headers["Content-Length"] = str(span.end - span.start)
    if request.method == "HEAD":
        return Response(None, span.status, all_headers, media_type)
    return FileResponse(file, span, all_headers, media_type)
