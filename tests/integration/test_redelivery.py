"""Redis may deliver a job more than once: its run is executed once, and nothing happens to it."""

from collections.abc import Callable

import pytest

from tests.project import Project
from tests.stack import Stack
from tests.waiting import wait_for
from tests.watching import check_it_stays, living_workers, notes

QUEUE = "rq:queue:bugninja"
TURN = "rq:rl:bugninja:slow:allowed"


def push_again(stack: Stack, run_id: str, times: int = 1) -> None:
    """Deliver the job again, and wait until it was taken and put away."""
    for _ in range(times):
        stack.redis.rpush(QUEUE, run_id)
    popped = f"{QUEUE}:intermediate"
    wait_for(lambda: not stack.redis.exists(QUEUE) and not stack.redis.exists(popped), 20, "the end of the deliveries")


@pytest.fixture
def pair(stack: Stack) -> Stack:
    """A stack with a second worker."""
    stack.line("worker")
    wait_for(lambda: living_workers(stack) == 2, 30)
    return stack


def test_a_job_that_is_delivered_while_its_run_is_executed(project: Project, pair: Stack) -> None:
    folder = project.add_task("slow", "note:began visit wait:half visit wait:go note:ended pass")
    running, behind = pair.post("slow"), pair.post("slow")
    wait_for(lambda: len(pair.run(running)["brain_states"]) == 1)
    for steps in (1, 2):
        push_again(pair, running, 2)
        document = pair.run(running)
        assert (document["current_state"], document["stale"]) == ("RUNNING", False)
        assert pair.redis.zrange(TURN, 0, -1) == [running.encode()]
        assert pair.redis.hget(f"rq:job:{running}", "status") == b"started"
        assert pair.run(behind)["queue"] == {"position": 1, "waiting_for": running}
        (folder / "half").touch()
        if steps == 1:
            wait_for(lambda: len(pair.run(running)["brain_states"]) == 2)
    assert notes(project, "slow") == [f"{running} began"]
    (folder / "go").touch()
    pair.redis.rpush(QUEUE, running)  # and in the moment of its end
    for run_id in (running, behind):
        assert pair.wait_final(run_id)["current_state"] == "FINISHED"
    assert notes(project, "slow") == [f"{run_id} {word}" for run_id in (running, behind) for word in ("began", "ended")]


def test_a_job_that_is_delivered_when_its_run_is_over(project: Project, pair: Stack) -> None:
    folder = project.add_task("slow", "note:began visit wait:go note:ended pass")
    (folder / "go").touch()
    over = pair.post("slow")
    pair.wait_final(over)
    wait_for(lambda: pair.redis.hget(f"rq:job:{over}", "status") == b"finished", 10)
    document = pair.run(over)
    (folder / "go").unlink()
    running, behind = pair.post("slow"), pair.post("slow")
    wait_for(lambda: pair.run(running)["brain_states"])
    push_again(pair, over, 3)
    check_it_stays(pair, over, document)
    assert pair.run(behind)["queue"] == {"position": 1, "waiting_for": running}
    (folder / "go").touch()
    for run_id in (running, behind):
        assert pair.wait_final(run_id)["current_state"] == "FINISHED"
    assert len(notes(project, "slow")) == 6
    assert pair.run(over) == document


def test_many_deliveries_of_a_job_start_it_once(project: Project, new_stack: Callable[..., Stack], base: Stack) -> None:
    """Before any worker is there; then two take them at the same time."""
    folder = project.add_task("slow", "note:began visit wait:go note:ended pass")
    running, behind = base.post("slow"), base.post("slow")
    base.redis.rpush(QUEUE, *[running] * 20)
    base.line("worker")
    base.line("worker")
    wait_for(lambda: base.run(running)["brain_states"])
    push_again(base, running)
    assert notes(project, "slow") == [f"{running} began"]
    assert base.run(behind)["current_state"] == "PENDING"
    (folder / "go").touch()
    for run_id in (running, behind):
        assert base.wait_final(run_id)["current_state"] == "FINISHED"
    assert len(notes(project, "slow")) == 4
    assert base.log("worker").count("Traceback") == 0
