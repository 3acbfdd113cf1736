"""The failure card: what broke in a run, for a person who does not want to open a log. Pure."""

from msgspec import Struct

from jobs.run.record import Outcome
from jobs.run.state import State
from jobs.run.steps import failed_actions
from runner.ids import TaskId
from runner.project.traversal import Action, Traversal


class Failure(Struct, frozen=True):
    """What broke, for a run that is FAILED or ERROR: where it was (null where it never got there), and what was said.

    `step` counts brain states from 1, `log_tail` has at most 20 lines of what the CLI printed.
    """

    step: int | None
    action: str | None
    goal: str | None
    message: str | None
    url: str | None
    screenshot: str | None
    log_tail: list[str]
    exit_code: int | None
    signal: str | None


def failure_card(
    task_id: TaskId, traversal: Traversal | None, outcome: Outcome | None, message: str | None, log_tail: list[str]
) -> Failure:
    """What broke, for a person who does not want to open a log."""
    actions = _up_to_the_fault(traversal) if traversal else ()
    thoughts = {thought.id: (n, thought) for n, thought in enumerate(traversal.brain_states if traversal else (), 1)}
    last = actions[-1] if actions else None
    step, thought = thoughts.get(last.brain_state_id, (len(actions), None)) if last else (None, None)
    urls = [action.parameters["url"] for action in actions if "url" in action.parameters]
    pictures = [action.screenshot for action in actions if action.screenshot]
    return Failure(
        step=step,
        action=last.kind if last else None,
        goal=thought.next_goal if thought else None,
        message=message,
        url=str(urls[-1]) if urls else None,
        screenshot=f"tasks/{task_id}/{pictures[-1]}" if pictures else None,
        log_tail=log_tail,
        exit_code=outcome.exit_code if outcome else None,
        signal=outcome.signal if outcome else None,
    )


def _up_to_the_fault(traversal: Traversal) -> tuple[Action, ...]:
    """The actions up to the one that broke: the last failed one before the agent's `done`, else the last of all."""
    failed = failed_actions(traversal, State.ERROR)
    before = [n for n, action in enumerate(traversal.actions) if action.number in failed and action.kind != "done"]
    return traversal.actions[: before[-1] + 1] if before else traversal.actions
