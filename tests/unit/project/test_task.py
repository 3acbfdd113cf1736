"""Task files."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.errors import NotFound, TaskBroken
from runner.ids import TaskId
from runner.project.task import Geolocation, Viewport, parse_task, read_task
from runner.secrets import read_task_secrets
from tests.project import Project

TASK = TaskId("t")


NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


WHOLE = """
[task]
name = "Order form"
description = "Fill it in"
[task.http_auth]
password = "http-secret"
[secrets]
PASSWORD = "hunter2-secret"
[run_config]
viewport_width = 800
viewport_height = 600
user_agent = "me"
[run_config.geolocation]
latitude = 47.5
longitude = 19
"""


def test_a_task_is_read_with_its_browser_and_without_its_secrets() -> None:
    task = parse_task(TASK, WHOLE, NOW)
    assert (task.name, task.description, task.goal) == ("Order form", "Fill it in", "Fill it in")
    assert task.browser.viewport == Viewport(800, 600)
    assert task.browser.geolocation == Geolocation(47.5, 19.0, 0.0)
    assert task.browser_config_id == "t_default"
    assert task.secret_names == ("PASSWORD",)
    assert "http-secret" not in repr(task)
    assert "hunter2" not in repr(task)


def test_a_task_without_a_run_config_has_the_viewport_of_bugninja() -> None:
    task = parse_task(TASK, "[task]\n", NOW)
    assert (task.name, task.browser.viewport, task.browser.geolocation) == ("t", Viewport(1920, 1080), None)


@pytest.mark.parametrize(
    ("toml", "line", "problem"),
    [
        ("[task\nname = 1", 1, "this is not TOML"),
        ('[task]\nname = "x\n', 2, "this is not TOML"),
        ("[task]\nname = 7", 2, "name must be a text, got 7"),
        ("[task]\n\ndescription = []", 3, "description must be a text, got an array"),
        (
            "[task]\n[run_config]\nviewport_width = -1",
            3,
            "viewport_width must be an integer from 1 to 100000 (pixels), got -1",
        ),
        ("run_config = 3\n[task]", 1, "run_config must be a table"),
        ("[metadata]", None, "the table [task] is missing"),
        ("task = 1", None, "the table [task] is missing"),
        ("a = " + "[" * 5000, None, "nested too deep"),
    ],
)
def test_a_broken_task_is_refused_with_file_and_line(toml: str, line: int | None, problem: str) -> None:
    with pytest.raises(TaskBroken) as caught:
        parse_task(TASK, toml, NOW)
    assert caught.value.line == line
    assert problem in str(caught.value)
    assert str(caught.value).startswith("tasks/t/task_t.toml" + (f", line {line}: " if line else ": "))


def test_a_file_that_is_no_text_is_refused_with_its_line(project: Project) -> None:
    folder = project.add_task("t")
    (folder / "task_t.toml").write_bytes(b"[task]\nname = '\xff'")
    with pytest.raises(TaskBroken, match="line 2: the file is not UTF-8"):
        read_task(project.root / "tasks", "t")


@pytest.mark.parametrize("name", ["nothing", "../project", "T", "t/../t", ""])
def test_a_task_that_does_not_exist_is_not_found(project: Project, name: str) -> None:
    project.add_task("t")
    with pytest.raises(NotFound, match="was not found"):
        read_task(project.root / "tasks", name)


def test_a_folder_without_a_task_file_is_not_found(project: Project) -> None:
    (project.root / "tasks" / "empty").mkdir()
    with pytest.raises(NotFound, match=r"tasks/empty/task_empty\.toml does not exist"):
        read_task(project.root / "tasks", "empty")


def test_a_link_out_of_the_project_is_not_followed(project: Project, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "task_outside.toml").write_text("[task]\n")
    (project.root / "tasks" / "outside").symlink_to(outside)
    with pytest.raises(NotFound, match="tasks/outside is a link"):
        read_task(project.root / "tasks", "outside")
    inside = project.root / "tasks" / "inside"
    inside.mkdir()
    (inside / "task_inside.toml").symlink_to(outside / "task_outside.toml")
    with pytest.raises(NotFound, match=r"task_inside\.toml is a link"):
        read_task(project.root / "tasks", "inside")


def test_a_file_of_a_windows_editor_is_read(project: Project) -> None:
    folder = project.add_task("t")
    (folder / "task_t.toml").write_bytes(b"\xef\xbb\xbf" + WHOLE.strip().replace("\n", "\r\n").encode())
    assert read_task(project.root / "tasks", "t").name == "Order form"
    secrets = read_task_secrets(folder / "task_t.toml", project.root)
    assert {"hunter2-secret", "http-secret"} <= {secret.value for secret in secrets}
    (folder / "task_t.toml").write_bytes(b"\xef\xbb\xbf[task]\r\nname = '\xff'")
    with pytest.raises(TaskBroken, match="line 2: the file is not UTF-8"):
        read_task(project.root / "tasks", "t")


@pytest.mark.parametrize(
    ("value", "said"),
    [("0x" + "f" * 5000, "a number of many digits"), ("-1" + "0" * 18, "a number of many digits"),
     ("nan", "nan"), ("-inf", "-inf"), ("1.5", "1.5"), ("999999999999999999", "999999999999999999")],
)  # fmt: skip
def test_a_number_that_does_not_fit_is_repeated_if_it_is_short(value: str, said: str) -> None:
    with pytest.raises(TaskBroken) as caught:
        parse_task(TASK, f"[task]\n[run_config]\nviewport_width = {value}\n", NOW)
    assert caught.value.problem == f"viewport_width must be an integer from 1 to 100000 (pixels), got {said}."
