"""Keys in Redis that are lost or damaged: every run is still executed once, and no worker ends."""

import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise

import pytest

from tests.other_machine import new_machine
from tests.project import Project
from tests.stack import Stack
from tests.waiting import first, wait_for
from tests.watching import living_workers, notes

QUEUE = "rq:queue:bugninja"
AGAIN_SECONDS = 30  # in which what Redis has lost is there again


def delete(stack: Stack, pattern: str) -> None:
    keys = stack.redis.keys(pattern)
    assert keys, pattern
    stack.redis.delete(*keys)


def empty(stack: Stack) -> None:
    stack.redis.flushall()


def lose_queue(stack: Stack) -> None:
    delete(stack, QUEUE)


def lose_turns(stack: Stack) -> None:
    delete(stack, "rq:rl:*")


def lose_limits(stack: Stack) -> None:
    delete(stack, "rq:rl*")


def lose_heartbeats(stack: Stack) -> None:
    delete(stack, "bugninja-runner:heartbeat:*")


def lose_jobs(stack: Stack) -> None:
    delete(stack, "rq:job:*")


def lose_executions(stack: Stack) -> None:
    delete(stack, "rq:execution*")


LOSSES = [empty, lose_limits, lose_jobs, lose_queue, lose_turns, lose_heartbeats, lose_executions]


def check_one_at_a_time(stack: Stack, task: str) -> None:
    path = f"/test-runs/test-case/{task}?page_size=200"
    wait_for(lambda: all(run["finished_at"] for run in stack.call("GET", path).body["items"]), 10, "all in the list")
    times = sorted(
        (datetime.fromisoformat(run["started_at"]), datetime.fromisoformat(run["finished_at"]))
        for run in stack.call("GET", path).body["items"]
    )
    assert all(end <= start for (_, end), (start, _) in pairwise(times)), "one at a time"


@pytest.mark.parametrize("loss", first(LOSSES, 3))
def test_what_redis_loses_while_both_workers_are_busy(
    project: Project, base: Stack, new_stack: Callable[..., Stack], loss: Callable[[Stack], None]
) -> None:
    slow = project.add_task("slow", "note:began visit wait:go note:ended pass")
    other = project.add_task("other", "note:began visit wait:go note:ended pass")
    project.add_task("quick", "note:ran pass")
    machine = new_machine(new_stack, base, "here")
    machine.line("worker")
    machine.line("worker")
    wait_for(lambda: living_workers(base) == 2, 30)
    running = [base.post("slow"), base.post("other")]
    for run_id in running:
        wait_for(lambda run_id=run_id: base.run(run_id)["brain_states"])  # type: ignore[misc]
    waiting = [base.post("slow"), base.post("other"), base.post("quick"), base.post("slow")]
    loss(base)
    wait_for(lambda: living_workers(base) == 2, AGAIN_SECONDS)
    if loss is not lose_jobs:  # then they are found when their turn comes
        wait_for(lambda: all(base.run(run_id)["queue"] for run_id in waiting), AGAIN_SECONDS, "all in the queue again")
    wait_for(lambda: base.redis.zrange("rq:rl:bugninja:slow:allowed", 0, -1) == [running[0].encode()], 10)
    assert [base.run(run_id)["current_state"] for run_id in running] == ["RUNNING"] * 2
    for folder in (slow, other):
        (folder / "go").touch()
    for run_id in running + waiting:
        assert base.wait_final(run_id, 40)["current_state"] == "FINISHED"
    assert len(notes(project, "slow")) == 6
    assert len(notes(project, "other")) == 4
    assert len(notes(project, "quick")) == 1
    for task in ("slow", "other"):
        check_one_at_a_time(base, task)
    assert all(process.poll() is None for process in machine.processes)
    assert "Traceback" not in machine.log("worker")
    wait_for(lambda: not base.redis.zcard("rq:wip:bugninja"), 20, "nothing left that RQ counts as started")


FIELDS: dict[str, dict[str, str | bytes]] = {
    "bad-date": {"created_at": "yesterday"},
    "bad-number": {"created_at": "2026-01-01T00:00:00.000000Z", "timeout": "soon", "result_ttl": "x"},
    "no-dictionary": {"data": '["jobs.worker.execute.execute_run", null, [], "x"]'},
    "a-list-for-kwargs": {"data": '["jobs.worker.execute.execute_run", null, [], [1]]'},
    "no-json": {"data": b"\x80\x04nothing"},
    "bad-status": {"status": "flying"},
    "bad-meta": {"meta": b"\xff\xfe"},
    "odd ../../name": {"status": "queued"},
}
WHOLE: dict[str, str | bytes] = {
    "origin": "bugninja",
    "status": "queued",
    "created_at": "2026-01-01T00:00:00.000000Z",
    "data": "x",
}


def put_damaged_jobs(stack: Stack, key: str) -> int:
    """Jobs that RQ cannot load, or that are none of ours; returns how many."""
    for job_id, fields in FIELDS.items():
        for name, value in {**WHOLE, **fields}.items():
            stack.redis.hset(f"rq:job:{job_id}", name, value)
        stack.redis.rpush(key, job_id)
    stack.redis.set("rq:job:another-type", "x")
    for odd in ("another-type", "no-such-job", b"\xff\xfe\x00", "", "a:b:c", "line\nbreak", "\U0001f977" * 50):
        stack.redis.rpush(key, odd)
        for registry in ("rq:wip:bugninja", "rq:rl:bugninja:quick:allowed"):
            stack.redis.execute_command("ZADD", registry, 1, odd)  # type: ignore[no-untyped-call]
    stack.redis.sadd("rq:rl-keys", "bugninja:quick", b"bugninja:\xff", b"\xff", "bugninja:")
    return len(FIELDS) + 7


@pytest.mark.parametrize("key", first([f"{QUEUE}:intermediate", QUEUE]))
def test_jobs_that_cannot_be_loaded_are_dropped(
    project: Project, base: Stack, new_stack: Callable[..., Stack], key: str
) -> None:
    project.add_task("quick", "note:ran pass")
    machine = new_machine(new_stack, base, "here")
    worker = machine.line("worker")
    base.wait_ready()
    count = put_damaged_jobs(base, key)
    run_id = base.post("quick")
    assert base.wait_final(run_id)["current_state"] == "FINISHED"
    popped = f"{QUEUE}:intermediate"
    wait_for(lambda: not base.redis.exists(QUEUE) and not base.redis.exists(popped), 20, "an empty queue")
    assert worker.poll() is None
    said = machine.log("worker")
    assert count - 4 <= said.count("event=job_dropped") + said.count("event=refused") <= count + 1
    worker.terminate()
    worker.wait(10)
    put_damaged_jobs(base, popped)
    worker = machine.line("worker")
    base.wait_ready()
    run_id = base.post("quick")
    assert base.wait_final(run_id)["current_state"] == "FINISHED"
    wait_for(lambda: not base.redis.exists(popped, "rq:wip:bugninja", "rq:rl:bugninja:quick:allowed"), 20, "no rest")
    said = machine.log("worker")
    watched = time.monotonic()
    wait_for(lambda: time.monotonic() - watched > 3, 5, "three rounds")
    assert machine.log("worker") == said
    assert worker.poll() is None
    assert "Traceback" not in machine.log("worker")


def test_keys_of_another_type_do_not_end_a_worker(
    project: Project, base: Stack, new_stack: Callable[..., Stack]
) -> None:
    """The queue, its registries and the limits themselves."""
    project.add_task("quick", "note:ran pass")
    machine = new_machine(new_stack, base, "here")
    worker = machine.line("worker")
    base.wait_ready()
    for key in (QUEUE, f"{QUEUE}:intermediate", "rq:wip:bugninja", "rq:rl-keys", "rq:rl:bugninja:quick:allowed"):
        base.redis.delete(key)
        base.redis.set(key, "x")
        wait_for(lambda: "WRONGTYPE" in machine.log("worker"), 20)
        base.redis.delete(key)
        run_id = base.post("quick")
        assert base.wait_final(run_id)["current_state"] == "FINISHED"
    assert worker.poll() is None
