"""The record of a run: `run.json` on disk, and the same in `job.meta`. Pure; the only owner of the keys in both."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from jobs.run.failure import failure_card
from jobs.run.state import Origin, Reason, RunType, State, Trigger
from jobs.run.steps import count_steps
from jobs.run.test_case import BrowserConfig, TestCase
from jobs.run.verdict import CliResult, Verdict, judge_file
from runner.errors import RecordUnreadable, printable
from runner.files import utc_time
from runner.ids import RUN_ID_PATTERN, TASK_ID_PATTERN, RunId, TaskId
from runner.project.traversal import Reading, Traversal, started_at

UNREADABLE = 0  # the version of what is shown in place of a record that is damaged
UNREAD = -1  # or that could not be read just now
VERSION = 1  # of the record; a worker leaves one with a higher number alone
UNPARSABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
Time = Annotated[datetime, Meta(tz=True)]
Artifacts = Literal["pruned"]
FileId = Annotated[RunId, Meta(pattern=RUN_ID_PATTERN)]


class Outcome(Struct, frozen=True):
    """The end of a run; once recorded it never changes."""

    state: State
    reason: Reason | None
    error_message: str | None
    finished_at: Time
    exit_code: int | None = None
    """Of the CLI; None if a signal ended it, or if it was never started."""
    signal: str | None = None
    """The name of the signal that ended the CLI."""
    passed_steps: int = 0
    """Brain states (of a replay: actions) that passed."""
    failed_steps: int = 0
    failed_action: str | None = None
    """Of a failure: the kind of the action that broke."""
    failed_url: str | None = None
    """And the last page before that."""


class RunRecord(Struct, frozen=True):
    """All that is known of a run beside the steps in its traversal."""

    run_id: FileId
    task_id: Annotated[TaskId, Meta(pattern=TASK_ID_PATTERN)]
    test_case: TestCase | None
    """None for a run made by hand: the task as it is now describes it."""
    browser_config: BrowserConfig | None
    run_type: RunType
    origin: Origin
    queued_at: Time
    trigger: Trigger | None = None
    """None in a record from before there were triggers: see `effective_trigger`."""
    batch_id: FileId | None = None
    """The batch that it is a run of."""
    turn: Annotated[TaskId, Meta(pattern=TASK_ID_PATTERN)] | None = None
    """The task whose turn it takes, where that is not its own."""
    labels: Mapping[str, str] = {}
    """What the client gave the run to find it by, without secrets."""
    started_at: Time | None = None
    worker: str | None = None
    """The name of the RQ worker that executes or executed it."""
    machine: str | None = None
    """The machine of that worker, where the processes of the run are: see `runner.cli.machine`."""
    epoch: int = 0
    """How often the run got an owner: 0 before a worker took it, one more whenever another process takes it over. Only
    who knows the present number may change the record."""
    original_run_id: FileId | None = None
    """The run that a replay repeats."""
    original_traversal_id: FileId | None = None
    """The ID in the file name of that run."""
    traversal_id: FileId | None = None
    """The ID in the run's own file name, once there is a file; another one than `run_id` if the file was adopted."""
    cli_started_at: Time | None = None
    first_step_at: Time | None = None
    """When the first step was in the file."""
    warm: bool | None = None
    """Whether the CLI was forked from a process that had imported it; None if it was not started (yet)."""
    outcome: Outcome | None = None
    artifacts: Artifacts | None = None
    """Whether the files of the run were deleted, so that this record is all that is left of it."""
    version: int = VERSION

    @property
    def file_id(self) -> RunId:
        """The ID in the name of the run's traversal file: as recorded, else its own."""
        return self.traversal_id or self.run_id

    @property
    def turn_of(self) -> TaskId:
        """The task whose turn the run takes."""
        return self.turn or self.task_id

    @property
    def progress(self) -> dict[str, Any]:
        """The fields that may change while the CLI runs."""
        return {name: getattr(self, name) for name in ("traversal_id", "cli_started_at", "first_step_at", "warm")}

    @property
    def is_readable(self) -> bool:
        """Whether this is what the record says, and not what is shown in place of one that cannot be read."""
        return self.version > UNREADABLE

    @property
    def is_unread(self) -> bool:
        """Whether the record may be read the next time, although its file has not changed."""
        return self.version == UNREAD

    @property
    def is_made_by_hand(self) -> bool:
        """Whether the CLI was started by hand, so that there is no record of it on the disk before it is pruned."""
        return self.origin is Origin.CLI

    @property
    def effective_trigger(self) -> Trigger:
        """What the run was started by: as recorded, else what follows from its origin."""
        return self.trigger or (Trigger.CLI if self.is_made_by_hand else Trigger.API)

    @property
    def state(self) -> State:
        """Where the run stands, by this record alone."""
        if self.outcome is not None:
            return self.outcome.state
        return State.PENDING if self.started_at is None else State.RUNNING

    @property
    def passed(self) -> bool:
        """Whether the run is over and its test passed."""
        return self.state is State.FINISHED


def record_to_json(record: RunRecord, task_id: str | None = None) -> bytes:
    """The content of `run.json`. `task_id` is the task that the record named before, if that was another: in the
    folder of a copy it goes on to say so."""
    return msgspec.json.encode(msgspec.structs.replace(record, task_id=TaskId(task_id or record.task_id)))


class Header(Struct, frozen=True):
    """What a record of any version says."""

    run_id: str
    task_id: str
    version: int = VERSION


def record_from_json(content: bytes, task_id: TaskId, run_id: RunId) -> RunRecord:
    """The record in the `run.json` of this run. Raises `RecordUnreadable`.

    The folder says which task a record belongs to: that of a task that was renamed or copied names the other one.
    """
    try:
        header = msgspec.json.decode(content, type=Header)
        if header.version > VERSION:
            raise RecordUnreadable(run_id, f"it was written by a newer version of this program ({header.version})")
        if header.run_id != run_id:
            raise RecordUnreadable(run_id, f"it is that of run '{printable(header.run_id)}'")
        record = msgspec.json.decode(content, type=RunRecord)
    except UNPARSABLE as error:
        raise RecordUnreadable(run_id, printable(str(error), 200)) from None
    epoch = record.epoch or int(record.started_at is not None)  # the first version had none
    return msgspec.structs.replace(record, task_id=task_id, epoch=epoch)


def task_in_record(content: bytes) -> str | None:
    """The task that a record names itself; None if it cannot be read."""
    try:
        return msgspec.json.decode(content, type=Header).task_id
    except UNPARSABLE:
        return None


def unreadable_record(
    task_id: TaskId, run_id: RunId, problem: str, modified: float, version: int = UNREADABLE
) -> RunRecord:
    """What is shown in place of a record that cannot be used; it is never written. `modified` is in seconds since 1970.

    The state is ERROR, because nothing will change it before a person has repaired the file.
    """
    at = utc_time(modified)
    message = f"The record of this run, tasks/{task_id}/runs/{run_id}/run.json, cannot be used: {problem}."
    return RunRecord(
        run_id=run_id,
        task_id=task_id,
        test_case=None,
        browser_config=None,
        run_type=RunType.AGENTIC,
        origin=Origin.WEB_UI,
        queued_at=at,
        outcome=Outcome(State.ERROR, Reason.LOST, message, at),
        version=version,
    )


def record_to_job_meta(record: RunRecord) -> dict[str, Any]:
    """The value of `job.meta`: JSON types only."""
    built: dict[str, Any] = msgspec.to_builtins(record)
    return built


def record_from_job_meta(meta: dict[str, Any]) -> RunRecord | None:
    """The record in `job.meta`; None if it is none of ours."""
    try:
        return msgspec.convert(meta, RunRecord)
    except msgspec.ValidationError:
        return None


def record_of_file(task_id: TaskId, run_id: RunId, reading: Reading, *, abandoned: bool) -> RunRecord | None:
    """The record of a run made by hand, of which only its traversal file is known; None if there is no file.

    `abandoned` says that the file has not changed for so long that its CLI cannot be running.
    """
    if reading.modified is None:
        return None
    modified_at = utc_time(reading.modified)
    began_at = started_at(reading.name) or modified_at
    verdict = judge_file(reading.traversal, reading.problem, abandoned or reading.is_no_file)
    return RunRecord(
        run_id=run_id,
        task_id=task_id,
        test_case=None,
        browser_config=None,
        run_type=RunType.REPLAY if reading.traversal and reading.traversal.is_replay else RunType.AGENTIC,
        origin=Origin.CLI,
        trigger=Trigger.CLI,
        queued_at=began_at,
        started_at=began_at,
        traversal_id=run_id,
        outcome=None if verdict is None else make_outcome(verdict, reading.traversal, modified_at),
    )


def make_outcome(
    verdict: Verdict, traversal: Traversal | None, finished_at: datetime, result: CliResult | None = None
) -> Outcome:
    """The outcome with this verdict, and with the steps of the traversal counted."""
    passed_steps, failed_steps = count_steps(traversal, verdict.state)
    broken = failure_card(TaskId(""), traversal, None, ()) if verdict.state.is_failure else None
    process_exit = None if result is None else result.exit
    return Outcome(
        state=verdict.state,
        reason=verdict.reason,
        error_message=verdict.message,
        finished_at=finished_at,
        exit_code=process_exit.exit_code if process_exit else None,
        signal=process_exit.signal if process_exit else None,
        passed_steps=passed_steps,
        failed_steps=failed_steps,
        failed_action=broken.action if broken else None,
        failed_url=broken.url if broken else None,
    )


def pruned_record(record: RunRecord, traversal: Traversal | None) -> RunRecord:
    """The record of a run that is over, marked as pruned. Of before there was what failed, that is added."""
    outcome = record.outcome
    if outcome is not None and outcome.state.is_failure and outcome.failed_action is None:
        broken = failure_card(record.task_id, traversal, None, ())
        outcome = msgspec.structs.replace(outcome, failed_action=broken.action, failed_url=broken.url)
    return msgspec.structs.replace(record, outcome=outcome, artifacts="pruned")


def has_final_word(record: RunRecord, reading: Reading) -> bool:
    """Whether a run made by hand will not change any more: its CLI has written how it ended."""
    return record.outcome is not None and reading.traversal is not None and reading.traversal.status != "PENDING"
