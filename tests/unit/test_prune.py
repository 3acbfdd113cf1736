"""Which runs are deleted, and with what."""

import json
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jobs.status.entry import Entry

from jobs.prune import Plan, Pruner, choose, main
from jobs.queue.idempotency import IdempotencyKeys, Reservation
from jobs.run.state import Origin, Reason, RunType, State
from runner.ids import RunId, TaskId
from tests.project import PASSED, VISIT, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import change_record

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


def entry(name: str, age_days: float, state: State = State.FINISHED, task: str = "buy", **changes: Any) -> Entry:
    over = NOW - timedelta(days=age_days)
    made = Entry(
        run_id=RunId(name), task_id=TaskId(task), state=state, reason=None, queued_at=over, started_at=over,
        finished_at=over, passed_steps=0, failed_steps=0, run_type=RunType.AGENTIC, origin=Origin.WEB_UI,
        test_case=None, browser_config=None, traversal_id=RunId(name), files=None,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


RUNS = [
    entry("a", 0, State.RUNNING, finished_at=None),
    entry("b", 1),
    entry("c", 2, State.FAILED),
    entry("d", 3, State.ERROR),
    entry("e", 4, State.PENDING, finished_at=None),
    entry("f", 5),
    entry("x", 5, task="sell"),
]


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def old_plans(stack: FakeStack) -> tuple[Pruner, list[Plan]]:
    """What is to be deleted of runs that are older than 30 days."""
    pruner = Pruner(stack.project.settings(RUNS_KEEP_DAYS="30"))
    return pruner, pruner.plans(datetime.now(UTC))


@pytest.fixture
def pruned(stack: FakeStack) -> tuple[FakeStack, str, str]:
    """A task with an old run of ours, an old one made by hand, and one that waits; all with pictures and recordings."""
    folder = stack.project.add_task("buy", "print:x visit pass")
    ours, hand = stack.run("buy")["id"], "h" * 24
    (folder / "traversals" / f"traverse_20250101_080000_{hand}.json").write_bytes(
        traversal_bytes([VISIT, PASSED], "SUCCESSFUL")
    )
    for run_id in (ours, hand):
        for name in (f"screenshots/{run_id}/001.png", f"videos/{run_id}.webm"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(b"x" * 1000)
    old = time.time() - 90 * 24 * 3600
    os.utime(folder / "traversals" / f"traverse_20250101_080000_{hand}.json", (old, old))
    outcome = json.loads((folder / "runs" / ours / "run.json").read_bytes())["outcome"]
    change_record(stack, ours, outcome={**outcome, "finished_at": "2025-01-01T00:00:00Z"})
    return stack, ours, hand


@pytest.mark.parametrize(
    ("days", "keep", "chosen"),
    [
        (0, 0, ""),
        (2, 0, "dfx"),  # c is just two days old
        (10, 0, ""),
        (0, 1, "bcdf"),  # a is the newest, and e is not over
        (0, 3, "df"),
        (0, 6, ""),
        (4, 2, "cdfx"),
    ],
)
def test_old_runs_and_those_beyond_the_number_are_chosen(days: int, keep: int, chosen: str) -> None:
    assert "".join(run.run_id for run in choose(RUNS, days, keep, NOW)) == chosen


def test_what_a_replay_still_needs_is_kept() -> None:
    assert "".join(run.run_id for run in choose(RUNS, 2, 0, NOW, {RunId("d")})) == "fx"


def test_a_recording_that_may_still_be_in_use_is_kept_for_a_day() -> None:
    runs = [entry("n", 0), entry("l", 0.5, State.ERROR, reason=Reason.LOST), entry("m", 2, State.ERROR, reason=Reason.LOST)]  # fmt: skip
    assert "".join(run.run_id for run in choose(runs, 0, 1, NOW)) == "m"


def test_a_run_is_deleted_with_all_that_there_is_of_it(pruned: tuple[FakeStack, str, str]) -> None:
    stack, ours, hand = pruned
    waiting = stack.post("buy").json()["id"]
    settings = stack.project.settings(RUNS_KEEP_DAYS="30")
    pruner = Pruner(settings)
    plans = pruner.plans(datetime.now(UTC))
    assert {plan.entry.run_id for plan in plans} == {ours, hand}
    assert all(plan.size > 2000 for plan in plans)
    assert all(pruner.delete(plan, stack.redis) for plan in plans)
    left = files(stack.settings.tasks_root / "buy")
    assert not [name for name in left if ours in name or hand in name]
    assert f"runs/{waiting}/run.json" in left
    assert "task_buy.toml" in left
    assert not [key for key in stack.redis.scan_iter() if ours.encode() in key]
    assert [item["id"] for item in stack.client.get("/test-runs").json()["items"]] == [waiting]
    for run_id in (ours, hand):
        assert stack.client.get(f"/test-runs/{run_id}").status_code == 404
    stack.work()
    assert stack.get(waiting)["current_state"] == "FINISHED"
    assert Pruner(settings).plans(datetime.now(UTC)) == []


def test_links_are_deleted_and_not_followed(pruned: tuple[FakeStack, str, str], tmp_path: Path) -> None:
    stack, ours, _ = pruned
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("x")
    folder = stack.settings.tasks_root / "buy"
    (folder / "screenshots" / ours / "link").symlink_to(outside)
    (folder / "videos" / f"{ours}-link").symlink_to(outside)
    pruner, plans = old_plans(stack)
    assert all(pruner.delete(plan, stack.redis) for plan in plans)
    assert (outside / "precious.txt").exists()
    assert not (folder / "videos" / f"{ours}-link").is_symlink()


def test_the_original_of_a_replay_that_waits_is_kept(pruned: tuple[FakeStack, str, str]) -> None:
    stack, ours, hand = pruned
    stack.send(f"/test-runs/replay-run/{ours}")
    _, plans = old_plans(stack)
    assert [plan.entry.run_id for plan in plans] == [hand]


def test_the_original_of_a_replay_that_was_accepted_after_the_plan_is_kept(pruned: tuple[FakeStack, str, str]) -> None:
    stack, ours, hand = pruned
    pruner, plans = old_plans(stack)
    assert {plan.entry.run_id for plan in plans} == {ours, hand}
    replay = stack.send(f"/test-runs/replay-run/{ours}")["id"]
    assert {plan.entry.run_id for plan in plans if pruner.delete(plan, stack.redis)} == {hand}
    stack.work()
    assert stack.get(ours)["current_state"] == "FINISHED"
    assert stack.get(replay)["original_run_id"] == ours


def test_a_replay_of_a_run_that_was_just_deleted_is_refused(
    pruned: tuple[FakeStack, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, ours, _ = pruned
    pruner, plans = old_plans(stack)
    reserve = IdempotencyKeys.reserve

    def delete_first(*arguments: Any) -> Reservation:
        assert all(pruner.delete(plan, stack.redis) for plan in plans)
        return reserve(*arguments)

    monkeypatch.setattr(IdempotencyKeys, "reserve", delete_first)
    assert "has no file any more" in stack.send(f"/test-runs/replay-run/{ours}", 409)["detail"]
    assert stack.client.get("/test-runs").json()["total_count"] == 0


def test_without_yes_nothing_is_deleted(pruned: tuple[FakeStack, str, str], capsys: pytest.CaptureFixture[str]) -> None:
    stack, ours, hand = pruned
    before = files(stack.settings.tasks_root)
    assert main([], stack.project.environ(RUNS_KEEP_DAYS="30")) == 0
    printed = capsys.readouterr().out
    assert ours in printed
    assert hand in printed
    assert "2 runs, 0.01 MB would be deleted; with --yes they are." in printed
    assert files(stack.settings.tasks_root) == before


def test_without_limits_everything_is_kept(
    pruned: tuple[FakeStack, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    stack, _, _ = pruned
    before = files(stack.settings.tasks_root)
    assert main(["--yes"], stack.project.environ()) == 0
    assert "all runs are kept" in capsys.readouterr().out
    assert files(stack.settings.tasks_root) == before


def test_without_redis_nothing_is_deleted(
    pruned: tuple[FakeStack, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    stack, _, _ = pruned
    before = files(stack.settings.tasks_root)
    environ = stack.project.environ(RUNS_KEEP_DAYS="30", REDIS_URL="redis://127.0.0.1:1/0")
    assert main(["--yes"], environ) == 1
    assert "Not all was deleted" in capsys.readouterr().err
    assert files(stack.settings.tasks_root) == before


def test_settings_that_cannot_be_used_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {"RUNS_KEEP": "many"}) == 1
    assert "RUNS_KEEP must be an integer from 0 to 1000000, got 'many'." in capsys.readouterr().err


def test_a_folder_that_is_a_link_is_not_emptied(pruned: tuple[FakeStack, str, str], tmp_path: Path) -> None:
    stack, ours, _ = pruned
    pruner, plans = old_plans(stack)
    for name in ("traversals", "videos"):
        path = stack.settings.tasks_root / "buy" / name
        path.rename(tmp_path / name)
        path.symlink_to(tmp_path / name)
    before = files(tmp_path / "traversals"), files(tmp_path / "videos")
    assert any(ours in name for name in before[0])
    assert all(pruner.delete(plan, stack.redis) for plan in plans)
    assert (files(tmp_path / "traversals"), files(tmp_path / "videos")) == before
