"""The page of one run, and its changes."""

from collections.abc import Sequence
from typing import Annotated

from anyio import to_thread
from markupsafe import Markup
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.parameters import parse_query
from jobs.api.responses import RenderedResponse, services
from jobs.page.live import Parts, as_document, read_notice, stream_parts
from jobs.page.log_lines import last_lines
from jobs.page.steps import Window, first_of_page, last_picture, run_steps, same_picture
from jobs.page.templates import HEADERS, element, page
from jobs.run.document import RunDocument
from jobs.services import Services
from jobs.status.cache import RenderedJSON
from runner.ids import parse_task_id
from runner.project.media import recordings

TEMPLATE = "run_parts.html"


class StepsQuery(Struct, frozen=True):
    """From which step on."""

    start: Annotated[int, Meta(ge=1, le=10**6, description="an integer from 1 to 1000000")] = 1


class Passed(Struct, frozen=True):
    """The picture of the same step of the last run that passed."""

    run_id: str
    step: int
    picture: str


async def show_run(request: Request) -> Response:
    """A run, with its steps from `start` on."""
    found, run_id, start = asked_for(request)
    document = await found.reader.document(run_id)
    parts = await read_parts(found, document, start)
    return await page(
        request,
        "run.html",
        run=document,
        parts=parts,
        start=start,
        picture=first_picture(document),
        log=await to_thread.run_sync(last_lines, found.reader, run_id),
        curl=curl(found, document),
        live="" if document.current_state.is_final else f"/ui/events/runs/{run_id}?start={start}",
        version=as_document(parts).id,
    )


async def watch_run(request: Request) -> Response:
    """The changes of such a page."""
    found, run_id, start = asked_for(request)

    async def read() -> RenderedJSON:
        document = await found.reader.document(run_id)
        parts = await read_parts(found, document, start)
        return as_document(parts, is_final=document.current_state.is_final)

    return await stream_parts(request, run_id, read)


async def show_steps(request: Request) -> Response:
    """The steps from `start` on, as parts of the page."""
    found, run_id, start = asked_for(request)
    document = await found.reader.document(run_id)
    parts = await to_thread.run_sync(render_steps, document, start)
    return RenderedResponse(as_document(parts).body, headers=HEADERS)


def asked_for(request: Request) -> tuple[Services, str, int]:
    """The services, the run and the first step that a request is about. Raises `Invalid`."""
    start = parse_query(StepsQuery, request.query_params).start
    return services(request), request.path_params["run_id"], first_of_page(start)


async def read_parts(found: Services, document: RunDocument, start: int) -> Parts:
    """The parts of the page that change."""
    passed = await read_passed(found, document)
    videos = await to_thread.run_sync(run_recordings, found, document)
    return {
        **await read_notice(found),
        **await to_thread.run_sync(render_head, document, passed, videos),
        **await to_thread.run_sync(render_steps, document, start),
    }


async def read_passed(found: Services, document: RunDocument) -> Passed | None:
    """What to look at beside the picture of a failure."""
    if document.failure is None or document.test_case is None:
        return None
    (statistics,) = await to_thread.run_sync(found.statistics.of_tasks, {document.test_case.id})
    last = statistics.last_passed
    other = await found.reader.find(last.id) if last else None
    picture = same_picture(document, other) if other else None
    return Passed(other.id, *picture) if other and picture else None


def render_head(document: RunDocument, passed: Passed | None, videos: Sequence[str]) -> dict[str, Markup]:
    """The parts that tell of the run as a whole."""
    return {
        "head": element(TEMPLATE, "head", document),
        "buttons": element(TEMPLATE, "buttons", document),
        "result": element(TEMPLATE, "result", document, passed, failed_step_url(document)),
        "recordings": element(TEMPLATE, "recordings", videos),
        "timing": element(TEMPLATE, "timing", document),
    }


def render_steps(document: RunDocument, start: int) -> dict[str, Markup]:
    """SHOWN steps from `start` on, their pictures, and what is said of the others."""
    window, parts = Window(start, len(document.brain_states)), dict[str, Markup]()
    for step in run_steps(document, window.start, window.end):
        parts[step.name] = element(TEMPLATE, "step", step)
        if step.picture:
            parts[f"frame-{step.number}"] = element(TEMPLATE, "frame", step)
    parts["more"] = element(TEMPLATE, "more", document.id, window)
    return parts


def failed_step_url(document: RunDocument) -> str | None:
    """Where the page shows the step that failed."""
    step = document.failure.step if document.failure else None
    if not step:
        return None
    start = first_of_page(step)
    return f"{f'?start={start}' if start > 1 else ''}#step-{step}"


def first_picture(document: RunDocument) -> str | None:
    """The picture that is seen before another one is chosen: that of the failure, else the last one."""
    if document.failure and document.failure.screenshot:
        return document.failure.screenshot
    return next(filter(None, map(last_picture, reversed(document.brain_states))), None)


def run_recordings(found: Services, document: RunDocument) -> list[str]:
    """The paths of the run's recordings below the server's root. Reads the disk."""
    if document.test_case is None or document.artifacts:
        return []
    task_id = parse_task_id(document.test_case.id)
    ids = {document.id, document.traversal_id or document.id}
    return recordings(found.settings.tasks_root, task_id, ids) if task_id else []


def curl(found: Services, document: RunDocument) -> str:
    """The command that starts the same again."""
    token = ' -H "Authorization: Bearer $API_TOKEN"' if found.settings.api_token else ""
    return f"curl -X POST{token} {found.settings.base_url}/test-runs/{document.id}/rerun"
