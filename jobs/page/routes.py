"""The routes of all pages, and of the reports."""

from collections.abc import Awaitable, Callable, Mapping

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from jobs.api.guard import SIGN_IN, STATIC
from jobs.api.openapi import Reply
from jobs.api.responses import NO_SNIFFING
from jobs.api.routes import Endpoint, endpoint
from jobs.page.batches import (
    BatchReportQuery,
    get_batch_report,
    show_batch,
    show_batches,
    watch_batch,
    watch_batches,
)
from jobs.page.report import HTML, STATIC_FOLDER, ReportQuery, get_report
from jobs.page.run import show_run, show_steps, watch_run
from jobs.page.runs import show_runs, watch_runs
from jobs.page.sign_in import show_sign_in, sign_in, sign_out
from jobs.page.tasks import show_task, show_tasks, watch_task, watch_tasks
from jobs.page.templates import page_or_error
from jobs.page.workers import show_workers, watch_workers
from runner.errors import NotFound, printable
from runner.settings import Settings

PAGES: Mapping[str, Callable[[Request], Awaitable[Response]]] = {
    "/": show_runs,
    "/ui/runs/{run_id}": show_run,
    "/ui/batches": show_batches,
    "/ui/batches/{batch_id}": show_batch,
    "/ui/tasks": show_tasks,
    "/ui/tasks/{task}": show_task,
    "/ui/workers": show_workers,
    SIGN_IN: show_sign_in,
}
STREAMS: Mapping[str, Callable[[Request], Awaitable[Response]]] = {
    "/ui/events/runs": watch_runs,
    "/ui/events/runs/{run_id}": watch_run,
    "/ui/events/batches": watch_batches,
    "/ui/events/batches/{batch_id}": watch_batch,
    "/ui/events/tasks": watch_tasks,
    "/ui/events/tasks/{task}": watch_task,
    "/ui/events/workers": watch_workers,
    "/ui/runs/{run_id}/steps": show_steps,
}
REPORT = {200: Reply("the report", media=(HTML,))}
REPORTS: tuple[Endpoint, ...] = (
    endpoint("GET", "/test-runs/{run_id}/report.html", get_report, REPORT, [404, 422], ReportQuery),
    endpoint("GET", "/batches/{batch_id}/report.html", get_batch_report, REPORT, [404, 422], BatchReportQuery),
)
"""They are served if UI is off, too."""
GZIP = Middleware(GZipMiddleware, compresslevel=1)  # no page has a secret that its length could give away


class Static(StaticFiles):
    """Our scripts and styles; a browser asks each time whether it has the newest."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update({**NO_SNIFFING, "Cache-Control": "no-cache"})
        return response


async def no_such_page(request: Request) -> Response:
    """An address below those of the pages that none of them has."""
    raise NotFound(f"There is no page '{printable(request.url.path)}'.")


def page_routes(settings: Settings) -> list[BaseRoute]:
    """All pages, what they follow, and their files; nothing if UI is off."""
    if not settings.ui:
        return []
    return [
        *(Route(path, handler, name=path) for path, handler in STREAMS.items()),
        *(Route(path, page_or_error(handler), name=path, middleware=[GZIP]) for path, handler in PAGES.items()),
        Route(SIGN_IN, page_or_error(sign_in), methods=["POST"], name="sign_in"),
        Route("/ui/sign-out", sign_out, methods=["POST"]),
        Mount(STATIC.rstrip("/"), Static(directory=STATIC_FOLDER)),
        Route("/ui/{path:path}", page_or_error(no_such_page)),
    ]
