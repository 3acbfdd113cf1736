"""Job + metadata + traversal -> run document. Pure: no clock, no disk, no Redis."""

from datetime import UTC, datetime
from enum import Enum
from typing import NamedTuple

from jobs.run.document import (
    FINAL,
    BrowserConfig,
    Failure,
    Origin,
    Progress,
    QueuePlace,
    RunDocument,
    RunType,
    State,
    TestCase,
)
from jobs.run.record import Outcome, RunRecord
from jobs.run.steps import brain_states, failure_card
from jobs.run.verdict import Verdict, judge_file
from runner.ids import RunId, TaskId
from runner.project.run_files import Reading
from runner.project.traversal import Traversal


class JobState(Enum):
    """How RQ's job stands, as far as it matters for a run."""

    UNKNOWN = "Redis did not answer"
    ABSENT = "Redis answered that there is no such job"
    WAITING = "in the queue, or waiting for its turn"
    ACTIVE = "a worker has it"
    ENDED = "its function returned"
    FAILED = "its function or its work-horse failed"
    STOPPED = "it was stopped or cancelled"


class FileRun(NamedTuple):
    """What is known of a run that was made by hand with the CLI: its task, and the times of its file."""

    run_id: RunId
    task_id: TaskId
    test_case: TestCase
    browser_config: BrowserConfig | None
    started_at: datetime
    modified_at: datetime
    abandoned: bool


def state_of(meta: RunRecord, job: JobState) -> Verdict:
    """Where an accepted run stands. The recorded outcome beats everything, so a final state never changes.

    Without an outcome it is not over, whatever became of its job: the workers bring it to its end (`reconcile`).
    """
    if meta.outcome is not None:
        return Verdict(meta.outcome.state, meta.outcome.reason, meta.outcome.error_message)
    waits = meta.started_at is None and job is not JobState.ACTIVE
    return Verdict(State.PENDING if waits else State.RUNNING, None, None)


def newest(from_job: RunRecord | None, from_disk: RunRecord | None) -> RunRecord | None:
    """The copy of the metadata that knows more: an outcome is never taken back, a start is never forgotten."""
    known = [meta for meta in (from_job, from_disk) if meta is not None]
    return max(known, key=_knows, default=None)


def _knows(meta: RunRecord) -> tuple[bool, bool, bool]:
    return meta.outcome is not None, meta.started_at is not None, meta.traversal_id is not None


def run_document(
    meta: RunRecord,
    job: JobState,
    reading: Reading,
    log_tail: list[str],
    queue: QueuePlace | None = None,
    *,
    stop_requested: bool = False,
) -> RunDocument:
    """The document of a run that we accepted. `log_tail` is the end of what its CLI printed, for the failure card."""
    verdict, traversal = state_of(meta, job), reading.traversal
    started_at = meta.started_at or meta.queued_at
    finished_at = None if meta.outcome is None else meta.outcome.finished_at
    return RunDocument(
        id=meta.run_id,
        test_traversal_id=meta.traversal_id or meta.run_id,
        traversal_id=meta.traversal_id,
        adopted=meta.traversal_id not in (None, meta.run_id),
        original_run_id=meta.original_run_id,
        test_case=meta.test_case,
        current_state=verdict.state,
        reason=verdict.reason,
        error_message=verdict.message,
        queued_at=meta.queued_at,
        started_at=started_at,
        finished_at=finished_at,
        duration=None if finished_at is None else (finished_at - started_at).total_seconds(),
        run_type=meta.run_type,
        origin=meta.origin,
        run_gif=None,
        browser_config=meta.browser_config,
        queue=queue if verdict.state is State.PENDING else None,
        stopping=stop_requested and verdict.state not in FINAL,
        stale=job is JobState.UNKNOWN and verdict.state not in FINAL,
        progress=_progress(reading),
        failure=_failure(meta.task_id, verdict, traversal, meta.outcome, log_tail),
        brain_states=brain_states(meta.task_id, traversal, verdict.state),
    )


def file_document(run: FileRun, reading: Reading) -> RunDocument:
    """The document of a run that only its traversal file knows of."""
    traversal = reading.traversal
    verdict = judge_file(traversal, reading.problem, run.abandoned) or Verdict(State.RUNNING, None, None)
    finished_at = None if verdict.state is State.RUNNING else run.modified_at
    return RunDocument(
        id=run.run_id,
        test_traversal_id=run.run_id,
        traversal_id=run.run_id,
        adopted=False,
        original_run_id=None,
        test_case=run.test_case,
        current_state=verdict.state,
        reason=verdict.reason,
        error_message=verdict.message,
        queued_at=run.started_at,
        started_at=run.started_at,
        finished_at=finished_at,
        duration=None if finished_at is None else max(0.0, (finished_at - run.started_at).total_seconds()),
        run_type=RunType.REPLAY if traversal and traversal.is_replay else RunType.AGENTIC,
        origin=Origin.CLI,
        run_gif=None,
        browser_config=run.browser_config,
        queue=None,
        stopping=False,
        stale=False,
        progress=_progress(reading),
        failure=_failure(run.task_id, verdict, traversal, None, []),
        brain_states=brain_states(run.task_id, traversal, verdict.state),
    )


def _progress(reading: Reading) -> Progress:
    thoughts = reading.traversal.brain_states if reading.traversal else ()
    return Progress(
        steps=len(thoughts) or len(reading.traversal.actions if reading.traversal else ()),
        last_goal=thoughts[-1].next_goal if thoughts else None,
        updated_at=None if reading.modified is None else datetime.fromtimestamp(reading.modified, UTC),
    )


def _failure(
    task_id: TaskId, verdict: Verdict, traversal: Traversal | None, outcome: Outcome | None, log_tail: list[str]
) -> Failure | None:
    if verdict.state not in (State.FAILED, State.ERROR):
        return None
    return failure_card(task_id, traversal, outcome, verdict.message, log_tail)
