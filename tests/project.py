"""A Bugninja project in a temporary folder, with tasks whose CLI does what the test wants."""

import json
import sys
from pathlib import Path
from typing import Any

from runner.settings import Settings, read_settings

SCRIPTED_CLI = Path(__file__).with_name("scripted_cli.py")
SCRIPTED_COMMAND = f"{sys.executable} {SCRIPTED_CLI} {{task_id}}"
SCRIPTED_REPLAY_COMMAND = f"{SCRIPTED_COMMAND} replay {{traversal_id}}"

TOML = """
[task]
name = "{name}"
description = "What {name} is about"

[run_config]
viewport_width = 1280
viewport_height = 720
user_agent = "tester"
"""


class Project:
    """The folder, and what can be put into it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "tasks").mkdir(parents=True, exist_ok=True)

    def add_task(self, task_id: str, behaviour: str = "pass", toml: str | None = None, replay: str = "visit") -> Path:
        """A task; `behaviour` is what the scripted CLI does for a run of it, `replay` for a replay."""
        folder = self.root / "tasks" / task_id
        folder.mkdir()
        (folder / f"task_{task_id}.toml").write_text(TOML.format(name=task_id) if toml is None else toml)
        (folder / "behaviour").write_text(behaviour)
        (folder / "behaviour-replay").write_text(replay)
        return folder

    def environ(self, **changes: str) -> dict[str, str]:
        """The environment of a process that serves this project."""
        commands = {"RUNNER_COMMAND": SCRIPTED_COMMAND, "RUNNER_REPLAY_COMMAND": SCRIPTED_REPLAY_COMMAND}
        history = self.root.with_name(f"{self.root.name}-history") / "runs.sqlite"
        own = {
            "PROJECT_ROOT": str(self.root),
            "HISTORY_FILE": str(history),
            "RUN_TIMEOUT": "60",
            "QUEUE_NAME": "bugninja",
            "RUNNER_WARM": "off",
        }
        return {**own, **commands, **changes}

    def settings(self, **changes: str) -> Settings:
        """The settings of such a process."""
        return read_settings(self.environ(**changes))

    def traversals(self, task_id: str) -> list[Path]:
        """The traversal files of the task."""
        return sorted((self.root / "tasks" / task_id / "traversals").glob("*.json"))


def make_action(number: int, kind: str, parameters: dict[str, Any], thought: str | None = None) -> dict[str, Any]:
    """An action as Bugninja writes it, with a null for an action type that was not used."""
    return {
        "brain_state_id": thought or f"thought{number}",
        "action": {"done": None, "go_to_url": None, "wait": None, "input_text": None, kind: parameters},
        "dom_element_data": None,
        "screenshot_filename": f"screenshots/run/{number + 1:03d}_{kind}.png",
        "idx_in_brainstate": 0,
        "timestamps": None,
    }


def make_traversal(
    actions: list[tuple[str, dict[str, Any]]], status: str | None = "PENDING", **more: Any
) -> dict[str, Any]:
    """A traversal with one brain state per action."""
    thoughts = {
        f"thought{n}": {"evaluation_previous_goal": f"saw {n}", "memory": f"{n} done", "next_goal": f"goal {n}"}
        for n in range(len(actions))
    }
    document = {
        "test_case": "Buy a thing",
        "secrets": {"PASSWORD": "hunter2-secret"},
        "http_auth": {"username": "u", "password": "http-secret"},
        "brain_states": thoughts,
        "actions": {f"action_{n}": make_action(n, kind, values) for n, (kind, values) in enumerate(actions)},
        **({} if status is None else {"status": status}),
    }
    return {**document, **more}


def traversal_bytes(*args: Any, **kwargs: Any) -> bytes:
    """`make_traversal` as the file's content."""
    return json.dumps(make_traversal(*args, **kwargs), indent=4).encode()


VISIT = ("go_to_url", {"url": "http://127.0.0.1:1/"})
PASSED = ("done", {"text": "All is well", "success": True})
FAULT = ("done", {"text": "The cart is empty", "success": False})
