"""Keep the index of all runs up to date: those that we accepted, and those made by hand with the CLI. Each once.

A run that is over is read once; the others again when their files changed.
"""

import operator
import threading
import time
from collections.abc import Iterable, Mapping
from itertools import takewhile

from jobs.run.test_case import BrowserConfig, TestCase, browser_config, test_case, unreadable_test_case
from jobs.status.entry import Entry, EntryFiles, EntryReader, files_of_others
from jobs.status.index import Index, TaskRuns, count_runs
from runner.errors import NotFound, TaskBroken
from runner.files import file_identity
from runner.ids import RunId, TaskId, parse_task_id
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles

FRESH_SECONDS = 0.25  # that a look at all folders serves for
QUICK_SECONDS = 0.002  # of computing that such a look may take on the event loop
SHARE = 20  # one that takes longer serves for at least so many times as long as it took


class RunHistory:
    """The runs of one project. Its methods may be called from several threads."""

    def __init__(self, files: RunFiles, catalog: TaskCatalog, fresh_seconds: float = FRESH_SECONDS) -> None:
        self._files = files
        self._catalog = catalog
        self._fresh_seconds = fresh_seconds
        self._reader = EntryReader(files)
        self._lock = threading.Lock()
        self.known: Index | None = None  # the index as it was the last time
        self._known_tasks: object = None
        self._given_up = False
        self._look_seconds = 0.0
        self._looked_at = 0.0  # when the last look began, on the clock `time.monotonic`
        self._touched_at = 0.0

    @property
    def is_quick(self) -> bool:
        """Whether looking at the times of all folders is quick enough for the event loop."""
        return self._look_seconds <= QUICK_SECONDS

    def current(self) -> Index | None:
        """The index, if nothing has to be read for it. Does not block: only times of files are looked at, and not all
        of them each time. What it says may be as old as the last look; `is_same` says whether that matters."""
        if self.known is None or self._is_fresh() or (self.is_quick and self._is_true()):
            return self.known
        return None

    def index(self) -> Index:
        """All runs, as the disk knows them. Reads what has changed. Raises `ProjectGone`."""
        with self._lock:
            known = self.known
            if known is None or not (self._is_fresh() or self._is_true()):
                began = time.monotonic()
                self._files.check_project()
                before: Mapping[TaskId, TaskRuns] = known.as_read if known is not None else {}
                tasks_now = self._files.tasks_version()
                task_ids = takewhile(lambda _: not self._given_up, self._files.task_ids())
                now = {task_id: self._update(task_id, before.get(task_id)) for task_id in task_ids}
                if known is None or len(now) != len(before) or any(before.get(key) is not now[key] for key in now):
                    known = self.known = Index(now)
                self._looked_at, self._known_tasks = began, tasks_now
            return known

    def give_up(self) -> None:
        """Read no further: the process is about to end."""
        self._given_up = True

    def touch(self) -> None:
        """Look at everything again before the next answer: something has changed."""
        self._touched_at = time.monotonic()

    def is_same(self, entries: Iterable[Entry]) -> bool:
        """Whether these runs are as the index says. Looks at their files' times only."""
        return all(self._reader.stat(entry.task_id, entry.run_id, entry) == entry.files for entry in entries)

    def task_id(self, name: str) -> TaskId:
        """The task of this name; one that was deleted and has left runs behind is known, too. Raises `NotFound`."""
        task_id = parse_task_id(name)
        index = self.known
        if task_id is not None and index is not None and task_id in index.tasks and index.tasks[task_id].entries:
            return task_id
        return self._catalog.find(name).id

    def _is_fresh(self) -> bool:
        """Whether the disk was looked at a moment ago, and no change was notified since."""
        serves = max(self._fresh_seconds, SHARE * self._look_seconds)
        return self._looked_at > self._touched_at and time.monotonic() < self._looked_at + serves

    def _is_true(self) -> bool:
        """Whether nothing has changed on the disk."""
        index, began, computed = self.known, time.monotonic(), time.thread_time()
        if index is None or not are_same(self._files.known_version(None), (self._known_tasks,)):
            return False
        if not all(map(self._is_task_same, index.as_read, index.as_read.values())):
            return False
        self._look_seconds, self._looked_at = time.thread_time() - computed, began
        return True

    def _is_task_same(self, task_id: TaskId, runs: TaskRuns) -> bool:
        return (
            are_same(self._files.known_version(task_id), runs.sources[:2])
            and runs.sources[-1] == file_identity(self._files.task_file(task_id))
            and self._are_runs_same(task_id, runs)
        )

    def _are_runs_same(self, task_id: TaskId, runs: TaskRuns) -> bool:
        return all(
            files == self._reader.stat(task_id, run_id, runs.every.get(run_id))
            for run_id, files in runs.unsettled.items()
        )

    def _update(self, task_id: TaskId, known: TaskRuns | None) -> TaskRuns:
        """The runs of the task as they are now: `known` itself if nothing has changed."""
        sources = (*self._files.version(task_id), file_identity(self._files.task_file(task_id)))
        is_same = known is not None and are_same(known.sources[:2], sources[:2]) and known.sources[2] == sources[2]
        if known is not None and is_same and self._are_runs_same(task_id, known):
            return known
        return self._read_all(task_id, sources, known)

    def _read_all(self, task_id: TaskId, sources: tuple[object, ...], known: TaskRuns | None) -> TaskRuns:
        accepted, written = self._files.run_ids(task_id), self._files.traversal_ids(task_id)
        every: dict[RunId, Entry] = {}
        unsettled: dict[RunId, EntryFiles] = {}
        for run_id in accepted | written:
            entry = None if known is None else known.every.get(run_id)
            if entry is None or not entry.settled or (run_id not in accepted and not entry.is_made_by_hand):
                files = self._reader.stat(task_id, run_id, entry)
                entry = self._reader.read(task_id, run_id, entry, files)
                if entry is None or not entry.settled:
                    unsettled[run_id] = entry.files if entry is not None and entry.files is not None else files
            if entry is not None:
                every[run_id] = entry
        hidden = frozenset(files_of_others([*every.values()]))
        listed = {run_id: entry for run_id, entry in every.items() if run_id not in hidden} if hidden else every
        case, config = current_task(self._files, self._catalog, task_id)
        return TaskRuns(sources, every, listed, unsettled, count_runs(listed.values()), case, config)


def are_same(then: tuple[object, ...] | None, now: tuple[object, ...] | None) -> bool:
    """Whether both are there, and made of the very same things."""
    return then is not None and now is not None and all(map(operator.is_, then, now))


def current_task(files: RunFiles, catalog: TaskCatalog, task_id: TaskId) -> tuple[TestCase, BrowserConfig | None]:
    """The task as its file is now, for a run without a record of how it was."""
    clean = files.redactor(task_id).text
    try:
        task = catalog.find(task_id)
    except (NotFound, TaskBroken):  # it was deleted or damaged since; its runs are still there
        return unreadable_test_case(task_id), None
    return test_case(task, clean), browser_config(task, clean)
