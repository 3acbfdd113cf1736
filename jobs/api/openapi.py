"""The documentation: the routes and the types of their parameters and answers -> an OpenAPI 3.1 document; and a page
that shows it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta, Struct
from openapi_ui_bundles import swagger_ui
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from jobs.api.parameters import MAX_KEY, BatchBody, LabelsBody, NoQuery, RunBody, schema_of
from jobs.api.responses import NO_SNIFFING, JSONResponse
from jobs.status.query import ProjectName, TaskName
from runner.ids import RUN_ID_LENGTH
from runner.project.media import FOLDERS

VERSION = "3.1.0"
SCHEMAS = "#/components/schemas/{name}"
JSON = "application/json"

ID = f"^[a-z][a-z0-9]{{{RUN_ID_LENGTH - 1}}}$"
RunName = Annotated[str, Meta(pattern=ID, description="the ID of a run, a CUID2")]
BatchName = Annotated[str, Meta(pattern=ID, description="the ID of a batch, a CUID2")]
ConfigName = Annotated[str, Meta(pattern="^[a-z0-9_]{1,136}$", description="the task's name and _default")]
PATH_TYPES: Mapping[str, Any] = {
    "run_id": RunName,
    "batch_id": BatchName,
    "test_case_id": TaskName,
    "browser_config_id": ConfigName,
    "project_id": ProjectName,
}
PATH_SCHEMAS: Mapping[str, dict[str, Any]] = {
    **{name: schema_of(kind) for name, kind in PATH_TYPES.items()},
    "folder": {"type": "string", "enum": [*FOLDERS]},
    "path": {"type": "string", "minLength": 1, "description": "the rest of the path that the run document gives"},
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "the same key and request again is answered 200 with the same run; another request 409",
    "schema": {"type": "string", "pattern": f"^[ -~]{{1,{MAX_KEY}}}$"},
}
EXAMPLES: Mapping[Any, Any] = {
    RunBody | None: {"labels": {"branch": "main"}},
    LabelsBody | None: {"labels": {"branch": "main"}},
    BatchBody: {"tags": [["smoke"]], "name": "nightly", "fail_fast": 3},
}
"""The bodies of calls that start something."""
HEADERS: Mapping[str, dict[str, Any]] = {
    "Location": {"description": "where to watch what was started", "schema": {"type": "string"}},
    "ETag": {"description": "identifies the content", "schema": {"type": "string"}},
    "X-Next-Offset": {
        "description": "the `offset` to ask for next",
        "schema": {"type": "integer", "minimum": 0},
    },
}
ERRORS: Mapping[int, str] = {
    400: "the Host is not served here",
    401: "the token is missing or wrong",
    403: "a page of another origin may not do this",
    404: "there is no such thing",
    409: "that cannot be done now",
    410: "the files of the run were pruned",
    413: "the body is too large, or a batch has too many runs",
    415: "the body is of a type that is not read here",
    416: "the file has no such part",
    422: "a parameter or a file does not fit",
    500: "a fault of the server, which is in its log",
    503: "Redis or a worker is missing",
    507: "the project's folder cannot be written to",
}
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Bugninja Runner</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="docs"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/show.js"></script>
</body>
</html>
"""
SHOW = """SwaggerUIBundle({url: "openapi.json", dom_id: "#docs", validatorUrl: null})"""
PAGE_HEADERS = {
    **NO_SNIFFING,
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
}


class Problem(Struct, frozen=True):
    """An error, in one sentence for a person."""

    detail: str


class Reply(NamedTuple):
    """The answer of a route with one status: a type as JSON, and content of these media types."""

    meaning: str
    type: Any = None
    media: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


class Operation(NamedTuple):
    """One method of one path. `path` may have Starlette's convertors in it; `errors` are the statuses of its own."""

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[int, Reply]
    errors: tuple[int, ...] = ()
    query: type[Struct] = NoQuery
    body: Any = None
    """The type of what a call that starts something may be given."""

    @property
    def starts_run(self) -> bool:
        """Whether it answers with a new run or batch, which the client may give a key."""
        return 202 in self.answers and "Location" in self.answers[202].headers

    @property
    def all_errors(self) -> list[int]:
        """Its own, and those that any route can answer."""
        changes = (403, 409, 413, 415, 422, 503, 507) if self.method == "POST" else ()
        return sorted({400, 401, 500, *changes, *self.errors})


def openapi(
    operations: Sequence[Operation], version: str, prefix: str, open_paths: Sequence[str], *, needs_token: bool
) -> dict[str, Any]:
    """The document. `prefix` is the path below which the operations are; those of `open_paths` need no token."""
    shown = (answer.type for op in operations for answer in op.answers.values() if answer.type)
    types = [Problem, *EXAMPLES, *dict.fromkeys(shown)]
    references, schemas = msgspec.json.schema_components(types, ref_template=SCHEMAS)
    named = dict(zip(types, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        path = re.sub(r":\w+}", "}", operation.path)
        described = _operation(operation, path, named)
        paths.setdefault(path, {})[operation.method.lower()] = (
            {**described, "security": []} if path in open_paths else described
        )
    document: dict[str, Any] = {
        "openapi": VERSION,
        "info": {
            "title": "Bugninja Runner",
            "version": version,
            "description": "Starts Bugninja tests in the background and answers for them. "
            "Tasks are made, changed and deleted with the Bugninja CLI; such calls get 405.",
        },
        "servers": [{"url": prefix}],
        "paths": paths,
        "components": {"schemas": schemas},
    }
    if needs_token:
        document["components"] |= {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
        document["security"] = [{"token": []}]
    return document


def _operation(operation: Operation, path: str, named: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    answers = {str(status): _answer(answer, named) for status, answer in operation.answers.items()}
    for status in operation.all_errors:
        problem = {"description": ERRORS[status], "content": {JSON: {"schema": named[Problem]}}}
        answers.setdefault(str(status), problem)
    described: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": list(_parameters(operation, path)),
        "responses": answers,
    }
    if operation.body is not None:
        content = {JSON: {"schema": named[operation.body], "example": EXAMPLES[operation.body]}}
        described["requestBody"] = {"required": operation.body is BatchBody, "content": content}
    return described


def _parameters(operation: Operation, path: str) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"{(\w+)}", path):
        yield {"name": name, "in": "path", "required": True, "schema": PATH_SCHEMAS[name]}
    for field in msgspec.structs.fields(operation.query):
        schema = schema_of(field.type)
        if field.default is not None:
            schema["default"] = field.default
        yield {"name": field.name, "in": "query", "required": False, "schema": schema}
    if operation.starts_run:
        yield IDEMPOTENCY_KEY


def _answer(answer: Reply, named: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": answer.meaning}
    if answer.type is not None:
        described["content"] = {JSON: {"schema": named[answer.type]}}
    if answer.media:
        described["content"] = {**described.get("content", {}), **{media: {} for media in answer.media}}
    if answer.headers:
        described["headers"] = {name: HEADERS[name] for name in answer.headers}
    return described


async def docs(request: Request) -> Response:
    """Show this documentation."""
    return HTMLResponse(PAGE, headers=PAGE_HEADERS)


async def show_script(request: Request) -> Response:
    """What the page does; in a file of its own, since the page may run no script that stands in it."""
    return Response(SHOW, media_type="text/javascript", headers=NO_SNIFFING)


async def openapi_json(request: Request) -> Response:
    """Show the OpenAPI document of this server."""
    return JSONResponse(request.app.state.openapi)


def doc_routes() -> list[BaseRoute]:
    """The routes of the documentation and of the files that its page needs."""
    return [
        Route("/openapi.json", openapi_json),
        Route("/docs", docs),
        Route("/docs/show.js", show_script),
        Mount("/docs/assets", StaticFiles(directory=swagger_ui.static_path)),
    ]
