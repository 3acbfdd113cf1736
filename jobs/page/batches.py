"""The pages of all batches and of one, and a batch as one file."""

import asyncio
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Literal, NamedTuple

import msgspec
from anyio import to_thread
from markupsafe import Markup
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.parameters import parse_query
from jobs.api.responses import services
from jobs.page.live import Parts, as_document, read_notice, stream_parts
from jobs.page.report import send_report
from jobs.page.runs import ShownQuery
from jobs.page.steps import pictures, run_steps
from jobs.page.templates import STATES, element, page
from jobs.run.batch import BatchDocument, BatchItem, RunLine
from jobs.run.failure import Failure
from jobs.run.state import Reason
from jobs.services import Services
from jobs.status.cache import RenderedJSON
from jobs.status.changes import EVERY_RUN
from jobs.status.query import Page, PageNumber, PageQuery
from runner.errors import NotFound
from runner.ids import parse_run_id

TEMPLATE = "batch_parts.html"
PAGE_SIZE = 25
MOST_CARDS = 100  # in a report
ORDER = ("failed", "error", "running", "stopped", "pending", "passed")  # of the runs of a batch
TEXT_OF_ALL, TEXT_OF_ONE = 25_000, 50  # characters of messages: what the runs of a batch share, and the least of each


class BatchesQuery(Struct, frozen=True):
    """Which page of the list."""

    page: PageNumber = 1


class BatchReportQuery(Struct, frozen=True):
    """Which pictures."""

    images: Annotated[
        Literal["all", "failed", "none"],
        Meta(description="all (of the runs that did not pass), failed (one of each of them, at its failure) or none"),
    ] = "failed"


class Card(NamedTuple):
    """What a report says of a run that did not pass. The paths of more pictures come with the numbers of their
    steps."""

    line: RunLine
    failure: Failure
    pictures: Sequence[tuple[int, str]] = ()


async def show_batches(request: Request) -> Response:
    """The batches, a page of them."""
    found, number = services(request), parse_query(BatchesQuery, request.query_params).page
    batches = await read_page(found, number, PAGE_SIZE)
    watched = [batch.id for batch in batches.items if not batch.current_state.is_final]
    parts = await read_list(found, watched, batches.total_count)
    return await page(
        request,
        "batches.html",
        batches=batches,
        parts=parts,
        page_url=lambda number: f"/ui/batches?page={number}",
        curl=curl(found),
        live=f"/ui/events/batches?batches={','.join(watched)}&total={batches.total_count}",
        is_moving=bool(watched),
        version=as_document(parts).id,
    )


async def watch_batches(request: Request) -> Response:
    """The changes of such a page: of those of its batches that are not over, and how many are new."""
    found, total = services(request), parse_query(ShownQuery, request.query_params).total
    texts = request.query_params.get("batches", "").split(",")[:PAGE_SIZE]
    watched = [batch_id for text in texts if (batch_id := parse_run_id(text))]

    async def read() -> RenderedJSON:
        return as_document(await read_list(found, watched, total))

    return await stream_parts(request, EVERY_RUN, read)


async def read_page(found: Services, number: int, size: int) -> Page[BatchItem]:
    """The page of batches."""
    rendered = await found.batches.page(PageQuery(number, size))
    return msgspec.json.decode(rendered.body, type=Page[BatchItem])


async def read_list(found: Services, watched: Sequence[str], total: int) -> Parts:
    """The parts of the list that change. The row of a batch that was deleted is hidden."""
    newest = await read_page(found, 1, 1)
    rows = await asyncio.gather(*(read_row(found, batch_id) for batch_id in watched))
    return {
        **await read_notice(found),
        "new": element("parts.html", "news", newest.total_count - total, "/ui/batches"),
        **{f"batch-{batch_id}": row for batch_id, row in zip(watched, rows, strict=True)},
    }


async def read_row(found: Services, batch_id: str) -> Markup:
    """The row of this batch in the list."""
    try:
        return element(TEMPLATE, "row", await found.batches.document(batch_id))
    except NotFound:
        return element("parts.html", "gone", f"batch-{batch_id}")


def curl(found: Services) -> str:
    """The command that starts a batch of all tasks."""
    token = ' -H "Authorization: Bearer $API_TOKEN"' if found.settings.api_token else ""
    return f"curl --json '{{\"all\": true}}'{token} {found.settings.base_url}/batches"


async def show_batch(request: Request) -> Response:
    """A batch, with a line for each of its runs: those that did not pass come first."""
    found = services(request)
    batch = await found.batches.document(request.path_params["batch_id"])
    parts = await read_parts(found, batch)
    return await page(
        request,
        "batch.html",
        batch=batch,
        parts=parts,
        rows=[parts[f"run-{line.id}"] for line in in_order(batch.runs)],
        live="" if batch.current_state.is_final else f"/ui/events/batches/{batch.id}",
        version=as_document(parts).id,
    )


async def watch_batch(request: Request) -> Response:
    """The changes of such a page."""
    found = services(request)

    async def read() -> RenderedJSON:
        batch = await found.batches.document(request.path_params["batch_id"])
        return as_document(await read_parts(found, batch), is_final=batch.current_state.is_final)

    return await stream_parts(request, EVERY_RUN, read)


async def read_parts(found: Services, batch: BatchDocument) -> Parts:
    """The parts of the page that change."""
    return {
        **await read_notice(found),
        "head": element(TEMPLATE, "head", batch),
        "buttons": element(TEMPLATE, "buttons", batch),
        **await to_thread.run_sync(render_rows, found, batch.runs),
    }


def render_rows(found: Services, runs: Sequence[RunLine], address: str | None = "/ui/runs/") -> dict[str, Markup]:
    """The rows of the runs of a batch, by their IDs; without links, if there is no address. Reads the statistics of
    their tasks."""
    medians = {task.task_id: task.duration.p50 for task in found.statistics.of_tasks({run.task_id for run in runs})}
    length = max(TEXT_OF_ONE, TEXT_OF_ALL // max(1, len(runs)))
    return {
        f"run-{run.id}": render_row(run, medians.get(run.task_id), length, address and f"{address}{run.id}")
        for run in runs
    }


@lru_cache(4 * 500)  # rows of a few large batches: most of them have not changed since they were last made
def render_row(run: RunLine, median: float | None, length: int, url: str | None) -> Markup:
    """The row of this run; its texts have at most so many characters."""
    return element(TEMPLATE, "line", run, median, length, url)


def in_order(runs: Iterable[RunLine]) -> list[RunLine]:
    """Those first that one has to look at."""
    return sorted(runs, key=lambda run: ORDER.index(word_of(run)))


def word_of(run: RunLine) -> str:
    """How the run stands, as batches count it."""
    return "stopped" if run.reason is Reason.STOPPED else STATES[run.current_state][1]


async def get_batch_report(request: Request) -> Response:
    """Show a batch as one HTML file, its failures first, to be mailed and opened from a disk."""
    images, found = parse_query(BatchReportQuery, request.query_params).images, services(request)
    batch = await found.batches.document(request.path_params["batch_id"])
    runs = in_order(batch.runs)
    bad = [run for run in runs if run.current_state.is_failure]
    read = bad[:MOST_CARDS] if request.method != "HEAD" else []
    cards = [await read_card(found, run, images) for run in read]  # one after the other: each may be large
    rows = await to_thread.run_sync(render_rows, found, runs, None)
    return await send_report(
        request,
        f"batch-{batch.id}",
        "batch_report.html",
        [] if images == "none" else in_order_of_need(cards),
        batch=batch,
        cards=cards,
        left_out=len(bad) - len(cards),
        rows=rows.values(),
        is_over=batch.current_state.is_final,
    )


async def read_card(found: Services, run: RunLine, images: str) -> Card:
    """What is said of this run; if it was deleted, that is what the batch knows of it."""
    document = await found.reader.find(run.id)
    if document is None or document.failure is None:
        return Card(run, Failure(None, run.failed_action, None, run.message, run.failed_url, None, [], None, None))
    steps = await to_thread.run_sync(run_steps, document) if images == "all" else []
    return Card(run, document.failure, pictures(steps))


def in_order_of_need(cards: Sequence[Card]) -> list[str]:
    """The paths of their pictures, each once: those of the failures first."""
    first = [card.failure.screenshot for card in cards if card.failure.screenshot]
    return [*dict.fromkeys([*first, *(path for card in cards for _, path in card.pictures)])]
