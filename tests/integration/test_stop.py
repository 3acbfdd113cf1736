"""Stopping runs, running out of time or memory, and the end of a worker: with real processes and signals."""

import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.project import Project
from tests.stack import LEAVE_SECONDS, Stack, work_horses
from tests.waiting import wait_for

HIDING = "orphan forks:20 orphans:50 deaf print:up visit sleep:120"  # has processes that no look at environments finds
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
    folder = project.add_task("slow", "orphan child deaf:told print:up visit sleep:120")
    run_id = stack.post("slow")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    stack.call("POST", f"/test-runs/{run_id}/stop")
    wait_for(lambda: "told" in stack.text(f"/test-runs/{run_id}/log"))
    worker = stack.processes[2]
    worker.terminate()
    assert worker.wait(LEAVE_SECONDS) == 0
    assert not of_run(stack, run_id)
    assert not is_alive(int((folder / "orphan.pid").read_text()))
    run = stack.run(run_id)
    assert (run["current_state"], run["reason"]) == ("ERROR", "stopped")


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def start_hiding(project: Project, stack: Stack) -> tuple[str, Path]:
    """A run of which processes hide, and the folder of its task."""
    folder = project.add_task("hiding", HIDING)
    run_id = stack.post("hiding")
    wait_for(lambda: stack.run(run_id)["brain_states"] and (folder / "forks.pids").exists(), what="its processes")
    assert any(map(is_alive, hidden(folder)))
    return run_id, folder


def hidden(folder: Path) -> list[int]:
    """The PIDs of the processes that hide."""
    return [int(pid) for name in ("orphan.pid", "forks.pids") for pid in (folder / name).read_text().split()]


def assert_nothing_is_left(stack: Stack, folder: Path) -> None:
    """Nothing of the run lives, and the worker has no child, living or ended."""
    assert not [pid for pid in hidden(folder) if is_alive(pid)]
    assert work_horses(stack.processes[2].pid) == []


def test_no_process_of_a_stopped_run_can_hide(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = ready(new_stack(STOP_GRACE="0"))
    run_id, folder = start_hiding(project, stack)
    stack.call("POST", f"/test-runs/{run_id}/stop")
    assert stack.wait_final(run_id)["reason"] == "stopped"
    wait_for(lambda: not work_horses(stack.processes[2].pid), 5, "the end of the work-horse")
    assert_nothing_is_left(stack, folder)


def test_no_process_of_a_run_that_ends_by_itself_can_hide(project: Project, stack: Stack) -> None:
    folder = project.add_task("buy", "orphan forks:20 orphans:50 visit pass")
    assert stack.wait_final(stack.post("buy"))["current_state"] == "FINISHED"
    wait_for(lambda: not work_horses(stack.processes[2].pid), 5, "the end of the work-horse")
    assert_nothing_is_left(stack, folder)


def test_what_hides_from_a_killed_work_horse_is_ended_by_the_worker(project: Project, stack: Stack) -> None:
    run_id, folder = start_hiding(project, stack)
    (horse,) = work_horses(stack.processes[2].pid)
    horse.kill()
    assert stack.wait_final(run_id)["reason"] == "interrupted"
    wait_for(lambda: not work_horses(stack.processes[2].pid), 5, "the end of all")
    assert_nothing_is_left(stack, folder)
    project.add_task("next")
    assert stack.wait_final(stack.post("next"))["current_state"] == "FINISHED"


def test_what_hides_from_a_killed_worker_is_ended_by_its_work_horse(project: Project, stack: Stack) -> None:
    run_id, folder = start_hiding(project, stack)
    (horse,) = work_horses(stack.processes[2].pid)
    stack.processes[2].kill()
    assert stack.wait_final(run_id)["reason"] == "interrupted"
    wait_for(lambda: not is_alive(horse.pid), 5, "its end")
    assert not [pid for pid in hidden(folder) if is_alive(pid)]


def test_no_zombie_is_left_while_the_cli_runs(project: Project, stack: Stack) -> None:
    project.add_task("busy", "orphans:50 visit sleep:60")
    run_id = stack.post("busy")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    worker = psutil.Process(stack.processes[2].pid)
    wait_for(lambda: len(worker.children(recursive=True)) == 3, 5, "its template, its work-horse, and the CLI alone")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_worker_that_is_told_to_leave_ends_all_of_its_run_in_time(
    project: Project, stack: Stack, number: signal.Signals
) -> None:
    """As a terminal does: the work-horse is told so, too."""
    run_id, folder = start_hiding(project, stack)
    worker = stack.processes[2]
    (horse,) = work_horses(worker.pid)
    os.kill(worker.pid, number)
    os.kill(horse.pid, number)
    assert worker.wait(LEAVE_SECONDS) == 0
    run = stack.run(run_id)
    assert (run["current_state"], run["reason"]) == ("ERROR", "interrupted")
    assert "its worker was shut down" in run["error_message"]
    assert not [pid for pid in (*hidden(folder), horse.pid) if is_alive(pid)]


def test_a_worker_leaves_when_its_terminal_is_closed(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack()
    for name in ("redis", "web"):
        stack.line(name)
    terminal, inside = pty.openpty()
    words = (
        f"exec setsid --ctty rq worker --url {stack.environ['REDIS_URL']} --serializer json "
        "--connection-class jobs.queue.connection.PatientRedis --worker-class jobs.worker.worker.RunWorker bugninja"
    )
    worker = subprocess.Popen(["sh", "-c", words], env=stack.environ, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    stack.processes.append(worker)
    stack.wait_ready()
    run_id, folder = start_hiding(project, stack)
    os.close(terminal)
    worker.wait(LEAVE_SECONDS)  # the code says that its last lines could not be printed
    assert stack.run(run_id)["reason"] == "interrupted"
    assert not [pid for pid in hidden(folder) if is_alive(pid)]


def test_a_worker_that_ignores_its_terminal_goes_on(project: Project, new_stack: Callable[..., Stack]) -> None:
    """As one that was started with `nohup`."""
    stack = new_stack()
    for name in ("redis", "web"):
        stack.line(name)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        worker = stack.line("worker")
    finally:
        signal.signal(signal.SIGHUP, before)
    stack.wait_ready()
    os.kill(worker.pid, signal.SIGHUP)
    project.add_task("buy")
    assert stack.wait_final(stack.post("buy"))["current_state"] == "FINISHED"
    assert worker.poll() is None


def test_a_run_that_takes_too_much_memory_is_ended(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = ready(new_stack(RUN_MEMORY_MB="100", STOP_GRACE="1"))
    project.add_task("large", "visit eat:150 sleep:60")
    project.add_task("passed", "visit pass eat:150 sleep:60")
    project.add_task("small", "visit sleep:1.5 pass")
    large, passed, small = map(stack.post, ("large", "passed", "small"))
    run = stack.wait_final(large)
    assert (run["current_state"], run["reason"], len(run["brain_states"])) == ("ERROR", "memory", 1)
    assert "more than the 100 MB of RUN_MEMORY_MB" in run["error_message"]
    assert not of_run(stack, large)
    assert stack.wait_final(passed)["current_state"] == "FINISHED"
    assert stack.wait_final(small)["current_state"] == "FINISHED"
