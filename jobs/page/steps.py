"""The steps of a run as its page and its report show them. Pure."""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from jobs.run.document import RunDocument
from jobs.run.steps import BrainStateDocument, HistoryElement

SHOWN = 200  # steps of a page
TAKEN_AT = re.compile(r"_(\d{8}_\d{6})\.png$")  # in the name of a picture of Bugninja 0.1.6


class Step(NamedTuple):
    """One step of a run."""

    number: int
    """Counts from 1."""
    state: BrainStateDocument
    failed: bool
    evaluation: str
    """What the agent thought of it, a step later."""
    seconds: float | None
    """From the last picture before it to its own last one; None where the pictures do not say when they were taken."""
    picture: str | None
    """The path of its last picture, below the server's root."""

    @property
    def name(self) -> str:
        """The ID of its element."""
        return f"step-{self.number}"


class Window(NamedTuple):
    """The steps that a page shows: those from `start` (counted from 1) on, SHOWN at most, of `total` in all."""

    start: int
    total: int

    @property
    def end(self) -> int:
        """The number of the last one."""
        return min(self.start + SHOWN - 1, self.total)


def first_of_page(number: int) -> int:
    """The first step of the page that shows the step with this number."""
    return (number - 1) // SHOWN * SHOWN + 1


def run_steps(document: RunDocument, start: int = 1, end: int | None = None) -> list[Step]:
    """The steps with the numbers from `start` to `end`, or to the last one."""
    states = document.brain_states
    first, last = max(0, start - 1), len(states) if end is None else min(end, len(states))
    taken = _taken_at(states[first - 1]) if first else None
    steps = []
    for index in range(first, last):
        state, before = states[index], taken
        taken = _taken_at(state) or before
        steps.append(
            Step(
                number=index + 1,
                state=state,
                failed=any(action.history_element_state == "FAILED" for action in state.history_elements),
                evaluation=states[index + 1].evaluation_previous_goal if index + 1 < len(states) else "",
                seconds=(taken - before).total_seconds() if taken and before and taken > before else None,
                picture=last_picture(state),
            )
        )
    return steps


def same_picture(failed: RunDocument, passed: RunDocument) -> tuple[int, str] | None:
    """The picture of the run that passed to be seen beside that of the failure, and the number of its step: after the
    same action on the same page, the nearest one if there are several; else the last one. None if there is none."""
    if failed.failure is None:
        return None
    seen = [(number, action, url) for number, action, url in _actions(passed) if action.screenshot]
    wanted = failed.failure.action, failed.failure.url
    same = [(number, action) for number, action, url in seen if (action_kind(action), url) == wanted]
    if same:
        step = failed.failure.step or 0
        number, action = min(same, key=lambda found: abs(found[0] - step))
    elif seen:
        number, action, _ = seen[-1]
    else:
        return None
    return number, action.screenshot or ""


def action_kind(element: HistoryElement) -> str:
    """Bugninja's name for the action."""
    return next(iter(element.action))


def pictures(steps: Sequence[Step]) -> list[tuple[int, str]]:
    """All pictures of these steps, each with the number of its step."""
    return [
        (step.number, element.screenshot)
        for step in steps
        for element in step.state.history_elements
        if element.screenshot
    ]


def last_picture(state: BrainStateDocument) -> str | None:
    """The path of the last picture of this step."""
    return next((one.screenshot for one in reversed(state.history_elements) if one.screenshot), None)


def _actions(document: RunDocument) -> Iterator[tuple[int, HistoryElement, str | None]]:
    """All actions, with the numbers of their steps, and the address of the last page that was opened by then."""
    url = None
    for number, state in enumerate(document.brain_states, 1):
        for element in state.history_elements:
            opened = element.action[action_kind(element)].get("url")
            url = str(opened) if opened is not None else url
            yield number, element, url


def _taken_at(state: BrainStateDocument) -> datetime | None:
    found = TAKEN_AT.search(last_picture(state) or "")
    try:
        return datetime.strptime(found[1], "%Y%m%d_%H%M%S") if found else None
    except ValueError:
        return None
