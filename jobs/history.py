"""All runs of the project, newest first: those that we accepted, and those made by hand with the CLI. Each once.

The disk knows them all: a run's record is written before its job is enqueued and at each change of its state, so no
list needs Redis. What is over is read once; the rest is looked at again, as far as its files changed.
"""

import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from msgspec import Struct

from jobs.document import FINAL, BrowserConfig, Origin, Reason, RunItem, RunType, State, TestCase
from jobs.merge import JobState, state_of
from jobs.meta import RunMeta, meta_from_json
from jobs.page import STATES_OF, Page, RunListQuery, page_of
from jobs.steps import count_steps
from jobs.task_document import Statistics, browser_config, test_case, unreadable_test_case
from jobs.verdict import Verdict, judge_file
from runner.catalog import TaskCatalog
from runner.errors import NotFound, TaskBroken
from runner.ids import RunId, TaskId, parse_task_id
from runner.project import check_project
from runner.redaction import Redactor
from runner.run_folder import RunFolder
from runner.traversal_file import Identity, RunFiles, is_abandoned, started_at


class Entry(Struct, frozen=True):
    """A run in a list. `test_case` and `browser_config` are None where the task of today says them.

    `read` is what was read for it, `settled` that it will never change, `traversal_id` whose file it adopted.
    """

    run_id: RunId
    task_id: TaskId
    state: State
    reason: Reason | None
    queued_at: datetime
    started_at: datetime
    finished_at: datetime | None
    passed_steps: int
    failed_steps: int
    run_type: RunType
    origin: Origin
    test_case: TestCase | None
    browser_config: BrowserConfig | None
    traversal_id: RunId | None
    read: tuple[Identity | None, Identity | None, bool]
    settled: bool


class TaskRuns(NamedTuple):
    """The runs of one task, as they were when its folders were `version`, and those to look at again."""

    version: tuple[object, object]
    entries: Mapping[RunId, Entry]
    unsettled: frozenset[RunId]
    statistics: Statistics


class RunHistory:
    """The runs of one project. Its methods may be called from several threads, and read the disk."""

    def __init__(self, files: RunFiles, catalog: TaskCatalog) -> None:
        self._files = files
        self._catalog = catalog
        self._lock = threading.Lock()
        self._tasks: dict[TaskId, TaskRuns] = {}
        self._newest_first: Sequence[Entry] = ()
        self._shared: dict[Any, Any] = {}

    def page(self, query: RunListQuery) -> Page[RunItem]:
        """The runs that were asked for. Raises `NotFound` for a task that never was."""
        entries = self.entries()
        task_id = None if query.test_case_id is None else self._task_id(query.test_case_id)
        shown = Shown(self._files, self._catalog)
        chosen = [entry for entry in entries if _fits(entry, query, task_id)]
        if query.search:
            wanted = query.search.casefold()
            chosen = [entry for entry in chosen if wanted in _searched(entry, shown.test_case(entry))]
        if query.sort_order == "asc":
            chosen.reverse()
        return page_of(chosen, query.page, query.page_size, shown.item)

    def statistics(self) -> Mapping[TaskId, Statistics]:
        """The runs of each task that has any, in numbers."""
        self.entries()
        return {task_id: runs.statistics for task_id, runs in self._tasks.items()}

    def _task_id(self, name: str) -> TaskId:
        """The task of this name; one that was deleted and has left runs behind is known, too. Raises `NotFound`."""
        task_id = parse_task_id(name)
        if task_id in self._tasks and self._tasks[task_id].entries:
            return task_id
        return self._catalog.find(name).id

    def entries(self) -> Sequence[Entry]:
        """All runs, newest first, as the disk knows them now. Raises `ProjectGone`."""
        check_project(self._files.tasks_root)
        with self._lock:
            now = {task_id: self._look_at(task_id) for task_id in self._files.task_ids()}
            if len(now) != len(self._tasks) or any(self._tasks.get(task_id) is not now[task_id] for task_id in now):
                every = [entry for runs in now.values() for entry in runs.entries.values()]
                self._newest_first = sorted(every, key=lambda entry: (entry.queued_at, entry.run_id), reverse=True)
            self._tasks = now
            return self._newest_first

    def _look_at(self, task_id: TaskId) -> TaskRuns:
        version = self._files.version(task_id)
        known = self._tasks.get(task_id)
        if known is None or known.version[0] is not version[0] or known.version[1] is not version[1]:
            return self._read_all(task_id, version, known.entries if known else {})
        again = {run_id: self._read_one(task_id, run_id, known.entries.get(run_id)) for run_id in known.unsettled}
        if all(known.entries.get(run_id) is entry for run_id, entry in again.items()):
            return known
        return self._read_all(task_id, version, {**known.entries, **{k: v for k, v in again.items() if v}})

    def _read_all(self, task_id: TaskId, version: tuple[object, object], known: Mapping[RunId, Entry]) -> TaskRuns:
        accepted, written = self._files.run_ids(task_id), self._files.traversal_ids(task_id)
        entries = {}
        for run_id in accepted | written:
            entry = known.get(run_id)
            stays = entry and entry.settled and (entry.origin is Origin.CLI or run_id in accepted)
            entries[run_id] = entry if stays else self._read_one(task_id, run_id, entry)
        hidden = frozenset(_files_of_others(list(filter(None, entries.values()))))
        shown = {run_id: entry for run_id, entry in entries.items() if entry and run_id not in hidden}
        unsettled = frozenset(run_id for run_id, entry in entries.items() if entry is None or not entry.settled)
        return TaskRuns(version, shown, unsettled, _count(shown.values()))

    def _read_one(self, task_id: TaskId, run_id: RunId, known: Entry | None) -> Entry | None:
        """What the disk says of the run now: `known` itself if that has not changed, None if there is nothing yet."""
        folder = RunFolder(self._files.tasks_root, task_id, run_id)
        file_of = known.traversal_id if known and known.traversal_id else run_id
        record_is, file_is = folder.record_identity(), self._files.identity(task_id, file_of)
        read = (record_is, file_is, file_is is not None and is_abandoned(file_is[1] / 1e9))
        if known is not None and known.read == read:
            return known
        record = folder.read_record() if record_is else None
        meta = meta_from_json(record) if record is not None else None
        if meta is not None:
            return self._accepted(meta, read)
        return self._made_by_hand(task_id, run_id, read) if file_is else None

    def _accepted(self, meta: RunMeta, read: tuple[Identity | None, Identity | None, bool]) -> Entry:
        verdict, outcome = state_of(meta, JobState.ABSENT), meta.outcome
        if outcome is not None:
            passed, failed = outcome.passed_steps, outcome.failed_steps
        else:
            traversal = self._files.look(meta.task_id, meta.traversal_id or meta.run_id).reading.traversal
            passed, failed = count_steps(traversal, verdict.state)
        return Entry(
            run_id=meta.run_id,
            task_id=meta.task_id,
            state=verdict.state,
            reason=verdict.reason,
            queued_at=meta.queued_at,
            started_at=meta.started_at or meta.queued_at,
            finished_at=outcome.finished_at if outcome else None,
            passed_steps=passed,
            failed_steps=failed,
            run_type=meta.run_type,
            origin=meta.origin,
            test_case=self._once(meta.test_case),
            browser_config=self._once(meta.browser_config),
            traversal_id=meta.traversal_id,
            read=read,
            settled=outcome is not None,
        )

    def _made_by_hand(
        self, task_id: TaskId, run_id: RunId, read: tuple[Identity | None, Identity | None, bool]
    ) -> Entry | None:
        look = self._files.look(task_id, run_id)
        if look.reading.modified is None:
            return None
        modified_at = datetime.fromtimestamp(look.reading.modified, UTC)
        traversal = look.reading.traversal
        running = Verdict(State.RUNNING, None, None)
        verdict = judge_file(traversal, look.reading.problem, read[2]) or running
        passed, failed = count_steps(traversal, verdict.state)
        began_at = started_at(look.name) or modified_at
        over = verdict.state in FINAL
        return Entry(
            run_id=run_id,
            task_id=task_id,
            state=verdict.state,
            reason=verdict.reason,
            queued_at=began_at,
            started_at=began_at,
            finished_at=modified_at if over else None,
            passed_steps=passed,
            failed_steps=failed,
            run_type=RunType.REPLAY if traversal and traversal.is_replay else RunType.AGENTIC,
            origin=Origin.CLI,
            test_case=None,
            browser_config=None,
            traversal_id=run_id,
            read=read,
            settled=over and traversal is not None and traversal.status != "PENDING",
        )

    def _once(self, value: Any) -> Any:
        """An equal value that is already kept: the runs of a task mostly have one test case."""
        return self._shared.setdefault(value, value)


class Shown:
    """Makes items of entries, for one answer: reads each task once."""

    def __init__(self, files: RunFiles, catalog: TaskCatalog) -> None:
        self._files = files
        self._catalog = catalog
        self._today: dict[TaskId, tuple[TestCase, BrowserConfig | None]] = {}

    def test_case(self, entry: Entry) -> TestCase:
        """The task of the run."""
        return entry.test_case or self._of_today(entry.task_id)[0]

    def item(self, entry: Entry) -> RunItem:
        """The run as an item of a list."""
        finished_at = entry.finished_at
        return RunItem(
            id=entry.run_id,
            test_case=self.test_case(entry),
            current_state=entry.state,
            reason=entry.reason,
            queued_at=entry.queued_at,
            started_at=entry.started_at,
            finished_at=finished_at,
            duration=max(0.0, (finished_at - entry.started_at).total_seconds()) if finished_at else None,
            passed_steps=entry.passed_steps,
            failed_steps=entry.failed_steps,
            total_steps=entry.passed_steps + entry.failed_steps,
            run_type=entry.run_type,
            origin=entry.origin,
            run_gif=None,
            browser_config=entry.browser_config or self._of_today(entry.task_id)[1],
        )

    def _of_today(self, task_id: TaskId) -> tuple[TestCase, BrowserConfig | None]:
        if task_id not in self._today:
            self._today[task_id] = task_of_today(self._files, self._catalog, task_id)
        return self._today[task_id]


def task_of_today(files: RunFiles, catalog: TaskCatalog, task_id: TaskId) -> tuple[TestCase, BrowserConfig | None]:
    """The task as its file is now, for a run that has no record of how it was."""
    clean: Callable[[str], str] = Redactor(files.secrets(task_id)).text
    try:
        task = catalog.find(task_id)
    except (NotFound, TaskBroken):  # it was deleted or damaged since; its runs are still there
        return unreadable_test_case(task_id), None
    return test_case(task, clean), browser_config(task, clean)


def _fits(entry: Entry, query: RunListQuery, task_id: TaskId | None) -> bool:
    return (
        (task_id is None or entry.task_id == task_id)
        and (query.status is None or entry.state in STATES_OF[query.status])
        and (query.run_type is None or entry.run_type is query.run_type)
    )


def _searched(entry: Entry, test_case: TestCase) -> str:
    """The text in which a search looks."""
    return "\n".join((entry.run_id, entry.task_id, test_case.test_name, test_case.test_description)).casefold()


def _count(entries: Iterable[Entry]) -> Statistics:
    runs = list(entries)
    states = Counter(entry.state for entry in runs)
    passed, failed = states[State.FINISHED], states[State.FAILED] + states[State.ERROR]
    return Statistics(
        total_runs=len(runs),
        passed_runs=passed,
        failed_runs=failed,
        pending_runs=len(runs) - passed - failed,
        success_rate=round(100 * passed / (passed + failed), 2) if passed + failed else 0.0,
        last_run_at=max((entry.started_at for entry in runs), default=None),
    )


def _files_of_others(entries: Sequence[Entry]) -> Iterator[RunId]:
    """The IDs of files that are no runs of their own: those that a run of ours has adopted, or is about to adopt."""
    ours = [entry for entry in entries if entry.origin is Origin.WEB_UI]
    adopted = {entry.traversal_id for entry in ours} - {entry.run_id for entry in ours}
    running = [entry for entry in ours if entry.state is State.RUNNING and entry.traversal_id is None]
    searching = [entry.started_at.timestamp() for entry in running]
    for entry in entries:
        modified = entry.read[1][1] / 1e9 if entry.read[1] else 0.0
        if entry.run_id in adopted or (entry.origin is Origin.CLI and modified > min(searching, default=math.inf)):
            yield entry.run_id
