"""The record of a run."""

import json
from datetime import timedelta

import msgspec
from msgspec.structs import replace

from jobs.run.document import RunDocument
from jobs.run.document import run_document as document_of
from jobs.run.record import (
    record_from_job_meta,
    record_from_json,
    record_of_file,
    record_to_job_meta,
    record_to_json,
)
from jobs.run.state import JobState
from runner.project.traversal import Reading
from tests.project import PASSED, VISIT
from tests.unit.run.records import FAILED, NOW, QUEUED, RUN, STARTED, TASK, run_document, traversal


def by_hand(reading: Reading, *, abandoned: bool = True) -> RunDocument:
    record = record_of_file(TASK, RUN, reading, abandoned=abandoned)
    assert record is not None
    return document_of(record, JobState.ABSENT, reading, [])


def test_a_run_made_by_hand_has_the_record_that_its_file_gives() -> None:
    modified = (NOW + timedelta(seconds=30)).timestamp()
    name = f"traverse_{NOW.astimezone():%Y%m%d_%H%M%S}_{RUN}.json"
    document = by_hand(Reading(traversal([VISIT, PASSED], "SUCCESSFUL"), None, modified, name))
    assert (document.current_state, document.origin, document.run_type) == ("FINISHED", "CLI", "AGENTIC")
    assert (document.started_at, document.finished_at) == (NOW, NOW + timedelta(seconds=30))
    assert (document.duration, document.traversal_id, document.adopted) == (30.0, RUN, False)
    being_written = by_hand(Reading(traversal([VISIT]), None, modified, name), abandoned=False)
    assert (being_written.current_state, being_written.finished_at) == ("RUNNING", None)
    lost = by_hand(Reading(None, "it is not whole JSON", modified, name))
    assert (lost.current_state, lost.reason) == ("ERROR", "lost")
    replay = by_hand(Reading(traversal([VISIT], "SUCCESSFUL", run_type="REPLAY"), None, modified, name))
    assert replay.run_type == "REPLAY"
    assert record_of_file(TASK, RUN, Reading(None, None, None), abandoned=False) is None, "there is no file"


def test_a_record_survives_redis_and_the_disk() -> None:
    for record in (QUEUED, *(replace(record, epoch=1, worker="w", machine="m") for record in (STARTED, FAILED))):
        assert record_from_json(record_to_json(record), TASK, RUN) == record
        assert record_from_job_meta(json.loads(json.dumps(record_to_job_meta(record)))) == record
    assert record_from_job_meta({"unserialized": "x"}) is None


def test_times_are_written_in_utc_with_z() -> None:
    assert b'"queued_at":"2026-11-23T08:00:00Z"' in msgspec.json.encode(run_document(QUEUED, JobState.WAITING, None))
