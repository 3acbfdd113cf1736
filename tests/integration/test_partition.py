"""A worker that is cut off from Redis, but not from the disk, loses its run to the others, and only once."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.other_machine import new_machine
from tests.project import Project
from tests.proxy import Proxy
from tests.stack import Stack
from tests.waiting import first, wait_for
from tests.watching import check_it_stays, living_workers, notes

CLI_SECONDS = 2.0  # in which the CLI of a run that was lost is gone
LEAVING_SECONDS = 4.0


@pytest.mark.parametrize("partition", first([Proxy.block, Proxy.cut]))
def test_a_worker_that_is_cut_off_from_redis_loses_its_run(
    project: Project,
    base: Stack,
    proxy: Proxy,
    new_stack: Callable[..., Stack],
    partition: Callable[[Proxy], None],
) -> None:
    folder = project.add_task("slow", "note:began visit wait:go note:ended pass")
    away = new_machine(new_stack, base, "away", redis_port=proxy.port)
    here = new_machine(new_stack, base, "here")
    away.line("worker")
    base.wait_ready()
    run_id = base.post("slow")
    wait_for(lambda: base.run(run_id)["brain_states"])
    here.line("worker")
    wait_for(lambda: living_workers(base) == 2)
    behind = base.post("slow")
    partition(proxy)
    document = base.wait_final(run_id, 30)
    assert (document["current_state"], document["reason"]) == ("ERROR", "interrupted")
    wait_for(lambda: not away.processes_with("BUGNINJA_RUN_ID", run_id), CLI_SECONDS, "the end of the CLI")
    assert base.run(behind)["current_state"] == "PENDING", "the other machine may still have processes"
    wait_for(lambda: base.run(behind)["current_state"] == "RUNNING", 30, "the next run of the task")
    check_it_stays(base, run_id, document)
    proxy.heal()
    wait_for(lambda: living_workers(base) == 2, what="the worker that was cut off")
    check_it_stays(base, run_id, document)
    folder.joinpath("go").touch()
    assert base.wait_final(behind)["current_state"] == "FINISHED"
    last = base.post("slow")
    assert base.wait_final(last)["current_state"] == "FINISHED"
    ran = [f"{behind} began", f"{behind} ended", f"{last} began", f"{last} ended"]
    assert notes(project, "slow") == [f"{run_id} began", *ran]
    assert base.run(run_id) == document
    assert "Traceback" not in away.log("worker") + here.log("worker")


def test_a_job_whose_delivery_is_lost_comes_again(
    project: Project, base: Stack, proxy: Proxy, new_stack: Callable[..., Stack]
) -> None:
    """Redis gives the job to a worker, which never hears of it."""
    project.add_task("quick", "note:ran pass")
    away = new_machine(new_stack, base, "away", redis_port=proxy.port)
    worker = away.line("worker")
    base.wait_ready()
    os.kill(worker.pid, signal.SIGSTOP)
    wait_for(lambda: base.redis.info("clients")["blocked_clients"] == 0, 10, "the end of its blocking pop")
    run_id = base.post("quick")
    proxy.block_answers_to(b"BLMOVE")
    os.kill(worker.pid, signal.SIGCONT)
    wait_for(lambda: base.redis.llen("rq:queue:bugninja:intermediate") == 1, 10)
    new_machine(new_stack, base, "here").line("worker")
    assert base.wait_final(run_id, 30)["current_state"] == "FINISHED"
    proxy.heal()
    next_run = base.post("quick")
    assert base.wait_final(next_run)["current_state"] == "FINISHED"
    assert notes(project, "quick") == [f"{run_id} ran", f"{next_run} ran"]


def test_a_run_that_was_lost_before_its_cli_started_is_not_started(
    project: Project, base: Stack, proxy: Proxy, new_stack: Callable[..., Stack]
) -> None:
    """Its worker has claimed it on the disk, and then waits for Redis until others have closed it."""
    folder = project.add_task("slow", "note:began visit wait:go note:ended pass")
    away = new_machine(new_stack, base, "away", redis_port=proxy.port)
    away.line("worker")
    base.wait_ready()
    proxy.block_requests_from(b"rq:execution:")
    run_id = base.post("slow")
    wait_for(proxy.has_met_word, 10)
    behind = base.post("slow")
    new_machine(new_stack, base, "here").line("worker")
    document = base.wait_final(run_id, 30)
    assert (document["current_state"], document["reason"]) == ("ERROR", "interrupted")
    wait_for(lambda: base.run(behind)["current_state"] == "RUNNING", 30, "the next run of the task")
    proxy.heal()
    wait_for(lambda: "ownership_lost" in away.log("worker"), 20)
    folder.joinpath("go").touch()
    assert base.wait_final(behind)["current_state"] == "FINISHED"
    assert notes(project, "slow") == [f"{behind} began", f"{behind} ended"]
    assert f"event=started run={run_id}" not in away.log("worker")
    assert base.run(run_id) == document


@pytest.mark.parametrize("what", first(["running", "over", "idle"]))
def test_a_worker_leaves_in_time_without_answers_from_redis(
    project: Project, base: Stack, proxy: Proxy, new_stack: Callable[..., Stack], what: str
) -> None:
    project.add_task("slow", "visit sleep:60")
    away = new_machine(new_stack, base, "away", redis_port=proxy.port)
    worker = away.line("worker")
    base.wait_ready()
    if what != "idle":
        run_id = base.post("slow")
        wait_for(lambda: base.run(run_id)["brain_states"])
    proxy.block()
    wait_for(lambda: "heartbeat_failed" in away.log("worker"), 20)
    if what == "over":
        base.call("POST", f"/test-runs/{run_id}/stop")
        asked = time.monotonic()
        base.wait_final(run_id)
        assert time.monotonic() - asked < CLI_SECONDS
    asked = time.monotonic()
    worker.terminate()
    worker.wait(20)
    assert time.monotonic() - asked < LEAVING_SECONDS
    if what != "idle":
        reason = "stopped" if what == "over" else "interrupted"
        assert base.run(run_id)["reason"] == reason
        assert not away.processes_with("BUGNINJA_RUN_ID", run_id)
