"""One run, as disk and Redis know it."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from jobs.status.row import read_row
from runner.project.traversal import Traversal, parse_traversal
from runner.redaction import Redactor
from runner.secrets import SecretNames
from tests.project import FAULT, PASSED, VISIT, Project, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    OTHER,
    STAMP,
    by_hand,
    ids,
    listed,
    write_run,
)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The content of every traversal that was parsed to be shown."""
    contents: list[bytes] = []

    def counting(content: bytes, redactor: Redactor | None, names: SecretNames) -> Traversal:
        if redactor is not None:
            contents.append(content)
        return parse_traversal(content, redactor, names)

    monkeypatch.setattr("runner.project.run_files.parse_traversal", counting)
    return contents


def test_a_traversal_is_parsed_once_per_change_whoever_asks(stack: FakeStack, parsed: list[bytes]) -> None:
    folder = stack.project.add_task("buy")
    for actions, status in (([VISIT], "PENDING"), ([VISIT, VISIT], "PENDING"), ([VISIT, PASSED], "SUCCESSFUL")):
        parsed.clear()
        write_run(folder, STAMP, by_hand("a"), traversal_bytes(actions, status))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(stack.get, [by_hand("a")] * 24))
        assert len(parsed) == 1
        assert all(answer == answers[0] for answer in answers)
        assert answers[0]["progress"]["steps"] == len(actions)


def test_a_run_is_answered_as_its_files_are_now(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "visit fail")
    run = stack.run("buy")
    assert stack.get(run["id"]) == run
    (folder / "runs" / run["id"] / "cli.log").write_text("another end\n")
    assert stack.get(run["id"])["failure"]["log_tail"] == ["another end"]
    (path,) = stack.project.traversals("buy")
    path.write_bytes(traversal_bytes([VISIT, VISIT, FAULT], "FAILED"))
    assert stack.get(run["id"])["brain_states"] == run["brain_states"], "the run was over"
    (folder / "task_buy.toml").write_text('[task]\nname = "buy"\n[secrets]\nCART = "The cart is empty"\n')
    assert "The cart is empty" not in str(stack.get(run["id"])["brain_states"])
    path.unlink()
    assert len(stack.get(run["id"])["brain_states"]) == 2
    (folder / "runs" / run["id"] / "traversal-1.json").unlink()
    (folder / "runs" / run["id"] / "cli.log").write_text("a third end\n")
    assert stack.get(run["id"])["brain_states"] == []
    shutil.rmtree(folder / "runs" / run["id"])
    assert stack.client.get(f"/test-runs/{run['id']}").status_code == 404


def test_a_file_that_is_half_written_leaves_the_last_good_steps(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    path = write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT, VISIT]))
    assert stack.get(by_hand("a"))["progress"]["steps"] == 2
    path.write_bytes(traversal_bytes([VISIT, VISIT, VISIT])[:100])
    run = stack.get(by_hand("a"))
    assert (run["current_state"], run["progress"]["steps"]) == ("RUNNING", 2)
    path.write_bytes(traversal_bytes([VISIT, VISIT, VISIT]))
    assert stack.get(by_hand("a"))["progress"]["steps"] == 3


def test_reading_all_runs_delays_no_get_of_one(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    go_on = threading.Event()

    def slow(*arguments: Any) -> Any:
        go_on.wait(20)
        return read_row(*arguments)

    monkeypatch.setattr("jobs.status.projection.read_row", slow)
    stack = FakeStack(project)
    with stack.client:
        shown = TestClient.get(stack.client, f"/test-runs/{by_hand('a')}").json()
        assert shown["current_state"] == "FINISHED"
        page = TestClient.get(stack.client, "/test-runs").json()
        assert (page["items"], page["indexing"]) == ([], {"done": 0, "total": 1})
        go_on.set()
        page = listed(stack)
        assert (ids(page), page["indexing"]) == ([by_hand("a")], None)


def test_without_redis_a_run_is_read_from_the_disk_and_marked_stale(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    over, waiting = stack.run("buy"), stack.post("buy").json()["id"]
    assert stack.get(waiting)["stale"] is False
    stack.server.connected = False
    assert (stack.get(waiting)["current_state"], stack.get(waiting)["stale"]) == ("PENDING", True)
    assert stack.get(over["id"]) == over, "what is over is true, whatever Redis says"
    assert stack.client.get("/test-runs").json()["total_count"] == 2


def test_a_missing_project_folder_is_named(stack: FakeStack, tmp_path: Path) -> None:
    folder = stack.project.add_task("buy", "pass")
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_bytes(traversal_bytes([PASSED]))
    over = stack.run("buy")
    tasks = stack.settings.tasks_root
    shutil.move(tasks, tmp_path / "elsewhere")
    assert stack.post("buy").status_code == 500
    assert "PROJECT_ROOT has to be a folder that has it" in stack.post("buy").json()["detail"]
    for path in ("/test-runs", "/tasks/buy", f"/test-runs/{OTHER}"):
        assert stack.client.get(path).status_code == 500
    assert stack.get(over["id"])["current_state"] == "FINISHED", "Redis knows it still"
    shutil.move(tmp_path / "elsewhere", tasks)
    assert stack.get(over["id"]) == over
    assert stack.post("buy").status_code == 202


@pytest.mark.parametrize(
    "run_id", ["x", "%2e%2e", "-rf", "a%00b", "A" * 24, "%C3%BC", "a" * 10_000, "nosuchrunnosuchrunnosuch"]
)
def test_an_unknown_run_is_404_at_once(stack: FakeStack, run_id: str) -> None:
    response = stack.client.get(f"/test-runs/{run_id}")
    assert response.status_code == 404
    assert response.json()["detail"].startswith("There is no run '")
    assert len(response.text) < 300


def test_a_run_made_by_hand_is_known(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{'h' * 24}.json").write_bytes(
        traversal_bytes([VISIT, PASSED], "SUCCESSFUL")
    )
    run = stack.get("h" * 24)
    assert (run["current_state"], run["origin"], run["test_case"]["test_name"]) == ("FINISHED", "CLI", "buy")


def test_an_unchanged_fault_is_shown_again(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, STAMP, OTHER, traversal_bytes([VISIT, FAULT], "FAILED"))
    runs = [stack.get(OTHER) for _ in range(3)]
    assert runs[0] == runs[1] == runs[2]
    (folder / "task_buy.toml").write_text('[task]\nname = "New name"\n')
    assert stack.get(OTHER)["test_case"]["test_name"] == "New name", "this answer is not from the cache"
    for run in (*runs, stack.get(OTHER)):
        assert (run["error_message"], run["failure"]["message"], run["failure"]["log_tail"]) == (
            "The cart is empty",
            "The cart is empty",
            [],
        )
