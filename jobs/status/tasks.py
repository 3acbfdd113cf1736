"""Answer for the project and its tasks. The methods of `Tasks` read the disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jobs.status.history import RunHistory
from jobs.status.query import Page, PartQuery, TaskListQuery, page_of, part_of
from jobs.status.task_document import (
    BrowserConfigDocument,
    BrowserTypes,
    ProjectDocument,
    SecretDocument,
    Statistics,
    TaskDocument,
    broken_document,
    browser_config_document,
    browser_types,
    project_document,
    secret_documents,
    shown_browser,
    task_document,
)
from runner.errors import NotFound, TaskBroken
from runner.ids import TaskId, shown
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from runner.project.task import Task, read_project, task_file
from runner.redaction import Redactor
from runner.secrets import secrets_of_url
from runner.settings import Settings

Clean = Callable[[str], str]


class Tasks:
    """The tasks of one project."""

    def __init__(self, settings: Settings, files: RunFiles, catalog: TaskCatalog, history: RunHistory) -> None:
        self._settings = settings
        self._files = files
        self._catalog = catalog
        self._history = history

    @property
    def root(self) -> Path:
        """The folder with one folder per task."""
        return self._settings.tasks_root

    def project(self) -> ProjectDocument:
        """The project."""
        project = read_project(self._settings.project_root)
        in_url = secrets_of_url("START_URL", project.default_start_url)
        return project_document(project, Redactor([*self._files.of_environment, *in_url]).text)

    def check_project(self, project_id: str | None) -> str:
        """The ID of the project. Raises `NotFound` if another one was asked for; the front end knows that sentence."""
        project = self.project()
        if project_id not in (None, project.id):
            raise NotFound(f"Project '{shown(str(project_id))}' was not found: this server has one, '{project.id}'.")
        return project.id

    def page(self, query: TaskListQuery) -> Page[TaskDocument]:
        """The tasks that were asked for, by the time of their creation."""
        project_id = self.check_project(query.project_id)
        wanted = query.search.casefold()
        numbers = self._statistics()
        every = [self._document(task_id, task, project_id, numbers) for task_id, task in self._catalog.all()]
        chosen = [task for task in every if wanted in _searched(task)]
        chosen.sort(key=lambda task: (task.created_at, task.id), reverse=query.sort_order == "desc")
        return page_of(chosen, query.page, query.page_size, lambda task: task)

    def get(self, name: str) -> TaskDocument:
        """The task with this folder name or CUID. Raises `NotFound`."""
        project_id = self.project().id
        try:
            task = self._catalog.find(name)
        except TaskBroken as broken:
            task_id, _ = task_file(self._settings.tasks_root, name)
            return self._document(task_id, broken, project_id, self._statistics())
        return self._document(task.id, task, project_id, self._statistics())

    def browser_types(self) -> BrowserTypes:
        """What browsers can be set to."""
        return browser_types(shown_browser(task, clean) for task, clean in self._readable())

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
        for task_id, task in self._catalog.all():
            if isinstance(task, Task):
                yield task, self._clean(task_id)

    def _document(
        self, task_id: TaskId, task: Task | TaskBroken, project_id: str, numbers: Mapping[TaskId, Statistics]
    ) -> TaskDocument:
        statistics, clean = numbers.get(task_id, Statistics()), self._clean(task_id)
        if isinstance(task, Task):
            return task_document(task, project_id, statistics, clean)
        return broken_document(task_id, task, project_id, self._modified_at(task_id), statistics, clean)

    def _modified_at(self, task_id: TaskId) -> datetime:
        """When the task's file last changed; now if it is just going away."""
        try:
            _, path = task_file(self._settings.tasks_root, task_id)
            return datetime.fromtimestamp(path.stat().st_mtime, UTC)
        except (OSError, NotFound):
            return datetime.now(UTC)

    def _clean(self, task_id: TaskId) -> Clean:
        return self._files.redactor(task_id).text

    def _statistics(self) -> Mapping[TaskId, Statistics]:
        """The runs of each task that has any, in numbers."""
        self._history.touch()
        return {task_id: runs.statistics for task_id, runs in self._history.index().tasks.items()}


def _searched(task: TaskDocument) -> str:
    """The text in which a search looks."""
    return "\n".join((task.id, task.test_name, task.test_description)).casefold()
