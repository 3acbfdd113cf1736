"""Runs over HTTP."""

from pathlib import Path

import pytest
from rq.job import Job

from tests.unit.fake_stack import FakeStack


def test_a_run_is_accepted_executed_and_shown_under_one_id(stack: FakeStack) -> None:
    stack.project.add_task("buy", "visit visit pass")
    response = stack.post("buy")
    assert response.status_code == 202
    run_id = response.json()["id"]
    assert response.headers["location"] == f"/test-runs/{run_id}"
    assert stack.get(run_id) == {**response.json(), "queue": {"position": 1, "waiting_for": None}}
    assert response.json() == {
        "id": run_id,
        "test_traversal_id": run_id,
        "traversal_id": None,
        "adopted": False,
        "original_run_id": None,
        "test_case": {"id": "buy", "test_name": "buy", "test_description": "What buy is about", "test_goal": "What buy is about"},
        "current_state": "PENDING",
        "reason": None,
        "error_message": None,
        "queued_at": response.json()["queued_at"],
        "started_at": response.json()["queued_at"],
        "finished_at": None,
        "duration": None,
        "timing": {
            "accepted_at": response.json()["queued_at"],
            "claimed_at": None,
            "cli_started_at": None,
            "first_step_at": None,
            "warm": None,
        },
        "run_type": "AGENTIC",
        "origin": "WEB_UI",
        "trigger": "api",
        "batch_id": None,
        "labels": {},
        "run_gif": None,
        "browser_config": {
            "id": "buy_default",
            "browser_config": {
                "browser_channel": "chromium",
                "user_agent": "tester",
                "viewport": {"width": 1280, "height": 720},
                "geolocation": None,
            },
        },
        "queue": None,
        "stopping": False,
        "stale": False,
        "progress": {"steps": 0, "last_goal": None, "updated_at": None},
        "failure": None,
        "artifacts": None,
        "brain_states": [],
    }  # fmt: skip
    stack.work()
    run = stack.get(run_id)
    assert (run["current_state"], run["reason"], run["error_message"]) == ("FINISHED", None, None)
    assert [step["next_goal"] for step in run["brain_states"]] == ["goal 0", "goal 1", "goal 2"]
    assert [path.name.endswith(f"_{run_id}.json") for path in stack.project.traversals("buy")] == [True]
    assert Job.fetch(run_id, connection=stack.redis, serializer="json").get_status() == "finished"


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("nothing/nothing_default", 404, "Task 'nothing' was not found"),
        (
            "buy/other_default",
            404,
            "Task 'buy' has no browser configuration 'other_default'; it has one, 'buy_default'.",
        ),
        ("broken/broken_default", 422, "tasks/broken/task_broken.toml, line 1: this is not TOML"),
        ("outside/outside_default", 404, "is a link, which is not followed"),
        ("%2e%2e/x", 404, "Task '..' was not found"),
        ("..%2Fbuy/x", 404, "Not Found"),
        ("-rf/x", 404, "Task '-rf' was not found"),
        ("a%00b/x", 404, "Task 'a?b' was not found"),
        ("BUY/x", 404, "Task 'BUY' was not found"),
        ("%C3%BC/x", 404, "Task 'ü' was not found"),
        ("a" * 10_000 + "/x", 404, "Task 'aaa"),
        ("buy/" + "a" * 10_000, 404, "has no browser configuration 'aaa"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_started_is_refused_with_a_sentence(
    stack: FakeStack, tmp_path: Path, path: str, status: int, words: str
) -> None:
    stack.project.add_task("buy")
    stack.project.add_task("broken", toml="[task")
    (stack.project.root / "tasks" / "outside").symlink_to(tmp_path)
    response = stack.client.post(f"/test-runs/execute-configuration/{path}")
    assert response.status_code == status
    assert words in response.json()["detail"]
    assert len(response.text) < 600
    assert stack.redis.llen("rq:queue:bugninja") == 0
    assert not (stack.project.root / "tasks" / "buy" / "runs").exists()


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b"", "application/x-www-form-urlencoded", 202, ""),
        (b"", None, 202, ""),
        (b"{}", "application/json", 202, ""),
        (b" null ", "application/json; charset=utf-8", 202, ""),
        (b"a=b", "application/x-www-form-urlencoded", 415, "got the type 'application/x-www-form-urlencoded'"),
        (b"{}", "text/plain", 415, "must be empty or application/json, got the type 'text/plain'"),
        (b"{}", None, 415, "got the type ''"),
        (b'{"labels": {"a": "b"}}', "text/plain", 415, "got the type 'text/plain'"),
        (b'{"b": 1, "a": 1}', "application/json", 422, "no other fields than labels, trigger, got 'a, b'."),
        (b'{"labels": {}, "": 1}', "application/json", 422, "no other fields than labels, trigger, got ''."),
        (
            b"{",
            "application/json",
            422,
            "The body must be a JSON object, got something else (Input data was truncated).",
        ),
        (b'{"labels": {"a": "\xff"}}', "application/json", 422, "The body must be a JSON object, got something else ("),
        (b"[" * 9_999, "application/json", 422, "The body must be a JSON object, got something else ("),
        (b"[]", "application/json", 422, "got something else (Expected `object | null`, got `array`)."),
        (b" " * 70_000, "application/json", 413, "at most 65536 bytes, got more"),
    ],
)
def test_a_start_needs_no_body_and_names_what_is_wrong_with_one(
    buy: FakeStack, body: bytes, content_type: str | None, status: int, words: str
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = buy.client.post(
        "/test-runs/execute-configuration/buy/buy_default", content=body or None, headers=headers
    )
    assert response.status_code == status, response.text
    assert words in response.json().get("detail", "")
    assert buy.client.get("/test-runs").json()["total_count"] == (1 if status == 202 else 0)


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 200), (b" {} ", 200), (b"null", 200), (b'{"labels": {}}', 422), (b"{", 422)]
)
def test_a_stop_takes_no_body(buy: FakeStack, body: bytes, status: int) -> None:
    run_id = buy.post("buy").json()["id"]
    headers = {"Content-Type": "application/json"}
    response = buy.client.post(f"/test-runs/{run_id}/stop", content=body, headers=headers)
    assert (response.status_code, buy.get(run_id)["current_state"]) == (status, "ERROR" if status == 200 else "PENDING")
    if status == 422:
        assert response.json() == {"detail": "The body must be empty or {}, got something else."}
