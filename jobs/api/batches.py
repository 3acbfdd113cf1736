"""Batches over HTTP: start, rerun, stop, list, get and watch; and results that other tools read."""

from collections.abc import Callable
from functools import partial

from anyio import to_thread
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response

from jobs.api.events import last_event, stream
from jobs.api.parameters import (
    RerunQuery,
    check_empty,
    check_idempotency_key,
    parse_batch,
    parse_labels,
    parse_query,
)
from jobs.api.responses import JSONResponse, RenderedResponse, not_modified_or, prefix_of, services
from jobs.api.runs import answer_at_change, read_body
from jobs.queue.batches import AcceptedBatch
from jobs.run.batch import batch_document, pending_line
from jobs.run.record import RunRecord
from jobs.run.state import State
from jobs.run.verdict import STOPPED
from jobs.services import Services
from jobs.status.changes import EVERY_RUN
from jobs.status.projection import Place
from jobs.status.query import PageQuery
from runner.errors import NotPossible, StorageUnavailable
from runner.project.batch_files import BatchFile, Mark

BODY_BYTES = 256 * 1024  # more than the names of all tasks of a batch
WHICH = {"failed": "did not pass", "errored": "is in ERROR", "all": "is known"}
RERUN = {"failed": (State.FAILED, State.ERROR), "errored": (State.ERROR,), "all": tuple(State)}


async def start_batch(request: Request) -> Response:
    """Start a batch: one run of each of these tasks, of those with these tags, or of all."""
    wanted = parse_batch(await read_body(request, limit=BODY_BYTES))
    return await accept_batch(request, partial(services(request).batch_acceptor.start, wanted))


async def rerun_batch(request: Request) -> Response:
    """Start a batch with the same once more: all runs, those that did not pass, or those that could not be run."""
    only, found = parse_query(RerunQuery, request.query_params).only, services(request)
    labels = parse_labels(await read_body(request))
    document = await found.batches.document(request.path_params["batch_id"])
    chosen = {line.id for line in document.runs if line.current_state in RERUN[only]}
    if not document.current_state.is_final:
        raise NotPossible(f"Batch '{document.id}' is not over; stop it, or wait for its end.")
    if not chosen:
        raise NotPossible(f"Batch '{document.id}' has no run that {WHICH[only]}, so there is nothing to run again.")
    record = await to_thread.run_sync(lambda: found.batches.record(found.batches.find(document.id)))
    return await accept_batch(request, partial(found.batch_acceptor.rerun, record, chosen, labels))


async def accept_batch(request: Request, accept: Callable[..., AcceptedBatch]) -> Response:
    """Answer with the batch that `accept` accepts: 202, or 200 if the same request came before with the same key."""
    key = check_idempotency_key(request.headers.get("idempotency-key"))
    batch, is_new = await to_thread.run_sync(partial(accept, key=key), limiter=request.app.state.accepting)
    for run in batch.runs:
        services(request).changes.notify(run.run_id, Place(run.task_id, run.run_id))
    headers = {"Location": f"{prefix_of(request)}/batches/{batch.batch_id}"}
    if is_new:
        return JSONResponse(batch_document(batch, [*map(pending_line, batch.runs)], stopping=False), 202, headers)
    known = await services(request).batches.get(batch.batch_id)
    return RenderedResponse(known.body, 200, headers)


async def stop_batch(request: Request) -> Response:
    """Stop a batch: 200 with its final state if none of its runs had started, else 202 while they are being stopped."""
    check_empty(await read_body(request))
    found, batch_id = services(request), request.path_params["batch_id"]
    document = await found.batches.document(batch_id)
    if document.current_state.is_final:
        raise NotPossible(f"Batch '{document.id}' is over already: it is {document.current_state}.")
    file = await to_thread.run_sync(found.batches.find, batch_id)
    closed = await to_thread.run_sync(stop_runs, found, file, limiter=request.app.state.stopping)
    for line in document.runs:
        found.changes.notify(line.id)
    rendered = await found.batches.get(batch_id)
    response = RenderedResponse(rendered.body, 200 if rendered.is_final else 202)
    response.background = BackgroundTask(found.stopper.cancel_jobs, closed)  # hundreds take Redis seconds
    return response


def stop_runs(found: Services, file: BatchFile) -> list[RunRecord]:
    """Start no run of the batch any more, and stop those that run; returns those that had not started. Raises
    `StorageUnavailable`."""
    try:
        file.mark(Mark.STOP)
    except OSError as error:
        why = f"the folder batches cannot be written to ({error.strerror})"
        raise StorageUnavailable(f"The batch cannot be stopped: {why}.") from None
    return found.stopper.stop_runs(found.batches.record(file), STOPPED)


async def list_batches(request: Request) -> Response:
    """List batches, newest first."""
    return not_modified_or(request, await services(request).batches.page(parse_query(PageQuery, request.query_params)))


async def get_batch(request: Request) -> Response:
    """Show a batch as it stands now; with `wait`, at its next change, or after so many seconds."""
    read = partial(services(request).batches.get, request.path_params["batch_id"])
    return await answer_at_change(request, EVERY_RUN, read)


async def watch_batch(request: Request) -> Response:
    """Show a batch now and whenever it changes, as server-sent events. The stream ends when the batch is over."""
    read = partial(services(request).batches.get, request.path_params["batch_id"])
    return await stream(request, EVERY_RUN, read, last_event(request))
