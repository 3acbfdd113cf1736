"""The project and its tasks. The methods of `Tasks` read the disk."""

from collections.abc import Iterator, Mapping, Sequence

from jobs.run.test_case import Clean, redacted_browser
from jobs.status.query import Page, PartQuery, TaskListQuery, paging, part_of
from jobs.status.statistics import RunStatistics
from jobs.status.task_document import (
    BrowserConfigDocument,
    BrowserTypes,
    ProjectDocument,
    SecretDocument,
    Statistics,
    TaskDocument,
    browser_config_document,
    browser_types,
    project_document,
    secret_documents,
    task_document,
)
from runner.errors import NotFound, printable
from runner.project.catalog import TaskCatalog
from runner.project.project import read_project
from runner.project.run_files import RunFiles
from runner.project.task import Task, browser_config_id
from runner.settings import Settings


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
