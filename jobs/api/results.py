"""For pipelines: the results of a run, or of all runs of a batch, in the forms that other tools read; and the command
line as a file."""

import hashlib
from functools import partial
from importlib.metadata import version
from typing import Annotated, Literal

from anyio import to_thread
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.parameters import parse_query
from jobs.api.responses import NO_SNIFFING, RenderedResponse, etag_matches, services
from jobs.run.batch import RunLine
from jobs.run.ctrf import ctrf
from jobs.run.document import RunDocument
from jobs.run.junit import junit_xml
from jobs.run.results import Results, RunResult
from jobs.services import Services
from runner.archive import client_archive
from runner.ids import TaskId
from runner.project.task import toml_name

XML = "application/xml"
ZIP = "application/zip"
Folder = Annotated[
    str, Meta(max_length=500, description="the folder with pictures as RUN_ID.png, in at most 500 characters")
]


class JUnitQuery(Struct, frozen=True):
    """For whom the file is."""

    artifacts: Folder | None = None
    dialect: Annotated[
        Literal["jenkins", "gitlab"],
        Meta(description="jenkins, whose schema has no file in a case, or gitlab, which reads it there"),
    ] = "jenkins"


async def get_junit_of_run(request: Request) -> Response:
    """Show how a run ended, as a JUnit file."""
    return await junit_response(request, await run_results(services(request), request.path_params["run_id"]))


async def get_junit_of_batch(request: Request) -> Response:
    """Show how the runs of a batch ended, as a JUnit file. Those that are not over are skipped in it."""
    return await junit_response(request, await batch_results(services(request), request.path_params["batch_id"]))


async def get_ctrf_of_run(request: Request) -> Response:
    """Show how a run ended, as a CTRF file."""
    return await ctrf_response(await run_results(services(request), request.path_params["run_id"]))


async def get_ctrf_of_batch(request: Request) -> Response:
    """Show how the runs of a batch ended, as a CTRF file. Those that are not over are pending in it."""
    return await ctrf_response(await batch_results(services(request), request.path_params["batch_id"]))


async def get_client(request: Request) -> Response:
    """Show the command line `bugninja-runner` as one file that a bare Python 3.11 runs."""
    content = await to_thread.run_sync(client_archive)
    etag = f'"{hashlib.sha256(content).hexdigest()[:24]}"'
    headers = {**NO_SNIFFING, "ETag": etag, "Cache-Control": "no-cache"}
    if etag_matches(request, etag):
        return Response(status_code=304, headers=headers)
    return RenderedResponse(content, headers=headers, media_type=ZIP)


async def junit_response(request: Request, results: Results) -> Response:
    query = parse_query(JUnitQuery, request.query_params)
    make = partial(junit_xml, results, query.artifacts, file_of_case=query.dialect == "gitlab")
    content = await to_thread.run_sync(make)  # seconds, of hundreds of failures
    return RenderedResponse(content, headers=NO_SNIFFING, media_type=XML)


async def ctrf_response(results: Results) -> Response:
    content = await to_thread.run_sync(ctrf, results, version("bugninja-runner"))
    return RenderedResponse(content, headers=NO_SNIFFING)


async def run_results(found: Services, run_id: str) -> Results:
    """The results of one run. Raises `NotFound`."""
    run = await found.reader.document(run_id)
    task_id = run.test_case.id if run.test_case else ""
    result = RunResult(
        run_id=run.id,
        task_id=task_id,
        test_name=run.test_case.test_name if run.test_case else run.id,
        file=toml_name(TaskId(task_id)),
        state=run.current_state,
        reason=run.reason,
        message=run.error_message,
        started_at=run.started_at,
        finished_at=run.finished_at,
        duration=run.duration,
        failure=run.failure,
    )
    return Results(run.id, result.test_name, run.started_at, run.finished_at, run.duration, [result], run.labels)


async def batch_results(found: Services, batch_id: str) -> Results:
    """The results of all runs of a batch; of those that did not pass, one after the other is looked into. Raises
    `NotFound`."""
    batch = await found.batches.document(batch_id)
    runs = [
        line_result(line, await found.reader.find(line.id) if line.current_state.is_failure else None)
        for line in batch.runs
    ]
    return Results(batch.id, batch.name, batch.started_at, batch.finished_at, batch.duration, runs, batch.labels)


def line_result(line: RunLine, run: RunDocument | None) -> RunResult:
    """The result of a run of a batch, with its document if that is needed and there."""
    return RunResult(
        run_id=line.id,
        task_id=line.task_id,
        test_name=line.test_name,
        file=line.file,
        state=line.current_state,
        reason=line.reason,
        message=run.error_message if run else line.message,
        started_at=line.started_at,
        finished_at=line.finished_at,
        duration=line.duration,
        failure=run.failure if run else None,
    )
