"""A task's own file: `tasks/TASK/task_TASK.toml` -> `Task`.

The shape of the file is Bugninja 0.1.6's. Of `[secrets]` only the names are read here, of `[task.http_auth]` and
`[run_config.proxy]` nothing.
"""

import math
import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner.errors import NotFound, TaskBroken, printable
from runner.files import is_folder, is_in_place, read_file, utc_time
from runner.ids import TASK_ID_RULE, TaskId, parse_task_id
from runner.project.project import check_project

DEFAULT_VIEWPORT = (1920, 1080)  # what `bugninja add` writes
DEFAULT_PRIORITY = "medium"
CHANNEL = "chromium"
MAX_PIXELS = 100_000
MANY = 10**18  # a number that is larger is not repeated: Python refuses to write one of thousands of digits
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
    """One task of the project. Its texts may still have secrets in them. `cuid` is the ID that Bugninja gave it.

    `created_at` is the file's own word, or else `updated_at`, which is when the file last changed (both UTC).
    """

    id: TaskId
    cuid: str | None
    name: str
    description: str
    goal: str
    start_url: str
    extra_rules: tuple[str, ...]
    allowed_domains: tuple[str, ...]
    priority: str
    category: str | None
    tags: tuple[str, ...]
    dependencies: tuple[str, ...]
    """Other tasks, each by the name of its folder or its CUID: the CLI runs them first, in the same run."""
    secret_names: tuple[str, ...]
    browser: Browser
    created_at: datetime
    updated_at: datetime
    error: str | None = None
    """Why the file cannot be used; all that it should have said is empty then."""

    @property
    def browser_config_id(self) -> str:
        return browser_config_id(self.id)


def task_toml(tasks_root: Path, task_id: TaskId) -> Path:
    """Where the task's own file is."""
    return tasks_root / task_id / f"task_{task_id}.toml"


def browser_config_id(task_id: TaskId) -> str:
    return f"{task_id}_default"


def check_task_folder(tasks_root: Path, task_id: TaskId) -> None:
    """Check that the task has a folder. Raises `NotFound` if there is none, or if it is a link; `ProjectGone`."""
    folder = tasks_root / task_id
    check_project(tasks_root)
    if not is_folder(folder):
        raise NotFound(f"Task '{task_id}' was not found: the project has no folder tasks/{task_id}.")
    if not is_in_place(folder):
        raise NotFound(f"Task '{task_id}' was not found: tasks/{task_id} is a link, which is not followed.")


def task_file(tasks_root: Path, name: str) -> tuple[TaskId, Path]:
    """The task of this name (text from outside), and where its file should be. Raises `NotFound`."""
    task_id = parse_task_id(name)
    if task_id is None:
        raise NotFound(f"Task '{printable(name)}' was not found: the name of a task is {TASK_ID_RULE}.")
    check_task_folder(tasks_root, task_id)
    path = task_toml(tasks_root, task_id)
    if not is_in_place(path):
        raise NotFound(f"Task '{task_id}' was not found: {toml_name(task_id)} is a link, which is not followed.")
    return task_id, path


def toml_name(task_id: TaskId) -> str:
    """The task's file as messages name it: relative to the project."""
    return str(task_toml(Path("tasks"), task_id))


def read_task(tasks_root: Path, name: str) -> Task:
    """The task of this name (text from outside).

    Raises `NotFound` if no task has that name, `TaskBroken` if its TOML cannot be used (with file and line).
    """
    task_id, path = task_file(tasks_root, name)
    try:
        content, modified = read_file(path, tasks_root)
    except FileNotFoundError:
        raise NotFound(f"Task '{task_id}' was not found: the file {toml_name(task_id)} does not exist.") from None
    except OSError as error:
        raise TaskBroken(toml_name(task_id), None, f"the file cannot be read ({error.strerror}).") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise TaskBroken(toml_name(task_id), line, "the file is not UTF-8 text.") from None
    return parse_task(task_id, text, utc_time(modified))


def broken_task(task_id: TaskId, broken: TaskBroken, modified: float) -> Task:
    """The task whose file cannot be used, and last changed at `modified` (seconds since 1970)."""
    changed_at = utc_time(modified)
    return Task(
        id=task_id,
        cuid=None,
        name=task_id,
        description="",
        goal="",
        start_url="",
        extra_rules=(),
        allowed_domains=(),
        priority=DEFAULT_PRIORITY,
        category=None,
        tags=(),
        dependencies=(),
        secret_names=(),
        browser=Browser(CHANNEL, "", Viewport(*DEFAULT_VIEWPORT), None),
        created_at=changed_at,
        updated_at=changed_at,
        error=str(broken),
    )


def parse_task(task_id: TaskId, text: str, updated_at: datetime) -> Task:
    """TOML text -> `Task`. Pure. Raises `TaskBroken`.

    What the CLI needs must fit; what is only shown (rules, domains, priority, tags) is left out where it does not.
    """
    path = toml_name(task_id)
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of thousands of digits
        found = LINE_OF_TOML_ERROR.search(str(error))
        line = int(found.group(1)) if found else text.count("\n") + 1
        raise TaskBroken(path, line, f"this is not TOML: {error}.") from None
    except RecursionError:
        raise TaskBroken(path, None, "the tables and arrays are nested too deep.") from None
    table = document.get("task")
    if not isinstance(table, dict):
        raise TaskBroken(path, None, "the table [task] is missing.")
    description = _text(path, text, table, "description", "")
    metadata = _table(document.get("metadata"))
    category, cuid = table.get("category"), metadata.get("task_id")
    return Task(
        id=task_id,
        cuid=cuid if isinstance(cuid, str) and cuid else None,
        name=_text(path, text, table, "name", task_id),
        description=description,
        goal=_text(path, text, table, "goal", description),
        start_url=_text(path, text, table, "start_url", ""),
        extra_rules=_texts(table.get("extra_instructions")),
        allowed_domains=_texts(table.get("allowed_domains")),
        priority=_priority(table.get("priority")),
        category=category if isinstance(category, str) else None,
        tags=_texts(table.get("tags")),
        dependencies=_texts(table.get("dependencies")),
        secret_names=tuple(_table(document.get("secrets"))),
        browser=_browser(document.get("run_config"), path, text),
        created_at=_time(metadata.get("created_date")) or updated_at,
        updated_at=updated_at,
    )


def _browser(run_config: Any, path: str, text: str) -> Browser:
    table = {} if run_config is None else run_config
    if not isinstance(table, dict):
        raise TaskBroken(path, _line_of(text, "run_config"), "run_config must be a table.")
    width = _positive(path, text, table, "viewport_width", DEFAULT_VIEWPORT[0])
    height = _positive(path, text, table, "viewport_height", DEFAULT_VIEWPORT[1])
    user_agent = _text(path, text, table, "user_agent", "")
    return Browser(CHANNEL, user_agent, Viewport(width, height), _geolocation(table.get("geolocation")))


def _geolocation(table: Any) -> Geolocation | None:
    if not isinstance(table, dict):
        return None
    latitude, longitude = _number(table.get("latitude")), _number(table.get("longitude"))
    if latitude is None or longitude is None:
        return None
    return Geolocation(latitude, longitude, _number(table.get("accuracy")) or 0.0)


def _number(value: Any) -> float | None:
    """The value as a number that JSON can say."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _priority(value: Any) -> str:
    return value if value in ("low", "medium", "high", "critical") else DEFAULT_PRIORITY


def _time(value: Any) -> datetime | None:
    """A time of the file in UTC. Bugninja 0.1.6 writes two zones: `2026-11-23T03:07:37.606113+00:00Z`."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.removesuffix("Z") if value[-7:-6] in ("+", "-") else value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    try:
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except OverflowError:  # the first or the last day that there is
        return None


def _text(path: str, text: str, table: dict[str, Any], key: str, default: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        raise TaskBroken(path, _line_of(text, key), f"{key} must be a text, got {_kind(value)}.")
    return value


def _positive(path: str, text: str, table: dict[str, Any], key: str, default: int) -> int:
    value = table.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_PIXELS:
        problem = f"{key} must be an integer from 1 to {MAX_PIXELS} (pixels), got {_kind(value)}."
        raise TaskBroken(path, _line_of(text, key), problem)
    return value


def _kind(value: Any) -> str:
    """What a value of the file is, in words. Only numbers are repeated: a text may be a secret."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return printable(repr(value)) if isinstance(value, float) or -MANY < value < MANY else "a number of many digits"
    names = {str: "a text", list: "an array", dict: "a table", bool: "true or false"}
    return names.get(type(value), "a time")


def _line_of(text: str, key: str) -> int | None:
    """The first line that sets the key (1 is the first), or None."""
    pattern = re.compile(rf"\s*\[?\s*\"?{re.escape(key)}\"?\s*[\]=]")
    return next((number for number, line in enumerate(text.split("\n"), 1) if pattern.match(line)), None)
