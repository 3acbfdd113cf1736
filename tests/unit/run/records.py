"""Records of one run at each step of its life, and what belongs to them."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from jobs.run.document import RunDocument
from jobs.run.document import run_document as document_of
from jobs.run.record import Outcome, RunRecord
from jobs.run.state import JobState, Origin, Reason, RunType, State
from jobs.run.test_case import BrowserConfig
from jobs.run.test_case import TestCase as Case
from runner.ids import RunId, TaskId
from runner.project.task import Browser, Viewport
from runner.project.traversal import Reading, Traversal, parse_traversal
from tests.project import make_traversal

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
FINISHED = msgspec.structs.replace(STARTED, outcome=Outcome(State.FINISHED, None, None, NOW + timedelta(seconds=9)))
FAILED = msgspec.structs.replace(
    STARTED, outcome=Outcome(State.FAILED, Reason.TEST_FAILED, "cart", NOW + timedelta(seconds=9), 0)
)


def run_document(record: RunRecord, job: JobState, steps: Traversal | None) -> RunDocument:
    """The document of this record, with the traversal that it has."""
    return document_of(record, job, Reading(steps, None, None))


def traversal(*args: Any, **kwargs: Any) -> Traversal:
    """`make_traversal`, parsed."""
    return parse_traversal(json.dumps(make_traversal(*args, **kwargs)).encode())
