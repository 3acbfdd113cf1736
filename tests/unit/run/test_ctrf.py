"""The report in CTRF form: its structure, and what it says."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings

from jobs.run.ctrf import ctrf
from jobs.run.results import Results
from tests.unit.run.results import ANY_RESULTS, CARD, PASSED, START, STATES, results

STATUSES = {"passed", "failed", "skipped", "pending", "other"}
START_MS = 1795420800000
OF_TEST: dict[str, type] = {
    "name": str,
    "status": str,
    "duration": int,
    "start": int,
    "stop": int,
    "suite": list,
    "message": str,
    "trace": str,
    "rawStatus": str,
    "type": str,
    "filePath": str,
    "browser": str,
    "attachments": list,
    "extra": dict,
}
"""The fields of a test that the format has, of those that we write."""


def report(whole: Results) -> Any:
    return json.loads(ctrf(whole, "1.2.3"))


def only_test(name: str) -> Any:
    (test,) = report(results(STATES[name]))["results"]["tests"]
    return test


def check(document: Any) -> None:
    """Raise if the document is not as the format demands it."""
    assert document.keys() == {"reportFormat", "specVersion", "results"}
    assert (document["reportFormat"], document["specVersion"]) == ("CTRF", "0.0.0")
    whole = document["results"]
    assert whole.keys() == {"tool", "summary", "tests", "environment"}
    assert whole["tool"] == {"name": "bugninja-runner", "version": "1.2.3"}
    assert all(type(value) is str for value in whole["environment"].values())
    check_summary(whole["summary"], whole["tests"])
    for test in whole["tests"]:
        check_test(test)


def check_summary(summary: Any, tests: Any) -> None:
    assert summary.keys() == {"tests", "start", "stop"} | STATUSES
    assert all(type(value) is int for value in summary.values())
    assert summary["tests"] == len(tests) == sum(summary[status] for status in STATUSES)
    for status in STATUSES:
        assert summary[status] == sum(test["status"] == status for test in tests)
    assert summary["start"] <= summary["stop"]


def check_test(test: Any) -> None:
    assert {"name", "status", "duration"} <= test.keys()
    assert all(type(value) is OF_TEST[key] for key, value in test.items())
    assert test["name"]
    assert test["suite"]
    assert test["status"] in STATUSES
    assert test["duration"] >= 0
    for attachment in test.get("attachments", []):
        assert {key: type(value) for key, value in attachment.items()} == dict.fromkeys(
            ("name", "contentType", "path"), str
        )


@settings(max_examples=50, deadline=None)
@given(ANY_RESULTS)
def test_no_text_makes_a_report_that_is_refused(whole: Results) -> None:
    document = report(whole)
    check(document)
    names = [test["name"] for test in document["results"]["tests"]]
    assert len({*names}) == len(names) == len(whole.runs)
    assert len(ctrf(whole, "1.2.3")) < 1000 + 40_000 * (1 + len(whole.runs))


@pytest.mark.parametrize(
    ("state", "status", "raw"),
    [
        ("passed", "passed", "FINISHED"),
        ("failed", "failed", "FAILED"),
        ("error", "failed", "ERROR"),
        ("stopped", "skipped", "ERROR"),
        ("pending", "pending", "PENDING"),
        ("running", "pending", "RUNNING"),
    ],
)
def test_a_test_says_what_became_of_its_run(state: str, status: str, raw: str) -> None:
    test = only_test(state)
    assert (test["status"], test["rawStatus"]) == (status, raw)
    assert ("message" in test) == ("trace" in test) == (state != "passed")
    reason = STATES[state].reason
    assert test["extra"] == {"bugninja.runner": {"run_id": "r" * 24, "task_id": "login", "reason": reason}}


def test_a_test_has_what_is_known_of_its_run() -> None:
    run = msgspec.structs.replace(STATES["error"], browser="chromium")
    (test,) = report(results(run))["results"]["tests"]
    assert test == {
        "name": "Log in",
        "status": "failed",
        "rawStatus": "ERROR",
        "duration": 9500,
        "start": START_MS,
        "stop": START_MS + 9500,
        "suite": ["login"],
        "filePath": "tasks/login/task_login.toml",
        "type": "e2e",
        "browser": "chromium",
        "message": "It took too long",
        "trace": test["trace"],
        "attachments": [{"name": "screenshot", "contentType": "image/png", "path": CARD.screenshot}],
        "extra": test["extra"],
    }
    assert "Step: 3\nAction: click_element_by_index" in test["trace"]
    assert START.timestamp() * 1000 == START_MS


def test_what_is_not_known_is_left_out() -> None:
    test = only_test("pending")
    assert not {"start", "stop", "browser", "attachments"} & test.keys()
    assert test["duration"] == 0
    backwards = msgspec.structs.replace(PASSED, duration=-0.5)  # of two clocks
    assert report(results(backwards))["results"]["tests"][0]["duration"] == 0
    without = msgspec.structs.replace(STATES["failed"], failure=msgspec.structs.replace(CARD, screenshot=None))
    assert "attachments" not in report(results(without))["results"]["tests"][0]


def test_the_summary_has_the_counts_and_the_times() -> None:
    whole = report(results(*STATES.values()))["results"]
    assert whole["summary"] == {
        "tests": 6,
        "passed": 1,
        "failed": 2,
        "skipped": 1,
        "pending": 2,
        "other": 0,
        "start": START_MS,
        "stop": START_MS + 20_000,
    }


def test_results_that_are_not_over_end_with_their_last_run() -> None:
    early = report(results(PASSED, STATES["running"], finished_at=None))
    assert early["results"]["summary"]["stop"] == START_MS + 9500
    nothing = report(results(started_at=None, finished_at=None))
    check(nothing)
    assert (nothing["results"]["summary"]["start"], nothing["results"]["summary"]["stop"]) == (0, 0)


def test_the_environment_comes_from_the_labels() -> None:
    labels = {"branch": "main", "commit": "abc", "build": "https://ci/1", "team": "shop"}
    assert report(results(labels=labels))["results"]["environment"] == {
        "reportName": "Nightly",
        "branchName": "main",
        "commit": "abc",
        "buildUrl": "https://ci/1",
    }
    assert report(results(name=""))["results"]["environment"] == {"reportName": "b" * 24}


def test_numbers_tell_runs_with_one_name_apart() -> None:
    names = [test["name"] for test in report(results(PASSED, PASSED))["results"]["tests"]]
    assert names == ["Log in", "Log in (2)"]
