"""Jobs that are out of place: recovery puts them right, and nothing that is in Redis stops it."""

from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rq.executions import Execution
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text

from jobs.queue.heartbeat import send_heartbeat
from jobs.worker.execute import close_dead
from jobs.worker.sweep import machine_key
from runner.cli.machine import machine_id
from runner.ids import new_run_id
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import change_record, run_folder

QUEUE, POPPED, STARTED = "rq:queue:bugninja", "rq:queue:bugninja:intermediate", "rq:wip:bugninja"
ALLOWED, HELD_BACK = "rq:rl:bugninja:buy:allowed", "rq:rl:bugninja:buy:rate_limited"


def begun(stack: FakeStack, worker: str, machine: str | None = None) -> str:
    """A run that a worker of this name has claimed, and of which its work-horse has begun nothing."""
    run_id: str = stack.post("buy").json()["id"]
    change_record(stack, run_id, started_at="2026-11-23T08:00:00Z", worker=worker, machine=machine, epoch=1)
    stack.redis.lmove(QUEUE, POPPED, "LEFT", "RIGHT")
    return run_id


def ids(stack: FakeStack, key: str) -> list[str]:
    found = stack.redis.lrange(key, 0, -1) if stack.redis.type(key) == b"list" else stack.redis.zrange(key, 0, -1)
    return [as_text(value) for value in found]  # type: ignore[arg-type]


def rounds(stack: FakeStack, number: int) -> None:
    recovery = stack.recovery()
    for _ in range(number):
        recovery.run_once()


@pytest.mark.parametrize(
    "lost", [(QUEUE,), (HELD_BACK,), ("rq:rl-keys", "rq:rl:bugninja:buy"), (QUEUE, HELD_BACK, ALLOWED)]
)
def test_runs_whose_places_redis_has_lost_are_enqueued_again(buy: FakeStack, lost: tuple[str, ...]) -> None:
    runs = [buy.post("buy").json()["id"] for _ in range(3)]
    buy.redis.delete(*lost)
    recovery = buy.recovery()
    for _ in range(3):
        recovery.run_once()
        recovery.run_once()
        buy.work()
    assert [buy.get(run_id)["current_state"] for run_id in runs] == ["FINISHED"] * 3
    assert len(buy.project.traversals("buy")) == 3


def test_a_run_that_is_in_its_place_is_left_alone(buy: FakeStack) -> None:
    first, second = (buy.post("buy").json()["id"] for _ in range(2))
    before = (ids(buy, QUEUE), ids(buy, HELD_BACK))
    rounds(buy, 3)
    assert (ids(buy, QUEUE), ids(buy, HELD_BACK)) == before == ([first], [second])


def test_an_execution_that_rq_has_lost_is_no_obstacle(buy: FakeStack) -> None:
    """A worker and its work-horse died between two steps of RQ, and one of its two notes about it has expired."""
    dead, waiting = begun(buy, "dead", machine_id()), buy.post("buy").json()["id"]
    job = Job.fetch(dead, buy.redis, JSONSerializer)
    with buy.redis.pipeline() as pipeline:
        execution = Execution.create(job, 90, pipeline, worker_name="dead")
        pipeline.execute()
    buy.redis.delete(execution.key)
    with pytest.raises(ValueError, match="not found"):
        job.get_executions()
    rounds(buy, 2)
    assert (buy.get(dead)["current_state"], buy.get(dead)["reason"]) == ("ERROR", "interrupted")
    assert (ids(buy, POPPED), ids(buy, STARTED), ids(buy, f"rq:executions:{dead}")) == ([], [], [])
    buy.work()
    assert buy.get(waiting)["current_state"] == "FINISHED"


@pytest.mark.parametrize(
    "fault", [ValueError("x"), TypeError("x"), OSError(5, "x"), KeyError("x"), RecursionError("x")]
)
def test_a_fault_in_one_run_does_not_hide_the_next(
    buy: FakeStack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    buy.project.add_task("sell")
    dead = sorted(begun(buy, "dead") for _ in range(2))

    def close_but_not_the_first(files: Any, folder: Any, *rest: Any) -> Any:
        if folder.run_id == dead[0]:
            raise fault
        return close_dead(files, folder, *rest)

    monkeypatch.setattr("jobs.worker.recover.close_dead", close_but_not_the_first)
    rounds(buy, 2)
    assert [buy.get(run_id)["current_state"] for run_id in dead] == ["RUNNING", "ERROR"]
    assert f"event=recovery_failed run={dead[0]} error=" in caplog.text
    monkeypatch.undo()


def test_a_redis_that_is_away_ends_the_round(buy: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(buy, "dead")

    def away(*_: object) -> None:
        raise RedisConnectionError("away")

    monkeypatch.setattr("jobs.worker.recover.is_executing", away)
    with pytest.raises(RedisConnectionError):
        buy.recovery().run_once()


def break_date(stack: FakeStack, run_id: str) -> None:
    stack.redis.hset(f"rq:job:{run_id}", "created_at", "yesterday")


def break_number(stack: FakeStack, run_id: str) -> None:
    stack.redis.hset(f"rq:job:{run_id}", "result_ttl", "many")


def break_status(stack: FakeStack, run_id: str) -> None:
    stack.redis.hset(f"rq:job:{run_id}", "status", "newer")


def break_data(stack: FakeStack, run_id: str) -> None:
    stack.redis.hset(f"rq:job:{run_id}", "data", b"\xff")


def break_type(stack: FakeStack, run_id: str) -> None:
    stack.redis.delete(f"rq:job:{run_id}")
    stack.redis.set(f"rq:job:{run_id}", "x")


@pytest.mark.parametrize("damage", [break_date, break_number, break_status, break_data, break_type])
def test_a_job_that_cannot_be_loaded_is_dropped_and_its_run_enqueued_again(
    buy: FakeStack, damage: Any, caplog: pytest.LogCaptureFixture
) -> None:
    buy.project.add_task("sell")
    broken, other = buy.post("buy").json()["id"], buy.post("sell").json()["id"]
    damage(buy, broken)
    assert buy.get(broken)["current_state"] == "PENDING"
    buy.work_as_procfile()
    assert buy.get(other)["current_state"] == "FINISHED", "the next job runs"
    assert broken not in ids(buy, POPPED)
    rounds(buy, 2)
    buy.work()
    assert buy.get(broken)["current_state"] == "FINISHED"
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("job_id", ["no ID", "x" * 24, "../../x", ":", b"\xff\xfe"])
def test_an_id_that_is_no_runs_is_dropped(buy: FakeStack, job_id: str | bytes) -> None:
    run_id = buy.post("buy").json()["id"]
    buy.redis.lpush(QUEUE, job_id)
    buy.work_as_procfile()
    assert buy.get(run_id)["current_state"] == "FINISHED"
    rounds(buy, 2)
    assert buy.redis.llen(POPPED) == 0


def test_a_stray_of_a_run_that_is_over_is_forgotten(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    buy.redis.rpush(POPPED, run_id)
    rounds(buy, 1)
    assert ids(buy, POPPED) == [run_id], "its worker may just be about to"
    rounds(buy, 2)
    assert (ids(buy, POPPED), ids(buy, QUEUE)) == ([], [])


def test_a_popped_job_whose_run_was_begun_is_not_put_back(buy: FakeStack) -> None:
    run_id = begun(buy, "living")
    send_heartbeat(buy.redis, "living", run_id)
    rounds(buy, 3)
    assert (ids(buy, POPPED), ids(buy, QUEUE)) == ([run_id], [])
    assert buy.get(run_id)["current_state"] == "RUNNING"


def close_as_interrupted(stack: FakeStack, run_id: str) -> None:
    outcome = {"state": "ERROR", "reason": "interrupted", "error_message": "x", "finished_at": "2026-11-23T08:00:00Z"}
    change_record(stack, run_id, outcome=outcome)


def test_the_turn_of_a_run_is_held_until_its_machine_has_swept(buy: FakeStack) -> None:
    over, waiting = begun(buy, "dead", "elsewhere"), buy.post("buy").json()["id"]
    close_as_interrupted(buy, over)
    machine = machine_key("elsewhere")
    buy.redis.hset(machine, "begun", "7")
    recovery = buy.recovery()
    for number in (6, 7):  # sweeps that had begun before
        buy.redis.hset(machine, "done", str(number))
        for _ in range(3):
            recovery.run_once()
        assert ids(buy, ALLOWED) == [over]
    buy.redis.hset(machine, "begun", "9")
    recovery.run_once()
    assert ids(buy, ALLOWED) == [over], "one has begun, and is not done"
    buy.redis.hset(machine_key("elsewhere"), "done", "8")
    recovery.run_once()
    assert ids(buy, ALLOWED) == [waiting]
    buy.work()
    assert buy.get(waiting)["current_state"] == "FINISHED"


def test_the_turn_of_a_run_is_free_when_its_machine_is_silent(buy: FakeStack) -> None:
    over, waiting = begun(buy, "dead", "elsewhere"), buy.post("buy").json()["id"]
    close_as_interrupted(buy, over)
    rounds(buy, 1)
    assert ids(buy, ALLOWED) == [over], "one look is not enough"
    rounds(buy, 3)
    assert ids(buy, ALLOWED) == [waiting]


def test_the_turn_of_a_run_is_held_while_its_worker_still_says_that_it_executes_it(buy: FakeStack) -> None:
    over, waiting = begun(buy, "living", machine_id()), buy.post("buy").json()["id"]
    close_as_interrupted(buy, over)
    recovery = buy.recovery()
    for _ in range(3):
        send_heartbeat(buy.redis, "living", over)
        recovery.run_once()
    assert ids(buy, ALLOWED) == [over]
    send_heartbeat(buy.redis, "living", waiting)
    recovery.run_once()
    recovery.run_once()
    assert ids(buy, ALLOWED) == [waiting]


def test_the_turn_of_a_run_is_held_while_a_process_of_it_lives_here(
    buy: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    over, waiting = begun(buy, "dead", machine_id()), buy.post("buy").json()["id"]
    close_as_interrupted(buy, over)
    left, looked_for = [1], []

    def end_processes(path: Path) -> int:
        looked_for.append(path)
        return left[0]

    monkeypatch.setattr("jobs.worker.recover.end_processes", end_processes)
    recovery = buy.recovery()
    for _ in range(3):
        recovery.run_once()
    assert ids(buy, ALLOWED) == [over]
    assert {*looked_for} == {run_folder(buy, over).path}
    left[0] = 0
    recovery.run_once()
    assert ids(buy, ALLOWED) == [waiting]


def test_a_turn_without_a_run_is_freed(buy: FakeStack) -> None:
    buy.redis.zadd(ALLOWED, {new_run_id(): 1})
    waiting = buy.post("buy").json()["id"]
    assert ids(buy, HELD_BACK) == [waiting]
    rounds(buy, 2)
    buy.work()
    assert buy.get(waiting)["current_state"] == "FINISHED"


def test_what_is_over_is_forgotten_in_redis(buy: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.worker.recover.CLEANING_ROUNDS", 1)
    run_id = buy.post("buy").json()["id"]
    buy.send(f"/test-runs/{run_id}/stop", 200)
    assert ids(buy, "rq:canceled:bugninja") == [run_id]
    rounds(buy, 1)
    assert ids(buy, "rq:canceled:bugninja") == [run_id]
    buy.redis.zadd("rq:canceled:bugninja", {run_id: 1})
    rounds(buy, 1)
    assert ids(buy, "rq:canceled:bugninja") == []
    assert not buy.redis.exists("rq:rl:bugninja:buy", "rq:rl-keys")


def test_what_a_process_left_that_died_while_it_made_a_folder_is_deleted(
    buy: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.worker.recover.CLEANING_ROUNDS", 1)
    runs = buy.settings.tasks_root / "buy" / "runs"
    for prefix in (".new-", ".gone-"):
        (runs / f"{prefix}{'n' * 24}-1a2b3c4d").mkdir(parents=True)
    (runs / ".adopted").mkdir()
    recovery = buy.recovery()
    recovery.run_once()
    assert len([*runs.iterdir()]) == 3, "it may just be at work"
    recovery.run_once()
    assert [path.name for path in runs.iterdir()] == [".adopted"]
