"""The documents of tasks and of the project, without secrets. Pure."""

import re
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from jobs.run.test_case import Clean, redacted_browser
from runner.project.project import Project
from runner.project.task import CHANNEL, DEFAULT_VIEWPORT, Browser, Task, Viewport

COMMON_VIEWPORTS = (Viewport(*DEFAULT_VIEWPORT), Viewport(1280, 720), Viewport(375, 812))


class Statistics(Struct, frozen=True):
    """The runs of a task in numbers."""

    total_runs: int = 0
    passed_runs: int = 0
    failed_runs: Annotated[int, Meta(description="FAILED and ERROR")] = 0
    pending_runs: Annotated[int, Meta(description="PENDING and RUNNING")] = 0
    success_rate: Annotated[float, Meta(description="percentage of passed ones among final ones; 0 without any")] = 0.0
    last_run_at: datetime | None = None


class BrowserConfigDocument(Struct, frozen=True):
    """A browser configuration; its times are those of its task."""

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    browser_config: Browser


class SecretDocument(Struct, frozen=True):
    """A secret of a task by its name. `secret_value` is always empty: values never leave."""

    id: str
    project_id: str
    created_at: datetime
    updated_at: datetime
    secret_name: str
    secret_value: str


class TaskDocument(Struct, frozen=True):
    """A task."""

    id: str
    cuid: Annotated[str | None, Meta(description="bugninja's ID of it")]
    project_id: str
    test_name: str
    test_description: str
    test_goal: str
    extra_rules: list[str]
    url_routes: str
    url_route: str
    allowed_domains: list[str]
    priority: str
    category: str | None
    created_at: datetime
    updated_at: datetime
    last_run_at: datetime | None
    total_runs: int
    passed_runs: int
    failed_runs: int
    pending_runs: int
    success_rate: float
    secrets: list[SecretDocument]
    document: None
    browser_configs: list[BrowserConfigDocument]
    error: Annotated[str | None, Meta(description="why its file cannot be used; null if it can")]


class ProjectDocument(Struct, frozen=True):
    """The project. A server has one."""

    id: str
    name: str
    default_start_url: str
    created_at: datetime
    updated_at: datetime


class BrowserTypes(Struct, frozen=True):
    """The browser settings of the project's tasks, and common ones."""

    browser_channels: list[str]
    user_agents: list[str]
    viewport_sizes: list[Viewport]


def project_document(project: Project, clean: Clean) -> ProjectDocument:
    """The project. Its ID is made of its name, in characters that need no escaping in a URL."""
    name = clean(project.name)
    identity = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return ProjectDocument(
        id=identity or "project",
        name=name,
        default_start_url=clean(project.default_start_url),
        created_at=project.created_at,
        updated_at=project.updated_at,
    )


def task_document(task: Task, project_id: str, statistics: Statistics, clean: Clean) -> TaskDocument:
    return TaskDocument(
        id=task.id,
        cuid=task.cuid,
        project_id=project_id,
        test_name=clean(task.name),
        test_description=clean(task.description),
        test_goal=clean(task.goal),
        extra_rules=[clean(rule) for rule in task.extra_rules],
        url_routes=clean(task.start_url),
        url_route=clean(task.start_url),
        allowed_domains=[clean(domain) for domain in task.allowed_domains],
        priority=task.priority,
        category=None if task.category is None else clean(task.category),
        created_at=task.created_at,
        updated_at=task.updated_at,
        secrets=secret_documents(task, project_id, clean),
        document=None,
        browser_configs=[browser_config_document(task, project_id, clean)],
        error=None if task.error is None else clean(task.error),
        **msgspec.structs.asdict(statistics),
    )


def browser_config_document(task: Task, project_id: str, clean: Clean) -> BrowserConfigDocument:
    """The task's one browser configuration."""
    browser = redacted_browser(task, clean)
    return BrowserConfigDocument(task.browser_config_id, project_id, task.created_at, task.updated_at, browser)


def secret_documents(task: Task, project_id: str, clean: Clean) -> list[SecretDocument]:
    """The task's secrets, by name only."""
    return [
        SecretDocument(f"{task.id}.{clean(name)}", project_id, task.created_at, task.updated_at, clean(name), "")
        for name in task.secret_names
    ]


def browser_types(browsers: Iterable[Browser]) -> BrowserTypes:
    """The settings that these browsers have, each once, and common ones."""
    used = list(browsers)
    return BrowserTypes(
        browser_channels=list(dict.fromkeys([CHANNEL, *(browser.browser_channel for browser in used)])),
        user_agents=list(dict.fromkeys(browser.user_agent for browser in used if browser.user_agent)),
        viewport_sizes=list(dict.fromkeys([*COMMON_VIEWPORTS, *(browser.viewport for browser in used)])),
    )
