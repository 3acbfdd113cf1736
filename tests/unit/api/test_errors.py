"""Every error is JSON with a sentence."""

import pytest

from tests.unit.fake_stack import FakeStack
from tests.unit.runs import FRONT_END

CHANGES = [
    ("POST", "/test-cases/"),
    ("POST", "/test-cases"),
    ("PUT", "/project"),
    ("PUT", "/browser-configs/bulk"),
    ("PUT", "/secret-values/bulk"),
    ("PUT", "/tasksbuy"),
    ("DELETE", "/tasksbuy"),
    ("PUT", "/tasks/buy"),
    ("DELETE", "/tasks/buy"),
    ("PATCH", "/tasks/buy"),
    ("POST", "/tasks"),
    ("POST", "/file-upload/parse-test-case"),
]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/health", 405), ("DELETE", "/test-runs/x", 405)]
)
def test_errors_of_http_are_json_too(stack: FakeStack, method: str, path: str, status: int) -> None:
    response = stack.client.request(method, path)
    assert response.status_code == status
    assert response.json()["detail"].startswith(f"{method} {path}")


def test_a_fault_of_ours_shows_no_stack_trace(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.project.catalog.read_task", lambda *_: 1 / 0)
    stack.project.add_task("buy")
    response = stack.post("buy")
    assert response.status_code == 500
    assert response.json() == {"detail": "The server made an error, which is in its log. Nothing was lost."}
    assert stack.client.get("/health").status_code == 200


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_what_the_cli_is_for_is_refused_with_a_sentence(buy: FakeStack, method: str, path: str, prefix: str) -> None:
    response = buy.client.request(method, f"{prefix}{path}", json={"test_name": "x"}, headers={"Origin": FRONT_END})
    assert response.status_code == 405
    assert "with the Bugninja CLI" in response.json()["detail"]
    assert "allow" in response.headers
    assert response.headers["access-control-allow-origin"] == FRONT_END
    assert (buy.project.root / "tasks" / "buy" / "task_buy.toml").exists()


def test_our_own_faults_can_be_read_by_the_front_end(buy: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.project.catalog.read_task", lambda *_: 1 / 0)
    buy.project.add_task("sell")
    response = buy.client.get("/tasks/sell", headers={"Origin": FRONT_END})
    assert response.status_code == 500
    assert response.headers["access-control-allow-origin"] == FRONT_END
    assert "detail" in response.json()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/test-runs?test_case_id=nothing", "Task 'nothing' was not found"),
        ("/test-runs/test-case/nothing", "Task 'nothing' was not found"),
        ("/test-runs/test-case/..%2fx", "not found"),
        ("/test-runs?project_id=other", "Project 'other' was not found"),
        ("/tasks?project_id=other", "Project 'other' was not found"),
        ("/browser-configs/project/other", "Project 'other' was not found"),
        ("/secret-values/project/other", "Project 'other' was not found"),
        ("/tasks/nothing", "Task 'nothing' was not found"),
        ("/tasks/nosuchcuidnosuchcuidnosu", "Task 'nosuchcuidnosuchcuidnosu' was not found"),
    ],
)
def test_the_front_end_finds_its_words_when_something_is_gone(stack: FakeStack, path: str, words: str) -> None:
    response = stack.client.get(path)
    assert response.status_code == 404
    assert words.lower() in response.json()["detail"].lower()
