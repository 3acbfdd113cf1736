"""What is still known of a run whose files were pruned."""

import json
import os
import time
from typing import Any

import pytest

from runner.settings import DAY
from tests.project import traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.pruning import HAND, do, files, old_runs, planned, prune
from tests.unit.runs import change_record, listed, run_folder

PRUNED = {"artifacts": "pruned", "brain_states": []}


@pytest.fixture
def ours(stack: FakeStack) -> str:
    """The ID of an old run; there is also one made by hand."""
    return old_runs(stack)


def test_of_a_pruned_run_the_record_stays(stack: FakeStack, ours: str) -> None:
    waiting = stack.post("buy").json()["id"]
    before, items = {run_id: stack.get(run_id) for run_id in (ours, HAND)}, listed(stack)
    record = json.loads(run_folder(stack, ours).record.read_bytes())
    pruner, plans = planned(stack)
    assert {plan.run.run_id for plan in plans} == {ours, HAND}
    assert all(8000 < plan.size < 20_000 for plan in plans)
    assert do(stack, pruner, plans) == {ours, HAND}
    left = files(stack.settings.tasks_root / "buy")
    assert {name for name in left if ours in name or HAND in name} == {f"runs/{ours}/run.json", f"runs/{HAND}/run.json"}
    assert f"runs/{waiting}/run.json" in left
    assert "task_buy.toml" in left
    assert not [key for key in stack.redis.scan_iter() if ours.encode() in key]
    assert json.loads(run_folder(stack, ours).record.read_bytes()) == {**record, "artifacts": "pruned"}
    assert os.stat(run_folder(stack, HAND).record).st_size < 1200
    progress = {"steps": 2, "last_goal": None, "updated_at": None}
    for run_id in (ours, HAND):
        assert stack.get(run_id) == {**before[run_id], **PRUNED, "progress": progress}
        assert before[run_id]["artifacts"] is None
    assert listed(stack) == items
    assert planned(stack)[1] == []
    stack.work()
    assert stack.get(waiting)["current_state"] == "FINISHED"


def test_a_restarted_stack_knows_pruned_runs_and_leaves_them_alone(stack: FakeStack, ours: str) -> None:
    with FakeStack(stack.project, stack.server).client as client:
        items = client.get("/test-runs").json()
    prune(stack)
    before, again = files(stack.settings.tasks_root), FakeStack(stack.project, stack.server)
    with again.client:
        for _ in range(3):
            again.recovery().run_once()
        assert listed(again) == items
        assert again.get(HAND)["origin"] == "CLI"
        assert again.get(HAND)["timing"]["accepted_at"] is None
        assert "is over already" in again.send(f"/test-runs/{HAND}/stop", 409)["detail"]
    assert files(stack.settings.tasks_root) == before


@pytest.mark.parametrize("older", [False, True], ids=["with details", "of an earlier version"])
def test_what_failed_is_still_told(stack: FakeStack, older: bool) -> None:
    ours = old_runs(stack, behaviour="print:hello visit fail")
    outcome = json.loads(run_folder(stack, ours).record.read_bytes())["outcome"]
    assert (outcome["failed_action"], outcome["failed_url"]) == ("done", "http://127.0.0.1:1/")
    if older:
        change_record(stack, ours, outcome={key: outcome[key] for key in outcome if not key.startswith("failed_")} | {"failed_steps": outcome["failed_steps"]})  # fmt: skip
    before = stack.get(ours)["failure"]
    assert (before["action"], before["url"]) == ("done", "http://127.0.0.1:1/")
    assert before["log_tail"]
    prune(stack)
    document = stack.get(ours)
    assert (document["current_state"], document["reason"]) == ("FAILED", "test_failed")
    nothing: dict[str, Any] = {"step": None, "goal": None, "screenshot": None, "log_tail": []}
    assert document["failure"] == {**before, **nothing}


def test_a_run_made_by_hand_gets_a_record_without_secrets(stack: FakeStack) -> None:
    ours = old_runs(stack)
    folder = stack.settings.tasks_root / "buy"
    (path,) = (folder / "traversals").glob(f"*{HAND}.json")
    secret = ("done", {"text": "It says hunter2-secret", "success": False})
    visit = ("go_to_url", {"url": "http://shop/?x=hunter2-secret"})
    path.write_bytes(traversal_bytes([visit, secret], "FAILED"))
    os.utime(path, (time.time() - 90 * DAY, time.time() - 90 * DAY))
    before = stack.get(HAND)
    assert prune(stack) == {ours, HAND}
    content = run_folder(stack, HAND).record.read_bytes()
    assert b"hunter2" not in content
    outcome = json.loads(content)["outcome"]
    assert (outcome["failed_action"], outcome["failed_url"]) == ("done", before["failure"]["url"])
    assert stack.get(HAND)["error_message"] == before["error_message"]
    assert stack.get(HAND)["test_case"] == before["test_case"]


def test_files_of_a_pruned_run_are_gone_and_say_why(stack: FakeStack, ours: str) -> None:
    paths = [
        f"/test-runs/{ours}/log",
        *(f"/tasks/buy/{path}" for run_id in (ours, HAND) for path in (f"screenshots/{run_id}/001.png", f"videos/{run_id}.webm")),
    ]  # fmt: skip
    assert {stack.client.get(path).status_code for path in paths} == {200}
    prune(stack)
    for path in paths:
        response = stack.client.get(path)
        assert response.status_code == 410
        assert "were deleted by `make prune`, as RUNS_KEEP_DAYS and RUNS_KEEP" in response.json()["detail"]
        assert stack.client.head(path).status_code == 410
    for path in ("screenshots/x.png", f"screenshots/{'n' * 24}/1.png", f"videos/{ours[:-1]}.webm"):
        assert stack.client.get(f"/tasks/buy/{path}").status_code == 404
    assert stack.client.get(f"/tasks/../screenshots/{ours}/1.png").status_code == 404
    assert stack.client.get(f"/tasks/NO/screenshots/{ours}/1.png").status_code == 404


def test_pictures_of_an_adopted_file_are_gone_too(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{HAND} pass")
    run = stack.run("buy")
    assert run["adopted"]
    (stack.settings.tasks_root / "buy" / "screenshots" / HAND).mkdir(parents=True)
    stack.run("buy")
    assert prune(stack, RUNS_KEEP="1") == {run["id"]}
    assert stack.client.get(f"/tasks/buy/screenshots/{HAND}/001.png").status_code == 410
    assert stack.get(run["id"])["traversal_id"] == HAND
    change_record(stack, run["id"], queued_at="2025-01-01T00:00:00Z", outcome={**json.loads(run_folder(stack, run["id"]).record.read_bytes())["outcome"], "finished_at": "2025-01-01T00:00:00Z"})  # fmt: skip
    assert prune(stack, RECORDS_KEEP_DAYS="30") == {run["id"]}
    assert not list((stack.settings.tasks_root / "buy" / "runs" / ".adopted").iterdir())


def test_a_pruned_run_cannot_be_replayed_but_done_again(stack: FakeStack, ours: str) -> None:
    replay = stack.send(f"/test-runs/replay-run/{ours}")["id"]
    stack.work()
    prune(stack)
    detail = f"The files of run '{ours}' were deleted by `make prune`, so it cannot be replayed."
    assert stack.send(f"/test-runs/replay-run/{ours}", 409)["detail"] == detail
    assert stack.send(f"/test-runs/{replay}/rerun", 409)["detail"] == detail
    assert "nothing to replay" in stack.send("/test-runs/replay/buy/buy_default", 404)["detail"]
    assert stack.send(f"/test-runs/{ours}/rerun")["run_type"] == "AGENTIC"
    assert stack.send(f"/test-runs/{HAND}/rerun")["run_type"] == "AGENTIC"


def test_a_run_that_is_marked_but_has_its_files_cannot_be_replayed(stack: FakeStack, ours: str) -> None:
    change_record(stack, ours, artifacts="pruned")
    assert "so it cannot be replayed" in stack.send(f"/test-runs/replay-run/{ours}", 409)["detail"]
    assert stack.send("/test-runs/replay/buy/buy_default")["original_run_id"] == HAND
    assert stack.get(ours)["brain_states"] == []
