"""The steps of a run, and the failure card."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from jobs.run.state import State
from jobs.run.steps import brain_states
from runner.project.traversal import parse_traversal
from tests.project import FAULT, PASSED, VISIT, make_action, make_traversal
from tests.unit.fake_stack import FakeStack
from tests.unit.run.records import TASK, traversal
from tests.unit.runs import (
    OTHER,
)


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


def test_a_failed_run_has_a_card_that_says_what_broke(stack: FakeStack) -> None:
    noise = " ".join(f"print:line_{number}" for number in range(30))
    stack.project.add_task("buy", f"{noise} visit think:look fail")
    run = stack.run("buy")
    assert run["failure"] == {
        "step": 3,
        "action": "done",
        "goal": "goal 2",
        "message": "The cart is empty",
        "url": "http://127.0.0.1:1/",
        "screenshot": None,
        "log_tail": [f"line {number}" for number in range(10, 30)],
        "exit_code": 0,
        "signal": None,
    }
    assert run["duration"] == pytest.approx(
        (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])).total_seconds()
    )
    assert (run["progress"]["steps"], run["progress"]["last_goal"]) == (3, "goal 2")
    assert datetime.fromisoformat(run["progress"]["updated_at"]) <= datetime.now(UTC)


def test_a_run_that_never_got_anywhere_has_a_card_too(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:no_model kill")
    failure = stack.run("buy")["failure"]
    assert failure["message"] == "The CLI was ended by SIGKILL. It said: no model"
    assert (failure["step"], failure["action"], failure["url"]) == (None, None, None)
    assert (failure["exit_code"], failure["signal"], failure["log_tail"]) == (None, "SIGKILL", ["no model"])


def test_the_card_shows_the_action_that_broke_and_not_the_one_that_said_so(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "traversals").mkdir()
    document = make_traversal([VISIT, ("click_element_by_index", {"index": 1}), FAULT], "FAILED")
    document["brain_states"]["thought2"]["evaluation_previous_goal"] = "❌ Failed - nothing happened"
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_text(json.dumps(document))
    failure = stack.get(OTHER)["failure"]
    assert (failure["step"], failure["action"], failure["goal"]) == (2, "click_element_by_index", "goal 1")
    assert failure["screenshot"] == "tasks/buy/screenshots/run/002_click_element_by_index.png"


def test_a_run_that_passed_has_none(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    assert stack.run("buy")["failure"] is None


def test_a_step_that_the_next_one_calls_a_failure_is_shown_as_failed(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "traversals").mkdir()
    document = make_traversal([VISIT, VISIT, PASSED], "SUCCESSFUL")
    document["brain_states"]["thought1"]["evaluation_previous_goal"] = "Failed - the page was empty"
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_text(json.dumps(document))
    states = [step["history_elements"][0]["history_element_state"] for step in stack.get(OTHER)["brain_states"]]
    assert states == ["FAILED", "SUCCESS", "SUCCESS"]
