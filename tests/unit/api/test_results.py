"""The results of runs and batches over HTTP."""

from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest
from junitparser import JUnitXml

from tests.unit.fake_stack import FakeStack


@pytest.fixture
def batch(stack: FakeStack) -> Any:
    """A batch of which one run has passed, one failed, one could not be run, one was stopped, and one waits."""
    for task, behaviour in {
        "buy": "pass",
        "login": "fail",
        "search": "nothing",
        "stopped": "pass",
        "late": "pass",
    }.items():
        stack.project.add_task(task, behaviour)
    answer = stack.client.post("/batches", json={"tasks": ["buy", "login", "search", "stopped", "late"]}).json()
    stack.send(f"/test-runs/{answer['runs'][3]['id']}/stop", 200)
    stack.redis.lrem("rq:queue:bugninja", 1, answer["runs"][4]["id"])  # it is not taken for now
    stack.work()
    return answer


def test_the_junit_file_of_a_batch_says_how_each_run_ended(stack: FakeStack, batch: Any) -> None:
    response = stack.client.get(f"/batches/{batch['id']}/junit.xml?artifacts=out")
    assert response.headers["content-type"].startswith("application/xml")
    suites = {suite.name: suite for suite in JUnitXml.fromstring(response.content)}
    results = {name: [type(one).__name__ for case in suite for one in case.result] for name, suite in suites.items()}
    assert results == {
        "buy": [],
        "login": ["Failure"],
        "search": ["Error"],
        "stopped": ["Skipped"],
        "late": ["Skipped"],
    }
    (login,) = suites["login"]
    (failure,) = login.result
    card = stack.get(batch["runs"][1]["id"])["failure"]
    assert failure.message == card["message"].partition("\n")[0]
    for fact in (card["action"], card["goal"], *card["log_tail"]):
        assert fact is None or fact in failure.text
    assert suites["login"]._elem.get("file") == "tasks/login/task_login.toml"
    assert b"RUN_ID" not in response.content


def test_gitlab_reads_the_file_of_a_task_in_its_case(stack: FakeStack, batch: Any) -> None:
    path = f"/batches/{batch['id']}/junit.xml"
    in_case = b'classname="login" file="tasks/login/task_login.toml"'
    assert in_case in stack.client.get(f"{path}?dialect=gitlab").content
    assert in_case not in stack.client.get(path).content
    assert stack.client.get(f"{path}?dialect=other").status_code == 422


def test_a_picture_is_named_where_the_client_puts_it(stack: FakeStack) -> None:
    folder = stack.project.add_task("pay", "print:$ see:x/0_click_20260101_080000.png fail")
    (folder / "screenshots" / "x").mkdir(parents=True)
    (folder / "screenshots" / "x" / "0_click_20260101_080000.png").write_bytes(b"PNG")
    run = stack.run("pay")
    assert run["failure"]["screenshot"]
    path = f"/test-runs/{run['id']}/junit.xml"
    assert f"[[ATTACHMENT|out/x/{run['id']}.png]]".encode() in stack.client.get(f"{path}?artifacts=out/x").content
    assert b"ATTACHMENT" not in stack.client.get(path).content


def test_the_ctrf_file_of_a_batch_counts_its_runs(stack: FakeStack, batch: Any) -> None:
    found = stack.client.get(f"/batches/{batch['id']}/ctrf.json").json()["results"]
    assert {
        test["suite"][0] if isinstance(test["suite"], list) else test["suite"]: test["status"]
        for test in found["tests"]
    } == {
        "buy": "passed",
        "login": "failed",
        "search": "failed",
        "stopped": "skipped",
        "late": "pending",
    }
    assert found["summary"]["tests"] == 5
    assert found["tool"]["name"]


def test_a_single_run_has_both_files_too(stack: FakeStack, batch: Any) -> None:
    run_id = batch["runs"][1]["id"]
    (suite,) = JUnitXml.fromstring(stack.client.get(f"/test-runs/{run_id}/junit.xml").content)
    assert (suite.tests, suite.failures) == (1, 1)
    (test,) = stack.client.get(f"/test-runs/{run_id}/ctrf.json").json()["results"]["tests"]
    assert test["status"] == "failed"
    for path in ("test-runs", "batches"):
        for name in ("junit.xml", "ctrf.json"):
            assert stack.client.get(f"/{path}/{'x' * 24}/{name}").status_code == 404


def test_the_command_line_is_one_file_with_its_licences(stack: FakeStack) -> None:
    response = stack.client.get("/client.pyz")
    assert response.content.startswith(b"#!/usr/bin/env python3\n")
    names = ZipFile(BytesIO(response.content)).namelist()
    assert {"__main__.py", "runner/__init__.py", "runner/client/main.py", "click/core.py", "rich/live.py"} <= {*names}
    assert not [name for name in names if name.startswith(("jobs/", "runner/settings"))]
    licences = {name.partition("-")[0] for name in names if "LICENSE" in name.upper()}
    assert licences == {"click", "rich"}
    again = stack.client.get("/client.pyz", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_person_who_starts_a_run_on_a_page_is_known_by_its_trigger(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    path = "/test-runs/execute-configuration/buy/buy_default"
    assert stack.client.post(path, json={"trigger": "ui"}).json()["trigger"] == "ui"
    refused = stack.client.post(path, json={"trigger": "batch"})
    assert (refused.status_code, refused.json()["detail"]) == (422, "trigger must be api or ui, got 'batch'.")
    assert stack.client.get("/test-runs?trigger=ui").json()["total_count"] == 1
