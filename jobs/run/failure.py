"""The failure card: what broke in a run, for a person who does not want to open a log. Pure."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

from jobs.run.steps import failed_actions
from runner.ids import TaskId
from runner.project.traversal import Action, Traversal

LOG_LINES = 20  # of the log that the card shows at most


class Failure(Struct, frozen=True):
    """What broke in a run that is FAILED or ERROR; null where the run never got there."""

    step: Annotated[int | None, Meta(description="counts brain states from 1")]
    action: str | None
    goal: str | None
    message: str | None
    url: str | None
    screenshot: str | None
    log_tail: Annotated[list[str], Meta(description=f"the last lines of the log, at most {LOG_LINES}")]
    exit_code: int | None
    signal: str | None


def failure_card(task_id: TaskId, traversal: Traversal | None, message: str | None, log: Sequence[str]) -> Failure:
    """What broke; exit code and signal of the CLI are to be filled in."""
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
        log_tail=[*log[-LOG_LINES:]],
        exit_code=None,
        signal=None,
    )


def _up_to_the_fault(traversal: Traversal) -> tuple[Action, ...]:
    """The actions up to the one that broke: the last failed one before the agent's `done`, else the last of all."""
    failed = failed_actions(traversal, run_failed=False)
    before = [n for n, action in enumerate(traversal.actions) if action.number in failed and action.kind != "done"]
    return traversal.actions[: before[-1] + 1] if before else traversal.actions
