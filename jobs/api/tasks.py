"""Tasks and the project over HTTP. They are read here; the CLI makes and changes them."""

from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from functools import partial

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.parameters import parse_query
from jobs.api.responses import NO_SNIFFING, RenderedResponse, not_modified_or, respond, services
from jobs.run.statistics import as_csv
from jobs.status.query import PartQuery, TaskListQuery
from jobs.status.statistics import AllStatisticsQuery, FailuresQuery, StatisticsQuery

CSV = "text/csv; charset=utf-8"


async def list_tasks(request: Request) -> Response:
    """List the tasks of the project, with their runs in numbers. One whose file is broken says what is wrong."""
    return await respond(request, services(request).tasks.page, parse_query(TaskListQuery, request.query_params))


async def get_task(request: Request) -> Response:
    """Show a task, by the name of its folder or by its CUID."""
    return await respond(request, services(request).tasks.get, request.path_params["test_case_id"])


async def get_statistics(request: Request) -> Response:
    """Show how a task does: its rates, streak, times and health over its last verdicts."""
    last, task = parse_query(StatisticsQuery, request.query_params).last, request.path_params["test_case_id"]
    return await respond_cached(
        request, ("stats", task, last), partial(services(request).statistics.of_task, task, last)
    )


async def list_statistics(request: Request) -> Response:
    """Show how all tasks do, also as CSV."""
    query = parse_query(AllStatisticsQuery, request.query_params)
    read = partial(services(request).statistics.of_all, query)
    accepted = request.headers.get("accept", "")
    if query.format == "csv" or (query.format is None and accepted.startswith("text/csv")):
        text = as_csv(await to_thread.run_sync(read)).encode()
        return RenderedResponse(text, headers=NO_SNIFFING, media_type=CSV)
    return await respond_cached(request, query, read)


async def list_failures(request: Request) -> Response:
    """Show what failed lately, failures that are alike together."""
    query = parse_query(FailuresQuery, request.query_params)
    return await respond(request, services(request).statistics.failures, query, datetime.now(UTC))


async def respond_cached(request: Request, key: Hashable, read: Callable[[], object]) -> Response:
    """What `read` returns, which depends on runs and tasks only."""
    return not_modified_or(request, await services(request).lists.render(key, read))


async def get_project(request: Request) -> Response:
    """Show the project."""
    return await respond(request, services(request).tasks.project)


async def get_browser_types(request: Request) -> Response:
    """Show what browsers can be set to."""
    return await respond(request, services(request).tasks.browser_types)


async def list_browser_configs(request: Request) -> Response:
    """List the browser configurations of the project's tasks."""
    query = parse_query(PartQuery, request.query_params)
    return await respond(request, services(request).tasks.browser_configs, request.path_params["project_id"], query)


async def list_secrets(request: Request) -> Response:
    """List the secrets of the project's tasks by their names; values never leave."""
    query = parse_query(PartQuery, request.query_params)
    return await respond(request, services(request).tasks.secrets, request.path_params["project_id"], query)
