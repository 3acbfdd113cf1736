"""Runs as a person's own CLI leaves them: a traversal and pictures, with whatever a test wants in them."""

import json
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from runner.ids import new_run_id
from tests.acceptance.pages.browser import png
from tests.project import Project

URL = "https://shop.example/cart"


class Step(NamedTuple):
    """What the agent thought and did; `colour` is that of its picture, if it has one."""

    goal: str = "Go on"
    kind: str = "click_element_by_index"
    parameters: dict[str, Any] = {}  # noqa: RUF012 (nobody changes it)
    colour: tuple[int, int, int] | None = None
    evaluation: str = ""
    memory: str = ""
    xpath: str | None = None


def add_run(project: Project, task: str, steps: Sequence[Step], status: str = "SUCCESSFUL", age: int = 60) -> str:
    """A run of the task that ended `age` seconds ago; returns its ID."""
    run_id, folder, ended = new_run_id(), project.root / "tasks" / task, time.time() - age
    thoughts, actions = {}, {}
    (folder / "screenshots" / run_id).mkdir(parents=True, exist_ok=True)
    for n, step in enumerate(steps):
        picture = f"screenshots/{run_id}/{n + 1:03d}_{step.kind}.png" if step.colour else None
        if step.colour and picture:
            (folder / picture).write_bytes(png(*step.colour))
        thoughts[f"t{n}"] = {
            "evaluation_previous_goal": step.evaluation,
            "memory": step.memory,
            "next_goal": step.goal,
        }
        actions[f"action_{n}"] = {
            "brain_state_id": f"t{n}",
            "action": {step.kind: step.parameters},
            "dom_element_data": {"xpath": step.xpath} if step.xpath else None,
            "screenshot_filename": picture,
        }
    stamp = time.strftime("%Y%m%d_%H%M%S", time.localtime(ended))
    path = folder / "traversals" / f"traverse_{stamp}_{run_id}.json"
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".tmp")
    new.write_text(json.dumps({"status": status, "brain_states": thoughts, "actions": actions, "secrets": {}}))
    os.utime(new, (ended, ended))
    new.rename(path)
    return run_id


def shopping(*, passes: bool) -> list[Step]:
    """Steps of a run that buys something, or finds the cart empty."""
    verdict = {"text": "The order is placed" if passes else "The cart is empty", "success": passes}
    return [
        Step("Open the shop", "go_to_url", {"url": "https://shop.example/"}, (70, 110, 180), memory="Nothing yet"),
        Step(
            "Put the thing into the cart",
            parameters={"index": 7},
            colour=(80, 150, 90),
            xpath="html/body/main/button[2]",
        ),
        Step("Open the cart", "go_to_url", {"url": URL}, (190, 150, 60), "Success - the cart has one thing"),
        Step("Say how it ended", "done", verdict, (80, 150, 90) if passes else (180, 60, 60)),
    ]
