"""What a Bugninja project says about its tasks: `tasks/TASK/task_TASK.toml` -> frozen values.

The shape of the file is Bugninja 0.1.6's. `[secrets]`, `[task.http_auth]` and `[run_config.proxy]` are not read here.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner.errors import NotFound, TaskBroken
from runner.ids import TASK_ID_RULE, TaskId, parse_task_id, shown

DEFAULT_VIEWPORT = (1920, 1080)  # what `bugninja add` writes
LINE_OF_TOML_ERROR = re.compile(r"\(at line (\d+), column \d+\)")


class Viewport(Struct, frozen=True):
    """The size of the page, in CSS pixels."""

    width: int
    height: int


class Geolocation(Struct, frozen=True):
    """Where the browser says it is: degrees, and metres of accuracy."""

    latitude: float
    longitude: float
    accuracy: float


class Browser(Struct, frozen=True):
    """How the task's browser is set up."""

    browser_channel: str
    user_agent: str
    viewport: Viewport
    geolocation: Geolocation | None


class Task(Struct, frozen=True):
    """One task of the project."""

    id: TaskId
    name: str
    description: str
    goal: str
    browser: Browser

    @property
    def browser_config_id(self) -> str:
        """The ID of the one browser configuration that a task has."""
        return browser_config_id(self.id)


def browser_config_id(task_id: TaskId) -> str:
    """The ID of the task's only browser configuration."""
    return f"{task_id}_default"


def task_folder(tasks_root: Path, task_id: TaskId) -> Path:
    """The task's folder. Raises `NotFound` if there is none, or if it is a link that leads out of `tasks_root`."""
    folder = tasks_root / task_id
    if not folder.is_dir():
        raise NotFound(f"There is no task '{task_id}': the project has no folder tasks/{task_id}.")
    if folder.resolve().parent != tasks_root.resolve():
        raise NotFound(f"The folder tasks/{task_id} is a link that leads out of tasks/, so it is not used.")
    return folder


def read_task(tasks_root: Path, name: str) -> Task:
    """The task of this name (text from outside).

    Raises `NotFound` if no task has that name, `TaskBroken` if its TOML cannot be used (with file and line).
    """
    task_id = parse_task_id(name)
    if task_id is None:
        raise NotFound(f"There is no task '{shown(name)}': the name of a task is {TASK_ID_RULE}.")
    folder = task_folder(tasks_root, task_id)
    shown_path = f"tasks/{task_id}/task_{task_id}.toml"
    path = folder / f"task_{task_id}.toml"
    if path.resolve().parent != folder.resolve():
        raise NotFound(f"{shown_path} is a link that leads out of the task's folder, so it is not used.")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"There is no task '{task_id}': the file {shown_path} does not exist.") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise TaskBroken(shown_path, line, "the file is not UTF-8 text.") from None
    except OSError as error:
        raise TaskBroken(shown_path, None, f"the file cannot be read ({error.strerror}).") from None
    return parse_task(task_id, text, shown_path)


def parse_task(task_id: TaskId, text: str, shown_path: str) -> Task:
    """TOML text -> `Task`. Pure. Raises `TaskBroken`; `shown_path` is what its message calls the file."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = LINE_OF_TOML_ERROR.search(str(error))
        line = int(found.group(1)) if found else text.count("\n") + 1
        raise TaskBroken(shown_path, line, f"this is not TOML: {error}.") from None
    except RecursionError:
        raise TaskBroken(shown_path, None, "the tables and arrays are nested too deep.") from None
    table = document.get("task")
    if not isinstance(table, dict):
        raise TaskBroken(shown_path, None, "the table [task] is missing.")
    name = _text(shown_path, text, table, "name", task_id)
    description = _text(shown_path, text, table, "description", "")
    goal = _text(shown_path, text, table, "goal", description)
    return Task(task_id, name, description, goal, _browser(document.get("run_config"), shown_path, text))


def _browser(run_config: Any, shown_path: str, text: str) -> Browser:
    table = {} if run_config is None else run_config
    if not isinstance(table, dict):
        raise TaskBroken(shown_path, _line_of(text, "run_config"), "run_config must be a table.")
    width = _positive(shown_path, text, table, "viewport_width", DEFAULT_VIEWPORT[0])
    height = _positive(shown_path, text, table, "viewport_height", DEFAULT_VIEWPORT[1])
    user_agent = _text(shown_path, text, table, "user_agent", "")
    return Browser("chromium", user_agent, Viewport(width, height), _geolocation(table.get("geolocation")))


def _geolocation(table: Any) -> Geolocation | None:
    if not isinstance(table, dict):
        return None
    latitude, longitude = _number(table.get("latitude")), _number(table.get("longitude"))
    if latitude is None or longitude is None:
        return None
    return Geolocation(latitude, longitude, _number(table.get("accuracy")) or 0.0)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _text(shown_path: str, text: str, table: dict[str, Any], key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise TaskBroken(shown_path, _line_of(text, key), f"{key} is {shown(repr(value))}; expected is a text.")
    return value


def _positive(shown_path: str, text: str, table: dict[str, Any], key: str, default: int) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        problem = f"{key} is {shown(repr(value))}; expected is a whole number of pixels from 1."
        raise TaskBroken(shown_path, _line_of(text, key), problem)
    return value


def _line_of(text: str, key: str) -> int | None:
    """The first line that sets the key (1 is the first), or None."""
    pattern = re.compile(rf"\s*\[?\s*\"?{re.escape(key)}\"?\s*[\]=]")
    return next((number for number, line in enumerate(text.split("\n"), 1) if pattern.match(line)), None)
