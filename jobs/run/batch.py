"""A batch, runs that were accepted together: its record, where it stands, and the answer about it. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from jobs.run.record import UNPARSABLE, FileId, RunRecord, Time
from jobs.run.state import Reason, RunType, State
from runner.errors import RecordUnreadable, printable
from runner.ids import TASK_ID_PATTERN, RunId, TaskId
from runner.project.task import toml_name

VERSION = 1
MESSAGE_CHARACTERS = 500  # of a run's message
UNSEEN = timedelta(minutes=1)  # for which a network disk may not show what another machine has written
DELETED = "The record of this run is gone."
Message = Annotated[str | None, Meta(description=f"why it did not pass, at most {MESSAGE_CHARACTERS} characters")]
Task = Annotated[TaskId, Meta(pattern=TASK_ID_PATTERN)]


class Mode(StrEnum):
    """How the runs of a batch are made."""

    AGENTIC = "agentic"  #: by the agent
    REPLAY = "replay"  #: by the steps of the newest run of each task that passed
    HEAL = "heal"  #: the same; the agent repairs steps that no longer work

    @property
    def run_type(self) -> RunType:
        """What the runs say of themselves."""
        types = {Mode.REPLAY: RunType.REPLAY, Mode.HEAL: RunType.REPLAY_WITH_HEALING}
        return types.get(self, RunType.AGENTIC)


class BatchRun(Struct, frozen=True):
    """A run that the batch has, accepted or not yet."""

    run_id: FileId
    task_id: Task
    test_name: str
    original_run_id: FileId | None = None
    """The run that a replay repeats."""
    original_traversal_id: FileId | None = None


class Dropped(Struct, frozen=True):
    """A task that was chosen, and that another chosen one depends on: the CLI runs it in the run of that one."""

    task_id: Task
    needed_by: Task


class RunLine(Struct, frozen=True):
    """What a batch says of one of its runs. Times are UTC, `duration` is seconds."""

    id: str
    task_id: str
    test_name: str
    file: Annotated[str, Meta(description="the task's file, relative to the project")]
    current_state: State
    reason: Reason | None = None
    message: Annotated[
        str | None, Meta(description=f"why it did not pass, at most {MESSAGE_CHARACTERS} characters")
    ] = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration: float | None = None
    steps: int = 0
    last_goal: Annotated[str | None, Meta(description="null unless RUNNING")] = None
    failed_action: str | None = None
    failed_url: str | None = None


class Counts(Struct, frozen=True):
    """The runs of a batch in numbers; a run that was stopped is not counted as an error."""

    total: int
    pending: int
    running: int
    passed: int
    failed: int
    error: int
    stopped: int


class BatchRecord(Struct, frozen=True):
    """All that is known of a batch beside its runs. Once its end is recorded nothing of it changes."""

    batch_id: FileId
    name: str
    labels: Mapping[str, str]
    mode: Mode
    fail_fast: int | None
    """After how many failures no run is started any more."""
    queued_at: Time
    runs: tuple[BatchRun, ...]
    dropped: tuple[Dropped, ...] = ()
    rerun_of: FileId | None = None
    lines: tuple[RunLine, ...] | None = None
    """How its runs ended, once all of them have; they may be deleted later."""
    problem: str | None = None
    """Why the record cannot be used; such a one is only shown."""
    version: int = VERSION


def batch_to_json(record: BatchRecord) -> bytes:
    """The content of the record's file."""
    return msgspec.json.encode(record)


def batch_from_json(content: bytes, batch_id: RunId) -> BatchRecord:
    """The record in this file. Raises `RecordUnreadable`."""
    try:
        record = msgspec.json.decode(content, type=BatchRecord)
    except UNPARSABLE as error:
        raise RecordUnreadable(batch_id, printable(str(error), 200), "batch") from None
    if record.version > VERSION or record.batch_id != batch_id:
        problem = "it is of another batch, or was written by a newer version of this program"
        raise RecordUnreadable(batch_id, problem, "batch")
    return record


def unreadable_batch(batch_id: RunId, queued_at: datetime, problem: str) -> BatchRecord:
    """What is shown in place of a record that cannot be used; it is never written."""
    return BatchRecord(batch_id, "", {}, Mode.AGENTIC, None, queued_at, (), problem=problem)


def pending_line(run: BatchRun) -> RunLine:
    """The line of a run of which nothing is known yet."""
    return RunLine(run.run_id, run.task_id, run.test_name, toml_name(run.task_id), State.PENDING)


def deleted_line(run: BatchRun) -> RunLine:
    """The line of a run that was accepted, and whose record was deleted before the batch was over."""
    line = pending_line(run)
    return msgspec.structs.replace(line, current_state=State.ERROR, reason=Reason.LOST, message=DELETED)


def missing_line(batch: BatchRecord, run: BatchRun, now: datetime, *, accepting: bool) -> RunLine:
    """The line of a run without a record: that is still to come, or to be seen, or was deleted."""
    return pending_line(run) if accepting or now - batch.queued_at < UNSEEN else deleted_line(run)


def run_line(run: BatchRun, record: RunRecord) -> RunLine:
    """The line of a run with this record."""
    line, outcome = pending_line(run), record.outcome
    line = msgspec.structs.replace(line, current_state=record.state, started_at=record.started_at)
    if outcome is None:
        return line
    if record.is_unread:  # just now, so it is not known to be over
        return msgspec.structs.replace(line, current_state=State.RUNNING, message=outcome.error_message)
    return msgspec.structs.replace(
        line,
        reason=outcome.reason,
        message=outcome.error_message[:MESSAGE_CHARACTERS] if outcome.error_message else None,
        finished_at=outcome.finished_at,
        duration=seconds_between(record.started_at, outcome.finished_at),
        steps=outcome.passed_steps + outcome.failed_steps,
        failed_action=outcome.failed_action,
        failed_url=outcome.failed_url,
    )


def seconds_between(started_at: datetime | None, finished_at: datetime | None) -> float | None:
    """Seconds between the two; None if one of them never was."""
    if started_at is None or finished_at is None:
        return None
    return max(0.0, (finished_at - started_at).total_seconds())


def count_lines(lines: Sequence[RunLine]) -> Counts:
    """The runs in numbers."""
    states = [line.current_state for line in lines]
    stopped = sum(line.reason is Reason.STOPPED for line in lines)
    return Counts(
        total=len(lines),
        pending=states.count(State.PENDING),
        running=states.count(State.RUNNING),
        passed=states.count(State.FINISHED),
        failed=states.count(State.FAILED),
        error=states.count(State.ERROR) - stopped,
        stopped=stopped,
    )


def batch_state(lines: Sequence[RunLine]) -> State:
    """Where the batch stands: RUNNING as soon as one has begun; over, with the worst state of all, when all are."""
    states = {line.current_state for line in lines}
    if not all(state.is_final for state in states):
        return State.PENDING if states == {State.PENDING} else State.RUNNING
    return next((state for state in (State.FAILED, State.ERROR) if state in states), State.FINISHED)


def has_failed_enough(fail_fast: int | None, lines: Sequence[RunLine]) -> bool:
    """Whether so many runs failed, or could not be run to their end, that no other is to be started."""
    counts = count_lines(lines)
    return fail_fast is not None and counts.failed + counts.error >= fail_fast


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
