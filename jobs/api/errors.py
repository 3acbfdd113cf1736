"""Exceptions -> JSON `{"detail": "a sentence"}`, in one table that is given to the application."""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from jobs.api.responses import API_PREFIX, JSONResponse
from runner.errors import (
    BodyNotRead,
    BodyTooLarge,
    Busy,
    Gone,
    Invalid,
    NotFound,
    NotPossible,
    ProjectGone,
    QueueUnavailable,
    RunnerError,
    StorageUnavailable,
    TaskBroken,
    TooMany,
    printable,
)

STATUS_OF: Mapping[type[RunnerError], int] = {
    NotFound: 404,
    NotPossible: 409,
    Gone: 410,
    ProjectGone: 500,
    BodyTooLarge: 413,
    TooMany: 413,
    BodyNotRead: 415,
    Invalid: 422,
    TaskBroken: 422,
    QueueUnavailable: 503,
    Busy: 503,
    StorageUnavailable: 507,
}
CLI_ONLY_PATHS = ("/tasks", "/test-cases", "/project", "/browser-configs", "/secret-values", "/file-upload")
CLI_ONLY = "Tasks and the project are made, changed and deleted with the Bugninja CLI, not here."
UNEXPECTED = "The server made an error, which is in its log. Nothing was lost."


async def on_runner_error(request: Request, error: Exception) -> Response:
    """The status of one of our own errors, and its sentence."""
    return JSONResponse({"detail": str(error)}, status_code=status_of(error))


def status_of(error: Exception) -> int:
    """The HTTP status of one of our own errors."""
    return next((code for kind, code in STATUS_OF.items() if isinstance(error, kind)), 500)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """Starlette's own errors (no such path, wrong method) as JSON; and OPTIONS, which names the methods of a path."""
    if not isinstance(error, HTTPException):
        raise error
    allowed = (error.headers or {}).get("Allow")
    if request.method == "OPTIONS" and allowed is not None:
        return Response(status_code=204, headers={"Allow": f"{allowed}, OPTIONS"})
    if error.status_code in (404, 405) and is_cli_only(request):
        return JSONResponse({"detail": CLI_ONLY}, status_code=405, headers={"Allow": allowed or ""})
    detail = f"{request.method} {printable(request.url.path)}: {error.detail}"
    return JSONResponse({"detail": detail}, status_code=error.status_code, headers=error.headers)


def is_cli_only(request: Request) -> bool:
    """Whether the request would change a task or the project (the front end's own paths, and its slips of them)."""
    path = request.url.path.removeprefix(API_PREFIX)
    return request.method in ("POST", "PUT", "PATCH", "DELETE") and path.startswith(CLI_ONLY_PATHS)


async def on_client_left(request: Request, error: Exception) -> Response:
    """The client left in the middle of its request: nobody gets this answer, and nothing is wrong."""
    return Response(status_code=400)


async def on_unexpected(request: Request, error: Exception) -> Response:
    """A fault of ours: the trace goes to the log, a sentence to the client."""
    return JSONResponse({"detail": UNEXPECTED}, status_code=500)


EXCEPTION_HANDLERS: Mapping[Any, Any] = {
    RunnerError: on_runner_error,
    HTTPException: on_http_exception,
    ClientDisconnect: on_client_left,
    Exception: on_unexpected,
}
