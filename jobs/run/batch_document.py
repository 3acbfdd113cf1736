"""The answer about a batch. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

from jobs.run.batch import BatchRecord, Counts, Dropped, Mode, RunLine, batch_state, count_lines, seconds_between
from jobs.run.state import State


class BatchItem(Struct, frozen=True):
    """A batch in a list. Times are UTC, `duration` is seconds."""

    id: str
    name: str
    current_state: State
    stopping: Annotated[bool, Meta(description="whether no run is started any more, and not all are over")]
    error_message: Annotated[str | None, Meta(description="why the record of the batch cannot be used; null if it can")]
    labels: Mapping[str, str]
    mode: Mode
    fail_fast: Annotated[int | None, Meta(description="after how many failures no run is started any more")]
    rerun_of: str | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    duration: float | None
    counts: Counts


class BatchDocument(BatchItem, frozen=True):
    """A batch."""

    runs: Sequence[RunLine]
    dropped: Annotated[
        Sequence[Dropped], Meta(description="tasks that are run by the CLI in the run of another, which needs them")
    ]


def batch_document(record: BatchRecord, lines: Sequence[RunLine], *, stopping: bool) -> BatchDocument:
    """The document of a batch whose runs stand so."""
    state = State.ERROR if record.problem else batch_state(lines)
    started = min((line.started_at for line in lines if line.started_at), default=None)
    finished = max((line.finished_at for line in lines if line.finished_at), default=record.queued_at)
    finished_at = finished if state.is_final else None
    return BatchDocument(
        id=record.batch_id,
        name=record.name,
        current_state=state,
        stopping=stopping and not state.is_final,
        error_message=record.problem,
        labels=record.labels,
        mode=record.mode,
        fail_fast=record.fail_fast,
        rerun_of=record.rerun_of,
        queued_at=record.queued_at,
        started_at=started,
        finished_at=finished_at,
        duration=seconds_between(started or record.queued_at, finished_at),
        counts=count_lines(lines),
        runs=lines,
        dropped=record.dropped,
    )
