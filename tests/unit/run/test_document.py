"""Job and record and traversal become a run document."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from jobs.run.document import RunDocument, newest
from jobs.run.document import run_document as document_of
from jobs.run.record import (
    Outcome,
    RunRecord,
)
from jobs.run.state import JobState, Origin, Reason, RunType, State
from jobs.run.test_case import BrowserConfig
from jobs.run.test_case import TestCase as Case
from runner.ids import RunId, TaskId
from runner.project.task import Browser, Viewport
from runner.project.traversal import Reading, Traversal, parse_traversal
from tests.project import VISIT, make_traversal

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


RUN, TASK = RunId("r" * 24), TaskId("t")


QUEUED = RunRecord(
    run_id=RUN,
    task_id=TASK,
    test_case=Case("t", "T", "d", "g"),
    browser_config=BrowserConfig("t_default", Browser("chromium", "", Viewport(1, 2), None)),
    run_type=RunType.AGENTIC,
    origin=Origin.WEB_UI,
    queued_at=NOW,
)


STARTED = msgspec.structs.replace(QUEUED, started_at=NOW + timedelta(seconds=1), worker="w")


PASSED_META = msgspec.structs.replace(STARTED, outcome=Outcome(State.FINISHED, None, None, NOW + timedelta(seconds=9)))


FAILED_META = msgspec.structs.replace(
    STARTED, outcome=Outcome(State.FAILED, Reason.TEST_FAILED, "cart", NOW + timedelta(seconds=9), 0)
)


def run_document(record: RunRecord, job: JobState, steps: Traversal | None) -> RunDocument:
    return document_of(record, job, Reading(steps, None, None), [])


def traversal(*args: Any, **kwargs: Any) -> Traversal:
    return parse_traversal(json.dumps(make_traversal(*args, **kwargs)).encode())


@pytest.mark.parametrize(
    ("meta", "job", "state", "reason"),
    [
        (QUEUED, JobState.WAITING, "PENDING", None),
        (STARTED, JobState.STARTED, "RUNNING", None),
        (QUEUED, JobState.STARTED, "RUNNING", None),  # the worker has it, and has not said so yet
        (QUEUED, JobState.UNKNOWN, "PENDING", None),  # Redis is away: what the disk knows
        (STARTED, JobState.UNKNOWN, "RUNNING", None),
        (STARTED, JobState.ENDED, "RUNNING", None),  # not over until somebody recorded how it ended
        (STARTED, JobState.CANCELED, "RUNNING", None),
        (QUEUED, JobState.CANCELED, "PENDING", None),
        (STARTED, JobState.ABSENT, "RUNNING", None),
        (QUEUED, JobState.ABSENT, "PENDING", None),
        *((PASSED_META, job, "FINISHED", None) for job in JobState),  # a final state never changes
        *((FAILED_META, job, "FAILED", "test_failed") for job in JobState),
    ],
)
def test_the_state_follows_from_job_and_record(meta: RunRecord, job: JobState, state: str, reason: str | None) -> None:
    document = run_document(meta, job, traversal([VISIT]))
    assert (document.current_state, document.reason) == (state, reason)
    assert (document.error_message is not None) == (reason is not None)


def test_the_copy_that_knows_more_wins() -> None:
    assert newest(STARTED, PASSED_META) is PASSED_META
    assert newest(PASSED_META, STARTED) is PASSED_META
    assert newest(QUEUED, STARTED) is STARTED
    assert newest(None, QUEUED) is QUEUED
    assert newest(None, None) is None


def test_a_queued_run_started_when_it_was_accepted_and_ends_at_its_outcome() -> None:
    queued = run_document(QUEUED, JobState.WAITING, None)
    assert (queued.started_at, queued.finished_at, queued.brain_states) == (NOW, None, [])
    over = run_document(PASSED_META, JobState.ENDED, None)
    assert (over.queued_at, over.started_at) == (NOW, NOW + timedelta(seconds=1))
    assert over.finished_at == NOW + timedelta(seconds=9)
