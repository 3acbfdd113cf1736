"""Tasks and the project over HTTP. They are read here; the CLI makes and changes them."""

from starlette.requests import Request
from starlette.responses import Response

from jobs.api.parameters import parse_query
from jobs.api.responses import respond, services
from jobs.status.query import PartQuery, TaskListQuery


async def list_tasks(request: Request) -> Response:
    """List the tasks of the project, with their runs in numbers. One whose file is broken says what is wrong."""
    return await respond(request, services(request).tasks.page, parse_query(TaskListQuery, request.query_params))


async def get_task(request: Request) -> Response:
    """Show a task, by the name of its folder or by its CUID."""
    return await respond(request, services(request).tasks.get, request.path_params["test_case_id"])


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
