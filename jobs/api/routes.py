"""All routes of the API: each is served, documented and tested from one line of this table."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route

from jobs.api.batches import get_batch, list_batches, rerun_batch, start_batch, stop_batch, watch_batch
from jobs.api.events import MEDIA_TYPE as EVENT_STREAM
from jobs.api.events import watch_run, watch_runs
from jobs.api.files import PLAIN_TEXT, get_log, get_media
from jobs.api.guard import open_paths
from jobs.api.health import Health, Ready, health, metrics, ready
from jobs.api.openapi import Operation, Reply, doc_routes, openapi
from jobs.api.parameters import BatchBody, HealingQuery, LabelsBody, LogQuery, NoQuery, RerunQuery, RunBody, WaitQuery
from jobs.api.responses import API_PREFIX
from jobs.api.results import (
    XML,
    ZIP,
    JUnitQuery,
    get_client,
    get_ctrf_of_batch,
    get_ctrf_of_run,
    get_junit_of_batch,
    get_junit_of_run,
)
from jobs.api.runs import (
    get_run,
    list_runs,
    list_runs_of_task,
    replay_run,
    replay_task,
    rerun,
    start_run,
    stop_run,
)
from jobs.api.tasks import (
    CSV,
    get_browser_types,
    get_project,
    get_statistics,
    get_task,
    list_browser_configs,
    list_failures,
    list_secrets,
    list_statistics,
    list_tasks,
)
from jobs.run.batch import BatchDocument, BatchItem
from jobs.run.document import RunDocument
from jobs.run.fingerprint import FailureGroup
from jobs.run.statistics import TaskStatistics
from jobs.status.lists import RunPage
from jobs.status.metrics import MEDIA_TYPE as EXPOSITION
from jobs.status.query import Page, PageQuery, PartQuery, RunListQuery, RunsOfTaskQuery, TaskListQuery
from jobs.status.statistics import AllStatisticsQuery, FailuresQuery, StatisticsQuery
from jobs.status.tasks import BrowserConfigDocument, BrowserTypes, ProjectDocument, SecretDocument, TaskDocument
from runner.project.media import MEDIA_TYPES
from runner.settings import Settings

Handler = Callable[[Request], Awaitable[Response]]


class Endpoint(NamedTuple):
    """A route and its documentation."""

    operation: Operation
    handler: Handler


def endpoint(
    method: str,
    path: str,
    handler: Handler,
    answers: Mapping[int, Reply],
    errors: Iterable[int] = (),
    query: type[msgspec.Struct] = NoQuery,
    body: Any = None,
) -> Endpoint:
    """The endpoint of a handler: its name and the first line of its docstring stand in the documentation."""
    summary = (handler.__doc__ or "").partition("\n")[0]
    return Endpoint(Operation(method, path, handler.__name__, summary, answers, tuple(errors), query, body), handler)


def starting(
    path: str,
    handler: Handler,
    answers: Mapping[int, Reply],
    query: type[msgspec.Struct] = NoQuery,
    body: Any = RunBody | None,
) -> Endpoint:
    """The endpoint of a handler that starts something."""
    return endpoint("POST", path, handler, answers, [404], query, body)


def document_replies(kind: Any, meaning: str, *media: str) -> dict[int, Reply]:
    """The replies of a route that shows a document (also in these media types), or says that the client has it."""
    return {200: Reply(meaning, kind, media, headers=("ETag",)), 304: Reply("it has not changed", headers=("ETag",))}


STARTED = {
    202: Reply("the run was accepted", RunDocument, headers=("Location",)),
    200: Reply("the same request with the same key has started this run before", RunDocument, headers=("Location",)),
}
STARTED_BATCH = {
    202: Reply("the batch was accepted", BatchDocument, headers=("Location",)),
    200: Reply("the same request with the same key started this batch", BatchDocument, headers=("Location",)),
}
STOPPING_BATCH = {
    200: Reply("none of its runs had started, and it is over", BatchDocument),
    202: Reply("its runs are being ended", BatchDocument),
}
STOPPING = {
    200: Reply("the run had not started, and is over", RunDocument),
    202: Reply("the run is being ended", RunDocument),
}
STREAMED = {200: Reply("the stream; the data of each event is the answer to a plain GET", media=(EVENT_STREAM,))}
OVER = Reply("it is over, and its last event was seen (`Last-Event-ID`)")
MEDIA = tuple(dict.fromkeys(MEDIA_TYPES.values()))
LOGGED = {
    200: Reply("the log, or the part that was asked for", media=(PLAIN_TEXT,), headers=("X-Next-Offset",)),
    206: Reply("the range that was asked for", media=(PLAIN_TEXT,), headers=("X-Next-Offset",)),
}
PICTURE = {
    200: Reply("the file", media=MEDIA, headers=("ETag",)),
    206: Reply("the range of it that was asked for", media=MEDIA, headers=("ETag",)),
    304: Reply("it has not changed", headers=("ETag",)),
}
JUNIT = {200: Reply("the file", media=(XML,))}
CTRF = {200: Reply("the file", media=("application/json",))}
ARCHIVE = {200: Reply("the file", media=(ZIP,), headers=("ETag",)), 304: Reply("it has not changed", headers=("ETag",))}
READY = {200: Reply("runs would be executed", Ready), 503: Reply("something is missing", Ready)}

ENDPOINTS = (  # they are tried in this order, so those that are asked for most come first
    endpoint("GET", "/health", health, {200: Reply("the process lives", Health)}),
    endpoint("GET", "/test-runs/events", watch_runs, STREAMED, [404, 422], RunListQuery),
    endpoint("GET", "/test-runs/{run_id}", get_run, document_replies(RunDocument, "the run"), [404, 422], WaitQuery),
    endpoint("GET", "/test-runs", list_runs, document_replies(RunPage, "the runs"), [404, 422], RunListQuery),
    starting("/test-runs/execute-configuration/{test_case_id}/{browser_config_id}", start_run, STARTED),
    starting("/test-runs/replay/{test_case_id}/{browser_config_id}", replay_task, STARTED, HealingQuery),
    starting("/test-runs/replay-run/{run_id}", replay_run, STARTED, HealingQuery),
    starting("/test-runs/{run_id}/rerun", rerun, STARTED),
    endpoint("POST", "/test-runs/{run_id}/stop", stop_run, STOPPING, [404]),
    endpoint(
        "GET",
        "/test-runs/test-case/{test_case_id}",
        list_runs_of_task,
        document_replies(RunPage, "the runs of the task"),
        [404, 422],
        RunsOfTaskQuery,
    ),
    endpoint("GET", "/test-runs/{run_id}/events", watch_run, {**STREAMED, 204: OVER}, [404]),
    endpoint("GET", "/test-runs/{run_id}/log", get_log, LOGGED, [404, 410, 416, 422], LogQuery),
    starting("/batches", start_batch, STARTED_BATCH, body=BatchBody),
    endpoint("GET", "/batches", list_batches, document_replies(Page[BatchItem], "the batches"), [422], PageQuery),
    endpoint(
        "GET", "/batches/{batch_id}", get_batch, document_replies(BatchDocument, "the batch"), [404, 422], WaitQuery
    ),
    endpoint("GET", "/batches/{batch_id}/events", watch_batch, {**STREAMED, 204: OVER}, [404]),
    endpoint("GET", "/batches/{batch_id}/junit.xml", get_junit_of_batch, JUNIT, [404, 422], JUnitQuery),
    endpoint("GET", "/batches/{batch_id}/ctrf.json", get_ctrf_of_batch, CTRF, [404]),
    endpoint("GET", "/test-runs/{run_id}/junit.xml", get_junit_of_run, JUNIT, [404, 422], JUnitQuery),
    endpoint("GET", "/test-runs/{run_id}/ctrf.json", get_ctrf_of_run, CTRF, [404]),
    endpoint("POST", "/batches/{batch_id}/stop", stop_batch, STOPPING_BATCH, [404]),
    starting("/batches/{batch_id}/rerun", rerun_batch, STARTED_BATCH, RerunQuery, LabelsBody | None),
    endpoint("GET", "/tasks", list_tasks, document_replies(Page[TaskDocument], "the tasks"), [404, 422], TaskListQuery),
    endpoint("GET", "/tasks/{test_case_id}", get_task, document_replies(TaskDocument, "the task"), [404]),
    endpoint(
        "GET",
        "/tasks/{test_case_id}/stats",
        get_statistics,
        document_replies(TaskStatistics, "its statistics"),
        [404, 422],
        StatisticsQuery,
    ),
    endpoint(
        "GET",
        "/stats",
        list_statistics,
        document_replies(list[TaskStatistics], "the statistics of all tasks", CSV),
        [422],
        AllStatisticsQuery,
    ),
    endpoint(
        "GET",
        "/failures",
        list_failures,
        document_replies(list[FailureGroup], "groups of failures"),
        [422],
        FailuresQuery,
    ),
    endpoint("GET", "/tasks/{test_case_id}/{folder}/{path:path}", get_media, PICTURE, [404, 410, 416]),
    endpoint("GET", "/project", get_project, document_replies(ProjectDocument, "the project")),
    endpoint("GET", "/browser-types", get_browser_types, document_replies(BrowserTypes, "the settings")),
    endpoint(
        "GET",
        "/browser-configs/project/{project_id}",
        list_browser_configs,
        document_replies(list[BrowserConfigDocument], "the configurations"),
        [404, 422],
        PartQuery,
    ),
    endpoint(
        "GET",
        "/secret-values/project/{project_id}",
        list_secrets,
        document_replies(list[SecretDocument], "the secrets"),
        [404, 422],
        PartQuery,
    ),
    endpoint("GET", "/client.pyz", get_client, ARCHIVE),
    endpoint("GET", "/ready", ready, READY),
    endpoint("GET", "/metrics", metrics, {200: Reply("the metrics, as text", media=(EXPOSITION,))}, [404]),
)


def routes(endpoints: Sequence[Endpoint]) -> list[BaseRoute]:
    """The routes of these endpoints and of their documentation; they exist with and without the prefix."""
    handlers: dict[str, dict[str, Handler]] = {}
    for operation, handler in endpoints:
        handlers.setdefault(operation.path, {})[operation.method] = handler
    plain: list[BaseRoute] = [
        *(Route(path, by_method(found), methods=[*found], name=path) for path, found in handlers.items()),
        *doc_routes(),
    ]
    return [Mount(API_PREFIX, routes=plain), *plain]


def by_method(handlers: Mapping[str, Handler]) -> Handler:
    """The handler of a path, which calls that of the method: of a route for each, only the first says what is allowed.

    Starlette calls it with no other method than these, and HEAD.
    """

    async def handle(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return handle


def describe(settings: Settings, endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document of these endpoints."""
    operations = [operation for operation, _ in endpoints]
    ours, needs_token = version("bugninja-runner"), bool(settings.api_token)
    return openapi(operations, ours, API_PREFIX, open_paths(settings), needs_token=needs_token)
