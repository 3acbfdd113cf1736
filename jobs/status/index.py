"""All runs of the project at one time, newest first: filtered, searched, paged and counted. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import msgspec

from jobs.run.document import RunItem
from jobs.run.state import State
from jobs.run.test_case import BrowserConfig, TestCase
from jobs.status.entry import Entry, EntryFiles
from jobs.status.query import STATES_OF, Page, RunListQuery, page_of
from jobs.status.task_document import Statistics
from runner.ids import RunId, TaskId

SELECTIONS = 64  # that are kept of one index


class TaskRuns(NamedTuple):
    """The runs of one task."""

    sources: tuple[object, ...]
    """What its folders and its file were when this was read."""
    every: Mapping[RunId, Entry]
    """All of them, also files that are no runs of their own."""
    entries: Mapping[RunId, Entry]
    """All of them without those."""
    unsettled: Mapping[RunId, EntryFiles]
    """The runs to look at again, and the files that were read of them."""
    statistics: Statistics
    test_case: TestCase
    """What the task's file says now; so does the next one."""
    browser_config: BrowserConfig | None


class Index:
    """The runs of all tasks. It never changes; when a run does, there is another index."""

    def __init__(self, tasks: Mapping[TaskId, TaskRuns]) -> None:
        self.as_read = tasks
        self.tasks = without_doubles(tasks)
        every = [entry for runs in self.tasks.values() for entry in runs.entries.values()]
        self.newest_first = sorted(every, key=lambda entry: (entry.queued_at, entry.run_id), reverse=True)
        self._selections: dict[tuple[object, ...], Sequence[Entry]] = {}

    def find(self, run_id: RunId) -> Entry | None:
        return next((runs.entries[run_id] for runs in self.tasks.values() if run_id in runs.entries), None)

    def task_of(self, run_id: RunId) -> TaskId | None:
        """The task of this run, or of this file that is no run of its own; None also if several tasks have it."""
        found = [task_id for task_id, runs in self.tasks.items() if run_id in runs.every]
        return found[0] if len(found) == 1 else None

    def page(self, query: RunListQuery, task_id: TaskId | None) -> Page[Entry]:
        """The runs that match the query; those of one task, if that is given."""
        chosen = self._select(query, task_id)
        if query.sort_order == "asc":
            chosen = chosen[::-1]
        return page_of(chosen, query.page, query.page_size, lambda entry: entry)

    def item(self, entry: Entry) -> RunItem:
        """One of the runs as an item of a list."""
        task = self.tasks[entry.task_id]
        return entry.item(task.test_case, task.browser_config)

    def _select(self, query: RunListQuery, task_id: TaskId | None) -> Sequence[Entry]:
        """The runs that pass the filters, newest first; kept, since clients turn pages and ask again."""
        search = query.search.casefold()
        key = (task_id, msgspec.structs.replace(query, page=1, page_size=1, sort_order="desc", search=search))
        selection = self._selections.get(key)
        if selection is None:
            selection = [entry for entry in self.newest_first if _fits(entry, query, task_id)]
            if search:
                selection = self._search(selection, search)
            if len(self._selections) >= SELECTIONS:
                self._selections = {}
            self._selections[key] = selection
        return selection

    def _search(self, entries: Sequence[Entry], search: str) -> Sequence[Entry]:
        """Those with the text in the ID, or in the name and description of the task."""
        cases = {entry.test_case: entry.task_id for entry in entries}
        by_task = {task_id for task_id, runs in self.tasks.items() if search in _searched(task_id, runs.test_case)}
        by_case = {case for case, task_id in cases.items() if case is not None and search in _searched(task_id, case)}
        return [
            entry
            for entry in entries
            if (entry.task_id in by_task if entry.test_case is None else entry.test_case in by_case)
            or search in entry.run_id
        ]


def without_doubles(tasks: Mapping[TaskId, TaskRuns]) -> Mapping[TaskId, TaskRuns]:
    """The same without files that are named as a run which another task has accepted: they are no runs of their own."""
    ids = {run_id for runs in tasks.values() for run_id in runs.entries}
    if len(ids) == sum(len(runs.entries) for runs in tasks.values()):
        return tasks
    accepted = {id for runs in tasks.values() for id, entry in runs.entries.items() if not entry.is_made_by_hand}
    return {task_id: _without_doubles(runs, accepted) for task_id, runs in tasks.items()}


def _without_doubles(runs: TaskRuns, accepted: Set[RunId]) -> TaskRuns:
    kept = {id: entry for id, entry in runs.entries.items() if not (entry.is_made_by_hand and id in accepted)}
    return runs if len(kept) == len(runs.entries) else runs._replace(entries=kept, statistics=count_runs(kept.values()))


def _fits(entry: Entry, query: RunListQuery, task_id: TaskId | None) -> bool:
    return (
        (task_id is None or entry.task_id == task_id)
        and (query.status is None or entry.state in STATES_OF[query.status])
        and (query.run_type is None or entry.run_type is query.run_type)
    )


def _searched(task_id: TaskId, test_case: TestCase) -> str:
    """The text of a task in which a search looks."""
    return "\n".join((task_id, test_case.test_name, test_case.test_description)).casefold()


def count_runs(entries: Iterable[Entry]) -> Statistics:
    """These runs in numbers."""
    runs = list(entries)
    states = Counter(entry.state for entry in runs)
    passed = states[State.FINISHED]
    failed = sum(count for state, count in states.items() if state.is_failure)
    return Statistics(
        total_runs=len(runs),
        passed_runs=passed,
        failed_runs=failed,
        pending_runs=len(runs) - passed - failed,
        success_rate=round(100 * passed / (passed + failed), 2) if passed + failed else 0.0,
        last_run_at=max((entry.started_at for entry in runs), default=None),
    )
