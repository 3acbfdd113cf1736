"""What is deleted of a run, and what is kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jobs.retention
from jobs.queue.idempotency import IdempotencyKeys, Reservation
from runner.project.run_folder import RunFolder
from tests.unit.fake_stack import FakeStack
from tests.unit.pruning import HAND, do, files, old_runs, planned, prune
from tests.unit.runs import change_record, listed, run_folder


@pytest.fixture
def ours(stack: FakeStack) -> str:
    """The ID of an old run; there is also one made by hand."""
    return old_runs(stack)


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


def steps(monkeypatch: pytest.MonkeyPatch, before_step: Callable[[], None]) -> None:
    """Call this before each step that prunes a run."""

    def noticed(function: Any) -> Any:
        def call(*arguments: Any) -> Any:
            before_step()
            return function(*arguments)

        return call

    for name in ("mark_pruned", "create_pruned", "delete_job", "remove"):
        monkeypatch.setattr(jobs.retention, name, noticed(getattr(jobs.retention, name)))
    monkeypatch.setattr(RunFolder, "remove", noticed(RunFolder.remove))


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
