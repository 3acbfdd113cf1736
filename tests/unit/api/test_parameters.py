"""Parameters that do not fit are named."""

import pytest

from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    by_hand,
    start_buy,
)


@pytest.mark.parametrize("wait", ["-1", "61", "x", "1.5"])
def test_a_wait_that_does_not_fit_is_named(stack: FakeStack, wait: str) -> None:
    response = stack.client.get(f"/test-runs/{by_hand('a')}?wait={wait}")
    assert response.status_code == 422
    assert f"wait is '{wait}'; expected is a whole number of seconds from 0 to 60." in response.json()["detail"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_none_is_named(buy: FakeStack, key: str) -> None:
    response = start_buy(buy, **{"Idempotency-Key": key})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("Idempotency-Key is '")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("page=0", "page is '0'; expected is a whole number from 1 to 1000000."),
        ("page=-1", "page is '-1'; expected is a whole number from 1"),
        ("page=abc", "page is 'abc'; expected is a whole number from 1"),
        ("page=", "page is ''; expected is a whole number from 1"),
        ("page=1000000000", "page is '1000000000'; expected is"),
        ("page_size=0", "page_size is '0'; expected is a whole number from 1 to 200."),
        ("page_size=-1", "page_size is '-1'; expected"),
        ("page_size=201", "page_size is '201'; expected"),
        ("page_size=1000000000", "page_size is '1000000000'; expected"),
        ("page_size=abc", "page_size is 'abc'; expected"),
        ("sort_order=up", "sort_order is 'up'; expected is asc or desc."),
        ("status=done", "status is 'done'; expected is FINISHED or PASSED;"),
        ("run_type=x", "run_type is 'x'; expected is AGENTIC"),
        ("test_case_id=../x", "test_case_id is '../x'; expected is the name"),
        (f"search={'x' * 201}", "search is 'xxxx"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(stack: FakeStack, query: str, sentence: str) -> None:
    for path in ("/test-runs", "/api/v1/test-runs"):
        response = stack.client.get(f"{path}?{query}")
        assert response.status_code == 422
        assert response.json()["detail"].startswith(sentence)
