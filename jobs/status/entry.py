"""A run as a list knows it, read from the disk, which knows them all: a run's record is written before its job is
enqueued and at each change of its state, so no list needs Redis."""

import logging
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import Struct

from jobs.run.document import FINAL, BrowserConfig, Origin, Reason, RunItem, RunType, State, TestCase
from jobs.run.merge import JobState, state_of
from jobs.run.record import RunRecord, record_from_json
from jobs.run.steps import count_steps
from jobs.run.verdict import Verdict, judge_file
from runner.files import Identity, file_identity, read_if_there
from runner.ids import RunId, TaskId
from runner.log import log_event
from runner.project.run_files import RunFiles, is_abandoned, started_at
from runner.project.run_folder import RunFolder
from runner.project.traversal import Traversal


class Read(NamedTuple):
    """What was read for an entry: record, traversal, and whether nobody seems to work on the traversal any more."""

    record: Identity | None
    traversal: Identity | None
    abandoned: bool


class Entry(Struct, frozen=True, gc=False):
    """A run in a list. `test_case` and `browser_config` are None where the task of today says them.

    `read` is what was read for it, None if it will never change; `traversal_id` says whose file it adopted.
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
    read: Read | None

    @property
    def settled(self) -> bool:
        """Whether it will never change."""
        return self.read is None

    @property
    def modified(self) -> float:
        """When the file of a run that was made by hand last changed, in seconds since 1970."""
        if self.read is not None and self.read.traversal is not None:
            return self.read.traversal[1] / 1e9
        return 0.0 if self.finished_at is None else self.finished_at.timestamp()

    def item(self, test_case: TestCase, browser_config: BrowserConfig | None) -> RunItem:
        """The run as an item of a list; the arguments are what the task of today says."""
        finished_at = self.finished_at
        return RunItem(
            id=self.run_id,
            test_case=self.test_case or test_case,
            current_state=self.state,
            reason=self.reason,
            queued_at=self.queued_at,
            started_at=self.started_at,
            finished_at=finished_at,
            duration=max(0.0, (finished_at - self.started_at).total_seconds()) if finished_at else None,
            passed_steps=self.passed_steps,
            failed_steps=self.failed_steps,
            total_steps=self.passed_steps + self.failed_steps,
            run_type=self.run_type,
            origin=self.origin,
            run_gif=None,
            browser_config=self.browser_config or browser_config,
        )


class EntryReader:
    """Reads the entries of one project."""

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._shared: dict[Any, Any] = {}

    def read(self, task_id: TaskId, run_id: RunId, known: Entry | None, read: Read) -> Entry | None:
        """What the disk says of the run (of which there is `read`): `known` itself if that has not changed, None if
        there is nothing yet."""
        if known is not None and known.read == read:
            return known
        try:
            record = read_if_there(self._record(task_id, run_id)) if read.record else None
        except OSError as error:  # one that cannot be read must not hide the others
            log_event("not_read", level=logging.WARNING, run=run_id, task=task_id, because=error.strerror)
            return None
        meta = record_from_json(record) if record is not None else None
        if meta is not None:
            return self._accepted(meta, read)
        return self._made_by_hand(task_id, run_id, read) if read.traversal else None

    def look(self, task_id: TaskId, run_id: RunId, known: Entry | None) -> Read:
        """What there is to be read now."""
        traversal = self._files.identity(task_id, known.traversal_id if known and known.traversal_id else run_id)
        abandoned = traversal is not None and is_abandoned(traversal[1] / 1e9)
        return Read(file_identity(self._record(task_id, run_id)), traversal, abandoned)

    def _record(self, task_id: TaskId, run_id: RunId) -> Path:
        return RunFolder(self._files.tasks_root, task_id, run_id).record

    def _accepted(self, meta: RunRecord, read: Read) -> Entry:
        verdict, outcome = state_of(meta, JobState.ABSENT), meta.outcome
        if outcome is not None:
            passed, failed = outcome.passed_steps, outcome.failed_steps
        else:
            traversal = self._files.look(meta.task_id, meta.traversal_id or meta.run_id).reading.traversal
            passed, failed = count_steps(traversal, verdict.state)
        return Entry(
            run_id=meta.run_id,
            task_id=self._once(meta.task_id),
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
            read=None if outcome is not None else read,
        )

    def _made_by_hand(self, task_id: TaskId, run_id: RunId, read: Read) -> Entry | None:
        look = self._files.look(task_id, run_id)
        if look.reading.modified is None:
            return None
        modified_at = datetime.fromtimestamp(look.reading.modified, UTC)
        traversal = look.reading.traversal
        running = Verdict(State.RUNNING, None, None)
        verdict = judge_file(traversal, look.reading.problem, read.abandoned) or running
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
            read=None if is_settled(verdict.state, traversal) else read,
        )

    def _once(self, value: Any) -> Any:
        """An equal value that is already kept: the runs of a task mostly have one test case."""
        return self._shared.setdefault(value, value)


def is_settled(state: State, traversal: Traversal | None) -> bool:
    """Whether this is the last word about a run that was made by hand: its CLI has said how it ended."""
    return state in FINAL and traversal is not None and traversal.status != "PENDING"


def files_of_others(entries: Sequence[Entry]) -> Iterator[RunId]:
    """The IDs of files that are no runs of their own: those that a run of ours has adopted, or is about to adopt."""
    ours = [entry for entry in entries if entry.origin is Origin.WEB_UI]
    adopted = {entry.traversal_id for entry in ours} - {entry.run_id for entry in ours}
    running = [entry for entry in ours if entry.state is State.RUNNING and entry.traversal_id is None]
    searching = [entry.started_at.timestamp() for entry in running]
    earliest = min(searching, default=math.inf)
    for entry in entries:
        if entry.run_id in adopted or (entry.origin is Origin.CLI and entry.modified > earliest):
            yield entry.run_id
