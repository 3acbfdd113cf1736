"""The run document: the answer about a run. Its fields are the ones that the front end reads. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, structs

from jobs.run.failure import Failure, failure_card
from jobs.run.record import Artifacts, RunRecord
from jobs.run.state import JobState, Origin, Reason, RunType, State, Trigger
from jobs.run.steps import BrainStateDocument, brain_states
from jobs.run.test_case import BrowserConfig, TestCase
from jobs.run.verdict import Verdict
from runner.files import utc_time
from runner.project.traversal import NOTHING_YET, Reading, Traversal


class Progress(Struct, frozen=True):
    """How far a run has come: its steps so far, its last goal, and when that was written."""

    steps: int
    last_goal: str | None
    updated_at: datetime | None


class QueuePlace(Struct, frozen=True):
    """Why a PENDING run waits: its place (1 is next), behind a run of the same task, or (null) for a free worker."""

    position: int
    waiting_for: str | None


class Timing(Struct, frozen=True):
    """When what happened, in UTC; null where that is not known."""

    accepted_at: datetime | None
    claimed_at: Annotated[datetime | None, Meta(description="when a worker took the run")]
    cli_started_at: datetime | None
    first_step_at: Annotated[datetime | None, Meta(description="when the first step was in the run's file")]
    warm: Annotated[bool | None, Meta(description="whether the CLI was forked from a process that had imported it")]


class RunItem(Struct, frozen=True):
    """A run in a list. Times are UTC, `duration` is seconds; a step is a brain state of the run document."""

    id: str
    test_case: TestCase
    current_state: State
    reason: Reason | None
    queued_at: datetime
    started_at: datetime
    finished_at: datetime | None
    duration: float | None
    passed_steps: int
    failed_steps: int
    total_steps: int
    run_type: RunType
    origin: Origin
    trigger: Trigger
    batch_id: str | None
    labels: Mapping[str, str]
    run_gif: None
    browser_config: BrowserConfig | None


class RunDocument(Struct, frozen=True):
    """A run. Times are UTC, `duration` is seconds."""

    id: str
    test_traversal_id: str
    traversal_id: Annotated[str | None, Meta(description="the ID in the name of the run's file; null without a file")]
    adopted: Annotated[bool, Meta(description="whether that ID is not the run's own, because the CLI did not keep it")]
    original_run_id: str | None
    test_case: TestCase | None
    current_state: State
    reason: Reason | None
    error_message: Annotated[str | None, Meta(description="a sentence; a FINISHED run may have a remark here")]
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    duration: float | None
    timing: Timing
    run_type: RunType
    origin: Origin
    trigger: Annotated[Trigger, Meta(description="what the run was started by")]
    batch_id: Annotated[str | None, Meta(description="the batch that it is a run of; null without one")]
    labels: Annotated[Mapping[str, str], Meta(description="what the client gave the run to find it by")]
    run_gif: str | None
    browser_config: BrowserConfig | None
    queue: Annotated[QueuePlace | None, Meta(description="null unless PENDING")]
    stopping: Annotated[bool, Meta(description="whether a stop was requested and is under way")]
    stale: Annotated[bool, Meta(description="whether Redis does not answer, so that this is from the disk alone")]
    progress: Progress
    failure: Annotated[Failure | None, Meta(description="null unless FAILED or ERROR")]
    artifacts: Annotated[Artifacts | None, Meta(description="whether the files of the run were deleted; else null")]
    brain_states: list[BrainStateDocument]


def state_of(record: RunRecord, job: JobState) -> Verdict:
    """Where a run stands. The recorded outcome beats everything, so a final state never changes.

    Without an outcome it is not over, whatever became of its job: the workers bring it to its end.
    """
    if record.outcome is not None:
        return Verdict(record.outcome.state, record.outcome.reason, record.outcome.error_message)
    return Verdict(State.RUNNING if job is JobState.STARTED else record.state, None, None)


def newest(from_job: RunRecord | None, from_disk: RunRecord | None) -> RunRecord | None:
    """The copy of the record that knows more: an outcome is never taken back, a start is never forgotten. The
    disk's, if they know the same."""
    found = [record for record in (from_disk, from_job) if record is not None]
    return max(found, key=_knowledge, default=None)


def _knowledge(record: RunRecord) -> tuple[bool, bool, bool]:
    return record.outcome is not None, record.started_at is not None, record.traversal_id is not None


def run_document(
    record: RunRecord,
    job: JobState,
    reading: Reading = NOTHING_YET,
    log: Sequence[str] = (),
    queue: QueuePlace | None = None,
    *,
    stop_requested: bool = False,
) -> RunDocument:
    """The document of a run. `log` has the last lines that its CLI printed, for the failure card."""
    if record.artifacts:  # what is left of them is about to be deleted
        reading, log = NOTHING_YET, ()
    verdict, traversal, outcome = state_of(record, job), reading.traversal, record.outcome
    started_at = record.started_at or record.queued_at
    finished_at = None if outcome is None else outcome.finished_at
    return RunDocument(
        id=record.run_id,
        test_traversal_id=record.file_id,
        traversal_id=record.traversal_id,
        adopted=record.file_id != record.run_id,
        original_run_id=record.original_run_id,
        test_case=record.test_case,
        current_state=verdict.state,
        reason=verdict.reason,
        error_message=verdict.message,
        queued_at=record.queued_at,
        started_at=started_at,
        finished_at=finished_at,
        duration=duration(started_at, finished_at),
        timing=_timing(record),
        run_type=record.run_type,
        origin=record.origin,
        trigger=record.effective_trigger,
        batch_id=record.batch_id,
        labels=record.labels,
        run_gif=None,
        browser_config=record.browser_config,
        queue=queue if verdict.state is State.PENDING else None,
        stopping=stop_requested and not verdict.state.is_final,
        stale=job is JobState.UNKNOWN and not verdict.state.is_final,
        progress=_progress(record, reading),
        failure=_failure(record, verdict, traversal, log) if verdict.state.is_failure else None,
        artifacts=record.artifacts,
        brain_states=brain_states(record.task_id, traversal, verdict.state),
    )


def _timing(record: RunRecord) -> Timing:
    return Timing(
        accepted_at=None if record.is_made_by_hand else record.queued_at,
        claimed_at=None if record.is_made_by_hand else record.started_at,
        cli_started_at=record.cli_started_at,
        first_step_at=record.first_step_at,
        warm=record.warm,
    )


def _failure(record: RunRecord, verdict: Verdict, traversal: Traversal | None, log: Sequence[str]) -> Failure:
    card, outcome = failure_card(record.task_id, traversal, verdict.message, log), record.outcome
    if outcome is None:
        return card
    action, url = card.action or outcome.failed_action, card.url or outcome.failed_url
    return structs.replace(card, action=action, url=url, exit_code=outcome.exit_code, signal=outcome.signal)


def duration(started_at: datetime, finished_at: datetime | None) -> float | None:
    """Seconds between the two; None if the run is not over."""
    return None if finished_at is None else max(0.0, (finished_at - started_at).total_seconds())


def _progress(record: RunRecord, reading: Reading) -> Progress:
    if record.artifacts and record.outcome is not None:
        return Progress(record.outcome.passed_steps + record.outcome.failed_steps, None, None)
    thoughts = reading.traversal.brain_states if reading.traversal else ()
    return Progress(
        steps=len(thoughts) or len(reading.traversal.actions if reading.traversal else ()),
        last_goal=thoughts[-1].next_goal if thoughts else None,
        updated_at=None if reading.modified is None else utc_time(reading.modified),
    )
