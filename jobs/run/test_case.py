"""The parts of a run that show its task and its browser, without secrets. Pure."""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from runner.ids import TaskId
from runner.project.task import Browser, Task

Clean = Callable[[str], str]
"""Takes the secrets out of a text."""


class TestCase(Struct, frozen=True):
    """The task, as it was when the run was accepted."""

    id: str
    test_name: str
    test_description: str
    test_goal: str


class BrowserConfig(Struct, frozen=True):
    """The browser configuration, as it was when the run was accepted."""

    id: str
    browser_config: Browser


def test_case(task: Task, clean: Clean) -> TestCase:
    """The task as a run shows it."""
    return TestCase(
        id=task.id,
        test_name=clean(task.name),
        test_description=clean(task.description),
        test_goal=clean(task.goal),
    )


def unreadable_test_case(task_id: TaskId) -> TestCase:
    """The same for a task whose file is gone or broken."""
    return TestCase(id=task_id, test_name=task_id, test_description="", test_goal="")


def browser_config(task: Task, clean: Clean) -> BrowserConfig:
    """The browser of the task as a run shows it."""
    return BrowserConfig(id=task.browser_config_id, browser_config=redacted_browser(task, clean))


def redacted_browser(task: Task, clean: Clean) -> Browser:
    """How the task's browser is set up, without secrets."""
    return msgspec.structs.replace(task.browser, user_agent=clean(task.browser.user_agent))
