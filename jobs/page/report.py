"""A run (or a batch) as one HTML file, which needs no server and no other file: texts first, then its pictures as data.

Of its pictures nothing is in memory as a whole: they are sent as they are read.
"""

import base64
import hashlib
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from anyio import to_thread
from markupsafe import Markup
from msgspec import Meta, Struct
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from jobs.api.parameters import parse_query
from jobs.api.responses import services
from jobs.page.log_lines import last_lines
from jobs.page.run import Passed, read_passed
from jobs.page.steps import Step, run_steps
from jobs.page.templates import HEADERS, render_stream
from jobs.run.document import RunDocument
from runner.errors import NotFound
from runner.project.media import Media, open_media

HTML = "text/html; charset=utf-8"
STATIC_FOLDER = Path(__file__).with_name("static")
PICTURE_BLOCK = 48 * 1024  # of a picture, read at once; a multiple of 3, so that its parts in base64 can be joined
TEXT_BLOCK = 32 * 1024  # characters that are sent at once
MB = 1024 * 1024


class ReportQuery(Struct, frozen=True):
    """Which pictures."""

    images: Annotated[
        Literal["all", "failed", "none"],
        Meta(description="all, failed (those of the step that failed and of its neighbours) or none"),
    ] = "all"


class Pictures(NamedTuple):
    """The pictures that a report has, and how many it has not: there is no room, or no file."""

    names: dict[str, str]
    """The IDs of their elements, by their paths below the server's root."""
    left_out: int
    missing: int


async def get_report(request: Request) -> Response:
    """Show a run as one HTML file, to be mailed and opened from a disk: it needs no server and no other file."""
    images, found = parse_query(ReportQuery, request.query_params).images, services(request)
    run = await found.reader.document(request.path_params["run_id"])
    passed = await read_passed(found, run) if images != "none" else None
    steps = await to_thread.run_sync(run_steps, run)
    return await send_report(
        request,
        f"run-{run.id}",
        "report.html",
        in_order_of_need(run, steps, passed, images),
        run=run,
        passed=passed,
        log=await to_thread.run_sync(last_lines, found.reader, run.id),
        steps=steps,
        is_over=run.finished_at is not None,
    )


async def send_report(request: Request, name: str, template: str, wanted: Iterable[str], **values: Any) -> Response:
    """The file of this name, made of the template with these values and as many of the wanted pictures as fit."""
    settings, script, style = services(request).settings, read_static("report.js"), read_static("style.css")
    policy = content_policy(script, style)
    headers = {
        **HEADERS,
        "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
        "Content-Disposition": f'inline; filename="{name}.html"',
    }
    if request.method == "HEAD":
        return Response(media_type=HTML, headers=headers)
    pictures = await to_thread.run_sync(choose, settings.tasks_root, wanted, settings.report_max_mb * MB)
    contents = {name: picture_content(settings.tasks_root, path) for path, name in pictures.names.items()}
    text = render_stream(
        template,
        pictures=pictures,
        contents=contents,
        script=Markup(script),  # noqa: S704 (these two are files of ours)
        style=Markup(style),  # noqa: S704
        policy=policy,
        made_at=datetime.now(UTC),
        **values,
    )
    end = BackgroundTask(close_all, contents.values())  # also when the client leaves in the middle
    return StreamingResponse(blocks(text), media_type=HTML, headers=headers, background=end)


def in_order_of_need(run: RunDocument, steps: list[Step], passed: Passed | None, images: str) -> list[str]:
    """The paths of the wanted pictures, each once: those of the failure first, then those around it, then all."""
    if images == "none":
        return []
    failed = run.failure.step if run.failure else None
    found = {step.number: [one.screenshot for one in step.state.history_elements if one.screenshot] for step in steps}
    near = [failed, failed - 1, failed + 1] if failed else []
    numbers = near if images == "failed" else [*near, *found]
    first = [run.failure.screenshot if run.failure else None, passed.picture if passed else None]
    return [path for path in dict.fromkeys([*first, *(path for n in numbers for path in found.get(n, []))]) if path]


def choose(root: Path, wanted: Iterable[str], limit: int) -> Pictures:
    """As many of these pictures, in this order, as fit into so many bytes of the report. Reads the disk."""
    names, room, left_out, missing = dict[str, str](), limit, 0, 0
    for path in wanted:
        try:
            picture = open_picture(root, path)
        except NotFound:
            missing += 1
            continue
        picture.file.close()
        size = -(-picture.size // 3) * 4
        if size <= room:
            room -= size
            names[path] = f"picture-{len(names) + 1}"
        else:
            left_out += 1
    return Pictures(names, left_out, missing)


def open_picture(root: Path, path: str) -> Media:
    """The picture with this path below the server's root (as a run document has it), open. Raises `NotFound`."""
    _, task, folder, rest = [*path.split("/", 3), "", "", ""][:4]
    return open_media(root, task, folder, rest)


def picture_content(root: Path, path: str) -> Generator[str, None, None]:
    """The picture as a `data:` URL, in parts; the part of it that can be read."""
    with suppress(NotFound, OSError):
        media = open_picture(root, path)
        with media.file as file:
            yield f"data:{media.type};base64,"
            for start in range(0, media.size, PICTURE_BLOCK):  # a file that grows meanwhile does not make it longer
                yield base64.b64encode(file.read(min(PICTURE_BLOCK, media.size - start))).decode()


def close_all(contents: Iterable[Generator[str, None, None]]) -> None:
    """Close the files that these still have open."""
    for content in contents:
        content.close()


def blocks(pieces: Iterable[str]) -> Iterator[bytes]:
    """The same text in larger pieces: each is handed from thread to thread."""
    waiting, size = list[str](), 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= TEXT_BLOCK:
            yield "".join(waiting).encode(errors="replace")
            waiting, size = [], 0
    yield "".join(waiting).encode(errors="replace")


def read_static(name: str) -> str:
    """A file of ours that stands in the report."""
    return (STATIC_FOLDER / name).read_text()


def content_policy(script: str, style: str) -> str:
    """What the file may do, wherever it is opened: run this one script, be styled by this one, show what is in it."""
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style))
    sources = "script-src 'sha256-{}'; style-src 'sha256-{}'".format(*hashes)
    return f"default-src 'none'; {sources}; img-src data:; base-uri 'none'; form-action 'none'"
