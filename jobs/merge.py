"""Job + metadata + traversal -> run document. Pure: no clock, no disk, no Redis."""

from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from itertools import groupby
from typing import NamedTuple

from jobs.document import (
    BrainStateDocument,
    BrowserConfig,
    DomElement,
    HistoryElement,
    Origin,
    Reason,
    RunDocument,
    RunType,
    State,
    TestCase,
)
from jobs.meta import Outcome, RunMeta
from jobs.verdict import Verdict, judge_file
from runner.ids import RunId, TaskId
from runner.traversal import Action, BrainState, Traversal
from runner.traversal_file import Reading


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
    test_case: TestCase | None
    browser_config: BrowserConfig | None
    started_at: datetime
    modified_at: datetime
    abandoned: bool


WITHOUT_OUTCOME = {
    JobState.ABSENT: (Reason.LOST, "Redis no longer knows this run, and nobody recorded how it ended."),
    JobState.ENDED: (Reason.LOST, "The job of this run ended, and nobody recorded how."),
    JobState.FAILED: (Reason.INTERRUPTED, "The worker that carried out this run died."),
    JobState.STOPPED: (Reason.STOPPED, "The run was stopped by a user."),
}


def state_of(meta: RunMeta, job: JobState) -> Verdict:
    """Where an accepted run stands. The recorded outcome beats everything, so a final state never changes."""
    if meta.outcome is not None:
        return Verdict(meta.outcome.state, meta.outcome.reason, meta.outcome.error_message)
    if job is JobState.WAITING:
        return Verdict(State.PENDING, None, None)
    if job is JobState.ACTIVE:
        return Verdict(State.RUNNING, None, None)
    if job is JobState.UNKNOWN:
        return Verdict(State.PENDING if meta.started_at is None else State.RUNNING, None, None)
    reason, message = WITHOUT_OUTCOME[job]
    return Verdict(State.ERROR, reason, message)


def newest(from_job: RunMeta | None, from_disk: RunMeta | None) -> RunMeta | None:
    """The copy of the metadata that knows more: an outcome is never taken back, a start is never forgotten."""
    known = [meta for meta in (from_job, from_disk) if meta is not None]
    return max(known, key=lambda meta: (meta.outcome is not None, meta.started_at is not None), default=None)


def run_document(meta: RunMeta, job: JobState, traversal: Traversal | None) -> RunDocument:
    """The document of a run that we accepted."""
    verdict = state_of(meta, job)
    return RunDocument(
        id=meta.run_id,
        test_traversal_id=meta.run_id,
        test_case=meta.test_case,
        current_state=verdict.state,
        reason=verdict.reason,
        error_message=verdict.message,
        queued_at=meta.queued_at,
        started_at=meta.started_at or meta.queued_at,
        finished_at=_finished_at(meta.outcome),
        run_type=meta.run_type,
        origin=meta.origin,
        run_gif=None,
        browser_config=meta.browser_config,
        brain_states=brain_states(meta.task_id, traversal, verdict.state),
    )


def file_document(run: FileRun, reading: Reading) -> RunDocument:
    """The document of a run that only its traversal file knows of."""
    traversal = reading.traversal or Traversal(status=None, is_replay=False, brain_states=(), actions=())
    verdict = judge_file(traversal, reading.problem, run.abandoned) or Verdict(State.RUNNING, None, None)
    return RunDocument(
        id=run.run_id,
        test_traversal_id=run.run_id,
        test_case=run.test_case,
        current_state=verdict.state,
        reason=verdict.reason,
        error_message=verdict.message,
        queued_at=run.started_at,
        started_at=run.started_at,
        finished_at=None if verdict.state is State.RUNNING else run.modified_at,
        run_type=RunType.REPLAY if traversal.is_replay else RunType.AGENTIC,
        origin=Origin.CLI,
        run_gif=None,
        browser_config=run.browser_config,
        brain_states=brain_states(run.task_id, traversal, verdict.state),
    )


def _finished_at(outcome: Outcome | None) -> datetime | None:
    return None if outcome is None else outcome.finished_at


def brain_states(task_id: TaskId, traversal: Traversal | None, state: State) -> list[BrainStateDocument]:
    """The steps of the run so far, in their order, each with its actions.

    Actions that belong to no brain state (a replay has none) get a step of their own, so that no action is hidden.
    """
    if traversal is None:
        return []
    failed = traversal.actions[-1] if traversal.actions and state is State.FAILED else None
    history: dict[str, list[HistoryElement]] = {}
    for action in traversal.actions:
        element = _history_element(task_id, action, is_failed=action is failed)
        history.setdefault(action.brain_state_id, []).append(element)
    known = [_step(thought, history.get(thought.id, [])) for thought in traversal.brain_states]
    return known + list(_orphans(task_id, traversal, failed))


def _step(thought: BrainState, elements: list[HistoryElement]) -> BrainStateDocument:
    return BrainStateDocument(
        id=thought.id,
        evaluation_previous_goal=thought.evaluation_previous_goal,
        memory=thought.memory,
        next_goal=thought.next_goal,
        history_elements=elements,
    )


def _orphans(task_id: TaskId, traversal: Traversal, failed: Action | None) -> Iterator[BrainStateDocument]:
    known = {thought.id for thought in traversal.brain_states}
    orphans = [action for action in traversal.actions if action.brain_state_id not in known]
    for brain_state_id, actions in groupby(orphans, key=lambda action: action.brain_state_id):
        group = list(actions)
        thought = BrainState(brain_state_id or f"step_{group[0].number}", "", "", group[0].kind.replace("_", " "))
        yield _step(thought, [_history_element(task_id, action, is_failed=action is failed) for action in group])


def _history_element(task_id: TaskId, action: Action, *, is_failed: bool) -> HistoryElement:
    return HistoryElement(
        id=f"action_{action.number}",
        history_element_state="FAILED" if is_failed else "SUCCESS",
        action={action.kind: action.parameters},
        screenshot=f"tasks/{task_id}/{action.screenshot}" if action.screenshot else None,
        dom_element_data=DomElement(action.xpath) if action.xpath else None,
    )
