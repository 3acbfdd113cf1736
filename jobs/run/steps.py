"""Traversal -> the steps of a run as its document shows them. Pure."""

import re

from msgspec import Struct

from jobs.run.state import State
from runner.ids import TaskId
from runner.project.traversal import Action, BrainState, Parameter, Traversal

EVALUATED_AS_FAILED = re.compile(r"\W*fail", re.IGNORECASE)  # how an evaluation of the previous step begins


class DomElement(Struct, frozen=True):
    """The element that an action was about."""

    xpath: str | None


class HistoryElement(Struct, frozen=True):
    """One action. `action` has one key, Bugninja's name for it; `screenshot` is a path below this server's root."""

    id: str
    history_element_state: str
    action: dict[str, dict[str, Parameter]]
    screenshot: str | None
    dom_element_data: DomElement | None


class BrainStateDocument(Struct, frozen=True):
    """One step: what the agent thought, and the actions that followed."""

    id: str
    evaluation_previous_goal: str
    memory: str
    next_goal: str
    history_elements: list[HistoryElement]


def brain_states(task_id: TaskId, traversal: Traversal | None, state: State) -> list[BrainStateDocument]:
    """The steps of the run so far, in their order, each with its actions.

    Actions that belong to no brain state (a replay has none) get a step of their own, so that no action is hidden.
    """
    if traversal is None:
        return []
    failed = failed_actions(traversal, run_failed=state is State.FAILED)
    elements = {
        action.number: _history_element(task_id, action, is_failed=action.number in failed)
        for action in traversal.actions
    }
    thought_ids = {thought.id for thought in traversal.brain_states}
    of_thought: dict[str, list[HistoryElement]] = {}
    alone: list[BrainStateDocument] = []
    for action in traversal.actions:
        if action.brain_state_id in thought_ids:
            of_thought.setdefault(action.brain_state_id, []).append(elements[action.number])
        else:
            thought = BrainState(f"step_{action.number}", "", "", action.kind.replace("_", " "))
            alone.append(_step(thought, [elements[action.number]]))
    return [_step(thought, of_thought.get(thought.id, [])) for thought in traversal.brain_states] + alone


def failed_actions(traversal: Traversal, *, run_failed: bool) -> set[int]:
    """The numbers of the actions that failed: the last one of a failed run, and the last of each step that the next
    step's evaluation calls a failure."""
    last_of = {action.brain_state_id: action.number for action in traversal.actions}
    judged = zip(traversal.brain_states, traversal.brain_states[1:], strict=False)
    failed = {
        last_of[thought.id]
        for thought, following in judged
        if EVALUATED_AS_FAILED.match(following.evaluation_previous_goal) and thought.id in last_of
    }
    if run_failed and traversal.actions:
        failed.add(traversal.actions[-1].number)
    return failed


def count_steps(traversal: Traversal | None, state: State) -> tuple[int, int]:
    """How many of the run's steps passed, and how many failed."""
    if traversal is None:
        return 0, 0
    failed = failed_actions(traversal, run_failed=state is State.FAILED)
    thoughts = {thought.id for thought in traversal.brain_states}
    alone = [action for action in traversal.actions if action.brain_state_id not in thoughts]
    of_thoughts = {action.brain_state_id for action in traversal.actions if action.number in failed} & thoughts
    failed_steps = len(of_thoughts) + sum(action.number in failed for action in alone)
    return len(thoughts) + len(alone) - failed_steps, failed_steps


def _step(thought: BrainState, elements: list[HistoryElement]) -> BrainStateDocument:
    return BrainStateDocument(
        id=thought.id,
        evaluation_previous_goal=thought.evaluation_previous_goal,
        memory=thought.memory,
        next_goal=thought.next_goal,
        history_elements=elements,
    )


def _history_element(task_id: TaskId, action: Action, *, is_failed: bool) -> HistoryElement:
    return HistoryElement(
        id=f"action_{action.number}",
        history_element_state="FAILED" if is_failed else "SUCCESS",
        action={action.kind: action.parameters},
        screenshot=f"tasks/{task_id}/{action.screenshot}" if action.screenshot else None,
        dom_element_data=DomElement(action.xpath) if action.xpath else None,
    )
