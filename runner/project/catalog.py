"""All tasks of a project, and how they depend on each other. A task's file is read again when it changed. May be used
by several threads."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

from runner.errors import NotFound, NotPossible, TaskBroken
from runner.files import Identity, file_identity
from runner.ids import TaskId, parse_run_id, parse_task_id
from runner.project.task import Task, broken_task, read_task, task_file


class Dependencies:
    """Which tasks the CLI runs, too, when it runs one. Pure."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        every = [*tasks]
        names: dict[str, TaskId] = {task.cuid: task.id for task in every if task.cuid}
        names |= {task.id: task.id for task in every}
        self._needs: dict[TaskId, set[TaskId]] = {
            task.id: {names[name] for name in task.dependencies if name in names} for task in every
        }
        self._linked = defaultdict(set, {task: {*needed} for task, needed in self._needs.items()})
        for task, needed in self._needs.items():
            for other in needed:
                self._linked[other].add(task)

    def of(self, task_id: TaskId) -> Set[TaskId]:
        """All that the task needs, also by way of others; without itself."""
        return _reached(task_id, self._needs) - {task_id}

    def turn(self, task_id: TaskId) -> TaskId:
        """The task whose turn the runs of this one take: tasks that are connected share one, that of the first by its
        name, so that no two runs of them touch the same task at once."""
        return min(_reached(task_id, self._linked))


def _reached(start: TaskId, links: Mapping[TaskId, Set[TaskId]]) -> Set[TaskId]:
    found, waiting = {start}, [start]
    while waiting:
        new = links.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found


class TaskCatalog:
    """The tasks in a project's folder `tasks/`."""

    def __init__(self, tasks_root: Path) -> None:
        self._tasks_root = tasks_root
        self._read: dict[TaskId, tuple[Identity, Task | TaskBroken]] = {}

    def find(self, name: str) -> Task:
        """The task with this folder name, or else the one that Bugninja gave this CUID (text from outside).

        Raises `NotFound`, `TaskBroken`, and `NotPossible` for a CUID that several tasks have.
        """
        try:
            return self._get(name)
        except NotFound:
            named = list(self._with_cuid(name))
            if not named:
                raise
        if len(named) > 1:
            folders = ", ".join(task.id for task in named)
            raise NotPossible(f"The CUID '{name}' is that of several tasks ({folders}); name the folder of one.")
        return named[0]

    def find_or_broken(self, name: str) -> Task:
        """The same; a task whose file cannot be used is given with its `error`. Raises `NotFound`, `NotPossible`."""
        try:
            return self.find(name)
        except TaskBroken as broken:
            return self._broken(name, broken)

    def all(self) -> Iterator[Task]:
        """Every folder with a task file in it, in alphabetical order; those that cannot be used with their `error`."""
        try:
            names = sorted(entry.name for entry in self._tasks_root.iterdir())
        except OSError:
            return
        for task_id in filter(None, map(parse_task_id, names)):
            try:
                task = self._get_or_broken(task_id)
            except NotFound:
                continue
            yield task

    def dependencies(self) -> Dependencies:
        """How the tasks depend on each other as their files are now."""
        return Dependencies(self.all())

    def _with_cuid(self, name: str) -> Iterator[Task]:
        if parse_run_id(name) is not None:  # a CUID has the same shape
            yield from (task for task in self.all() if task.cuid == name)

    def _get_or_broken(self, task_id: TaskId) -> Task:
        try:
            return self._get(task_id)
        except TaskBroken as broken:
            return self._broken(task_id, broken)

    def _broken(self, name: str, broken: TaskBroken) -> Task:
        task_id, path = task_file(self._tasks_root, name)
        identity = file_identity(path)
        return broken_task(task_id, broken, time.time() if identity is None else identity[1] / 1e9)

    def _get(self, name: str) -> Task:
        task_id, path = task_file(self._tasks_root, name)
        identity = file_identity(path)
        if identity is None:
            return read_task(self._tasks_root, name)  # which says what is wrong
        known = self._read.get(task_id)
        if known is None or known[0] != identity:
            known = (identity, self._parsed(name))
            self._read[task_id] = known
        if isinstance(known[1], TaskBroken):
            raise known[1].with_traceback(None)  # kept for long: it must not collect the traces of all who asked
        return known[1]

    def _parsed(self, name: str) -> Task | TaskBroken:
        try:
            return read_task(self._tasks_root, name)
        except TaskBroken as broken:
            return broken
