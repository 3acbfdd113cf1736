"""The only owner of the keys in `job.meta`, and of the run's record on disk, which is the durable copy of it.

Written by the web process once, when a run is accepted, and from then on by the worker alone.
"""

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from jobs.run.document import BrowserConfig, Origin, Reason, RunType, State, TestCase
from runner.ids import RunId, TaskId

EXECUTE_RUN = "jobs.worker.execute.execute_run"  # what a job of ours calls, by its dotted name


class Outcome(Struct, frozen=True):
    """The end of a run; once written it never changes. `exit_code` and `signal` are the CLI's, the steps its brain
    states."""

    state: State
    reason: Reason | None
    error_message: str | None
    finished_at: datetime
    exit_code: int | None = None
    signal: str | None = None
    passed_steps: int = 0
    failed_steps: int = 0


class RunRecord(Struct, frozen=True):
    """What we know of a run beside its traversal. `worker` is the name of the RQ worker that has or had it.

    `traversal_id` is the ID in the name of its file once that is known; if it is not `run_id`, the run adopted the
    file. A replay names the run that it repeats, and the ID in the name of that run's file.
    """

    run_id: RunId
    task_id: TaskId
    test_case: TestCase
    browser_config: BrowserConfig
    run_type: RunType
    origin: Origin
    queued_at: datetime
    started_at: datetime | None = None
    worker: str | None = None
    original_run_id: RunId | None = None
    original_traversal_id: RunId | None = None
    traversal_id: RunId | None = None
    outcome: Outcome | None = None


def record_to_json(meta: RunRecord) -> bytes:
    """The record's content on disk."""
    return msgspec.json.encode(meta)


def record_from_json(content: bytes) -> RunRecord | None:
    """The record, or None if this is none of ours (or one of a version that we cannot read)."""
    try:
        return msgspec.json.decode(content, type=RunRecord)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def record_to_job_meta(meta: RunRecord) -> dict[str, Any]:
    """The value of `job.meta`: JSON types only."""
    built: dict[str, Any] = msgspec.to_builtins(meta)
    return built


def record_from_job_meta(meta: dict[str, Any]) -> RunRecord | None:
    """The value of `job.meta`, or None if it is none of ours."""
    try:
        return msgspec.convert(meta, RunRecord)
    except msgspec.ValidationError:
        return None
