"""Job and record and traversal become a run document."""

from datetime import timedelta

import pytest

from jobs.run.document import newest
from jobs.run.record import (
    RunRecord,
)
from jobs.run.state import JobState
from tests.project import VISIT
from tests.unit.run.records import FAILED, FINISHED, NOW, QUEUED, STARTED, run_document, traversal


@pytest.mark.parametrize(
    ("record", "job", "state", "reason"),
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
        *((FINISHED, job, "FINISHED", None) for job in JobState),  # a final state never changes
        *((FAILED, job, "FAILED", "test_failed") for job in JobState),
    ],
)
def test_the_state_follows_from_job_and_record(
    record: RunRecord, job: JobState, state: str, reason: str | None
) -> None:
    document = run_document(record, job, traversal([VISIT]))
    assert (document.current_state, document.reason) == (state, reason)
    assert (document.error_message is not None) == (reason is not None)


def test_the_copy_that_knows_more_wins() -> None:
    assert newest(STARTED, FINISHED) is FINISHED
    assert newest(FINISHED, STARTED) is FINISHED
    assert newest(QUEUED, STARTED) is STARTED
    assert newest(None, QUEUED) is QUEUED
    assert newest(None, None) is None


def test_a_queued_run_started_when_it_was_accepted_and_ends_at_its_outcome() -> None:
    queued = run_document(QUEUED, JobState.WAITING, None)
    assert (queued.started_at, queued.finished_at, queued.brain_states) == (NOW, None, [])
    over = run_document(FINISHED, JobState.ENDED, None)
    assert (over.queued_at, over.started_at) == (NOW, NOW + timedelta(seconds=1))
    assert over.finished_at == NOW + timedelta(seconds=9)
