"""Parameters that do not fit are named."""

from typing import Any

import msgspec
import pytest

from jobs.api.parameters import RunBody, parse_body
from runner.errors import Invalid
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    by_hand,
    start_buy,
)


@pytest.mark.parametrize("wait", ["-1", "61", "x", "1.5"])
def test_a_wait_that_does_not_fit_is_named(stack: FakeStack, wait: str) -> None:
    response = stack.client.get(f"/test-runs/{by_hand('a')}?wait={wait}")
    assert response.status_code == 422
    assert f"wait must be an integer from 0 to 60 (seconds), got '{wait}'." in response.json()["detail"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_none_is_named(buy: FakeStack, key: str) -> None:
    response = start_buy(buy, **{"Idempotency-Key": key})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("Idempotency-Key must be 1 to 255")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("page=0", "page must be an integer from 1 to 1000000, got '0'."),
        ("page=-1", "page must be an integer from 1 to 1000000, got '-1'."),
        ("page=abc", "page must be an integer from 1 to 1000000, got 'abc'."),
        ("page=", "page must be an integer from 1 to 1000000, got ''."),
        ("page=1000000000", "page must be an integer from 1 to 1000000, got '1000000000'."),
        ("page_size=0", "page_size must be an integer from 1 to 200, got '0'."),
        ("page_size=-1", "page_size must be an integer from 1 to 200, got '-1'."),
        ("page_size=201", "page_size must be an integer from 1 to 200, got '201'."),
        ("page_size=1000000000", "page_size must be an integer from 1 to 200, got '1000000000'."),
        ("page_size=abc", "page_size must be an integer from 1 to 200, got 'abc'."),
        ("sort_order=up", "sort_order must be asc or desc, got 'up'."),
        ("status=done", "status must be FINISHED or PASSED;"),
        ("run_type=x", "run_type must be AGENTIC"),
        ("test_case_id=../x", "test_case_id must be the name"),
        (f"search={'x' * 201}", "search must be a text of at most 200 characters, got 'xxxx"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(stack: FakeStack, query: str, sentence: str) -> None:
    for path in ("/test-runs", "/api/v1/test-runs"):
        response = stack.client.get(f"{path}?{query}")
        assert response.status_code == 422
        assert response.json()["detail"].startswith(sentence)


FULL = {f"{number}_a.b-".ljust(32, "z"): "ü" * 200 for number in range(10, 26)}


@pytest.mark.parametrize("labels", [{}, None, {"k": ""}, FULL])
def test_labels_up_to_their_limits_are_taken(labels: Any) -> None:
    assert parse_body(msgspec.json.encode({"labels": labels})) == RunBody(labels)
    assert parse_body(b"null") == parse_body(b"{}") == RunBody(None)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([], "labels must be an object of at most 16 texts, got something else."),
        (False, "labels must be an object of at most 16 texts, got something else."),
        ({**FULL, "k": ""}, "labels must be an object of at most 16 texts, got 17."),
        *(
            ({key: "v"}, f"The key of a label must be 1 to 32 of a-z, 0-9, '_', '.' and '-', got '{shown}'.")
            for key, shown in [("", ""), ("k" * 33, "k" * 33), ("Branch", "Branch"), ("a b", "a b"), ("k\n", "k?")]
        ),
        ({"ok": "v", "branch": "x" * 201}, "The label 'branch' must be a text of at most 200 characters, got 201."),
        ({"branch": None}, "The label 'branch' must be a text of at most 200 characters, got something else."),
        ({"branch": ["v"]}, "The label 'branch' must be a text of at most 200 characters, got something else."),
    ],
)
def test_a_label_that_does_not_fit_is_named(labels: Any, sentence: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_body(msgspec.json.encode({"labels": labels}))
    assert str(caught.value) == sentence
