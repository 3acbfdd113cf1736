"""Recovery: runs that no worker executes, jobs that Redis lost."""

from datetime import UTC, datetime

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs.queue.heartbeat import heartbeat_key, send_heartbeat
from runner.cli.machine import machine_id
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    change_record,
    listed,
    run_folder,
)


def started(stack: FakeStack, worker: str) -> str:
    """A run in the hands of a worker of this name, which then does nothing."""
    run_id: str = stack.post("buy").json()["id"]
    change_record(stack, run_id, started_at=datetime.now(UTC).isoformat(), worker=worker)
    job = Job.fetch(run_id, connection=stack.redis, serializer="json")
    job.worker_name = worker
    job.save()
    job.set_status("started")  # type: ignore[arg-type]
    stack.redis.lrem("rq:queue:bugninja", 0, run_id)
    return run_id


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


def test_a_late_field_of_a_job_that_redis_lost_is_no_job(stack: FakeStack) -> None:
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


def test_a_job_that_was_cancelled_with_rq_is_over_when_recovery_has_recorded_it(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    Job.fetch(run_id, stack.redis, JSONSerializer).cancel()
    assert (stack.get(run_id)["current_state"], listed(stack)["items"][0]["current_state"]) == ("PENDING", "PENDING")
    stack.recovery().run_once()
    run = stack.get(run_id)
    assert (run["current_state"], run["reason"], run["finished_at"] is None) == ("ERROR", "stopped", False)
    assert listed(stack)["items"][0]["finished_at"] == run["finished_at"]


def test_the_run_of_a_dead_worker_is_interrupted_and_the_next_gets_its_turn(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    dead = started(stack, "dead")
    waiting = stack.post("buy").json()["id"]
    recovery = stack.recovery()
    for _ in range(3):
        send_heartbeat(stack.redis, "dead", dead)
        recovery.run_once()
        assert stack.get(dead)["current_state"] == "RUNNING"
    stack.redis.delete(heartbeat_key("dead"))
    recovery.run_once()
    assert stack.get(dead)["current_state"] == "RUNNING", "one missing sign of life is not enough"
    recovery.run_once()
    assert (stack.get(dead)["current_state"], stack.get(dead)["reason"]) == ("ERROR", "interrupted")
    stack.work()
    assert stack.get(waiting)["current_state"] == "FINISHED"


def test_an_accepted_run_that_redis_forgot_is_enqueued_again_once(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    stack.redis.flushall()
    recovery = stack.recovery()
    recovery.run_once()
    assert not stack.redis.exists(f"rq:job:{run_id}"), "a run that was accepted just now may be on its way"
    for _ in range(3):
        recovery.run_once()
    stack.work()
    assert stack.get(run_id)["current_state"] == "FINISHED"
    assert run_folder(stack, run_id).log.read_text() == "ran\n"


def test_a_started_run_that_redis_forgot_goes_on_as_long_as_its_worker_lives(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = started(stack, "living")
    recovery = stack.recovery()
    for _ in range(3):
        stack.redis.flushall()
        recovery.run_once()
        send_heartbeat(stack.redis, "living", run_id)
        recovery.run_once()
        assert stack.get(run_id)["current_state"] == "RUNNING"
    send_heartbeat(stack.redis, "living", None)
    recovery.run_once()
    recovery.run_once()
    assert (stack.get(run_id)["current_state"], stack.get(run_id)["reason"]) == ("ERROR", "interrupted")


def test_a_job_that_was_popped_by_a_worker_that_died_goes_back_to_the_front(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    stack.project.add_task("sell")
    popped, next_one = stack.post("buy").json()["id"], stack.post("sell").json()["id"]
    stack.redis.lmove("rq:queue:bugninja", "rq:queue:bugninja:intermediate", "LEFT", "RIGHT")
    recovery = stack.recovery()
    recovery.run_once()
    assert stack.redis.lrange("rq:queue:bugninja", 0, -1) == [next_one.encode()]
    recovery.run_once()
    assert stack.redis.lrange("rq:queue:bugninja", 0, -1) == [popped.encode(), next_one.encode()]
    assert stack.redis.llen("rq:queue:bugninja:intermediate") == 0


def test_one_worker_at_a_time_runs_the_recovery(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    dead = started(stack, "dead")
    stack.redis.set("bugninja-runner:recovery:bugninja", "taken")
    recovery = stack.recovery()
    for _ in range(3):
        recovery.run_once()
    assert stack.get(dead)["current_state"] == "RUNNING"


def test_a_final_state_never_changes(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run = stack.run("buy")
    stack.redis.flushall()
    for _ in range(2):
        stack.recovery().run_once()
    assert stack.get(run["id"]) == run


def test_what_a_leader_saw_before_another_led_is_forgotten(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id, recovery, other = started(stack, "dead"), stack.new_recovery(), stack.new_recovery()
    recovery.run_once()
    recovery.leave()
    other.run_once()
    other.leave()
    recovery.run_once()
    assert stack.get(run_id)["current_state"] == "RUNNING", "it was out of place in one round of this leader"
    recovery.run_once()
    assert stack.get(run_id)["current_state"] == "ERROR"


def test_the_turn_of_a_dead_worker_is_held_while_a_process_lives(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy")
    dead, waiting = started(stack, "dead"), stack.post("buy").json()["id"]
    left = [1]
    monkeypatch.setattr("jobs.worker.recover.end_processes", lambda _: left[0])
    recovery = stack.recovery()
    change_record(stack, dead, machine=machine_id())
    for _ in range(4):
        recovery.run_once()
    assert stack.get(dead)["current_state"] == "ERROR"
    stack.work()
    assert stack.get(waiting)["current_state"] == "PENDING"
    left[0] = 0
    recovery.run_once()
    stack.work()
    assert stack.get(waiting)["current_state"] == "FINISHED"
