"""Traversal files: their content and their names."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from runner.errors import TraversalBroken
from runner.ids import RunId, TaskId
from runner.project.traversal import parse_traversal, traversal_to_json
from runner.project.traversal_name import started_at
from tests.project import FAULT, PASSED, VISIT, make_action, make_traversal, traversal_bytes


def parse(document: dict[str, Any]) -> Any:
    return parse_traversal(json.dumps(document).encode())


RUN, TASK = RunId("r" * 24), TaskId("t")


NAME = f"traverse_20261123_031018_{RUN}.json"


def test_steps_keep_their_order_and_actions_are_sorted_by_number() -> None:
    actions = {f"action_{n}": make_action(n, "wait", {"seconds": n}) for n in (10, 9, 2, 0)}
    traversal = parse({**make_traversal([VISIT, VISIT]), "actions": actions})
    assert [action.number for action in traversal.actions] == [0, 2, 9, 10]
    assert [thought.id for thought in traversal.brain_states] == ["thought0", "thought1"]
    assert traversal.brain_states[1].next_goal == "goal 1"


def test_an_action_is_its_kind_its_parameters_and_what_it_was_about() -> None:
    action = make_action(0, "input_text", {"index": 3, "text": "Ada", "xpath": None})
    action["dom_element_data"] = {"xpath": "html/body/input", "attributes": {"value": "typed-secret"}}
    (read,) = parse({"brain_states": {}, "actions": {"action_0": action}}).actions
    assert (read.kind, read.parameters["text"], read.xpath) == ("input_text", "Ada", "html/body/input")
    assert read.screenshot == "screenshots/run/001_input_text.png"
    assert "typed-secret" not in repr(read)


def test_what_is_not_named_has_no_way_out() -> None:
    text = repr(parse_traversal(traversal_bytes([VISIT, PASSED], browser_config={"proxy": {"password": "p-secret"}})))
    assert "secret" not in text


@pytest.mark.parametrize(
    ("actions", "success"), [([VISIT], None), ([], None), ([VISIT, PASSED], True), ([FAULT], False),
                             ([("done", {"text": "x"})], True), ([PASSED, VISIT], None)]
)  # fmt: skip
def test_success_is_what_the_last_done_says(actions: list[tuple[str, dict[str, Any]]], success: bool | None) -> None:
    assert parse_traversal(traversal_bytes(actions)).success is success


@pytest.mark.parametrize(("said", "read"), [("SUCCESSFUL", "SUCCESSFUL"), ("PENDING", "PENDING"), (None, None), ("x", None), (3, None)])  # fmt: skip
def test_only_known_status_words_count(said: Any, read: str | None) -> None:
    assert parse({**make_traversal([VISIT], status=None), "status": said}).status == read


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not whole JSON"),
        (b'{"brain_states": {}, "actions": {"action_0"', "not whole JSON"),
        (b"[1, 2]", "got a JSON array"),
        (b"null", "got a JSON null"),
        (b'"text"', "got a JSON string"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deep"),
        (b'{"a": "\xff"}', "lacks the objects"),
        (b'{"a": {}', "not whole JSON"),
        (b'{"actions": {"a": ' + b"9" * 5000 + b"}}", "not whole JSON"),
        (b'{"a": NaN, "b": ' + b"[" * 5000 + b"]" * 5000 + b"}", "nested too deep"),
        (b"{}", "lacks the objects"),
        (b'{"actions": [], "brain_states": {}}', "lacks the objects"),
    ],
)
def test_what_is_no_traversal_is_refused_with_a_reason(content: bytes, problem: str) -> None:
    with pytest.raises(TraversalBroken, match=problem):
        parse_traversal(content)


@pytest.mark.parametrize("odd", [None, 7, "x", [], {}, {"action": None}, {"action": {"input_text": 5}},
                                 {"action": {"input_text": {"text": ["no", "text"]}}}, {"brain_state_id": 3}])  # fmt: skip
def test_one_odd_action_does_not_hide_the_others(odd: Any) -> None:
    document = make_traversal([VISIT, VISIT])
    document["actions"]["action_1"] = odd
    document["actions"]["nonsense"] = odd
    assert parse(document).actions[0].kind == "go_to_url"


def test_the_text_of_an_input_is_always_a_text() -> None:
    document = make_traversal([("input_text", {"text": None})])
    assert parse(document).actions[0].parameters["text"] == ""


def test_the_time_in_the_name_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Europe/Budapest")
    time.tzset()
    try:
        assert started_at(NAME) == datetime(2026, 11, 23, 2, 10, 18, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert started_at("traverse_99999999_999999_x.json") is None
    assert started_at("else.json") is None
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert started_at("traverse_00010101_000000_x.json") is None
    finally:
        monkeypatch.undo()
        time.tzset()


def with_value(value: bytes) -> bytes:
    """A traversal with this JSON as the text and as the only parameter of a step."""
    document = make_traversal([("wait", {"seconds": "HERE"}), PASSED], "SUCCESSFUL")
    document["brain_states"]["HERE"] = {"memory": "HERE"}
    content = json.dumps(document).encode()
    return content.replace(b'"memory": "HERE"', b'"memory": %b' % value).replace(
        b'"seconds": "HERE"', b'"seconds": %b' % value
    )


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (b"NaN", None),
        (b"Infinity", None),
        (b"-Infinity", None),
        (b"1e999", None),
        (b'"\\ud800 x"', "\ufffd x"),
        (b'"\\udfff"', "\ufffd"),
        (b'"\\ud83d\\ude00 \\ud83d"', "\U0001f600 \ufffd"),
        (b'"\xff"', "\ufffd"),
        (b"18446744073709551616", 2**64),
        pytest.param(b"-" + b"9" * 4300, 1 - 10**4300, id="4300 digits"),
        (b"1.5", 1.5),
    ],
)
def test_what_python_writes_is_read_and_can_be_said_in_json(value: bytes, read: Any) -> None:
    for content in (with_value(value), with_value(value) + b"\n "):
        traversal = parse_traversal(content)
        assert traversal.actions[0].parameters == {"seconds": read}
        assert traversal.brain_states[-1].memory == (read if isinstance(read, str) else "")
        assert (traversal.success, traversal.status) == (True, "SUCCESSFUL")
        json.loads(msgspec.json.encode(traversal), parse_constant=pytest.fail)


def test_a_name_is_read_as_a_text_is() -> None:
    content = with_value(b"[NaN]").replace(b'"HERE"', b'"\\ud800"')
    assert parse_traversal(content).brain_states[-1].id == "\ufffd"
    document = make_traversal([("wait", {"x": [math.nan, {"y": math.inf}]}), ("wait", {"seconds": math.nan})])
    assert [action.parameters for action in parse(document).actions] == [{}, {"seconds": None}]


def test_a_mark_of_the_order_of_bytes_is_no_part_of_the_text() -> None:
    content = traversal_bytes([VISIT])
    assert parse_traversal(b"\xef\xbb\xbf" + content) == parse_traversal(content)


def test_half_a_file_is_not_read_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is common while the CLI writes."""
    monkeypatch.setattr(json, "loads", pytest.fail)
    for half in (with_value(b"NaN")[:-1], traversal_bytes([VISIT])[:-9], b""):
        with pytest.raises(TraversalBroken, match=r"^it is not whole JSON \(.+\)$"):
            parse_traversal(half)


@pytest.mark.parametrize("status", ["SUCCESSFUL", "FAILED", "PENDING", None])
def test_a_traversal_that_is_written_again_is_the_same(status: str | None) -> None:
    action = make_action(9, "input_text", {"index": 3, "text": "Ada", "xpath": None})
    action["dom_element_data"] = {"xpath": "html/body/input"}
    document = make_traversal([VISIT, PASSED, ("wait", {"seconds": 1.5})], status, run_type="REPLAY")
    document["actions"] |= {"action_9": action, "action_10": {"action": {"no name": {}}}}
    traversal = parse(document)
    assert len(traversal.actions) == 5
    assert parse_traversal(traversal_to_json(traversal)) == traversal
    assert parse_traversal(traversal_to_json(parse({**document, "run_type": "AGENTIC"}))).is_replay is False
