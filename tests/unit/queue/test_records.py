"""Records on a full disk, and on none."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.files import replace_file
from runner.project.run_folder import RunFolder
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import full_disk, run_folder


def test_an_outcome_that_the_disk_does_not_take_is_kept_in_redis_and_recorded_later(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy", "pass")
    run_id = stack.post("buy").json()["id"]
    write = RunFolder.write_record

    def only_before_the_end(folder: RunFolder, content: bytes) -> None:
        if json.loads(content)["outcome"] is not None:
            full_disk()
        write(folder, content)

    def recorded_outcome() -> Any:
        return json.loads(run_folder(stack, run_id).record.read_bytes())["outcome"]

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_record", only_before_the_end)
        stack.work()
        run = stack.get(run_id)
        assert run["current_state"] == "FINISHED"
        stack.recovery().run_once()
        assert recorded_outcome() is None
    assert stack.get(run_id) == run
    stack.recovery().run_once()
    assert recorded_outcome() is not None
    stack.redis.flushall()
    assert stack.get(run_id) == run


def test_a_record_is_never_half_written(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    folder = run_folder(stack, run_id)
    folder.record.with_name(".run.json.half").write_bytes(folder.record.read_bytes()[:50])
    assert stack.get(run_id)["current_state"] == "PENDING"
    assert stack.client.get("/test-runs").json()["total_count"] == 1


def test_the_end_of_a_run_takes_the_space_that_was_reserved_for_it(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stack.project.add_task("buy", "pass")
    run_id = stack.post("buy").json()["id"]
    reserve = folder / "runs" / run_id / "reserve"
    assert reserve.stat().st_size == 16 * 1024

    def full_while_it_is_reserved(path: Path, content: bytes) -> None:
        if reserve.exists():
            full_disk()
        replace_file(path, content)

    monkeypatch.setattr("runner.project.run_folder.replace_file", full_while_it_is_reserved)
    stack.work()
    stack.redis.flushall()
    assert stack.get(run_id)["current_state"] == "FINISHED"
    assert not reserve.exists()
