"""The record of a run."""

import json
from datetime import timedelta

import msgspec
import pytest
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
from jobs.run.state import JobState, Trigger
from runner.errors import RecordUnreadable
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
    assert (document.trigger, document.labels) == ("cli", {})
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
    for record in (
        QUEUED,
        *(
            replace(record, epoch=1, worker="w", machine="m", trigger=Trigger.API, labels={"k": "v"})
            for record in (STARTED, FAILED)
        ),
    ):
        assert record_from_json(record_to_json(record), TASK, RUN) == record
        assert record_from_job_meta(json.loads(json.dumps(record_to_job_meta(record)))) == record
    assert record_from_job_meta({"unserialized": "x"}) is None


def test_a_record_from_before_there_were_triggers_has_that_of_its_origin() -> None:
    old = json.loads(record_to_json(QUEUED))
    del old["trigger"], old["labels"]
    for origin, trigger in (("WEB_UI", "api"), ("CLI", "cli")):
        record = record_from_json(json.dumps({**old, "origin": origin}).encode(), TASK, RUN)
        assert (record.trigger, record.effective_trigger, record.labels) == (None, trigger, {})
        document = run_document(record, JobState.ABSENT, None)
        assert (document.trigger, document.labels) == (trigger, {})
    rerun = replace(QUEUED, trigger=Trigger.RERUN)
    assert run_document(rerun, JobState.ABSENT, None).trigger == "rerun"


def test_labels_in_a_record_are_shown_as_they_are_if_they_are_texts() -> None:
    content = json.loads(record_to_json(QUEUED))
    odd = {"Not A Key": "x" * 300}
    assert record_from_json(json.dumps({**content, "labels": odd}).encode(), TASK, RUN).labels == odd
    with pytest.raises(RecordUnreadable):
        record_from_json(json.dumps({**content, "labels": {"k": 3}}).encode(), TASK, RUN)


def test_times_are_written_in_utc_with_z() -> None:
    assert b'"queued_at":"2026-11-23T08:00:00Z"' in msgspec.json.encode(run_document(QUEUED, JobState.WAITING, None))
