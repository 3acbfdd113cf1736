"""The page with the list of runs, newest first, and its changes."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, NamedTuple
from urllib.parse import urlencode

import msgspec
from anyio import to_thread
from markupsafe import Markup
from msgspec import Meta, Struct
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.parameters import check_labels, parse_query
from jobs.api.responses import services
from jobs.page.live import Parts, as_document, read_notice, stream_parts
from jobs.page.templates import element, page
from jobs.run.document import RunDocument, RunItem
from jobs.services import Services
from jobs.status.cache import RenderedJSON
from jobs.status.changes import EVERY_RUN
from jobs.status.lists import RunPage
from jobs.status.query import Labels, RunListQuery
from runner.errors import Invalid, printable
from runner.ids import RunId, parse_run_id

PAGE_SIZE = 25
MOST_TASKS = 100  # that one can choose from; of more, the name of one has to be typed
FIELDS = ("status", "test_case_id", "trigger", "label", "search")  # of the form
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
INSTANT = timedelta(microseconds=1)


class Rows(NamedTuple):
    """A page of runs, and the rows of those that are over: they are made again only when a row of the file changes."""

    page: RunPage
    over: Mapping[str, str]


class Shown(NamedTuple):
    """What a page shows that is followed."""

    until: datetime
    """Its runs were accepted before."""
    total: int
    """How many runs passed its filters."""
    watched: Sequence[RunId]
    """Those of its runs that are not over."""


class ShownQuery(Struct, frozen=True):
    """How many runs passed the filters of a page."""

    total: Annotated[int, Meta(ge=0, le=10**12, description="an integer from 0")] = 0


class Filters(NamedTuple):
    """What the list is filtered by: as in the URL, and checked."""

    texts: Mapping[str, str]
    query: RunListQuery
    labels: Labels

    def url(self, **more: object) -> str:
        """The query of a URL with these filters."""
        return urlencode({**self.texts, **more})


def parse_filters(parameters: QueryParams) -> Filters:
    """The filters in the URL of the page, where a field of the form may be empty. Raises `Invalid`."""
    texts = {name: text for name in FIELDS if (text := parameters.get(name, "").strip())}
    paging = {name: parameters[name] for name in ("page", "until") if parameters.get(name)}
    query = parse_query(RunListQuery, {**texts, **paging, "page_size": str(PAGE_SIZE)})
    return Filters(texts, query, parse_label(texts.get("label", "")))


def parse_label(text: str) -> Labels:
    """The label that a run must have; none for an empty text. Raises `Invalid`."""
    key, equals, value = text.partition("=")
    if text and not equals:
        raise Invalid(f"label must be key=value, got '{printable(text)}'.")
    labels = check_labels({key.strip(): value.strip()}) if text else None
    return tuple((labels or {}).items())


async def show_runs(request: Request) -> Response:
    """The runs that pass the filters, a page of them."""
    found, filters = services(request), parse_filters(request.query_params)
    runs, over = await read_rows(found, filters)
    newest = runs.items[0].queued_at + INSTANT if runs.items else BEGINNING
    until = filters.query.until or min(newest, datetime.now(UTC))
    watched = [RunId(run.id) for run in runs.items if not run.current_state.is_final]
    shown = Shown(until, runs.total_count, watched)
    parts = await read_parts(found, filters, shown)
    live = filters.url(until=until.isoformat(), total=shown.total, runs=",".join(watched))
    return await page(
        request,
        "runs.html",
        runs=runs,
        rows={**{name: Markup(row) for name, row in over.items()}, **parts},  # noqa: S704 (made by our templates)
        parts=parts,
        filters=filters,
        page_url=lambda number: f"/?{filters.url(page=number, until=until.isoformat())}",
        tasks=found.tasks.names(MOST_TASKS),
        first=None if runs.items else found.tasks.first(),
        live=f"/ui/events/runs?{live}",
        is_moving=bool(watched),
        version=as_document(parts).id,
    )


async def watch_runs(request: Request) -> Response:
    """The changes of such a page: of those of its runs that are not over, and how many are new."""
    found, filters = services(request), parse_filters(request.query_params)
    texts = request.query_params.get("runs", "").split(",")[:PAGE_SIZE]
    watched = [run_id for text in texts if (run_id := parse_run_id(text))]
    total = parse_query(ShownQuery, request.query_params).total
    shown = Shown(filters.query.until or BEGINNING, total, watched)

    async def read() -> RenderedJSON:
        return as_document(await read_parts(found, filters, shown))

    return await stream_parts(request, EVERY_RUN, read)


async def read_parts(found: Services, filters: Filters, shown: Shown) -> Parts:
    """The parts of the page that change. The row of a run that was deleted is hidden."""
    count = await count_new(found, filters, shown)
    notice, documents = await asyncio.gather(read_notice(found), read_runs(found, shown.watched))
    return {
        **notice,
        "new": element("parts.html", "news", count, f"/?{filters.url()}"),
        **{f"run-{run_id}": element("parts.html", "gone", f"run-{run_id}") for run_id in shown.watched},
        **await to_thread.run_sync(render_rows, found, documents),
    }


async def count_new(found: Services, filters: Filters, shown: Shown) -> int:
    """How many runs pass the filters that were not in the list when the page was made: those that were accepted since;
    or, if these are more, as many as the list has grown (an old run may come to pass a filter, or be made by hand)."""
    every = msgspec.structs.replace(filters.query, until=None, page=1, page_size=1)
    newer = msgspec.structs.replace(every, since=shown.until)
    total, later = [(await read_page(found, query, filters.labels)).total_count for query in (every, newer)]
    return max(later, total - shown.total)


async def read_page(found: Services, query: RunListQuery, labels: Labels = ()) -> RunPage:
    """The page of runs."""
    return msgspec.json.decode((await found.lists.page(query, labels)).body, type=RunPage)


async def read_rows(found: Services, filters: Filters) -> Rows:
    """The page of runs that pass the filters."""

    def make() -> Rows:
        page = found.lists.make_page(filters.query, filters.labels)
        rows = render_rows(found, [run for run in page.items if run.current_state.is_final])
        return Rows(page, {name: str(row) for name, row in rows.items()})

    rendered = await found.lists.render((Rows, filters.query, filters.labels), make)
    return msgspec.json.decode(rendered.body, type=Rows)


async def read_runs(found: Services, run_ids: Iterable[str]) -> list[RunDocument]:
    """The documents of these runs, without those that were deleted; asked for together, since Redis may be slow."""
    documents = await asyncio.gather(*(found.reader.find(run_id) for run_id in run_ids))
    return [document for document in documents if document is not None]


def render_rows(found: Services, runs: Sequence[RunItem | RunDocument]) -> dict[str, Markup]:
    """The rows of these runs, by their IDs. Reads the statistics of their tasks."""
    tasks = {run.test_case.id for run in runs if run.test_case}
    medians = {task.task_id: task.duration.p50 for task in found.statistics.of_tasks(tasks)}
    rows = {}
    for run in runs:
        median = medians.get(run.test_case.id) if run.test_case else None
        rows[f"run-{run.id}"] = element("runs_parts.html", "row", run, getattr(run, "progress", None), median)
    return rows
