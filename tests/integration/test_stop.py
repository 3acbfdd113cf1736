"""Stopping runs and running out of time, with real processes and signals."""

from collections.abc import Callable

import psutil
import pytest

from tests.project import Project
from tests.stack import Stack
from tests.waiting import wait_for

BUSY_SECONDS = 4  # more than the two that are promised, for a machine that runs other tests beside this one
STUBBORN = "child deaf print:up visit sleep:120"  # ignores SIGTERM, and has a child in a session of its own


def ready(stack: Stack) -> Stack:
    for name in ("redis", "web", "worker"):
        stack.line(name)
    stack.wait_ready()
    return stack


def of_run(stack: Stack, run_id: str) -> list[psutil.Process]:
    """The living processes that carry the run's ID in their environment."""
    return [process for process in stack.processes_with("BUGNINJA_RUN_ID", run_id) if process.is_running()]


@pytest.mark.parametrize(("behaviour", "grace"), [("child print:up visit sleep:120", 5), (STUBBORN, 1)])
def test_a_running_run_is_ended_with_all_that_it_started(
    project: Project, new_stack: Callable[..., Stack], behaviour: str, grace: int
) -> None:
    stack = ready(new_stack(STOP_GRACE=str(grace)))
    project.add_task("slow", behaviour)
    run_id = stack.post("slow")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    assert len(of_run(stack, run_id)) >= 2
    answer = stack.call("POST", f"/test-runs/{run_id}/stop")
    assert (answer.status, answer.body["stopping"]) == (202, True)
    assert stack.call("POST", f"/api/v1/test-runs/{run_id}/stop").status == 202
    late = grace + 2 + BUSY_SECONDS
    wait_for(lambda: not of_run(stack, run_id), late, "the end of all processes of the run")
    run = stack.wait_final(run_id)
    assert (run["current_state"], run["reason"], len(run["brain_states"])) == ("ERROR", "stopped", 1)
    assert (run["stopping"], run["failure"]["log_tail"]) == (False, ["up"])
    assert stack.call("POST", f"/test-runs/{run_id}/stop").status == 409
    project.add_task("next")
    assert stack.wait_final(stack.post("next"))["current_state"] == "FINISHED"


def test_a_cli_may_end_by_itself_within_its_grace(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = ready(new_stack(STOP_GRACE="20"))
    project.add_task("slow", "print:up visit sleep:120")
    run_id = stack.post("slow")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    stack.call("POST", f"/test-runs/{run_id}/stop")
    run = stack.wait_final(run_id, 5)
    assert (run["reason"], run["failure"]["signal"]) == ("stopped", "SIGTERM")


def test_a_run_that_does_nothing_is_ended(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = ready(new_stack(RUN_IDLE_TIMEOUT="2", STOP_GRACE="1"))
    project.add_task("quiet", "child visit sleep:120")
    project.add_task("busy", " ".join(["sleep:0.8 print:x"] * 5) + " pass")
    quiet = stack.post("quiet")
    run = stack.wait_final(quiet)
    assert (run["reason"], "for 2 seconds (RUN_IDLE_TIMEOUT)" in run["error_message"]) == ("timeout", True)
    assert not of_run(stack, quiet)
    assert stack.wait_final(stack.post("busy"))["current_state"] == "FINISHED"


def test_ending_the_worker_while_it_is_stopping_a_run_keeps_the_users_word(
    project: Project, new_stack: Callable[..., Stack]
) -> None:
    stack = ready(new_stack(STOP_GRACE="30"))
    project.add_task("slow", STUBBORN)
    run_id = stack.post("slow")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    stack.call("POST", f"/test-runs/{run_id}/stop")
    worker = stack.processes[2]
    worker.terminate()
    assert worker.wait(8) == 0
    assert not of_run(stack, run_id)
    run = stack.run(run_id)
    assert (run["current_state"], run["reason"]) == ("ERROR", "stopped")
