"""The steps of a run as a page shows them, and the picture beside that of a failure."""

import json
from typing import Any

import pytest

from jobs.page.steps import Window, first_of_page, run_steps, same_picture
from jobs.run.document import RunDocument
from jobs.run.record import RunRecord
from jobs.run.state import JobState
from runner.project.traversal import parse_traversal
from tests.project import FAULT, PASSED, make_traversal
from tests.unit.run.records import FAILED, FINISHED, run_document

SHOP = ("go_to_url", {"url": "http://shop/"})
CART = ("go_to_url", {"url": "http://shop/cart"})
LOOK = ("extract_content", {"goal": "look"})


def document(record: RunRecord, actions: list[Any], times: list[str | None] | None = None) -> RunDocument:
    """The run with these actions; `times` are those in the names of its pictures, None for an action without one."""
    made = make_traversal(actions, "FAILED")
    for number, time in enumerate(times or []):
        name = f"screenshots/run/{number + 1:03}_a_20261126_{time}.png" if time else None
        made["actions"][f"action_{number}"]["screenshot_filename"] = name
    return run_document(record, JobState.ENDED, parse_traversal(json.dumps(made).encode()))


def picture(number: int, kind: str) -> str:
    return f"tasks/t/screenshots/run/{number:03}_{kind}.png"


def test_the_time_of_a_step_is_that_between_the_pictures() -> None:
    times = ["080000", "080003", None, "080010", "080009", "999999"]
    steps = run_steps(document(FAILED, [SHOP, CART, LOOK, LOOK, LOOK, FAULT], times))
    assert [step.seconds for step in steps] == [None, 3, None, 7, None, None]
    assert [step.picture is None for step in steps] == [False, False, True, False, False, False]


def test_a_step_is_judged_by_the_one_after_it() -> None:
    steps = run_steps(document(FAILED, [SHOP, CART, FAULT]))
    assert [step.evaluation for step in steps] == ["saw 1", "saw 2", ""]
    assert [step.failed for step in steps] == [False, False, True]
    assert [(step.number, step.name) for step in steps] == [(1, "step-1"), (2, "step-2"), (3, "step-3")]


def test_a_part_of_the_steps_is_as_in_all_of_them() -> None:
    run = document(FAILED, [SHOP] * 9, [f"0800{n:02}" for n in range(9)])
    every = run_steps(run)
    assert run_steps(run, 3, 5) == every[2:5]
    assert run_steps(run, 8, 50) == every[7:]
    assert run_steps(run, 10) == []


@pytest.mark.parametrize(("number", "first"), [(1, 1), (200, 1), (201, 201), (450, 401)])
def test_a_page_has_200_steps(number: int, first: int) -> None:
    assert first_of_page(number) == first
    assert Window(first, 450).end == min(first + 199, 450)


@pytest.mark.parametrize(
    ("passed", "found"),
    [
        ([SHOP, CART, LOOK, PASSED], (3, picture(3, "extract_content"))),  # the same action on the same page
        ([SHOP, LOOK, CART, LOOK, LOOK, PASSED], (4, picture(4, "extract_content"))),  # the nearest one
        ([CART, LOOK, SHOP, PASSED], (2, picture(2, "extract_content"))),
        ([SHOP, LOOK, PASSED], (3, picture(3, "done"))),  # on another page: the last picture
        ([], None),
    ],
)
def test_beside_a_failure_is_the_same_step_of_the_run_that_passed(passed: list[Any], found: Any) -> None:
    failed = document(FAILED, [SHOP, CART, LOOK])
    assert failed.failure is not None
    assert (failed.failure.action, failed.failure.url) == ("extract_content", "http://shop/cart")
    assert same_picture(failed, document(FINISHED, passed)) == found
    assert same_picture(document(FINISHED, passed), failed) is None
