"""A Bugninja project with a past: as many runs as wanted, as the stack and the CLI would have left them."""

import json
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jobs.run.record import Outcome, RunRecord, record_to_json
from jobs.run.state import Origin, Reason, RunType, State
from jobs.run.test_case import browser_config, test_case
from runner.ids import RunId, TaskId, new_run_id
from runner.project.run_folder import RunFolder
from runner.project.task import read_task

TASKS = 10
CONTENTS = 50  # of traversals, to which others are links
SMALL, LARGE = 10_000, 5_000_000  # bytes of a traversal
OTHER_KINDS = ("done", "go_to_url", "wait", "send_keys", "switch_tab", "open_tab", "extract_content", "upload_file")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TOML = """
[task]
name = "Task number {number}"
description = "Open the shop, put number {number} into the cart, pay, and see that the order is confirmed"

[run_config]
viewport_width = 1280
viewport_height = 720
user_agent = "benchmark"

[secrets]
PASSWORD = "correct-horse-{number}"
"""


class History:
    """The project, and its runs by what they are good for. `size` is how many there are, in `TASKS` tasks.

    Every other one was made by hand with the CLI, and has no record of ours.
    """

    def __init__(self, root: Path, size: int) -> None:
        self.root, self.size = root, size
        self.tasks = [TaskId(f"task_{number}") for number in range(TASKS)]
        for number, task_id in enumerate(self.tasks):
            for folder in ("traversals", "runs"):
                (self.tasks_root / task_id / folder).mkdir(parents=True)
            (self.tasks_root / task_id / f"task_{task_id}.toml").write_text(TOML.format(number=number))
        self.runs = [self.add(number) for number in range(size)]

    @property
    def tasks_root(self) -> Path:
        """The folder with the tasks."""
        return self.root / "tasks"

    @property
    def of_ours(self) -> RunId:
        """A run that was started over REST."""
        return self.runs[self.size // 2 // 2 * 2]

    @property
    def by_hand(self) -> RunId:
        """A run that was made by hand with the CLI."""
        return self.runs[self.size // 2 // 2 * 2 + 1]

    def add(self, number: int, size: int = SMALL) -> RunId:
        """One more run that is over, with a traversal of about so many bytes."""
        run_id, task_id = new_run_id(), self.tasks[number % TASKS]
        began = BEGAN + timedelta(minutes=number)
        passed = number % 4 != 0
        self.write(task_id, run_id, traversal(run_id, size, "SUCCESSFUL" if passed else "FAILED", passed=passed), began)
        if number % 2 == 0:
            self._record(task_id, run_id, began, State.FINISHED if passed else State.FAILED)
        return run_id

    def write(self, task_id: TaskId, run_id: RunId, content: bytes, began: datetime = BEGAN) -> Path:
        """Put a traversal in its place in one step, as the CLI does; returns its path."""
        return write_traversal(self.tasks_root / task_id, run_id, content, began)

    def _record(self, task_id: TaskId, run_id: RunId, began: datetime, state: State) -> None:
        task = read_task(self.tasks_root, task_id)
        reason = None if state is State.FINISHED else Reason.TEST_FAILED
        folder = RunFolder(self.tasks_root, task_id, run_id)
        folder.path.mkdir()
        meta = RunRecord(
            run_id=run_id,
            task_id=task_id,
            test_case=test_case(task, str),
            browser_config=browser_config(task, str),
            run_type=RunType.AGENTIC,
            origin=Origin.WEB_UI,
            queued_at=began,
            started_at=began,
            worker="benchmark",
            traversal_id=run_id,
            outcome=Outcome(state, reason, None, began + timedelta(seconds=40), exit_code=0, passed_steps=4),
        )
        folder.record.write_bytes(record_to_json(meta))
        folder.log.write_text("".join(f"step {number} of the run\n" for number in range(60)))


def write_traversal(task: Path, run_id: RunId, content: bytes, began: datetime = BEGAN) -> Path:
    """Put a traversal into the task's folder in one step, as the CLI does; returns its path."""
    folder = task / "traversals"
    path = folder / f"traverse_{began:%Y%m%d_%H%M%S}_{run_id}.json"
    temporary = folder / f".{run_id}.tmp"
    temporary.write_bytes(content)
    temporary.replace(path)
    return path


def fill_task(task: Path, size: int, unfinished: int) -> list[RunId]:
    """Give the task so many runs, every other one made by hand; returned are those that are not over."""
    (task / "runs").mkdir()
    (task / "traversals").mkdir()
    began, sample = datetime.now(UTC) - timedelta(days=30), new_run_id()
    contents = [task / f"content{number}" for number in range(CONTENTS)]
    for number, path in enumerate(contents):
        path.write_bytes(traversal("r" * 24, 1000, "SUCCESSFUL", passed=number % 4 != 0))
        os.utime(path, (began.timestamp(), began.timestamp()))
    over = record_to_json(record(TaskId(task.name), sample, began, is_over=True))
    running = record_to_json(record(TaskId(task.name), sample, datetime.now(UTC), is_over=False))
    runs = [new_run_id() for _ in range(unfinished)]
    for _ in range(size // 2 - len(runs)):
        add_record(task, quick_run_id(), over, sample)
    for run_id in runs:
        add_record(task, run_id, running, sample)
    for number in range(size // 2):
        name = f"traverse_{began + timedelta(seconds=10 * number):%Y%m%d_%H%M%S}_{quick_run_id()}.json"
        os.link(contents[number % CONTENTS], task / "traversals" / name)
    return runs


def quick_run_id() -> RunId:
    """One that takes less time than a real one."""
    return RunId(f"k{secrets.token_hex(12)[1:]}")


def record(task_id: TaskId, run_id: RunId, queued_at: datetime, *, is_over: bool) -> RunRecord:
    """Of a run that is RUNNING, or FINISHED."""
    outcome = Outcome(State.FINISHED, None, None, queued_at + timedelta(seconds=40), 0, passed_steps=4)
    return RunRecord(
        run_id=run_id,
        task_id=task_id,
        test_case=None,
        browser_config=None,
        run_type=RunType.AGENTIC,
        origin=Origin.WEB_UI,
        queued_at=queued_at,
        started_at=queued_at + timedelta(seconds=1),
        outcome=outcome if is_over else None,
    )


def add_record(task: Path, run_id: RunId, content: bytes, sample: RunId) -> None:
    """The folder of a run with this record of another."""
    folder = task / "runs" / run_id
    folder.mkdir()
    (folder / "run.json").write_bytes(content.replace(sample.encode(), run_id.encode()))


def traversal(run_id: str, size: int, status: str, *, passed: bool = True, most: int = LARGE) -> bytes:
    """A traversal of about so many bytes, but not of more steps than `most`, in the proportions of a real one."""
    steps: list[dict[str, Any]] = []
    length = 0
    while length < size and len(steps) < most:
        steps.append(_action(run_id, len(steps)))
        length += len(json.dumps(steps[-1], indent=4)) + 300
    if status != "PENDING":
        steps[-1]["action"] |= {"go_to_url": None, "done": {"text": "The order is confirmed", "success": passed}}
    document = {
        "test_case": "Open the shop, put the thing into the cart and pay",
        "browser_config": {"viewport": {"width": 1280, "height": 720}, "user_agent": "benchmark"},
        "brain_states": {f"thought{number}": _thought(number) for number in range(len(steps))},
        "actions": {f"action_{number}": action for number, action in enumerate(steps)},
        "secrets": {"PASSWORD": "correct-horse"},
        "http_auth": None,
        "status": status,
    }
    return json.dumps(document, indent=4).encode()


def _thought(number: int) -> dict[str, str]:
    return {
        "evaluation_previous_goal": f"Success - step {number} did what it should",
        "memory": f"{number} of the steps are done; the cart has {number} things in it",
        "next_goal": f"Put thing number {number} into the cart",
    }


def _action(run_id: str, number: int) -> dict[str, Any]:
    element = {
        "tag_name": "button",
        "xpath": f"html/body/main/section[{number}]/form/label/button",
        "attributes": {"id": f"thing{number}", "class": "button button-primary", "type": "submit"},
        "is_visible": True,
        "is_interactive": True,
        "is_top_element": True,
        "children": [{"text": "Put into the cart", "type": "TEXT_NODE", "children": []}],
        "alternative_relative_xpaths": [f"//section[{number}]/form/label/{name}" for name in "abcdef"],
    }
    return {
        "brain_state_id": f"thought{number}",
        "action": {**dict.fromkeys(OTHER_KINDS), "go_to_url": {"url": f"http://127.0.0.1/things/{number}"}},
        "dom_element_data": element,
        "screenshot_filename": f"screenshots/{run_id}/{number:03d}_go_to_url.png",
        "idx_in_brainstate": 0,
        "timestamps": None,
    }
