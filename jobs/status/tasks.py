"""The project and its tasks: their documents, without secrets, and `Tasks`, whose methods read the disk."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from jobs.run.test_case import Clean, redacted_browser
from jobs.status.query import Page, PartQuery, TaskListQuery, paging, part_of
from jobs.status.statistics import RunStatistics, Statistics
from runner.errors import NotFound, printable
from runner.project.catalog import TaskCatalog
from runner.project.project import Project, read_project
from runner.project.run_files import RunFiles
from runner.project.task import CHANNEL, DEFAULT_VIEWPORT, Browser, Task, Viewport, browser_config_id
from runner.settings import Settings

COMMON_VIEWPORTS = (Viewport(*DEFAULT_VIEWPORT), Viewport(1280, 720), Viewport(375, 812))


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
    tags: list[str]
    dependencies: Annotated[list[str], Meta(description="the tasks that the CLI runs first, in the same run")]
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
        tags=[clean(tag) for tag in task.tags],
        dependencies=[clean(name) for name in task.dependencies],
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


class Tasks:
    """The tasks of one project."""

    def __init__(self, settings: Settings, files: RunFiles, catalog: TaskCatalog, statistics: RunStatistics) -> None:
        self._settings = settings
        self._files = files
        self._catalog = catalog
        self._statistics = statistics

    def first(self) -> tuple[str, str] | None:
        """The first task by its name, and the ID of its browser configuration; None if there is none. Reads no file."""
        task_id = next(self._files.task_ids(), None)
        return None if task_id is None else (task_id, browser_config_id(task_id))

    def names(self, most: int) -> list[str] | None:
        """The names of all folders of tasks in alphabetical order; None if they are more than `most`. Reads no file."""
        return None if len(self._files.tasks_version()) > most else [*self._files.task_ids()]

    def search(self, text: str) -> dict[str, str]:
        """The tasks in which the text is, by the names of their folders: the names that people gave them."""
        wanted = text.casefold()
        tasks = self._catalog.all()
        return {task.id: self._clean(task)(task.name) for task in tasks if wanted in self._searched(task)}

    def project(self) -> ProjectDocument:
        project = read_project(self._settings.project_root)
        return project_document(project, self._files.url_redactor(project.default_start_url).text)

    def check_project(self, project_id: str | None) -> str:
        """The ID of the project. Raises `NotFound` if another one was asked for; the front end knows that sentence."""
        project = self.project()
        if project_id not in (None, project.id):
            raise NotFound(
                f"Project '{printable(str(project_id))}' was not found: this server has one, '{project.id}'."
            )
        return project.id

    def page(self, query: TaskListQuery) -> Page[TaskDocument]:
        """The tasks that match the query, by the time of their creation."""
        project_id = self.check_project(query.project_id)
        tasks = sorted(self._catalog.all(), key=lambda task: (task.created_at, task.id))
        if query.sort_order == "desc":
            tasks.reverse()
        if wanted := query.search.casefold():
            tasks = [task for task in tasks if wanted in self._searched(task)]
        shown, totals = part_of(tasks, query.page, query.page_size), self._statistics.totals()
        items = [self._document(task, project_id, totals) for task in shown]
        return Page(**paging(len(tasks), query.page, query.page_size), items=items)

    def get(self, name: str) -> TaskDocument:
        """The task with this folder name or CUID. Raises `NotFound`."""
        project_id = self.project().id
        return self._document(self._catalog.find_or_broken(name), project_id, self._statistics.totals())

    def browser_types(self) -> BrowserTypes:
        """The settings that browsers can have."""
        return browser_types(redacted_browser(task, clean) for task, clean in self._readable())

    def browser_configs(self, project_id: str, query: PartQuery) -> Sequence[BrowserConfigDocument]:
        """The browser configurations of all tasks. Raises `NotFound` for another project."""
        project = self.check_project(project_id)
        every = [browser_config_document(task, project, clean) for task, clean in self._readable()]
        return part_of(every, query.page, query.page_size)

    def secrets(self, project_id: str, query: PartQuery) -> Sequence[SecretDocument]:
        """The secrets of all tasks by their names, without values. Raises `NotFound` for another project."""
        project = self.check_project(project_id)
        every = [secret for task, clean in self._readable() for secret in secret_documents(task, project, clean)]
        return part_of(every, query.page, query.page_size)

    def _readable(self) -> Iterator[tuple[Task, Clean]]:
        return ((task, self._clean(task)) for task in self._catalog.all() if task.error is None)

    def _document(self, task: Task, project_id: str, statistics: Mapping[str, Statistics]) -> TaskDocument:
        return task_document(task, project_id, statistics.get(task.id, Statistics()), self._clean(task))

    def _searched(self, task: Task) -> str:
        """The text in which a search looks."""
        return self._clean(task)("\n".join((task.id, task.name, task.description))).casefold()

    def _clean(self, task: Task) -> Clean:
        return self._files.redactor(task.id).text
