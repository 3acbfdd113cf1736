"""Fixtures: a scripted runner, and the command line in this process or in one of its own."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runner.client import connection
from runner.client.main import main
from tests.stack import ROOT
from tests.unit.client.scripted import ScriptedRunner, a_batch, a_run


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def runner() -> Iterator[ScriptedRunner]:
    """A runner with a batch that waits."""
    runner = ScriptedRunner(a_batch(a_run("login"), a_run("shop")))
    yield runner
    runner.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runner: ScriptedRunner) -> None:
    """Nothing of the machine's, and the address of the runner."""
    for name in (
        "GITHUB_ACTIONS",
        "CI",
        "BUGNINJA_RUNNER_TOKEN",
        "NO_COLOR",
        "GITHUB_STEP_SUMMARY",
        "GITHUB_RUN_ID",
        "GITLAB_CI",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BUGNINJA_RUNNER_URL", runner.url)
    monkeypatch.setattr(connection, "PAUSES", (0.02, 0.05))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Runs the command line in this process: `command("run", "login")`."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["bugninja-runner", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, out, err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts the command line in a process of its own."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str, **more: Any) -> "subprocess.Popen[str]":
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        processes.append(subprocess.Popen([sys.executable, "-m", "runner.client", *words], **(pipes | more)))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()
