"""SIGINT and SIGTERM: what was started is stopped, what is only watched is not; and terminals."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.archive import START
from tests.unit.client.scripted import BATCH, DROP, ScriptedRunner, a_batch, a_run
from tests.waiting import wait_for

Start = Callable[..., "subprocess.Popen[str]"]
STOP = f"POST /batches/{BATCH}/stop"
STOPPED = a_batch(a_run("login", "ERROR", reason="stopped", message="A user stopped the run."))
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"


def is_followed(runner: ScriptedRunner) -> bool:
    return runner.streaming


def stop_when_told(runner: ScriptedRunner) -> threading.Thread:
    """Let the batch end a moment after the stop."""

    def stop() -> None:
        wait_for(lambda: runner.requests(STOP), 10)
        time.sleep(0.1)
        runner.become(STOPPED)

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("words", [["run", "login"], ["rerun", BATCH]])
def test_what_was_started_is_stopped_and_reported(
    runner: ScriptedRunner, started: Start, number: int, code: int, words: list[str]
) -> None:
    runner.always[STOP] = (202, json.dumps(runner.document).encode())
    runner.always[f"GET /batches/{BATCH}/junit.xml"] = (200, b"<testsuites/>")
    process = started(*words, "--junit", "out.xml")
    wait_for(lambda: runner.streaming, 10)
    thread = stop_when_told(runner)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    thread.join()
    assert process.returncode == code
    assert "ERROR login (stopped)\n  A user stopped the run." in out
    assert "stopping what was started" in err
    assert Path("out.xml").read_text() == "<testsuites/>"


@pytest.mark.parametrize("words", [["wait", BATCH], ["watch", BATCH]])
def test_what_is_only_watched_is_not_stopped(runner: ScriptedRunner, started: Start, words: list[str]) -> None:
    process = started(*words)
    wait_for(lambda: runner.streaming, 10)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=5)
    assert process.returncode == 130
    assert f"python -m runner.client wait {BATCH}" in out
    assert not runner.requests("POST")


def test_a_second_signal_leaves_at_once(runner: ScriptedRunner, started: Start) -> None:
    runner.always[STOP] = (202, json.dumps(runner.document).encode())
    process = started("run", "login")
    wait_for(lambda: runner.streaming, 10)
    process.send_signal(signal.SIGINT)
    wait_for(lambda: runner.requests(STOP), 5)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=5)
    assert process.returncode == 143
    assert time.monotonic() - begun < 4


def test_a_batch_that_is_accepted_after_the_signal_is_stopped_too(runner: ScriptedRunner, started: Start) -> None:
    runner.next["POST /batches"] = [(503, b"{}")] * 3
    runner.always[STOP] = (202, json.dumps(runner.document).encode())
    process = started("run", "login")
    wait_for(lambda: runner.requests("POST /batches"), 10)
    thread = stop_when_told(runner)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    thread.join()
    assert process.returncode == 130
    assert "ERROR login (stopped)" in out


def test_a_terminal_shows_a_table_and_a_pipe_lines(runner: ScriptedRunner, started: Start) -> None:
    runner.become(a_batch(a_run("login", "RUNNING", last_goal="Open [bold]the\x1b[2J shop", steps=2)))
    main, terminal = pty.openpty()
    process = started("run", "login", stderr=terminal, env={**os.environ, "TERM": "xterm", "COLUMNS": "120"})
    os.close(terminal)
    drawn = read_until(main, b"Open [bold]the shop")
    assert HIDE in drawn
    assert b"\x1b[2J" not in drawn
    runner.become(a_batch(a_run("login", "FINISHED")))
    drawn = read_until(main, SHOW)
    out, _ = process.communicate(timeout=5)
    os.close(main)
    assert process.returncode == 0
    assert out.startswith("FINISHED after 4.2 s: 1 passed\n")
    assert b"\x1b" not in out.encode()


def test_a_terminal_gets_its_cursor_back_from_a_second_signal(runner: ScriptedRunner, started: Start) -> None:
    main, terminal = pty.openpty()
    process = started("run", "login", stderr=terminal, env={**os.environ, "TERM": "xterm"})
    os.close(terminal)
    read_until(main, HIDE)
    wait_for(lambda: runner.streaming, 10)
    process.send_signal(signal.SIGINT)
    read_until(main, b"stopping")
    process.send_signal(signal.SIGINT)
    assert SHOW in read_until(main, SHOW)
    process.communicate(timeout=5)
    os.close(main)
    assert process.returncode == 130


def test_a_terminal_that_knows_no_utf8_gets_question_marks(runner: ScriptedRunner, started: Start) -> None:
    runner.become(a_batch(a_run("login", "FAILED", message="Kein Käse \ud800 da")))
    environ = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    main, terminal = pty.openpty()
    process = started("run", "login", stderr=terminal, env={**environ, "TERM": "xterm"})
    os.close(terminal)
    drawn = read_until(main, b"K?se")
    out, _ = process.communicate(timeout=5)
    os.close(main)
    assert process.returncode == 1
    assert drawn.isascii()
    assert "Kein K" in out


def test_the_client_needs_only_click_and_rich_and_is_imported_quickly() -> None:
    code = "import sys, runner.client.main; print(*{name.partition('.')[0] for name in sys.modules})"
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, env=without_site())
    foreign = set(found.stdout.split()) - set(sys.stdlib_module_names)
    assert found.returncode == 0, found.stderr
    assert foreign == {"__main__", "click", "runner"}


def without_site() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def read_until(terminal: int, text: bytes, seconds: float = 10) -> bytes:
    """What is written to the terminal, up to and with the text."""
    read, deadline = b"", time.monotonic() + seconds
    while text not in read:
        assert time.monotonic() < deadline, read
        if select.select([terminal], [], [], 0.1)[0]:
            read += os.read(terminal, 65536)
    return read


def test_a_reader_that_leaves_ends_nothing(runner: ScriptedRunner, started: Start) -> None:
    runner.always[f"GET /batches/{BATCH}/junit.xml"] = (200, b"<testsuites/>")
    process = started("run", "login", "--junit", "out.xml")
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    process.stderr.close()
    wait_for(lambda: runner.streaming, 10)
    runner.become(a_batch(a_run("login", "FINISHED")))
    assert process.wait(10) == 0
    assert Path("out.xml").read_text() == "<testsuites/>"


@pytest.mark.parametrize("state", ["FINISHED", "FAILED"])
def test_a_full_disk_below_the_output_is_said(runner: ScriptedRunner, started: Start, state: str) -> None:
    runner.become(a_batch(a_run("login", state)))
    with Path("/dev/full").open("w") as full:
        process = started("run", "login", "--json", "-q", stdout=full)
        _, err = process.communicate(timeout=10)
    assert process.returncode == (4 if state == "FINISHED" else 1)
    assert err == "The output could not be written: No space left on device.\n"


def test_a_closed_output_ends_nothing(runner: ScriptedRunner, started: Start) -> None:
    runner.become(a_batch(a_run("login", "FINISHED")))
    process = started("run", "login", preexec_fn=lambda: os.closerange(0, 3))
    assert process.wait(10) == 0


def test_a_closed_terminal_ends_nothing_under_nohup(runner: ScriptedRunner, started: Start) -> None:
    process = started("run", "login", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    wait_for(lambda: runner.streaming, 10)
    process.send_signal(signal.SIGHUP)
    runner.become(a_batch(a_run("login", "FINISHED")))
    assert process.wait(10) == 0


def test_a_report_may_go_to_an_output_that_is_a_file(runner: ScriptedRunner, started: Start) -> None:
    runner.become(a_batch(a_run("login", "FINISHED")))
    runner.always[f"GET /batches/{BATCH}/junit.xml"] = (200, b"<testsuites/>")
    with Path("out").open("a") as out:
        # never /dev/stdout itself: a fault here would replace that of the machine
        process = started("wait", BATCH, "--junit", f"/dev/fd/{out.fileno()}", stdout=out, pass_fds=[out.fileno()])
        assert process.wait(10) == 0
    assert Path("out").read_text().endswith("\n<testsuites/>")
    assert Path("out").read_text().startswith("FINISHED")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, -1)])
def test_reports_that_hang_can_be_left(runner: ScriptedRunner, started: Start, number: int, code: int) -> None:
    runner.become(a_batch(a_run("login", "FINISHED")))
    runner.always[f"GET /batches/{BATCH}/junit.xml"] = DROP
    process = started("run", "login", "--junit", "out.xml")
    wait_for(lambda: runner.requests(f"GET /batches/{BATCH}/junit.xml"), 10)
    process.send_signal(number)
    out, err = process.communicate(timeout=5)
    assert process.returncode == code
    assert "1 passed" in out
    assert "Traceback" not in err


def test_a_pipe_that_does_not_block_gets_all(runner: ScriptedRunner, started: Start) -> None:
    runner.become(a_batch(a_run("login", "FINISHED", message="x" * 100_000)))
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = started("wait", BATCH, "--json", "-q", stdout=writer)
    os.close(writer)
    with open(reader) as pipe:  # noqa: PTH123 (a descriptor)
        assert json.loads(pipe.read()) == runner.document
    assert process.wait(10) == 0


def test_ctrl_c_while_the_program_is_loaded_is_quiet(tmp_path: Path) -> None:
    (tmp_path / "runner" / "client").mkdir(parents=True)
    (tmp_path / "runner" / "client" / "main.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)")
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", START], env=environ, cwd=tmp_path, capture_output=True, check=False)
    assert (ended.returncode, ended.stderr) == (-signal.SIGINT, b"")
