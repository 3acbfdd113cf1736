"""The commands that only look."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.unit.client.conftest import Command
from tests.unit.client.scripted import BATCH, ScriptedRunner, a_batch, a_run, one_run


def says(runner: ScriptedRunner, path: str, answer: object) -> None:
    runner.always[f"GET {path}"] = (200, json.dumps(answer).encode())


def test_the_newest_batches_and_runs_are_listed(runner: ScriptedRunner, command: Command) -> None:
    says(runner, "/batches", {"items": [a_batch(a_run("login"), name="Night\x1b[2J")]})
    says(
        runner,
        "/test-runs",
        {"items": [one_run("FINISHED", duration=3.14, queued_at="2026"), one_run("ERROR", test_case=None)]},
    )
    lines = [line.split() for line in command("list").out.splitlines()]
    assert lines == [
        ["BATCH", "STATE", "QUEUED", "RUNS", "NAME"],
        [BATCH, "PENDING", "2026-11-26T08:00:00.5Z", "1", "Night"],
        [],
        ["RUN", "STATE", "QUEUED", "DURATION", "TASK"],
        ["runlogin", "FINISHED", "2026", "3.1", "s", "login"],
        ["runlogin", "ERROR"],
    ]


def test_all_pages_of_tasks_are_listed(runner: ScriptedRunner, command: Command) -> None:
    task = {"total_runs": 2, "last_run_at": None, "error": None, "test_name": "Name"}
    pages = [{"items": [{"id": name, **task}], "has_next": name == "shop"} for name in ("shop", "login")]
    runner.next["GET /tasks"] = [(200, json.dumps(page).encode()) for page in pages]
    lines = command("tasks").out.splitlines()
    assert [line.split() for line in lines[1:]] == [["login", "2", "Name"], ["shop", "2", "Name"]]
    assert [asked.path for asked in runner.asked] == [f"/tasks?page={n}&page_size=100" for n in (1, 2)]


def test_statistics_are_shown(runner: ScriptedRunner, command: Command) -> None:
    rates = {"health": "flaky", "pass_rate": 0.5, "flip_rate": None, "duration": {"p50": 65.2, "p90": None}}
    says(runner, "/stats", [{"task_id": "login", **rates}])
    assert command("stats").out.splitlines()[1].split() == ["login", "flaky", "50%", "1:05"]


def test_a_log_is_followed_to_its_end(
    runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.client.looking.LOOK_AGAIN", 0.02)
    runner.become(one_run("RUNNING"))
    log = "GET /test-runs/runlogin/log"
    runner.next[log] = [(200, b"one\nK\xc3"), (200, b"\xa4se\x1b[1m\n:"), (200, b":error::x\n")]
    runner.always[log] = (200, b"")
    threading.Timer(0.3, runner.become, [one_run("FINISHED")]).start()
    assert command("log", "runlogin", "-f").out == "one\nKäse\n: :error::x\n"
    assert [asked.path.partition("=")[2] for asked in runner.requests(log)][:3] == ["0", "6", "15"]
    runner.next[log] = [(200, b"all")]
    assert command("log", "runlogin").out == "all"


def test_a_report_is_saved(runner: ScriptedRunner, command: Command) -> None:
    runner.always[f"GET /batches/{BATCH}/report.html"] = (200, b"<html>")
    assert command("report", BATCH, "-o", "new/report.html").code == 0
    assert Path("new/report.html").read_bytes() == b"<html>"
    assert command("report", BATCH, "-o", "new/report.html/below").code == 4


def test_the_page_is_opened(runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert command("open", BATCH).out == f"{runner.url}/ui/batches/{BATCH}\n"
    runner.become(one_run("FINISHED"))
    assert command("open", "runlogin").out == f"{runner.url}/ui/runs/runlogin\n"
    assert opened == [f"{runner.url}/ui/batches/{BATCH}", f"{runner.url}/ui/runs/runlogin"]


def test_a_batch_is_stopped(runner: ScriptedRunner, command: Command) -> None:
    stop = f"POST /batches/{BATCH}/stop"
    runner.always[stop] = (202, json.dumps(runner.document).encode())
    assert command("stop", BATCH).out == f"{BATCH} is being stopped.\n"
    runner.always[stop] = (200, json.dumps(a_batch(a_run("login", "ERROR"))).encode())
    assert command("stop", BATCH).out == f"{BATCH} is stopped.\n"
    runner.always[stop] = (409, b'{"detail": "It is over."}')
    assert command("stop", BATCH)[::2] == (2, "It is over.\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(command: Command, shell: str) -> None:
    ended = command("completion", shell)
    assert ended.code == 0
    assert "_BUGNINJA_RUNNER_COMPLETE" in ended.out
    assert "bugninja-runner" in ended.out


def test_tasks_are_completed(runner: ScriptedRunner, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    says(runner, "/tasks", {"items": [{"id": "login"}, {"id": "logout"}, {"id": "shop"}]})
    monkeypatch.setenv("_BUGNINJA_RUNNER_COMPLETE", "zsh_complete")
    monkeypatch.setenv("COMP_WORDS", "bugninja-runner run lo")
    monkeypatch.setenv("COMP_CWORD", "2")
    ended = command()
    assert [line for line in ended.out.splitlines() if line.startswith("lo")] == ["login", "logout"]
    runner.always["GET /tasks"] = (401, b"")
    assert command().out.strip() == ""


def test_every_command_has_an_example() -> None:
    from runner.client.main import cli

    assert len(cli.commands) == 12
    assert [
        name for name, command in cli.commands.items() if f"Example: bugninja-runner {name}" not in (command.help or "")
    ] == ["completion"]


def test_it_is_a_module_too(runner: ScriptedRunner) -> None:
    found = subprocess.run([sys.executable, "-m", "runner.client", "--help"], capture_output=True, text=True)
    assert found.returncode == 0
    assert found.stdout.startswith("Usage: bugninja-runner ")
