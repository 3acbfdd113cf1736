"""The launcher: the lines of the Procfile are started together, and end together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.stack import SIGNALS, chosen, main, run_stack
from runner.errors import Invalid
from tests.stack import ROOT

LINES = {"web": "serve", "worker": "work"}


@pytest.fixture(autouse=True)
def _signals_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def launch(**commands: str) -> int:
    return run_stack(commands, os.environ)


def test_all_end_when_one_of_them_ends(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(web="echo one; echo two >&2; exit 3", worker="exec sleep 60") == 3
    printed = capsys.readouterr().out
    for text in ("web    | one", "web    | two", "system | web stopped (rc=3)", "sending SIGTERM to worker"):
        assert text in printed
    assert "SIGKILL" not in printed
    assert "sending SIGTERM to web" not in printed
    assert printed.index("| two") < printed.index("web stopped")
    assert printed.rstrip().endswith("worker stopped (rc=-15)")


def test_the_exit_code_of_a_process_that_a_signal_ended_is_as_in_a_shell() -> None:
    assert launch(web="kill -9 $$") == 137


@pytest.mark.parametrize("number", SIGNALS)
def test_each_signal_that_ends_a_program_ends_all(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch(web=f"kill -{number.value} $PPID; exec sleep 60", worker="exec sleep 60") == 128 + number
    printed = capsys.readouterr().out
    assert "sending SIGTERM to web" in printed
    assert "sending SIGTERM to worker" in printed


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert launch(web="kill -HUP $PPID; sleep 0.3; exit 5") == 5


def test_what_does_not_end_in_time_is_killed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.stack.KILL_SECONDS", 0.3)
    began = time.monotonic()
    assert launch(web="trap '' TERM; kill -TERM $PPID; sleep 60; sleep 60") == 143
    assert 0.3 <= time.monotonic() - began < 20
    printed = capsys.readouterr().out
    assert printed.index("sending SIGTERM to web") < printed.index("sending SIGKILL to web")


def test_lines_are_printed_whole_whatever_they_are_like(capsys: pytest.CaptureFixture[str]) -> None:
    launch(web="printf on; sleep 0.3; echo e; printf '\\377end'", worker="exec sleep 60")
    printed = capsys.readouterr().out
    assert "web    | one\n" in printed
    assert "web    | \ufffdend\n" in printed


def test_an_output_that_takes_nothing_holds_up_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    full = os.fdopen(writing, "w")
    monkeypatch.setattr("sys.stdout", full)
    began = time.monotonic()
    assert launch(web="sleep 0.5; kill -TERM $PPID; exec sleep 60", worker="exec yes") == 143
    assert time.monotonic() - began < 20
    os.close(reading)  # which ends the write
    with suppress(BrokenPipeError):
        full.close()


def test_an_output_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    gone = os.fdopen(writing, "w")
    monkeypatch.setattr("sys.stdout", gone)
    assert launch(web="echo one; sleep 0.3; echo two; exit 4") == 4
    with pytest.raises(BrokenPipeError):
        gone.close()


def test_lines_are_chosen_by_name_and_number() -> None:
    assert chosen(LINES, [], []) == {"web.1": "serve", "worker.1": "work"}
    assert chosen(LINES, ["worker"], ["worker=2"]) == {"worker.1": "work", "worker.2": "work"}
    assert chosen(LINES, [], ["web=0,worker=1"]) == {"worker.1": "work"}


@pytest.mark.parametrize("count", ["redis=1", "web", "web=x", "web=-1", "=1"])
def test_a_number_that_makes_no_sense_is_refused(count: str) -> None:
    with pytest.raises(Invalid, match="-c must be NAME=NUMBER, with NAME one of web, worker, got"):
        chosen(LINES, [], [count])


def test_a_line_that_does_not_exist_is_refused() -> None:
    with pytest.raises(Invalid, match="must be one of web, worker, got redis"):
        chosen(LINES, ["redis"], [])
    with pytest.raises(Invalid, match="at least one"):
        chosen(LINES, [], ["web=0,worker=0"])


def test_all_lines_get_the_variables_of_the_file_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("KEPT", "yes")
    (tmp_path / "Procfile").write_text("a: echo $PORT $KEPT $PASSWORD\nb: sleep 0.2; echo $PORT; exec sleep 60\n")
    (tmp_path / ".env").write_text("export PORT=9123\nPASSWORD='$x'\n")
    assert main(["start", "-c", "a=2"]) == 0
    printed = capsys.readouterr().out
    assert "a.1    | 9123 yes $x" in printed
    assert "a.2    | 9123 yes $x" in printed
    assert main(["start", "a"]) == 0
    (tmp_path / ".env").write_text("")
    monkeypatch.delenv("PORT")
    (tmp_path / "Procfile").write_text("a: echo port=${PORT-none}\n")
    assert main(["start"]) == 0
    assert "port=none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("files", "words", "sentence"),
    [
        ({".env": "A='x"}, ["start"], ".env, line 1, must be NAME=value"),
        ({".env": "A='x"}, ["run", "true"], ".env, line 1, must be NAME=value"),
        ({".env": "PORT=x\nREDIS_URL=redis://h?foo=1"}, ["start"], "PORT must be"),
        ({".env": "PORT=x\nREDIS_URL=redis://h?foo=1"}, ["start"], "REDIS_URL must be"),
        ({}, ["start"], "The Procfile cannot be read here: No such file"),
        ({"Procfile": "a: true"}, ["start", "b"], "must be one of a, got b"),
        ({}, ["run", "/no/such/program"], "The command '/no/such/program' could not be started: No such file"),
    ],
)
def test_what_cannot_be_used_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], words: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert sentence in str(caught.value.code)


def test_a_command_is_run_with_the_variables_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "my.env").write_text("A=a b\n")
    words = ["-e", str(tmp_path / "my.env"), "run", "sh", "-c", 'echo "$A"; exit 7']
    command = [sys.executable, "-m", "jobs.stack", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "a b\n", "")
