"""A real Valkey, a real `rq worker`, real child processes."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.project import Project
from tests.stack import Stack, work_horses
from tests.waiting import wait_for


def test_the_steps_grow_while_the_cli_writes(project: Project, stack: Stack) -> None:
    folder = project.add_task("buy", "visit wait:one visit wait:two pass")
    run_id = stack.post("buy")
    wait_for(lambda: len(stack.run(run_id)["brain_states"]) == 1)
    assert stack.run(run_id)["current_state"] == "RUNNING"
    (folder / "one").touch()
    wait_for(lambda: len(stack.run(run_id)["brain_states"]) == 2)
    assert stack.run(run_id)["current_state"] == "RUNNING"
    (folder / "two").touch()
    run = stack.wait_final(run_id)
    assert (run["current_state"], len(run["brain_states"])) == ("FINISHED", 3)
    assert run["queued_at"] <= run["started_at"] <= run["finished_at"]


def test_the_log_grows_while_the_run_runs_and_can_be_followed(project: Project, stack: Stack) -> None:
    folder = project.add_task("buy", "print:one wait:go print:two pass")
    run_id = stack.post("buy")
    wait_for(lambda: stack.text(f"/test-runs/{run_id}/log") == "one\n")
    (folder / "go").touch()
    wait_for(lambda: stack.text(f"/test-runs/{run_id}/log?offset=4") == "two\n")
    assert stack.wait_final(run_id)["current_state"] == "FINISHED"
    assert stack.text(f"/test-runs/{run_id}/log") == "one\ntwo\n"


def test_parallel_posts_give_as_many_ids_files_and_final_states(project: Project, stack: Stack) -> None:
    stack.line("worker")
    tasks = [f"task_{number}" for number in range(20)]
    for number, task in enumerate(tasks):
        project.add_task(task, "visit pass" if number % 2 else "visit fail")
    with ThreadPoolExecutor(20) as pool:
        ids = dict(zip(tasks, pool.map(stack.post, tasks), strict=True))
    assert len(set(ids.values())) == 20
    for number, (task, run_id) in enumerate(ids.items()):
        run = stack.wait_final(run_id, 60)
        assert run["current_state"] == ("FINISHED" if number % 2 else "FAILED")
        assert run["test_case"]["id"] == task
        assert [path.stem.rpartition("_")[2] for path in project.traversals(task)] == [run_id]


def test_fifty_equal_posts_at_once_with_one_key_start_one_run(project: Project, stack: Stack) -> None:
    project.add_task("buy", "visit pass")
    path = "/test-runs/execute-configuration/buy/buy_default"
    key = {"Idempotency-Key": "once"}
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: stack.call("POST", path, **key), range(50)))
    assert sorted(answer.status for answer in answers) == [200] * 49 + [202]
    (run_id,) = {answer.body["id"] for answer in answers}
    assert stack.wait_final(run_id)["current_state"] == "FINISHED"
    assert stack.call("GET", "/test-runs").body["total_count"] == 1
    assert len(project.traversals("buy")) == 1
    assert stack.call("POST", path, **key).body["current_state"] == "FINISHED"


def child_lives(folder: Path) -> bool:
    """Whether the process that the CLI started in a session of its own is there (and not only waiting for init)."""
    pid = int((folder / "child.pid").read_text())
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


WRONG = {
    # what the CLI does: state, reason, words of the message
    "exit:1": ("ERROR", "cli_error", "exit code 1"),
    "print:no_model visit exit:3": ("ERROR", "cli_error", "exit code 3. It said: no model"),
    "visit kill": ("ERROR", "cli_error", "ended by SIGKILL"),
    "print:nothing_to_do": ("ERROR", "cli_error", "without writing a traversal. It said: nothing to do"),
    "half kill": ("ERROR", "cli_error", "ended by SIGKILL"),
    "half": ("ERROR", "cli_error", "cannot be used: it is not whole JSON"),
    "list": ("ERROR", "cli_error", "it must hold a JSON object, got a JSON array"),
    "deep": ("ERROR", "cli_error", "nested too deep"),
    "visit": ("ERROR", "no_result", "after 1 actions without saying that the test is done"),
    "failed-status": ("ERROR", "cli_error", "could not start the test"),
    "pass exit:1": ("FINISHED", None, "exit code 1 afterwards"),
}


def test_whatever_the_cli_does_the_state_is_right_and_the_next_run_works(project: Project, stack: Stack) -> None:
    for number, (behaviour, (state, reason, words)) in enumerate(WRONG.items()):
        project.add_task(f"wrong_{number}", behaviour)
        project.add_task(f"right_{number}", "pass")
        wrong, right = stack.post(f"wrong_{number}"), stack.post(f"right_{number}")
        run = stack.wait_final(wrong)
        assert (run["current_state"], run["reason"]) == (state, reason), behaviour
        assert words in run["error_message"], behaviour
        assert stack.wait_final(right)["current_state"] == "FINISHED", f"after {behaviour}"


def resident(pattern: str, stack: Stack) -> int:
    """The resident memory in bytes of the stack's processes whose command line has the pattern."""
    total = 0
    for process in stack._processes():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has just ended
            total += process.memory_info().rss if pattern in " ".join(process.cmdline()) else 0
    return total


def test_much_output_goes_to_the_log_and_memory_stays_flat(project: Project, stack: Stack) -> None:
    project.add_task("small", "pass")
    stack.wait_final(stack.post("small"))
    before = {name: resident(name, stack) for name in ("app.py", "rq worker", "valkey-server")}
    folder = project.add_task("loud", "flood:50 print:done pass")
    run_id = stack.post("loud")
    assert stack.wait_final(run_id)["current_state"] == "FINISHED"
    assert (folder / "runs" / run_id / "cli.log").stat().st_size > 50_000_000
    for name, size in before.items():
        assert resident(name, stack) < size + 20_000_000, name
    assert "xxxx" not in stack.log("worker")


def test_a_command_that_does_not_exist_says_so(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(RUNNER_COMMAND="/no/such/program {task_id}")
    for name in ("redis", "web", "worker"):
        stack.line(name)
    stack.wait_ready()
    project.add_task("buy")
    for _ in range(2):
        run = stack.wait_final(stack.post("buy"))
        assert (run["current_state"], run["reason"]) == ("ERROR", "cli_error")
        assert run["error_message"] == (
            "The command '/no/such/program' could not be started: no such program on the PATH."
        )


def test_the_deadline_ends_the_cli_and_all_that_it_started(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(RUN_TIMEOUT="1")
    for name in ("redis", "web", "worker"):
        stack.line(name)
    stack.wait_ready()
    folder = project.add_task("slow", "child deaf visit sleep:60")
    run = stack.wait_final(stack.post("slow"))
    assert (run["current_state"], run["reason"]) == ("ERROR", "timeout")
    assert "longer than 1 seconds" in run["error_message"]
    assert len(run["brain_states"]) == 1
    assert not child_lives(folder)
    assert not [line for line in stack.living() if "scripted_cli" in line or "while" in line]


def test_what_a_cli_leaves_behind_is_ended_also_when_it_ended_well(project: Project, stack: Stack) -> None:
    folder = project.add_task("messy", "child pass")
    assert stack.wait_final(stack.post("messy"))["current_state"] == "FINISHED"
    assert not child_lives(folder)


def horse_of(worker: subprocess.Popen[bytes]) -> psutil.Process:
    """The worker's work-horse, once it has one."""
    children = wait_for(lambda: work_horses(worker.pid), what="a work-horse")
    return children[0]


def test_a_killed_work_horse_leaves_nothing_and_the_run_is_interrupted(project: Project, stack: Stack) -> None:
    folder = project.add_task("slow", "child visit sleep:60")
    run_id = stack.post("slow")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    horse_of(stack.processes[2]).kill()
    run = stack.wait_final(run_id)
    assert (run["current_state"], run["reason"], len(run["brain_states"])) == ("ERROR", "interrupted", 1)
    assert not child_lives(folder)
    project.add_task("next")
    assert stack.wait_final(stack.post("next"))["current_state"] == "FINISHED"


def test_the_work_horse_of_a_killed_worker_ends_its_run_by_itself(project: Project, stack: Stack) -> None:
    project.add_task("slow", "child visit sleep:60")
    run_id = stack.post("slow")
    wait_for(lambda: stack.run(run_id)["brain_states"])
    os.kill(stack.processes[2].pid, signal.SIGKILL)
    run = stack.wait_final(run_id)
    assert (run["current_state"], run["reason"]) == ("ERROR", "interrupted")
    wait_for(lambda: not [line for line in stack.living() if "rq worker" in line or "while" in line])


def test_rq_info_shows_queue_and_workers_without_options(project: Project, stack: Stack) -> None:
    project.add_task("buy")
    stack.wait_final(stack.post("buy"))
    environ = {**stack.environ, "COLUMNS": "200"}
    printed = subprocess.run(["rq", "info"], env=environ, capture_output=True, text=True, check=True).stdout
    assert "bugninja" in printed
    assert "1 finished, 0 failed" in printed
    assert "1 workers, 1 queues" in printed


@pytest.mark.parametrize("name", ["redis", "web", "worker"])
def test_bad_settings_end_a_line_with_a_sentence_and_no_trace(new_stack: Callable[..., Stack], name: str) -> None:
    good = new_stack()
    good.line("redis")
    wait_for(lambda: good.redis.ping() if "embedded" in good.log("redis") else False)
    stack = new_stack(RUN_TTL="soon", LOG_LEVEL="LOUD", REDIS_URL=good.environ["REDIS_URL"])
    assert stack.line(name).wait(20) == 1
    printed = stack.log(name)
    assert "RUN_TTL must be an integer from 60 to 315360000 (seconds), got 'soon'." in printed
    assert "LOG_LEVEL must be one of DEBUG" in printed
    assert "Traceback" not in printed


def test_the_redis_line_steps_aside_for_a_redis_that_answers(new_stack: Callable[..., Stack]) -> None:
    first = new_stack()
    first.line("redis")
    wait_for(lambda: "embedded_redis" in first.log("redis") and first.redis.ping())
    second = new_stack(REDIS_URL=first.environ["REDIS_URL"])
    process = second.line("redis")
    wait_for(lambda: (second.folder / "redis.log").exists() and "redis_already_there" in second.log("redis"))
    assert len(second.log("redis").strip().split("\n")) == 1
    assert process.poll() is None
    process.terminate()
    assert process.wait(5) == 0


def test_the_embedded_redis_keeps_its_data_and_asks_for_the_password_of_the_url(
    new_stack: Callable[..., Stack],
) -> None:
    stack = new_stack()
    stack.environ["REDIS_URL"] = f"redis://:hunter2@127.0.0.1:{stack.redis_port}/0"
    for count in (1, 2):
        process = stack.line("redis")
        connection = stack.redis.from_url(stack.environ["REDIS_URL"])
        wait_for(partial(answers, connection))
        assert connection.incr("count") == count
        assert "hunter2" not in " ".join(psutil.Process(process.pid).cmdline())
        process.terminate()
        assert process.wait(5) == 0
    assert "hunter2" not in stack.log("redis")


def answers(connection: Redis) -> bool:
    try:
        return bool(connection.ping())
    except RedisConnectionError:
        return False
