"""The process of the CLI: started, followed, and ended with all that it has started."""

import errno
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runner.cli import process as module
from runner.cli.command import Command, ProcessExit
from runner.cli.process import CliProcess, end_processes, run_of, run_processes, runs_with_processes
from runner.errors import CommandNotStarted
from runner.ids import RunId, TaskId
from runner.project.run_folder import RunFolder
from runner.redaction import Redactor, Secret
from tests.waiting import wait_for

Start = Callable[..., CliProcess]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "tasks", TaskId("buy"), RunId("r" * 24))
    folder.path.mkdir(parents=True)
    return folder


@pytest.fixture
def start(folder: RunFolder) -> Iterator[Start]:
    """Starts a script as the CLI of the run, and waits until it has said `ready` where it does."""
    started: list[CliProcess] = []

    def run(script: str, *secrets: Secret) -> CliProcess:
        process = CliProcess(command(folder, "sh", "-c", script), folder, Redactor(secrets))
        started.append(process)
        if "echo ready" in script:
            wait_for(lambda: b"ready" in folder.log.read_bytes(), 10, "the script")
        return process

    yield run
    for process in started:
        process.end(0)
        process.clear()


def command(folder: RunFolder, *argv: str) -> Command:
    environ = {"PATH": os.environ["PATH"], "BUGNINJA_RUN_FOLDER": str(folder.path)}
    return Command(argv, environ, folder.tasks_root)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def pid_in(path: Path) -> int:
    return int(wait_for(lambda: path.exists() and path.read_text(), 10, path.name))


def test_how_it_ends_is_its_code_or_the_signal(start: Start) -> None:
    assert start("exit 3").wait(10) == ProcessExit(3, None)
    assert start("exit 0").wait(10) == ProcessExit(0, None)
    assert start("kill -KILL $$").wait(10) == ProcessExit(None, "SIGKILL")
    process = start("exec sleep 60")
    assert process.wait(0.01) is None, "it still runs"
    assert process.end(10) == ProcessExit(None, "SIGTERM")


def test_it_has_a_session_of_its_own_no_input_and_one_log(start: Start, folder: RunFolder) -> None:
    process = start("echo out; echo secret-word >&2; cat; pwd; echo ready; exec sleep 60", Secret("S", "secret-word"))
    assert os.getsid(process.pid) == os.getpgid(process.pid) == process.pid
    assert process.end(10) == ProcessExit(None, "SIGTERM")
    assert process.clear() == 0
    lines = folder.log.read_text().splitlines()
    assert (lines[0], lines[2:]) == ("out", [str(folder.tasks_root), "ready"])
    assert "secret-word" not in lines[1]
    assert process.printed == len(f"out\nsecret-word\n{folder.tasks_root}\nready\n")
    assert process.log_problem is None


def test_its_log_is_complete_when_it_is_cleared(start: Start, folder: RunFolder) -> None:
    process = start("head -c 200000 /dev/zero | tr '\\0' x")
    assert process.wait(10) == ProcessExit(0, None)
    assert process.clear() == 0
    assert (process.printed, folder.log.stat().st_size) == (200000, 200000)


def test_a_log_that_takes_no_more_says_so(start: Start, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("runner.cli.log_file.os.write", full)
    process = start("echo x")
    assert process.wait(10) == ProcessExit(0, None)
    process.clear()
    assert process.log_problem == "No space left on device"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("no-such-program", "no such program on the PATH."),
        ("/", "Permission denied."),
        ("nul\0byte", "embedded null byte."),
    ],
)
def test_a_program_that_cannot_be_started_is_named(folder: RunFolder, program: str, why: str) -> None:
    with pytest.raises(CommandNotStarted) as caught:
        CliProcess(command(folder, program), folder, Redactor([]))
    assert str(caught.value) == str(CommandNotStarted(program, why))


def test_what_else_is_missing_for_a_start_is_named(folder: RunFolder) -> None:
    elsewhere = command(folder, "true")._replace(folder=folder.tasks_root / "none")
    with pytest.raises(CommandNotStarted) as caught:
        CliProcess(elsewhere, folder, Redactor([]))
    assert str(caught.value) == str(CommandNotStarted("true", f"{elsewhere.folder} is missing."))
    other = folder._replace(run_id=RunId("o" * 24))
    with pytest.raises(CommandNotStarted) as caught:
        CliProcess(command(folder, "true"), other, Redactor([]))
    why = "its log cannot be written (No such file or directory)."
    assert str(caught.value) == str(CommandNotStarted("true", why))
    folder.log.unlink()
    os.mkfifo(folder.log)
    with pytest.raises(CommandNotStarted) as caught:
        CliProcess(command(folder, "true"), folder, Redactor([]))
    assert str(caught.value) == str(CommandNotStarted("true", "its log cannot be written (it is no regular file)."))


def test_it_may_end_by_itself_within_the_grace(start: Start) -> None:
    process = start("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done")
    began = time.monotonic()
    assert process.end(30) == ProcessExit(7, None)
    assert time.monotonic() - began < 20


def test_the_grace_becomes_shorter_when_there_is_no_time_for_it_any_more(start: Start) -> None:
    process = start("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    began, told = time.monotonic(), list[float]()

    def at_most() -> float:
        told.append(math.inf if len(told) < 2 else 0.1)
        return told[-1]

    assert process.end(60, at_most) == ProcessExit(None, "SIGKILL")
    assert time.monotonic() - began < 20
    assert told == [math.inf, math.inf, 0.1]


def test_it_is_killed_after_the_grace(start: Start) -> None:
    process = start("trap '' TERM; echo ready; while :; do sleep 0.01; done")
    began = time.monotonic()
    assert process.end(0.2) == ProcessExit(None, "SIGKILL")
    assert time.monotonic() - began >= 0.2


def test_one_that_does_not_go_after_sigkill_counts_as_killed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    process = start("exec sleep 60")
    with monkeypatch.context() as patch:
        patch.setattr(CliProcess, "wait", lambda *_: None)
        assert process.end(0) == ProcessExit(None, "SIGKILL")


def test_the_others_of_its_group_may_end_by_themselves_too(start: Start, folder: RunFolder) -> None:
    """The CLI's own child gets the signal at once, and need not hear of it from its parent."""
    said = folder.path / "said"
    child = f"trap 'echo told > {said}; exit' TERM; echo ready; while :; do sleep 0.01; done"
    process = start(f"trap '' TERM; (trap - TERM; sh -c \"{child}\") & while :; do sleep 0.01; done")
    process.end(0.5)
    assert said.read_text() == "told\n"


def test_an_end_that_has_come_already_is_told_again(start: Start) -> None:
    process = start("exit 3")
    assert process.wait(10) == ProcessExit(3, None)
    assert process.end(0) == ProcessExit(3, None)


def test_descendants_without_the_folder_in_their_environment_are_ended_too(start: Start, folder: RunFolder) -> None:
    found = folder.path / "pid"
    child = f"sh -c 'echo \\$\\$ > {found}; exec sleep 60'; true"
    script = f'env -i setsid sh -c "{child}" & echo ready; while :; do sleep 0.01; done'
    process = start(script)
    pid = pid_in(found)
    wait_for(lambda: run_of(psutil.Process(pid)) is None and psutil.Process(pid).name() == "sleep", 10, "the child")
    assert os.getsid(pid) != process.pid
    assert {process.pid, pid} <= {each.pid for each in run_processes(folder.path)}
    process.end(5)
    assert not is_alive(pid)


def test_a_child_that_outlives_its_parent_is_ended_when_it_is_cleared(start: Start, folder: RunFolder) -> None:
    found = folder.path / "pid"
    process = start(f"setsid sh -c 'echo $$ > {found}; exec sleep 60' & while [ ! -s {found} ]; do sleep 0.01; done")
    assert process.wait(10) == ProcessExit(0, None)
    pid = pid_in(found)
    assert is_alive(pid)
    assert folder.path in runs_with_processes()
    assert process.clear() == 0
    assert not is_alive(pid)
    assert run_processes(folder.path) == set()


def test_what_is_started_while_all_is_ended_is_ended_as_well(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {**os.environ, "BUGNINJA_RUN_FOLDER": str(folder.path)}
    processes = [subprocess.Popen(["sleep", "60"], env=environ)]
    kill = module._kill

    def start_another(process: psutil.Process) -> None:
        if len(processes) < 3:
            processes.append(subprocess.Popen(["sleep", "60"], env=environ))
        kill(process)

    monkeypatch.setattr(module, "_kill", start_another)
    assert end_processes(folder.path) == 0
    assert len(processes) == 3
    assert not any(is_alive(process.pid) for process in processes)
    for process in processes:
        process.wait()


def test_only_what_was_named_or_is_of_the_run_is_ended(folder: RunFolder) -> None:
    named, other = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    try:
        assert end_processes(folder.path, also=[psutil.Process(named.pid)]) == 0
        assert not is_alive(named.pid)
        named.wait()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_what_cannot_be_ended_is_counted_in_time(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {**os.environ, "BUGNINJA_RUN_FOLDER": str(folder.path)}
    processes = [subprocess.Popen(["sleep", "60"], env=environ) for _ in range(2)]
    monkeypatch.setattr(module, "_kill", lambda _: None)
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.3)
    began = time.monotonic()
    try:
        wait_for(lambda: len(run_processes(folder.path)) == 2, 10, "both")
        assert end_processes(folder.path) == 2
        assert time.monotonic() - began >= 0.3
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere there is no quicker look")
def test_processes_of_no_run_cost_no_more_than_a_quick_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(process: psutil.Process) -> dict[str, str]:
        raise AssertionError(process)

    monkeypatch.setattr(psutil.Process, "environ", slow)
    assert run_of(psutil.Process()) is None
    assert run_of(psutil.Process(os.getppid())) is None
