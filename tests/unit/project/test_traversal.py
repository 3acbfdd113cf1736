"""Traversal files: their content and their names."""

import json
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from runner.errors import TraversalBroken
from runner.ids import RunId, TaskId
from runner.project.traversal import parse_traversal, started_at, traversal_to_json
from runner.redaction import Redactor, Secret
from runner.secrets import NO_NAMES, SecretNames
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
    content = with_value(b"NaN").replace(b'"hunter2-secret"', b'["\\ud800-in-a-list"]')
    assert parse_traversal(content).success, "secrets are looked for in lists, too"
    document = make_traversal([("wait", {"x": [math.nan, {"y": math.inf}]}), ("wait", {"seconds": math.nan, "n": 1.5})])
    assert [action.parameters for action in parse(document).actions] == [{}, {"seconds": None, "n": 1.5}]


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
    written = traversal_to_json(traversal)
    assert (traversal.is_replay, json.loads(written)["run_type"]) == (True, "REPLAY")
    assert parse_traversal(written) == traversal
    agentic = traversal_to_json(parse({**document, "run_type": "AGENTIC"}))
    assert (parse_traversal(agentic).is_replay, json.loads(agentic)["run_type"]) == (False, "AGENTIC")


WORD = "hunterword"  # a secret that may stand in an ID and in a path


def shown(action: dict[str, Any], names: SecretNames = NO_NAMES) -> Any:
    """The only action of a traversal that names the secret itself; nobody else does."""
    document = {"secrets": {"S": WORD}, "brain_states": {}, "actions": {"action_0": action}}
    return parse_traversal(json.dumps(document).encode(), names=names).actions[0]


@pytest.mark.parametrize(
    ("document", "stand_in"),
    [
        ({"secrets": {"S": WORD}}, "S"),
        ({"http_auth": {"username": WORD}}, "HTTP_AUTH"),
        ({"browser_config": {"extra_http_headers": {"X": f"Bearer {WORD}"}}}, "X"),
        ({"start_url": f"http://{WORD}@h/"}, "START_URL"),
    ],
)
def test_the_secrets_that_it_names_itself_are_taken_out_of_all_its_texts(
    document: dict[str, Any], stand_in: str
) -> None:
    said = f"a {WORD} b"
    action = make_action(0, "wait", {"note": said}, said)
    action |= {"screenshot_filename": said, "dom_element_data": {"xpath": said}}
    thought = {key: f"{key} {said}" for key in ("evaluation_previous_goal", "memory", "next_goal")}
    content = json.dumps({**document, "brain_states": {said: thought}, "actions": {"action_0": action}}).encode()
    read = parse_traversal(content)
    clean = f"a <secret>{stand_in}</secret> b"
    (step,), (state,) = read.actions, read.brain_states
    assert (step.parameters, step.brain_state_id, step.xpath, step.screenshot) == ({"note": clean}, clean, clean, clean)
    assert (state.id, state.evaluation_previous_goal) == (clean, f"evaluation_previous_goal {clean}")
    assert (state.memory, state.next_goal) == (f"memory {clean}", f"next_goal {clean}")
    whole = parse_traversal(content, None)
    assert (whole.actions[0].parameters, whole.brain_states[0].memory) == ({"note": said}, f"memory {said}")


def test_the_secrets_of_others_are_taken_out_too() -> None:
    content = traversal_bytes([("wait", {"note": f"{WORD} hunter2-secret"})])
    read = parse_traversal(content, Redactor([Secret("OTHER", WORD)]))
    assert read.actions[0].parameters["note"] == "<secret>OTHER</secret> <secret>PASSWORD</secret>"


def test_what_the_settings_call_no_secret_stays() -> None:
    action = make_action(0, "wait", {"note": WORD})
    assert shown(action, SecretNames(never=("S",))).parameters == {"note": WORD}


PIECE = f"/{WORD}"
USUAL_PATHS = [
    f"html/{WORD}", f"/html/{WORD}", f"html/body/div[2]/{WORD}", f"html/{WORD}[1]", f"html/{WORD}[123456789]/x",
    f"html/{WORD}-2b/h1", "html" + PIECE * 200, f"html/{WORD}{'x' * 54}", f"html/z{WORD}", f"html/a{WORD}z",
]  # fmt: skip
OTHER_PATHS = [
    f"xhtml/{WORD}", f"//html/{WORD}", f"htm/{WORD}", f"htmlx/{WORD}", f"html/{WORD}[1234567890]", f"html/{WORD}[]",
    f"html/{WORD}[x]", f"html/{WORD}[1][2]", f"html/{WORD}[1]x", f"html/2{WORD}", f"html/-{WORD}", f"html/X{WORD}", f"html/{WORD}X",
    f"html//{WORD}", f"html/{WORD}/", f"html {WORD}", f"html/{WORD} x", f"html/{WORD}_", "html" + PIECE * 201,
    f"html/{WORD}{'x' * 55}", f"html/{WORD}\n", f"html/body {WORD}", f"html/{WORD}[1", f"html/{WORD}1]", f"html{WORD}", f"id('{WORD}')",
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "stays"), [*((path, True) for path in USUAL_PATHS), *((path, False) for path in OTHER_PATHS)]
)
def test_only_the_usual_path_of_an_element_is_shown_as_it_is(path: str, stays: bool) -> None:
    path_shown = shown({**make_action(0, "wait", {}), "dom_element_data": {"xpath": path}}).xpath
    assert (path_shown == path, WORD in path_shown) == (stays, stays)


USUAL_PICTURES = [
    f"screenshots/{WORD}/1_a.png", f"screenshots/run/001_{WORD}.png", f"screenshots/{WORD}-_09/123456789_a.png",
    f"screenshots/{WORD}{'x' * 54}/1_a.png", f"screenshots/r/1_{WORD}{'x' * 54}.png", f"screenshots/r/1_z{WORD}_a.png",
    f"screenshots/run/1_{WORD}_20260101_080000.png", f"screenshots/az{WORD}/1_az.png",
]  # fmt: skip
OTHER_PICTURES = [
    f"/screenshots/{WORD}/1_a.png", f"screenshot/{WORD}/1_a.png", f"screenshots/{WORD} x/1_a.png", f"screenshots/{WORD}.x/1_a.png",
    f"screenshots/{WORD}X/1_a.png", f"screenshots//1_{WORD}.png", f"screenshots/1_{WORD}.png", f"screenshots/a/{WORD}/1_a.png",
    f"screenshots/{WORD}/1234567890_a.png", f"screenshots/{WORD}/_a.png", f"screenshots/{WORD}/a_a.png", f"screenshots/{WORD}/1_.png",
    f"screenshots/{WORD}/1a.png", f"screenshots/{WORD}/1_a1.png", f"screenshots/{WORD}/1_A.png", f"screenshots/{WORD}/1_a.pngx",
    f"screenshots/{WORD}/1_axpng", f"screenshots/{WORD}/1_a.jpg", f"screenshots/{WORD}/1_a_2026010_080000.png",
    f"screenshots/{WORD}/1_a_202601011_080000.png", f"screenshots/{WORD}/1_a_20260101_08000.png",
    f"screenshots/{WORD}/1_a_20260101_0800000.png", f"screenshots/{WORD}/1_a_20260101.png", f"screenshots/{WORD}/1_a_20260101080000.png",
    f"screenshots/{WORD}/1_a20260101_080000.png", f"screenshots/{WORD}/1_a_20260101_080000_20260101_080000.png",
    f"screenshots/{WORD}{'x' * 55}/1_a.png", f"screenshots/r/1_{WORD}{'x' * 55}.png", f"screenshots/{WORD}/1_a.png\n", f"{WORD}.png",
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "stays"), [*((path, True) for path in USUAL_PICTURES), *((path, False) for path in OTHER_PICTURES)]
)
def test_only_the_usual_path_of_a_picture_is_shown_as_it_is(path: str, stays: bool) -> None:
    path_shown = shown({**make_action(0, "wait", {}), "screenshot_filename": path}).screenshot
    assert (path_shown == path, WORD in path_shown) == (stays, stays)


@pytest.mark.parametrize(
    ("identity", "stays"),
    [
        (f"a0z9{WORD}0123456789", True),
        (f"{WORD}0123456789012", False),
        (f"{WORD}012345678901234", False),
        (f"{WORD}01234567890 2x", False),
        (f"{WORD}0123456789012X", False),
        (f"{WORD}0123456789012_", False),
        (f"{WORD}01234567890123\n", False),
    ],
)
def test_only_the_usual_id_is_shown_as_it_is(identity: str, stays: bool) -> None:
    assert (WORD in shown(make_action(0, "wait", {}, identity)).brain_state_id) is stays
    document = {"secrets": {"S": WORD}, "brain_states": {identity: {}}, "actions": {}}
    assert (WORD in parse(document).brain_states[0].id) is stays


@pytest.mark.parametrize(
    ("key", "number"),
    [("action_0", 0), ("action_999999999", 999_999_999), ("action_1000000000", None), ("action_", None), ("action_1x", None),
     ("xaction_1", None), ("action_-1", None), ("action1", None)],
)  # fmt: skip
def test_an_action_has_its_number_in_its_key(key: str, number: int | None) -> None:
    actions = parse({"brain_states": {}, "actions": {key: make_action(0, "wait", {})}}).actions
    assert [action.number for action in actions] == ([] if number is None else [number])


@pytest.mark.parametrize(
    ("used", "kind", "parameters"),
    [
        ({"a": None, "b": {"x": 1}, "c": {"y": 2}}, "b", {"x": 1}),
        ({"a_1z": {"x": 1}}, "a_1z", {"x": 1}),
        ({"a" * 64: {"x": 1}}, "a" * 64, {"x": 1}),
        ({"a" * 65: {"x": 1}, "b": {}}, "b", {}),
        ({"A": {"x": 1}, "1a": {}, "_a": {}, "": {}, "a-b": {}, "a\n": {}, "aB": {}}, "unknown", {}),
        ({"a": ["x"]}, "a", {}),
        ({"a": {"t": "x", "i": 1, "f": 1.5, "b": True, "n": None, "l": [1], "d": {}}}, "a",
         {"t": "x", "i": 1, "f": 1.5, "b": True, "n": None}),
        ({"a": {"b" * 64: 1, "c" * 65: 2, "A": 3, "1": 4, "_": 5, "b-c": 6, "a0_z": 7}}, "a", {"b" * 64: 1, "a0_z": 7}),
        ({"input_text": {"index": 1}}, "input_text", {"index": 1, "text": ""}),
        ({"input_text": {"text": 5}}, "input_text", {"text": ""}),
        (["a"], "unknown", {}),
    ],
)  # fmt: skip
def test_an_action_is_of_the_first_kind_that_is_used(used: Any, kind: str, parameters: dict[str, Any]) -> None:
    (action,) = parse({"brain_states": {}, "actions": {"action_0": {"action": used}}}).actions
    assert (action.kind, action.parameters) == (kind, parameters)
    assert (action.brain_state_id, action.xpath, action.screenshot) == ("", None, None)


def test_an_element_without_a_path_has_none() -> None:
    for element in ({}, {"xpath": ""}, {"xpath": 5}, "html/body"):
        action = {"action": {}, "dom_element_data": element, "screenshot_filename": ""}
        (read,) = parse({"brain_states": {}, "actions": {"action_0": action}}).actions
        assert (read.xpath, read.screenshot) == (None, None)


def test_no_more_than_so_much_of_a_text_is_kept() -> None:
    long = "x" * 100_001
    traversal = parse({"brain_states": {long: {"memory": long}}, "actions": {}})
    assert [len(text) for text in (traversal.brain_states[0].id, traversal.brain_states[0].memory)] == [100_000] * 2


@pytest.mark.parametrize(
    ("actions", "text"),
    [([PASSED], "All is well"), ([VISIT, PASSED], "All is well"), ([FAULT], "The cart is empty"), ([PASSED, VISIT], None), ([], None), ([("done", {"text": " \n"})], None),
     ([("done", {"text": 5})], None), ([("done", {})], None), ([("wait", {"text": "x"})], None)],
)  # fmt: skip
def test_the_verdict_is_what_the_agent_said_when_it_was_done(
    actions: list[tuple[str, dict[str, Any]]], text: str | None
) -> None:
    assert parse_traversal(traversal_bytes(actions)).verdict_text == text


def test_a_thought_that_is_none_is_left_out() -> None:
    traversal = parse({"brain_states": {"a": None, "b": [], "c": {"memory": 5}}, "actions": {}})
    assert [(thought.id, thought.memory) for thought in traversal.brain_states] == [("c", "")]


@pytest.mark.parametrize(("content", "name"), [(b"[]", "array"), (b'""', "string"), (b"true", "boolean"), (b"1", "number"),
                                               (b"1.5", "number"), (b"null", "null")])  # fmt: skip
def test_json_that_is_no_object_is_called_by_its_name(content: bytes, name: str) -> None:
    with pytest.raises(TraversalBroken, match=f"^it must hold a JSON object, got a JSON {name}$"):
        parse_traversal(content)
