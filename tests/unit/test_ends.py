"""How runs come to their end when something is in the way, on a fake Redis."""

import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from jobs.queue.heartbeat import send_heartbeat
from jobs.run.record import record_from_json, record_to_json
from jobs.run.verdict import idle_timeout_exceeded, run_timeout_exceeded
from jobs.worker.execution import Limits
from runner.files import replace_file
from runner.project.run_folder import RunFolder
from tests.project import PASSED, VISIT, Project, traversal_bytes
from tests.unit.conftest import FakeStack

HAND = "h" * 24


def folder_of(stack: FakeStack, run_id: str, task: str = "buy") -> RunFolder:
    return RunFolder(stack.settings.tasks_root, task, run_id)  # type: ignore[arg-type]


def change_record(stack: FakeStack, run_id: str, **changes: Any) -> None:
    folder = folder_of(stack, run_id)
    folder.record.write_text(json.dumps({**json.loads(folder.record.read_bytes()), **changes}))


# Stopping


def test_a_run_that_has_not_started_is_stopped_at_once(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    run = stack.send(f"/test-runs/{run_id}/stop", 200)
    assert (run["current_state"], run["reason"]) == ("ERROR", "stopped")
    assert run["error_message"] == "The run was stopped by a user."
    assert stack.redis.llen("rq:queue:bugninja") == 0
    stack.work()
    assert stack.get(run_id) == run
    assert not folder_of(stack, run_id).log.exists()


def test_a_run_that_waits_for_its_task_is_stopped_and_the_one_behind_it_moves_up(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    first, second, third = (stack.post("buy").json()["id"] for _ in range(3))
    assert stack.send(f"/test-runs/{second}/stop", 200)["current_state"] == "ERROR"
    assert stack.get(third)["queue"] == {"position": 1, "waiting_for": first}
    stack.work()
    states = [stack.get(run_id)["current_state"] for run_id in (first, second, third)]
    assert states == ["FINISHED", "ERROR", "FINISHED"]


def test_stopping_the_one_in_front_lets_the_next_one_in(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    first, second = (stack.post("buy").json()["id"] for _ in range(2))
    stack.send(f"/test-runs/{first}/stop", 200)
    stack.work()
    assert [stack.get(run_id)["current_state"] for run_id in (first, second)] == ["ERROR", "FINISHED"]


def test_a_run_that_is_over_cannot_be_stopped(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    run = stack.run("buy")
    answer = stack.send(f"/test-runs/{run['id']}/stop", 409)
    assert answer["detail"] == f"Run '{run['id']}' is over already: it is FINISHED."
    stopped = stack.post("buy").json()["id"]
    stack.send(f"/test-runs/{stopped}/stop", 200)
    assert "it is ERROR" in stack.send(f"/test-runs/{stopped}/stop", 409)["detail"]


def test_what_is_not_ours_cannot_be_stopped(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{HAND}.json").write_bytes(traversal_bytes([VISIT]))
    assert "made by hand" in stack.send(f"/test-runs/{HAND}/stop", 409)["detail"]
    assert "There is no run" in stack.send(f"/test-runs/{'n' * 24}/stop", 404)["detail"]
    assert "There is no run" in stack.send("/test-runs/nonsense/stop", 404)["detail"]


def test_a_stop_needs_no_redis(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    stack.server.connected = False
    assert stack.send(f"/test-runs/{run_id}/stop", 200)["reason"] == "stopped"
    stack.server.connected = True
    stack.work()
    assert stack.get(run_id)["reason"] == "stopped"
    assert not folder_of(stack, run_id).log.exists()


def test_a_running_run_says_that_it_is_stopping_and_may_be_asked_again(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    change_record(stack, run_id, started_at="2026-11-23T08:00:00Z", worker="w")
    assert stack.get(run_id)["stopping"] is False
    for _ in range(2):
        run = stack.send(f"/test-runs/{run_id}/stop", 202)
        assert (run["current_state"], run["stopping"]) == ("RUNNING", True)
    assert stack.get(run_id)["stopping"] is True


def test_a_run_whose_worker_died_while_it_was_being_stopped_is_stopped(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    stack.redis.delete("rq:queue:bugninja")
    stack.redis.hset(f"rq:job:{run_id}", "status", "started")
    change_record(stack, run_id, started_at="2026-11-23T08:00:00Z", worker="dead")
    stack.send(f"/test-runs/{run_id}/stop", 202)
    recovery = stack.recovery()
    for _ in range(2):
        recovery.run_once()
    assert (stack.get(run_id)["current_state"], stack.get(run_id)["reason"]) == ("ERROR", "stopped")


def test_a_stop_whose_web_process_died_in_the_middle_is_completed(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    folder_of(stack, run_id).request_stop()
    stack.recovery().run_once()
    assert stack.get(run_id)["reason"] == "stopped"
    other = stack.post("buy").json()["id"]
    folder_of(stack, other).request_stop()
    stack.work()
    assert stack.get(other)["reason"] == "stopped"
    assert not folder_of(stack, other).log.exists()


# Deadlines


def test_the_limits_of_a_run_look_at_its_signs_of_life(project: Project) -> None:
    limits = Limits(project.settings(RUN_TIMEOUT="100", RUN_IDLE_TIMEOUT="10"), 1000.0)
    assert limits.exceeded(1009.0, "a") is None
    assert limits.exceeded(1019.0, "a") is None
    assert limits.exceeded(1019.5, "a") == idle_timeout_exceeded(10)
    assert limits.exceeded(1020.0, "b") is None
    assert limits.exceeded(1100.5, "c") == run_timeout_exceeded(100)


def test_without_an_idle_limit_a_quiet_run_goes_on(project: Project) -> None:
    limits = Limits(project.settings(RUN_TIMEOUT="100"), 0.0)
    assert limits.exceeded(99.0, "a") is None
    assert limits.exceeded(100.5, "a") == run_timeout_exceeded(100)


# Redis


def test_without_redis_a_run_is_told_from_the_disk_and_marked_stale(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    over, waiting = stack.run("buy"), stack.post("buy").json()["id"]
    assert stack.get(waiting)["stale"] is False
    stack.server.connected = False
    assert (stack.get(waiting)["current_state"], stack.get(waiting)["stale"]) == ("PENDING", True)
    assert stack.get(over["id"]) == over, "what is over is true, whatever Redis says"
    assert stack.client.get("/test-runs").json()["total_count"] == 2


def test_a_redis_that_takes_no_writes_is_named(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    from redis.exceptions import OutOfMemoryError

    def full(*_: object, **__: object) -> None:
        raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

    stack.project.add_task("buy")
    monkeypatch.setattr("jobs.queue.job.RateLimitRegistry.register", full)
    response = stack.post("buy")
    assert response.status_code == 503
    assert "Redis does not take it (command not allowed when used memory > 'maxmemory'.)" in response.json()["detail"]
    assert stack.client.get("/test-runs").json()["total_count"] == 0


def test_a_late_word_of_a_worker_about_a_job_that_redis_lost_is_no_job(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    run_id = stack.post("buy").json()["id"]
    change_record(stack, run_id, started_at="2026-11-23T08:00:00Z", worker="living")
    stack.redis.flushall()
    stack.redis.hset(f"rq:job:{run_id}", "meta", "{}")
    send_heartbeat(stack.redis, "living", run_id)
    assert stack.get(run_id)["current_state"] == "RUNNING"
    recovery = stack.recovery()
    for _ in range(3):
        recovery.run_once()
    assert stack.get(run_id)["current_state"] == "RUNNING"


def test_a_second_delivery_leaves_a_run_to_the_worker_that_has_it(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    change_record(stack, run_id, started_at="2026-11-23T08:00:00Z", worker="living")
    send_heartbeat(stack.redis, "living", run_id)
    stack.work()
    assert stack.get(run_id)["current_state"] == "RUNNING"
    stack.redis.rpush("rq:queue:bugninja", run_id)
    send_heartbeat(stack.redis, "living", None)
    stack.work()
    assert (stack.get(run_id)["current_state"], stack.get(run_id)["reason"]) == ("ERROR", "interrupted")
    assert not folder_of(stack, run_id).log.exists()


# The disk


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_refuses_a_run_before_it_is_accepted(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stack.project.add_task("buy")
    monkeypatch.setattr("runner.project.run_folder.write_new", full_disk)
    response = stack.post("buy")
    assert response.status_code == 507
    assert "No space left on device" in response.json()["detail"]
    assert stack.redis.keys("rq:job:*") == []
    assert list((folder / "runs").iterdir()) == []


def test_a_run_whose_start_cannot_be_recorded_is_not_started_and_says_why(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    with monkeypatch.context() as patch:
        patch.setattr("runner.project.run_folder.replace_file", full_disk)
        stack.work()
        run = stack.get(run_id)
        assert (run["current_state"], run["reason"]) == ("ERROR", "cli_error")
        assert "its record cannot be written (No space left on device)" in run["error_message"]
        stack.recovery().run_once()
    assert not folder_of(stack, run_id).log.exists()
    stack.recovery().run_once()
    stack.redis.flushall()
    assert stack.get(run_id) == run, "the record says it as soon as the disk takes it"


def test_an_outcome_that_the_disk_does_not_take_is_told_by_redis_and_recorded_later(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy", "pass")
    run_id = stack.post("buy").json()["id"]
    write = RunFolder.write_record

    def only_before_the_end(folder: RunFolder, content: bytes) -> None:
        meta = record_from_json(content)
        if meta is not None and meta.outcome is not None:
            full_disk()
        write(folder, content)

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_record", only_before_the_end)
        stack.work()
        run = stack.get(run_id)
        assert run["current_state"] == "FINISHED"
        stack.recovery().run_once()
    assert stack.get(run_id) == run
    stack.recovery().run_once()
    stack.redis.flushall()
    assert stack.get(run_id) == run


def test_a_record_is_never_half_written(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    folder = folder_of(stack, run_id)
    meta = record_from_json(folder.read_record() or b"")
    assert meta is not None
    folder.record.with_name(".run.json.half").write_bytes(record_to_json(meta)[:50])
    assert stack.get(run_id)["current_state"] == "PENDING"
    assert stack.client.get("/test-runs").json()["total_count"] == 1


def test_a_project_that_is_gone_is_said_to_be_gone(stack: FakeStack, tmp_path: Path) -> None:
    folder = stack.project.add_task("buy", "pass")
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{HAND}.json").write_bytes(traversal_bytes([PASSED]))
    over = stack.run("buy")
    tasks = stack.settings.tasks_root
    shutil.move(tasks, tmp_path / "elsewhere")
    assert stack.post("buy").status_code == 500
    assert "PROJECT_ROOT has to be a folder that has it" in stack.post("buy").json()["detail"]
    for path in ("/test-runs", "/tasks/buy", f"/test-runs/{HAND}"):
        assert stack.client.get(path).status_code == 500
    assert stack.get(over["id"])["current_state"] == "FINISHED", "Redis knows it still"
    shutil.move(tmp_path / "elsewhere", tasks)
    assert stack.get(over["id"]) == over
    assert stack.post("buy").status_code == 202


def test_a_job_whose_run_was_closed_without_redis_frees_the_place_of_its_task(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    first, second = (stack.post("buy").json()["id"] for _ in range(2))
    stack.redis.delete("rq:queue:bugninja")
    stack.redis.hset(f"rq:job:{first}", "status", "started")
    stack.redis.zadd("rq:wip:bugninja", {f"{first}:execution": 9e12})
    outcome = {"state": "ERROR", "reason": "interrupted", "error_message": "x", "finished_at": "2026-11-23T08:00:00Z"}
    change_record(stack, first, started_at="2026-11-23T08:00:00Z", worker="dead", outcome=outcome)
    recovery = stack.recovery()
    recovery.run_once()
    stack.work()
    assert stack.get(second)["current_state"] == "PENDING"
    recovery.run_once()
    stack.work()
    assert (stack.get(first)["reason"], stack.get(second)["current_state"]) == ("interrupted", "FINISHED")


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
