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
    record_from_job_meta,
    record_from_json,
    record_of_file,
    record_to_job_meta,
    record_to_json,
)
from jobs.run.state import JobState, Origin, Reason, RunType, State
from jobs.run.steps import brain_states
from jobs.run.test_case import BrowserConfig
from jobs.run.test_case import TestCase as Case
from runner.ids import RunId, TaskId
from runner.project.task import Browser, Viewport
from runner.project.traversal import Reading, Traversal, parse_traversal
from tests.project import FAULT, PASSED, VISIT, make_action, make_traversal

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
def test_the_state_follows_from_job_and_metadata(
    meta: RunRecord, job: JobState, state: str, reason: str | None
) -> None:
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


def test_the_last_action_of_a_failed_run_is_the_failed_one() -> None:
    states = [
        element.history_element_state
        for step in brain_states(TASK, traversal([VISIT, FAULT], "FAILED"), State.FAILED)
        for element in step.history_elements
    ]
    assert states == ["SUCCESS", "FAILED"]
    running = brain_states(TASK, traversal([VISIT, FAULT]), State.RUNNING)
    assert running[1].history_elements[0].history_element_state == "SUCCESS"


def test_a_history_element_has_what_the_front_end_reads() -> None:
    action = make_action(0, "click_element_by_index", {"index": 1})
    action["dom_element_data"] = {"xpath": "html/body/a"}
    document = {**make_traversal([VISIT]), "actions": {"action_0": {**action, "brain_state_id": "thought0"}}}
    (step,) = brain_states(TASK, parse_traversal(json.dumps(document).encode()), State.RUNNING)
    assert json.loads(msgspec.json.encode(step)) == {
        "id": "thought0",
        "evaluation_previous_goal": "saw 0",
        "memory": "0 done",
        "next_goal": "goal 0",
        "history_elements": [
            {
                "id": "action_0",
                "history_element_state": "SUCCESS",
                "action": {"click_element_by_index": {"index": 1}},
                "screenshot": "tasks/t/screenshots/run/001_click_element_by_index.png",
                "dom_element_data": {"xpath": "html/body/a"},
            }
        ],
    }


def test_actions_without_a_brain_state_are_not_hidden() -> None:
    replay = traversal([VISIT, PASSED], "SUCCESSFUL", brain_states={}, run_type="REPLAY")
    steps = brain_states(TASK, replay, State.FINISHED)
    assert [step.next_goal for step in steps] == ["go to url", "done"]
    ids = [element.id for step in steps for element in step.history_elements]
    assert ids == ["action_0", "action_1"]


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


def test_the_metadata_survives_redis_and_the_disk() -> None:
    for meta in (QUEUED, STARTED, FAILED_META):
        assert record_from_json(record_to_json(meta)) == meta
        assert record_from_job_meta(json.loads(json.dumps(record_to_job_meta(meta)))) == meta
    assert record_from_json(b"{") is None
    assert record_from_json(b'{"run_id": 3}') is None
    assert record_from_job_meta({"unserialized": "x"}) is None


def test_times_are_written_in_utc_with_z() -> None:
    assert b'"queued_at":"2026-11-23T08:00:00Z"' in msgspec.json.encode(run_document(QUEUED, JobState.WAITING, None))
