"""The whole Procfile, driven over HTTP, ended by real signals."""

import http.client
import os
import pty
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable

import psutil
import pytest

from runner.settings import VARIABLES
from tests.project import Project
from tests.stack import LEAVE_SECONDS, ROOT, Stack, free_port
from tests.waiting import wait_for


def test_the_stack_starts_runs_a_task_and_leaves_nothing(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack()
    launcher = stack.launch()
    stack.wait_ready()
    project.add_task("buy", "visit pass")
    assert stack.wait_final(stack.post("buy"))["current_state"] == "FINISHED"
    family = psutil.Process(launcher.pid).children(recursive=True)
    assert len(family) >= 3
    os.kill(launcher.pid, signal.SIGINT)
    launcher.wait(10)
    assert stack.living() == []
    assert psutil.wait_procs(family, timeout=5)[1] == []
    assert "Traceback" not in stack.log("stack")


@pytest.mark.parametrize("by", ["closing the terminal", "a hangup after Ctrl-Z", "Ctrl-\\"])
def test_what_a_terminal_does_to_the_stack_leaves_no_process_and_a_true_state(
    project: Project, new_stack: Callable[..., Stack], by: str
) -> None:
    stack = new_stack()
    project.add_task("slow", "child deaf visit sleep:60")
    master, slave = pty.openpty()
    control = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
    )
    command = ["python", "-c", control, "python", "-m", "jobs.stack", "-e", os.devnull, "start"]
    launcher = subprocess.Popen(
        command, cwd=ROOT, env=stack.environ, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    stack.processes.append(launcher)
    os.close(slave)
    stack.wait_ready()
    running = stack.post("slow")
    wait_for(lambda: stack.run(running)["brain_states"])
    family = psutil.Process(launcher.pid).children(recursive=True)
    assert len(family) >= 3
    if by == "Ctrl-\\":
        os.write(master, b"\x1c")
    elif by == "a hangup after Ctrl-Z":
        os.kill(launcher.pid, signal.SIGSTOP)
        os.kill(launcher.pid, signal.SIGHUP)
        os.kill(launcher.pid, signal.SIGCONT)  # as the kernel does
    if by != "Ctrl-\\":
        os.close(master)
    assert launcher.wait(10) == 128 + (signal.SIGQUIT if by == "Ctrl-\\" else signal.SIGHUP)
    assert stack.living() == []
    assert psutil.wait_procs(family, timeout=5)[1] == []
    (record,) = project.root.glob("tasks/slow/runs/*/run.json")
    assert "interrupted" in record.read_text()
    if by == "Ctrl-\\":
        os.close(master)


def test_the_sample_tasks_end_as_their_names_say(new_stack: Callable[..., Stack], project: Project) -> None:
    stack = new_stack(RUNNER_COMMAND="python -m runner.cli.sample run {task_id}")
    for path in (ROOT / "tasks").glob("*/task_*.toml"):
        project.add_task(path.parent.name, toml=path.read_text())
    stack.launch()
    stack.wait_ready()
    wait_for(lambda: "event=template_ready" in stack.log("stack"), what="the template of the sample CLI")
    passes, fails = stack.post("check_the_runner"), stack.post("fail_on_purpose")
    run = stack.wait_final(passes, 60)
    assert (run["current_state"], run["error_message"], run["timing"]["warm"]) == ("FINISHED", None, True)
    run = stack.wait_final(fails, 60)
    assert (run["current_state"], run["reason"]) == ("FAILED", "test_failed")
    assert "does not contain the text 'this text is nowhere on the page'" in run["error_message"]
    assert run["brain_states"][-1]["history_elements"][-1]["history_element_state"] == "FAILED"


@pytest.mark.parametrize("order", [("worker", "web", "redis"), ("web", "redis", "worker")])
def test_the_order_of_starting_does_not_matter(
    project: Project, new_stack: Callable[..., Stack], order: tuple[str, ...]
) -> None:
    stack = new_stack()
    project.add_task("buy")
    for number, name in enumerate(order):
        stack.line(name)
        if name == "worker" and number == 0:
            wait_for(lambda: "waiting_for_redis" in stack.log("worker"))
        if name == "web":
            wait_for(lambda: stack.call("GET", "/health").status == 200)
        if "redis" not in order[: number + 1] and name == "web":
            assert stack.call("POST", "/test-runs/execute-configuration/buy/buy_default").status == 503
    stack.wait_ready()
    assert stack.wait_final(stack.post("buy"))["current_state"] == "FINISHED"


def test_the_stack_tells_what_to_do_next(project: Project, new_stack: Callable[..., Stack]) -> None:
    stack = new_stack()
    project.add_task("buy")
    stack.launch()
    stack.wait_ready()
    hint = f"curl -X POST http://127.0.0.1:{stack.port}/test-runs/execute-configuration/buy/buy_default"
    wait_for(lambda: hint in stack.log("stack"))
    said = stack.log("stack")
    assert said.index(f"Open in a browser:  http://127.0.0.1:{stack.port}/\n") < said.index(hint)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ending_the_stack_in_the_middle_of_a_run_leaves_no_process_and_a_true_state(
    project: Project, new_stack: Callable[..., Stack], number: signal.Signals
) -> None:
    stack = new_stack()
    launcher = stack.launch()
    stack.wait_ready()
    project.add_task("slow", "child deaf visit sleep:60")
    project.add_task("next", "visit pass")
    running = stack.post("slow")
    queued = stack.post("next")
    wait_for(lambda: stack.run(running)["brain_states"])
    os.kill(launcher.pid, number)
    launcher.wait(10)
    assert "sending SIGKILL" not in stack.log("stack"), "it had to kill what did not end within 5 seconds"
    assert stack.living() == []
    assert "Traceback" not in stack.log("stack")
    stack.launch()
    stack.wait_ready()
    run = stack.run(running)
    assert (run["current_state"], run["reason"], len(run["brain_states"])) == ("ERROR", "interrupted", 1)
    assert stack.wait_final(queued)["current_state"] == "FINISHED"
    assert stack.run(running) == run


def test_values_in_the_env_file_win_over_the_environment(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack()
    env_file = stack.folder / "env"
    env_file.write_text(f'PORT={stack.port}\nRUNNER_COMMAND="python -m runner.cli.sample run {{task_id}}"\n')
    stack.environ["PORT"] = str(free_port())
    stack.environ["RUNNER_COMMAND"] = "nothing that can be used"
    stack.start("python", "-m", "jobs.stack", "-e", str(env_file), "start", log="stack.log")
    stack.wait_ready()


def test_problems_of_the_settings_are_said_once_and_nothing_starts(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack(RUN_TIMEOUT="soon", REDIS_URL="redis://:hunter2@h/0?foo=bar")
    assert stack.launch().wait(20) == 1
    printed = stack.log("stack")
    assert printed.count("RUN_TIMEOUT must be") == printed.count("REDIS_URL must be") == 1
    assert "started" not in printed
    assert "hunter2" not in printed


def test_log_lines_that_nobody_reads_hold_up_no_answer(project: Project, new_stack: Callable[..., Stack]) -> None:
    """As after Ctrl-Z, when nothing empties the pipes; with LOG_LEVEL=DEBUG each request is a line."""
    stack = new_stack(LOG_LEVEL="DEBUG")
    web = subprocess.Popen(["python", "app.py"], cwd=ROOT, env=stack.environ, stderr=subprocess.PIPE)
    stack.processes.append(web)
    wait_for(lambda: stack.call("GET", "/health").status == 200)
    client = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=10)
    for _ in range(3000):
        client.request("GET", "/health")
        assert client.getresponse().read() == b'{"status":"ok"}'
    stderr = web.stderr
    assert stderr is not None
    assert b"GET /health" in os.read(stderr.fileno(), 1_000_000)
    client.request("GET", "/health")
    assert client.getresponse().status == 200
    client.close()
    wait_for(lambda: b"event=log_lines_dropped count=" in os.read(stderr.fileno(), 1_000_000), 10)
    web.terminate()
    assert web.wait(10) is not None
    stderr.close()


def test_an_idle_worker_leaves_without_its_redis(new_stack: Callable[..., Stack]) -> None:
    stack = new_stack()
    redis, worker = stack.line("redis"), stack.line("worker")
    wait_for(lambda: (stack.folder / "worker.log").exists() and "Listening" in stack.log("worker"))
    redis.terminate()
    redis.wait(5)
    os.kill(worker.pid, signal.SIGTERM)
    assert worker.wait(LEAVE_SECONDS) == 0
    assert "Traceback" not in stack.log("worker")


def test_make_run_ctrl_c_during_a_run_make_run(project: Project, new_stack: Callable[..., Stack]) -> None:
    """As a person does it, in a copy of the project: what ran is interrupted, what waited runs after the next start."""
    stack = new_stack(STOP_GRACE="5")
    copy = stack.folder / "copy"
    copy.mkdir()
    for name in ("Makefile", "Procfile", "app.py", "pyproject.toml", "constraints.txt", ".env.example"):
        shutil.copy2(ROOT / name, copy / name)
    for name in ("jobs", "runner", ".venv"):
        (copy / name).symlink_to(ROOT / name)
    ours = {name: value for name, value in stack.environ.items() if name in VARIABLES}
    (copy / ".env").write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in ours.items()))
    project.add_task("slow", "child deaf visit sleep:60")
    project.add_task("next", "visit pass")
    first = stack.start("make", "run", log="first.log", folder=copy)
    stack.wait_ready()
    running, behind, queued = stack.post("slow"), stack.post("slow"), stack.post("next")
    wait_for(lambda: stack.run(running)["brain_states"])
    os.killpg(first.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    first.wait(10)
    wait_for(lambda: stack.living() == [], 5, "the end of the whole stack")
    (project.root / "tasks" / "slow" / "behaviour").write_text("visit pass")
    second = stack.start("make", "run", log="second.log", folder=copy)
    stack.wait_ready()
    run = stack.run(running)
    assert (run["current_state"], run["reason"], len(run["brain_states"])) == ("ERROR", "interrupted", 1)
    for run_id in (behind, queued):
        assert stack.wait_final(run_id)["current_state"] == "FINISHED"
    os.killpg(second.pid, signal.SIGINT)
    second.wait(10)
    wait_for(lambda: stack.living() == [], 5, "the end of the whole stack")
    assert "Traceback" not in stack.log("first") + stack.log("second")
