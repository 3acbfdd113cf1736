"""What is deleted of a run, and what stays."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jobs.retention
from jobs.queue.idempotency import IdempotencyKeys, Reservation
from jobs.retention import Plan, Pruner
from runner.ids import TaskId
from runner.settings import DAY
from tests.unit.fake_stack import FakeStack
from tests.unit.pruning import HAND, files, old_runs
from tests.unit.runs import change_record, listed, run_folder

BUY = TaskId("buy")
PRUNED = {"artifacts": "pruned", "brain_states": []}


@pytest.fixture
def ours(stack: FakeStack) -> str:
    """The ID of an old run; there is also one made by hand."""
    return old_runs(stack)


def planned(stack: FakeStack, **settings: str) -> tuple[Pruner, list[Plan]]:
    """What is to be deleted, by default the files of runs that are older than 30 days."""
    pruner = Pruner(stack.project.settings(**(settings or {"RUNS_KEEP_DAYS": "30"})))
    return pruner, pruner.plans(time.time())


def prune(stack: FakeStack, **settings: str) -> set[str]:
    """Do it at once; the IDs of the runs."""
    pruner, plans = planned(stack, **settings)
    return do(stack, pruner, plans)


def do(stack: FakeStack, pruner: Pruner, plans: list[Plan]) -> set[str]:
    return {plan.run.run_id for plan in pruner.prune(BUY, plans, stack.redis)}


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
    items = listed(stack)
    prune(stack)
    before = files(stack.settings.tasks_root)
    again = FakeStack(stack.project, stack.server)
    for _ in range(3):
        again.recovery().run_once()
    assert listed(again) == items
    assert again.get(HAND)["origin"] == "CLI"
    assert again.get(HAND)["timing"]["accepted_at"] is None
    assert "is over already" in again.send(f"/test-runs/{HAND}/stop", 409)["detail"]
    assert files(stack.settings.tasks_root) == before


def test_records_are_deleted_when_they_are_too_old_themselves(stack: FakeStack, ours: str) -> None:
    prune(stack)
    assert prune(stack, RECORDS_KEEP_DAYS="100") == {ours}
    assert prune(stack, RECORDS_KEEP_DAYS="30") == {HAND}
    assert not [name for name in files(stack.settings.tasks_root) if ours in name or HAND in name]
    assert listed(stack)["total_count"] == 0
    for run_id in (ours, HAND):
        assert stack.client.get(f"/test-runs/{run_id}").status_code == 404


def test_runs_that_have_their_files_are_deleted_as_a_whole_too(stack: FakeStack, ours: str) -> None:
    assert prune(stack, RECORDS_KEEP_DAYS="30") == {ours, HAND}
    assert not [name for name in files(stack.settings.tasks_root) if ours in name or HAND in name]
    assert not [key for key in stack.redis.scan_iter() if ours.encode() in key]


@pytest.mark.parametrize("older", [False, True], ids=["with details", "of an earlier version"])
def test_what_failed_is_still_told(stack: FakeStack, older: bool) -> None:
    ours = old_runs(stack, behaviour="print:hello visit fail")
    if older:
        outcome = json.loads(run_folder(stack, ours).record.read_bytes())["outcome"]
        change_record(stack, ours, outcome={key: outcome[key] for key in outcome if not key.startswith("failed_")} | {"failed_steps": outcome["failed_steps"]})  # fmt: skip
    before = stack.get(ours)["failure"]
    assert (before["action"], before["url"]) == ("done", "http://127.0.0.1:1/")
    assert before["log_tail"]
    prune(stack)
    document = stack.get(ours)
    assert (document["current_state"], document["reason"]) == ("FAILED", "test_failed")
    nothing = {"step": None, "goal": None, "screenshot": None, "log_tail": []}
    assert document["failure"] == {**before, **nothing}


def test_a_run_made_by_hand_gets_a_record_without_secrets(stack: FakeStack) -> None:
    ours = old_runs(stack)
    folder = stack.settings.tasks_root / "buy"
    (path,) = (folder / "traversals").glob(f"*{HAND}.json")
    secret = ("done", {"text": "It says hunter2-secret", "success": False})
    visit = ("go_to_url", {"url": "http://shop/?x=hunter2-secret"})
    from tests.project import traversal_bytes

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
        f"/{'test-runs'}/{ours}/log",
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


def steps(monkeypatch: pytest.MonkeyPatch, before_step: Callable[[], None]) -> None:
    """Call this before each step that prunes a run."""

    def noticed(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            before_step()
            return function(*arguments)

        return call

    for name in ("mark_pruned", "create_pruned", "delete_job", "remove"):
        monkeypatch.setattr(jobs.retention, name, noticed(getattr(jobs.retention, name)))
    folder = jobs.retention.project_files.__globals__["RunFolder"]
    monkeypatch.setattr(folder, "remove", noticed(folder.remove))


@pytest.mark.parametrize("settings", [{"RUNS_KEEP_DAYS": "30"}, {"RECORDS_KEEP_DAYS": "30"}], ids=["files", "records"])
def test_whoever_is_interrupted_between_two_steps_can_begin_again(
    stack: FakeStack, ours: str, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = 0

    def interrupt() -> None:
        nonlocal counted
        counted += 1
        if counted > allowed:
            raise KeyboardInterrupt

    steps(monkeypatch, interrupt)
    items, allowed, interrupted = listed(stack), 0, 0
    while True:
        counted = 0
        try:
            prune(stack, **settings)
        except KeyboardInterrupt:
            interrupted += 1
            assert interrupted < 30
            known = {ours, HAND} if "RUNS_KEEP_DAYS" in settings else {item["id"] for item in listed(stack)["items"]}
            assert {stack.get(run_id)["current_state"] for run_id in known} <= {"FINISHED"}
            allowed = interrupted  # a step further each time
        else:
            break
    assert interrupted > 3
    left = files(stack.settings.tasks_root / "buy")
    if "RUNS_KEEP_DAYS" in settings:
        assert {name for name in left if ours in name or HAND in name} == {f"runs/{id}/run.json" for id in (ours, HAND)}
        assert listed(stack) == items
    else:
        assert not [name for name in left if ours in name or HAND in name]
    assert not [key for key in stack.redis.scan_iter() if ours.encode() in key]
    assert planned(stack, **settings)[1] == []


def test_what_cannot_be_pruned_stops_nothing_else(
    stack: FakeStack, ours: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(jobs.retention, "mark_pruned", refuse)
    pruner, plans = planned(stack)
    assert do(stack, pruner, plans) == {HAND}
    assert pruner.failed == 1
    assert f"not_pruned run={ours}" in caplog.text
    assert "Permission denied" in caplog.text


def test_links_are_deleted_and_not_followed(stack: FakeStack, ours: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("x")
    folder = stack.settings.tasks_root / "buy"
    (folder / "screenshots" / ours / "link").symlink_to(outside)
    (folder / "videos" / f"{ours}-link").symlink_to(outside)
    (folder / "runs" / ours / "link").symlink_to(outside)
    assert prune(stack) == {ours, HAND}
    assert (outside / "precious.txt").exists()
    assert not (folder / "videos" / f"{ours}-link").is_symlink()
    assert not (folder / "runs" / ours / "link").is_symlink()


def test_a_folder_that_is_a_link_is_not_emptied(stack: FakeStack, ours: str, tmp_path: Path) -> None:
    pruner, plans = planned(stack)
    for name in ("traversals", "videos"):
        path = stack.settings.tasks_root / "buy" / name
        path.rename(tmp_path / name)
        path.symlink_to(tmp_path / name)
    before = files(tmp_path / "traversals"), files(tmp_path / "videos")
    assert any(ours in name for name in before[0])
    assert ours in do(stack, pruner, plans)
    assert (files(tmp_path / "traversals"), files(tmp_path / "videos")) == before


def test_the_original_of_a_replay_that_waits_is_kept(stack: FakeStack, ours: str) -> None:
    stack.send(f"/test-runs/replay-run/{ours}")
    _, plans = planned(stack)
    assert [plan.run.run_id for plan in plans] == [HAND]


@pytest.mark.parametrize("settings", [{"RUNS_KEEP_DAYS": "30"}, {"RECORDS_KEEP_DAYS": "30"}], ids=["files", "records"])
def test_the_original_of_a_replay_that_was_accepted_after_the_plan_is_kept(
    stack: FakeStack, ours: str, settings: dict[str, str]
) -> None:
    pruner, plans = planned(stack, **settings)
    assert {plan.run.run_id for plan in plans} == {ours, HAND}
    replay = stack.send(f"/test-runs/replay-run/{ours}")["id"]
    assert do(stack, pruner, plans) == {HAND}
    assert pruner.failed == 0
    stack.work()
    assert stack.get(ours)["artifacts"] is None
    assert stack.get(replay)["original_run_id"] == ours


@pytest.mark.parametrize(
    ("settings", "detail"),
    [({"RUNS_KEEP_DAYS": "30"}, "deleted by `make prune`"), ({"RECORDS_KEEP_DAYS": "30"}, "has no file any more")],
    ids=["files", "records"],
)
def test_a_replay_of_a_run_that_was_just_pruned_is_refused(
    stack: FakeStack, ours: str, settings: dict[str, str], detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = IdempotencyKeys.reserve

    def prune_first(*arguments: Any) -> Reservation:
        assert prune(stack, **settings) == {ours, HAND}
        return reserve(*arguments)

    monkeypatch.setattr(IdempotencyKeys, "reserve", prune_first)
    assert detail in stack.send(f"/test-runs/replay-run/{ours}", 409)["detail"]
    assert len(list((stack.settings.tasks_root / "buy" / "runs").glob("[a-z]*"))) == 2 * ("RUNS_KEEP_DAYS" in settings)


def test_a_run_that_goes_on_after_all_is_kept(stack: FakeStack, ours: str) -> None:
    pruner, plans = planned(stack)
    (path,) = (stack.settings.tasks_root / "buy" / "traversals").glob(f"*{HAND}.json")
    path.write_bytes(path.read_bytes().replace(b'"done"', b'"wait"').replace(b"SUCCESSFUL", b"PENDING"))
    change_record(stack, ours, outcome=None)
    assert do(stack, pruner, plans) == set()
    assert pruner.failed == 0
    assert path.exists()


def test_a_file_that_a_running_run_may_adopt_is_kept(stack: FakeStack, ours: str) -> None:
    waiting = stack.post("buy").json()["id"]
    change_record(stack, waiting, started_at="2025-02-01T00:00:00Z")
    assert [plan.run.run_id for plan in planned(stack)[1]] == [ours]
    change_record(stack, waiting, started_at="2025-02-01T00:00:00Z", traversal_id=waiting)
    assert {plan.run.run_id for plan in planned(stack)[1]} == {ours, HAND}


def test_a_file_that_is_named_as_a_run_of_another_task_is_no_run(stack: FakeStack, ours: str) -> None:
    stack.project.add_task("sell")
    (stack.settings.tasks_root / "sell" / "runs" / HAND).mkdir(parents=True)
    assert [plan.run.run_id for plan in planned(stack)[1]] == [ours]


def test_a_record_that_cannot_be_read_just_now_is_kept(stack: FakeStack, ours: str, tmp_path: Path) -> None:
    record = run_folder(stack, ours).record
    record.rename(tmp_path / "run.json")
    record.symlink_to(tmp_path / "run.json")
    assert prune(stack, RECORDS_KEEP_DAYS="1", RUNS_KEEP_DAYS="1") == {HAND}
