"""A run as a list knows it, read from the disk: its record is written before its job is enqueued and at each change of
its state, so no list needs Redis."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import Struct

from jobs.queue.records import show_record
from jobs.run.document import RunItem, duration
from jobs.run.record import RunRecord, has_final_word, record_of_file
from jobs.run.state import Origin, Reason, RunType, State, Trigger
from jobs.run.steps import count_steps
from jobs.run.test_case import BrowserConfig, TestCase
from runner.files import Identity, file_identity
from runner.ids import RunId, TaskId
from runner.project.run_files import RunFiles, is_abandoned

SETTLING_SECONDS = 2.0  # for which a CLI may still touch its file after it has written the result


class EntryFiles(NamedTuple):
    """The files that an entry is made of."""

    record: Identity | None
    traversal: Identity | None
    abandoned: bool
    """Whether the traversal has not changed for so long that its CLI cannot be running."""


class Entry(Struct, frozen=True, gc=False):
    """A run in a list."""

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
    """None for a run made by hand: the task as it is now describes it. The same holds for its browser."""
    browser_config: BrowserConfig | None
    traversal_id: RunId | None
    files: EntryFiles | None
    """What it was read from; None if it will never change."""
    trigger: Trigger = Trigger.API
    labels: Mapping[str, str] = {}

    @property
    def settled(self) -> bool:
        """Whether it will never change."""
        return self.files is None

    @property
    def is_made_by_hand(self) -> bool:
        """Whether the CLI was started by hand, so that there is no record of the run on the disk."""
        return self.origin is Origin.CLI

    @property
    def file_id(self) -> RunId:
        """The ID in the name of the run's traversal file."""
        return self.traversal_id or self.run_id

    @property
    def modified(self) -> float:
        """When the file of a run that was made by hand last changed, in seconds since 1970."""
        if self.files is not None and self.files.traversal is not None:
            return self.files.traversal[1] / 1e9
        return 0.0 if self.finished_at is None else self.finished_at.timestamp()

    def item(self, test_case: TestCase, browser_config: BrowserConfig | None) -> RunItem:
        """The run as an item of a list; the arguments describe the task as it is now."""
        return RunItem(
            id=self.run_id,
            test_case=self.test_case or test_case,
            current_state=self.state,
            reason=self.reason,
            queued_at=self.queued_at,
            started_at=self.started_at,
            finished_at=self.finished_at,
            duration=duration(self.started_at, self.finished_at),
            passed_steps=self.passed_steps,
            failed_steps=self.failed_steps,
            total_steps=self.passed_steps + self.failed_steps,
            run_type=self.run_type,
            origin=self.origin,
            trigger=self.trigger,
            labels=self.labels,
            run_gif=None,
            browser_config=self.browser_config or browser_config,
        )


class EntryReader:
    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._interned: dict[Any, Any] = {}

    def stat(self, task_id: TaskId, run_id: RunId, entry: Entry | None) -> EntryFiles:
        """The files of the run as they are now; nothing is read."""
        traversal = self._files.identity(task_id, run_id if entry is None else entry.file_id)
        abandoned = traversal is not None and is_abandoned(traversal[1] / 1e9)
        return EntryFiles(file_identity(self._files.folder(task_id, run_id).record), traversal, abandoned)

    def read(self, task_id: TaskId, run_id: RunId, entry: Entry | None, files: EntryFiles) -> Entry | None:
        """The entry of the run with these files: `entry` itself if they are its own, None if there is nothing yet."""
        if entry is not None and entry.files == files:
            has_result = entry.state.is_final and entry.reason is not Reason.LOST
            if not (has_result and _is_old(files)):  # else it may be settled now
                return entry
        record = show_record(self._files.folder(task_id, run_id)) if files.record else None
        if record is not None:
            is_settled = record.outcome is not None and record.is_readable
            files = files._replace(record=None) if record.is_unread else files
            return self._entry(record, files, self._steps(record), is_settled=is_settled)
        reading = self._files.read_unredacted(task_id, run_id)
        record = record_of_file(task_id, run_id, reading, abandoned=files.abandoned)
        if record is None:
            return None
        settled = has_final_word(record, reading) and _is_old(files)
        return self._entry(record, files, count_steps(reading.traversal, record.state), is_settled=settled)

    def _steps(self, record: RunRecord) -> tuple[int, int]:
        """How many steps of an accepted run passed, and how many failed."""
        if record.outcome is not None:
            return record.outcome.passed_steps, record.outcome.failed_steps
        return count_steps(self._files.read_unredacted(record.task_id, record.file_id).traversal, record.state)

    def _entry(self, record: RunRecord, files: EntryFiles, steps: tuple[int, int], *, is_settled: bool) -> Entry:
        outcome = record.outcome
        return Entry(
            run_id=record.run_id,
            task_id=self._intern(record.task_id),
            state=record.state,
            reason=outcome.reason if outcome else None,
            queued_at=record.queued_at,
            started_at=record.started_at or record.queued_at,
            finished_at=outcome.finished_at if outcome else None,
            passed_steps=steps[0],
            failed_steps=steps[1],
            run_type=record.run_type,
            origin=record.origin,
            test_case=self._intern(record.test_case),
            browser_config=self._intern(record.browser_config),
            traversal_id=record.traversal_id,
            files=None if is_settled else files,
            trigger=record.effective_trigger,
            labels=record.labels,
        )

    def _intern(self, value: Any) -> Any:
        """An equal value that is in use already: most runs of a task have the same test case."""
        return self._interned.setdefault(value, value)


def _is_old(files: EntryFiles) -> bool:
    """Whether the traversal will not change any more now that its run is over."""
    return files.traversal is not None and time.time() - files.traversal[1] / 1e9 >= SETTLING_SECONDS


def files_of_others(entries: Sequence[Entry]) -> Iterator[RunId]:
    """The IDs of files that are no runs of their own: those that an accepted run has adopted, or may soon adopt."""
    accepted = [entry for entry in entries if not entry.is_made_by_hand]
    adopted = {entry.traversal_id for entry in accepted} - {entry.run_id for entry in accepted}
    running = [entry for entry in accepted if entry.state is State.RUNNING and entry.traversal_id is None]
    earliest = min((entry.started_at.timestamp() for entry in running), default=math.inf)
    for entry in entries:
        if entry.run_id in adopted or (entry.is_made_by_hand and entry.modified > earliest):
            yield entry.run_id
