"""The pages of all tasks, and of one."""

from collections.abc import Collection, Mapping
from functools import partial
from urllib.parse import urlencode

from anyio import to_thread
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.parameters import parse_query
from jobs.api.responses import services
from jobs.page.live import Parts, as_document, read_notice, stream_parts
from jobs.page.plots import HEIGHT, WIDTH, duration_plot
from jobs.page.runs import read_page
from jobs.page.templates import element, page
from jobs.run.state import State
from jobs.run.statistics import TaskStatistics
from jobs.services import Services
from jobs.status.cache import RenderedJSON
from jobs.status.changes import EVERY_RUN
from jobs.status.lists import RunPage
from jobs.status.query import Order, Page, PageNumber, RunListQuery, Search, paging, part_of
from jobs.status.statistics import AllStatisticsQuery, Sort
from jobs.status.tasks import TaskDocument

PAGE_SIZE = 50
SQUARES = 50  # runs of a task


class TasksQuery(Struct, frozen=True):
    """Which tasks, in which order."""

    page: PageNumber = 1
    search: Search = ""
    sort: Sort = "health"
    sort_order: Order = "asc"


async def show_tasks(request: Request) -> Response:
    """How all tasks do, the worst first."""
    query, found = parse_query(TasksQuery, request.query_params), services(request)
    names = await to_thread.run_sync(found.tasks.search, query.search)
    tasks = await to_thread.run_sync(find_tasks, found, names, query)
    parts = await read_rows(found, {task: names[task] for task in tasks.items})
    texts = {"search": query.search, "sort": query.sort, "sort_order": query.sort_order}
    return await page(
        request,
        "tasks.html",
        tasks=tasks,
        parts=parts,
        query=query,
        page_url=lambda number: f"/ui/tasks?{urlencode({**texts, 'page': number})}",
        live=f"/ui/events/tasks?{urlencode({'tasks': ','.join(tasks.items)})}",
        version=as_document(parts).id,
    )


async def watch_tasks(request: Request) -> Response:
    """The changes of such a page, which shows these tasks."""
    found = services(request)
    names = await to_thread.run_sync(found.tasks.search, "")
    tasks = request.query_params.get("tasks", "").split(",")[:PAGE_SIZE]
    shown = {task: names[task] for task in tasks if task in names}

    async def read() -> RenderedJSON:
        return as_document(await read_rows(found, shown))

    return await stream_parts(request, EVERY_RUN, read)


def find_tasks(found: Services, names: Collection[str], query: TasksQuery) -> Page[str]:
    """A page of these tasks."""
    every = found.statistics.of_all(AllStatisticsQuery(sort=query.sort, sort_order=query.sort_order))
    wanted = [task.task_id for task in every if task.task_id in names]
    items = [*part_of(wanted, query.page, PAGE_SIZE)]
    return Page(**paging(len(wanted), query.page, PAGE_SIZE), items=items)


async def read_rows(found: Services, names: Mapping[str, str]) -> Parts:
    """The parts of the page that change: a row for each of these tasks."""
    every = await to_thread.run_sync(found.statistics.of_tasks, {*names})
    rows = {f"task-{task.task_id}": element("task_parts.html", "row", names[task.task_id], task) for task in every}
    return {**await read_notice(found), **rows}


async def show_task(request: Request) -> Response:
    """How one task does."""
    found = services(request)
    task = await to_thread.run_sync(found.tasks.get, request.path_params["task"])
    parts = await read_parts(found, task)
    live, version = f"/ui/events/tasks/{task.id}", as_document(parts).id
    is_moving = bool(task.pending_runs)
    return await page(request, "task.html", task=task, parts=parts, live=live, is_moving=is_moving, version=version)


async def watch_task(request: Request) -> Response:
    """The changes of such a page."""
    found = services(request)

    async def read() -> RenderedJSON:
        task = await to_thread.run_sync(found.tasks.get, request.path_params["task"])
        return as_document(await read_parts(found, task))

    return await stream_parts(request, EVERY_RUN, read)


async def read_parts(found: Services, task: TaskDocument) -> Parts:
    """The parts of the page that change."""
    runs = await read_page(found, RunListQuery(test_case_id=task.id, page_size=SQUARES))
    (statistics,) = await to_thread.run_sync(found.statistics.of_tasks, {task.id})
    return {**await read_notice(found), "task": await to_thread.run_sync(partial(render, runs, statistics))}


def render(runs: RunPage, statistics: TaskStatistics) -> str:
    """The part that shows how the task does."""
    oldest_first = [*reversed(runs.items)]
    passed = [(run.id, run.duration) for run in oldest_first if run.current_state is State.FINISHED and run.duration]
    plot = duration_plot(passed, {"p50": statistics.duration.p50, "p90": statistics.duration.p90})
    return element("task_parts.html", "task", oldest_first, statistics, plot, (WIDTH, HEIGHT))
