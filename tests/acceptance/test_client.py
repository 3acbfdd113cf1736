"""The command line, as a pipeline uses it, against the real stack."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from junitparser import JUnitXml

from tests.project import Project
from tests.stack import ROOT, Stack, free_port
from tests.waiting import wait_for

Run = Callable[..., "subprocess.CompletedProcess[str]"]
BARE = [sys.executable, "-I", "-S"]  # without what is installed


class Client:
    """Starts the command line in a folder of its own."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        folder.mkdir(exist_ok=True)
        self.environ = {**stack.environ, "BUGNINJA_RUNNER_URL": f"http://127.0.0.1:{stack.port}"}

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command, and let it go on."""
        command = [sys.executable, "-m", "runner.client", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, stdout=pipe, stderr=pipe, text=True)

    def run(self, *words: str, code: int = 0) -> str:
        """What a command prints that ends with this code."""
        return finish(self.start(*words), code)

    def batch(self, batch_id: str) -> Any:
        return self.stack.call("GET", f"/batches/{batch_id}").body

    def newest(self) -> Any:
        """The batch that was accepted last."""
        found = wait_for(lambda: self.stack.call("GET", "/batches?page_size=1").body["items"], 20, "a batch")
        return self.batch(found[0]["id"])


def finish(process: "subprocess.Popen[str]", code: int) -> str:
    """What the process has printed, now that it has ended with this code."""
    printed, progress = process.communicate(timeout=60)
    assert process.returncode == code, f"{printed}\n{progress}"
    assert "Traceback" not in progress
    return printed


def wait_for_line(process: "subprocess.Popen[str]", words: str) -> None:
    """Until the process has said this."""
    assert process.stderr is not None
    while words not in (line := process.stderr.readline()):
        assert line, f"it has ended without saying '{words}'"


@pytest.fixture
def client(project: Project, new_stack: Callable[..., Stack], tmp_path: Path) -> Client:
    """A stack with tasks, one of which passes, fails, cannot be run, and takes a minute."""
    for task, behaviour in {"good": "visit pass", "bad": "fail", "odd": "exit:3", "slow": "visit sleep:60"}.items():
        project.add_task(task, behaviour)
    stack = new_stack(RUNNER_WARM="off")
    stack.launch()
    stack.wait_ready()
    return Client(stack, tmp_path / "pipeline")


def wait_running(client: Client) -> str:
    """The ID of the newest batch, once one of its runs is under way."""
    batch_id = str(client.newest()["id"])
    wait_for(lambda: client.batch(batch_id)["counts"]["running"] > 0, 20, "a run under way")
    return batch_id


def test_the_exit_code_says_how_the_runs_ended(client: Client) -> None:
    assert "1 passed" in client.run("run", "good")
    reports = (
        "--junit",
        "out/junit.xml",
        "--ctrf",
        "out/ctrf.json",
        "--html",
        "out/report.html",
        "--artifacts",
        "out/a",
    )
    printed = client.run("run", "bad", "odd", "good", *reports, code=1)
    assert "1 passed" in printed
    assert JUnitXml.fromfile(str(client.folder / "out/junit.xml")).failures == 1
    assert json.loads((client.folder / "out/ctrf.json").read_text())["results"]["summary"]["tests"] == 3
    assert "<!doctype html>" in (client.folder / "out/report.html").read_text()
    assert len([*(client.folder / "out/a").glob("*.log")]) == 2
    client.run("run", "odd", code=3)
    client.run("run", "nothing", code=2)
    client.run("run", "--tag", "none", code=2)
    client.run("run", code=2)
    batch_id = client.newest()["id"]
    client.run("wait", batch_id, code=3)
    client.run("rerun", "--failed", batch_id, code=3)
    document = json.loads(client.run("run", "good", "--json"))
    assert document["current_state"] == "FINISHED"
    client.run("wait", document["runs"][0]["id"])


def test_a_timeout_is_no_failure_and_leaves_the_runs_going(client: Client) -> None:
    process = client.start("run", "slow", "--timeout", "2s")
    printed, progress = process.communicate(timeout=60)
    assert process.returncode == 5, progress
    batch = client.newest()
    assert not batch["finished_at"]
    assert f"wait {batch['id']}" in printed + progress
    assert batch["runs"][0]["id"] in printed + progress
    client.run("stop", batch["id"])
    client.run("wait", batch["id"], code=3)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_stops_what_it_started_and_writes_its_reports(
    client: Client, number: int, code: int
) -> None:
    process = client.start("run", "slow", "good", "--junit", "junit.xml")
    batch_id = wait_running(client)
    process.send_signal(number)
    finish(process, code)
    wait_for(lambda: client.batch(batch_id)["finished_at"], 10, "the end of the batch")
    assert client.batch(batch_id)["counts"]["stopped"] == 2
    assert (client.folder / "junit.xml").exists()
    assert not client.stack.processes_with("BUGNINJA_RUN_ID", client.batch(batch_id)["runs"][0]["id"])


def test_a_second_interruption_leaves_at_once_and_who_waits_stops_nothing(client: Client) -> None:
    waiting = client.start("run", "slow", "--detach")
    finish(waiting, 0)
    batch_id = wait_running(client)
    waiting = client.start("wait", batch_id)
    wait_for_line(waiting, "running")  # it has begun
    waiting.send_signal(signal.SIGINT)
    finish(waiting, 130)
    assert client.batch(batch_id)["counts"]["running"] == 1
    client.run("stop", batch_id)
    wait_for(lambda: client.batch(batch_id)["finished_at"], 10, "the end of the batch")
    process = client.start("run", "slow")
    wait_for(lambda: client.newest()["id"] != batch_id, 20, "another batch")
    wait_running(client)
    web = next(
        one for one in client.stack.processes_with("PORT", str(client.stack.port)) if "app.py" in one.cmdline()[-1]
    )
    web.suspend()  # so that the stop is not answered
    try:
        process.send_signal(signal.SIGINT)
        wait_for_line(process, "Once more")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        finish(process, 130)
        assert time.monotonic() - began < 2
    finally:
        web.resume()


def test_who_waits_survives_the_restart_of_web_and_redis(
    project: Project, new_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    project.add_task("long", "visit wait:go pass")
    stack = new_stack(RUNNER_WARM="off")
    lines = {name: stack.line(name) for name in ("redis", "web", "worker")}
    stack.wait_ready()
    client = Client(stack, tmp_path / "pipeline")
    process = client.start("run", "long")
    batch_id = wait_running(client)
    for name in ("web", "redis"):
        os.killpg(lines[name].pid, signal.SIGKILL)
        lines[name].wait(10)
        lines[name] = stack.line(name)
    stack.wait_ready()
    assert process.poll() is None
    (project.root / "tasks" / "long" / "go").touch()
    assert "1 passed" in finish(process, 0)
    assert client.batch(batch_id)["current_state"] == "FINISHED"


def test_forty_runs_have_forty_outcomes_when_web_and_worker_are_killed(
    project: Project, new_stack: Callable[..., Stack], tmp_path: Path
) -> None:
    for number in range(40):
        project.add_task(f"t{number:02}", "fail" if number == 7 else "pass")
    stack = new_stack(RUNNER_WARM="off")
    lines = {name: stack.line(name) for name in ("redis", "web", "worker")}
    stack.wait_ready()
    client = Client(stack, tmp_path / "pipeline")
    process = client.start("run", "--all", "--json")
    for name, passed in (("worker", 5), ("web", 15)):
        wait_for(lambda: client.newest()["counts"]["passed"] >= passed, 60, f"{passed} runs")  # noqa: B023
        os.killpg(lines[name].pid, signal.SIGKILL)
        lines[name].wait(10)
        lines[name] = stack.line(name)
        stack.wait_ready()
    printed, progress = process.communicate(timeout=100)
    assert process.returncode == 1, progress
    batch = json.loads(printed)
    assert batch["counts"]["total"] == batch["counts"]["passed"] + batch["counts"]["failed"] + batch["counts"]["error"]
    assert batch["counts"]["error"] <= 1  # that of the killed worker
    ids = [run["id"] for run in batch["runs"]]
    records = [path.parent.name for path in project.root.glob("tasks/*/runs/[a-z]*/run.json")]
    assert len({*ids}) == 40
    assert sorted(records) == sorted(ids)


def test_a_batch_is_completed_when_web_is_killed_between_two_accepts(
    project: Project, new_stack: Callable[..., Stack]
) -> None:
    for number in range(200):
        project.add_task(f"t{number:03}")
    stack = new_stack(RUNNER_WARM="off")
    lines = {name: stack.line(name) for name in ("redis", "web")}
    wait_for(lambda: (stack.call("GET", "/ready").body or {}).get("redis"), what="Redis and web")
    Thread(target=post_batch, args=(stack,), daemon=True).start()
    folder = project.root / "batches"
    wait_for(lambda: [*project.root.glob("tasks/*/runs/*/run.json")], 20, "the first run")
    os.killpg(lines["web"].pid, signal.SIGKILL)
    lines["web"].wait(10)
    (record,) = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert len([*project.root.glob("tasks/*/runs/*/run.json")]) < 200
    assert [*folder.glob("*.accepting")]
    stack.line("web")
    stack.line("worker")
    wait_for(lambda: not [*folder.glob("*.accepting")], 30, "the rest of the batch")
    assert stack.call("POST", f"/batches/{record['batch_id']}/stop").status in (200, 202)
    wait_for(lambda: stack.call("GET", f"/batches/{record['batch_id']}").body["finished_at"], 30, "its end")
    records = [path.parent.name for path in project.root.glob("tasks/*/runs/[a-z]*/run.json")]
    assert sorted(records) == sorted(run["run_id"] for run in record["runs"])


def post_batch(stack: Stack) -> None:
    body = json.dumps({"all": True}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{stack.port}/batches", body, headers)
    try:
        urllib.request.urlopen(request, timeout=30).close()
    except OSError:
        return  # it was killed


def test_one_file_is_all_that_a_pipeline_needs(client: Client) -> None:
    with urllib.request.urlopen(f"{client.environ['BUGNINJA_RUNNER_URL']}/client.pyz", timeout=10) as response:
        (client.folder / "runner.pyz").write_bytes(response.read())
    environ = {"BUGNINJA_RUNNER_URL": client.environ["BUGNINJA_RUNNER_URL"]}
    command = [*BARE, "runner.pyz", "run", "bad", "--junit", "results.xml"]
    done = subprocess.run(command, cwd=client.folder, env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    assert JUnitXml.fromfile(str(client.folder / "results.xml")).failures == 1
    master, slave = pty.openpty()
    environ["TERM"] = "xterm"
    process = subprocess.Popen(
        [*BARE, "runner.pyz", "run", "good"], cwd=client.folder, env=environ, stdout=slave, stderr=slave
    )
    os.close(slave)
    shown = b""
    while block := read_terminal(master):
        shown += block
    assert process.wait(30) == 0
    assert b"\x1b[" in shown  # the live table
    assert b"1 passed" in shown


def read_terminal(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # nobody writes any more
        return b""


def test_a_runner_that_is_not_there_is_retried_and_named(client: Client) -> None:
    client.environ["BUGNINJA_RUNNER_URL"] = f"http://127.0.0.1:{free_port()}"
    process = client.start("list")
    try:
        wait_for_line(process, "Trying again for 60 s")
        assert process.poll() is None  # it goes on for a minute
    finally:
        process.terminate()
        process.communicate(timeout=10)


def test_what_the_documentation_gives_to_each_ci_works_here(client: Client) -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "ci.md").read_text()
    lines = text.replace("http://127.0.0.1:8000", client.environ["BUGNINJA_RUNNER_URL"]).splitlines()
    scripts = [line.strip().removeprefix("- ") for line in lines if "runner.pyz" in line]
    assert len(scripts) >= 7
    client.stack.project.add_task("smoke", toml='[task]\nname = "Smoke"\ntags = ["smoke"]\n')
    for line in scripts:
        shell = re.sub(r"^steps \{ sh '(.*)' \}$", r"\1", line)
        done = subprocess.run(
            ["sh", "-c", shell], cwd=client.folder, env=client.environ, capture_output=True, timeout=60
        )
        assert done.returncode == 0, (line, done.stderr)
    assert len(JUnitXml.fromfile(str(client.folder / "results.xml"))) == 1
