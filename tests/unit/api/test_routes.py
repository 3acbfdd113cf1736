"""Paths and methods."""

import re

import pytest

from jobs.api.routes import ENDPOINTS
from tests.unit.fake_stack import FakeStack


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_both_paths_exist_with_and_without_the_prefix(stack: FakeStack, prefix: str) -> None:
    stack.project.add_task("buy")
    response = stack.post("buy", prefix=prefix)
    assert response.status_code == 202
    assert stack.client.get(response.headers["location"]).status_code == 200
    assert response.headers["location"].startswith(f"{prefix}/test-runs/")


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_every_path_says_what_it_allows(buy: FakeStack, prefix: str) -> None:
    for operation, _ in ENDPOINTS:
        path = prefix + re.sub(r"{.*?}", "x", operation.path)
        response = buy.client.options(path)
        assert response.status_code == 204, path
        allowed = {name.strip() for name in response.headers["allow"].split(",")}
        assert operation.method in allowed
        assert "OPTIONS" in allowed
        assert ("HEAD" in allowed) is any(op.method == "GET" and op.path == operation.path for op, _ in ENDPOINTS)
        wrong = buy.client.request("TRACE", path)
        assert wrong.status_code == 405
        assert operation.method in wrong.headers["allow"]
        assert wrong.json()["detail"].startswith("TRACE ")


def test_head_answers_as_get_without_a_body(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    for path in (f"/test-runs/{run_id}", "/test-runs", "/tasks", "/health", f"/test-runs/{run_id}/log", "/project"):
        get, head = buy.client.get(path), buy.client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.headers["content-length"] == get.headers["content-length"]
    assert buy.client.head("/test-runs/nothing").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api//test-runs",
        "/test-runs//",
        "/test-runs//x",
        "/api/v1//test-runs",
        "//evil.example/%2e%2e",
        "/test-runs/%00",
        "/test-runs/%ff%fe",
        "/test-runs/a%2fb",
        "/test-runs/..%2f..%2fetc",
        "/test-runs/" + "x" * 8000,
        "/tasks/%2e%2e",
        "/api/v2/test-runs",
        "/TEST-RUNS",
    ],
)
def test_odd_paths_are_json_404s_that_lead_nowhere(buy: FakeStack, path: str) -> None:
    response = buy.client.get(path, follow_redirects=False)
    if response.status_code in (307, 308):
        assert response.headers["location"].startswith("http://127.0.0.1:8000/")
        response = buy.client.get(path)
        assert response.status_code == 200
        return
    assert response.status_code == 404
    assert isinstance(response.json()["detail"], str)


def test_a_trailing_slash_leads_to_the_same(buy: FakeStack) -> None:
    assert buy.client.get("/test-runs/").json() == buy.client.get("/test-runs").json()
    assert buy.client.get("/api/v1/tasks/buy/").json()["id"] == "buy"
    response = buy.client.post("/test-runs/execute-configuration/buy/buy_default/")
    assert response.status_code == 202


def test_percent_encoding_of_plain_characters_changes_nothing(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    encoded = "".join(f"%{ord(char):02x}" for char in run_id)
    assert buy.client.get(f"/test-runs/{encoded}").json()["id"] == run_id
