"""A CLI that was forked: how it is set up, and how it ends."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest

from runner.cli import warm as module
from runner.cli.command import RUN_VARIABLES, ProcessExit
from runner.cli.process import CliProcess, run_processes
from runner.ids import RunId, TaskId
from runner.project.run_folder import RunFolder
from runner.redaction import Redactor
from tests.unit.cli.templates import Warm, finish, wait_gone
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm starts need Linux")
WAITS = "from pathlib import Path; import time\nwhile not Path('go').exists(): time.sleep(0.01)\n"
FACTS = """
import json, os, random, signal, sys
facts = {
    "argv": sys.argv, "orig": sys.orig_argv, "path": sys.path[0], "main": sys.modules["__main__"].__file__,
    "session": os.getsid(0) == os.getpid() == os.getpgrp(), "folder": os.getcwd(), "room": "BUGNINJA_TEMPLATE" in os.environ,
    "open": sorted(os.listdir("/proc/self/fd"))[:-1], "run": os.environ["BUGNINJA_RUN_ID"], "random": random.random(),
    "ignored": [n for n in range(1, 32) if signal.getsignal(n) == signal.SIG_IGN], "name": __name__,
}
print(json.dumps(facts))
"""


def test_it_is_set_up_as_if_it_had_been_started_by_itself(warm: Warm) -> None:
    template = warm.ready(FACTS)
    first, second = (json.loads(warm.run(template, number)[0]) for number in (1, 2))
    words = [str(warm.script), "run", "buy"]
    assert (first["argv"], first["orig"], first["main"]) == (words, [sys.executable, *words], words[0])
    assert (first["path"], first["folder"]) == (str(warm.code), str(warm.root))
    assert (first["session"], first["room"], first["name"]) == (True, False, "__main__")
    assert first["open"] == second["open"] == ["0", "1", "2"]
    assert first["ignored"] == [number for number in range(1, 32) if signal.getsignal(number) == signal.SIG_IGN]
    assert (first["run"], second["run"]) == ("run000000000000000000001", "run000000000000000000002")
    assert first["random"] != second["random"]


def test_others_see_its_command_and_its_variables(warm: Warm) -> None:
    template = warm.ready(WAITS)
    process = template.fork(warm.command(3))
    assert process is not None
    assert template.process is not None
    before = template.process.environ()
    environ = process.environ()
    command = warm.command(3)
    own = {name: environ.get(name) for name in RUN_VARIABLES}
    assert own == {name: command.environ[name] for name in RUN_VARIABLES}
    assert {name: environ.get(name) for name in command.environ} == dict(command.environ)
    assert process.cmdline() == [sys.executable, *command.argv[1:]]
    assert process in run_processes(Path(command.environ["BUGNINJA_RUN_FOLDER"]))
    assert not set(RUN_VARIABLES) & set(before)
    assert template.process.environ() == before, "that of the template stays"
    (warm.root / "go").touch()
    assert finish(process) == ("", 0)


def test_a_command_line_longer_than_there_is_room_shows_no_variables(warm: Warm) -> None:
    template, command = warm.ready(WAITS), warm.command()
    process = template.fork(command._replace(argv=(*command.argv, "x" * 50_000)))
    assert process is not None
    shown = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert shown.rstrip(b"\0").endswith(b"xxx")
    assert b"PATH=" not in shown
    assert b"BUGNINJA" not in shown.replace(str(warm.script).encode(), b"")
    (warm.root / "go").touch()
    finish(process)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("", 0),
        ("import sys; sys.exit(42)", 42),
        ("import os; os._exit(7)", 7),
        ("raise SystemExit('x')", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_its_code_or_its_signal_is_told(warm: Warm, code: str, expected: int) -> None:
    process = warm.ready(code).fork(warm.command())
    assert process is not None
    assert finish(process)[1] == expected
    assert process.wait(0) == expected, "as often as one asks"


def test_what_its_imports_have_printed_comes_first(warm: Warm) -> None:
    (warm.code / "prints.py").write_text("import sys; print('out'); print('err', file=sys.stderr)")
    template = warm.ready("import prints; print('run')")
    assert [warm.run(template)[0] for _ in range(2)] == ["out\nerr\nrun\n"] * 2


def test_as_long_as_it_runs_there_is_no_code(warm: Warm) -> None:
    process = warm.ready(WAITS).fork(warm.command())
    assert process is not None
    began = time.monotonic()
    with pytest.raises(psutil.TimeoutExpired):
        process.wait(0.1)
    assert 0.1 <= time.monotonic() - began < 5
    (warm.root / "go").touch()
    assert finish(process) == ("", 0)


def test_it_outlives_its_template_and_nobody_knows_how_it_ended(warm: Warm) -> None:
    template = warm.ready(f"{WAITS}print('passed')")
    process = template.fork(warm.command())
    assert process is not None
    assert template.process is not None
    os.kill(template.process.pid, signal.SIGKILL)
    wait_gone(template.process)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(psutil.TimeoutExpired):
            process.wait(0.1)
        assert time.monotonic() - began >= 0.1
    (warm.root / "go").touch()
    assert finish(process) == ("passed\n", None)
    assert process.wait() is None


def test_a_template_that_says_nothing_is_not_waited_for(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.cli.warm_process.STATUS_SECONDS", 0.2)
    template = warm.ready(WAITS)
    process = template.fork(warm.command())
    assert process is not None
    assert template.process is not None
    template.process.suspend()
    (warm.root / "go").touch()
    assert finish(process) == ("", None)


def test_a_template_that_answers_too_late_starts_nothing(
    warm: Warm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.2)
    template = warm.ready("import os; print(os.environ['BUGNINJA_RUN_ID'], end=' ', file=open('ran', 'a'))")
    assert template.process is not None
    template.process.suspend()
    assert template.fork(warm.command()) is None
    assert "event=not_forked run=run000000000000000000000 error='timed out'" in caplog.text
    template.process.resume()
    monkeypatch.setattr(module, "ANSWER_SECONDS", 20)
    process = wait_for(lambda: template.fork(warm.command(1)), 10, "the next run")
    assert process is not None
    assert finish(process) == ("", 0)
    assert (warm.root / "ran").read_text() == "run000000000000000000001 "


def test_without_the_word_to_go_it_does_nothing(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    template = warm.ready("from pathlib import Path; Path('ran').touch()")
    assert template.process is not None
    with monkeypatch.context() as patch:
        patch.setattr(module, "WarmProcess", lambda *_: os.stat("/no/such"))
        assert template.fork(warm.command()) is None
    wait_for(lambda: not _family(template.process), 10, "the end of its child")
    assert not (warm.root / "ran").exists()
    assert warm.run(template) == ("", 0)
    assert (warm.root / "ran").exists()


def test_one_run_at_a_time(warm: Warm, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    template = warm.ready(WAITS)
    first = template.fork(warm.command(1))
    assert first is not None
    assert template.fork(warm.command(2)) is None
    assert "its last run is not over" in caplog.text
    (warm.root / "go").touch()
    assert finish(first) == ("", 0)
    assert warm.run(template, 3) == ("", 0)


def test_when_its_worker_is_gone_it_ends_with_its_template(warm: Warm) -> None:
    template = warm.ready(f"import subprocess; subprocess.Popen(['setsid', 'env', '-i', 'sleep', '60'])\n{WAITS}")
    process = template.fork(warm.command())
    assert process is not None
    assert template.process is not None
    found = wait_for(lambda: [each for each in process.children() if each.name() == "sleep"], 10, "its child")
    template._control.close()
    for each in (process, *found, template.process):
        wait_gone(each)
    finish(process)


def test_an_exception_is_shown_without_lines_of_the_template(warm: Warm) -> None:
    template = warm.ready("def fail():\n    raise ValueError('x')\nfail()\n")
    printed, code = warm.run(template)
    lines = [line.strip() for line in printed.splitlines()]
    assert lines[0] == "Traceback (most recent call last):"
    assert [line for line in lines if line.startswith("File")] == [
        f'File "{warm.script}", line {number}, in {name}' for number, name in ((3, "<module>"), (2, "fail"))
    ]
    assert (lines[-1], code) == ("ValueError: x", 1)


def test_to_everybody_else_it_is_a_cli_like_any_other(warm: Warm) -> None:
    orphan = "import subprocess; subprocess.run(['sh', '-c', 'setsid env -i sleep 60 &'])\n"
    template = warm.ready(f"print('began')\n{orphan}Path = 1\nimport time; time.sleep(60)")
    assert template.process is not None
    folder = RunFolder(warm.root / "tasks", TaskId("buy"), RunId("run" + "0" * 21))
    folder.path.mkdir(parents=True)
    process = CliProcess(warm.command(), folder, Redactor(), template)
    assert process.is_warm
    sleeping = wait_for(
        lambda: [each for each in _family(template.process) if each.name() == "sleep"], 10, "its orphan"
    )
    assert process.wait(0.05) is None
    assert process.memory() > 1_000_000
    assert process.end(5) == ProcessExit(None, "SIGTERM")
    assert process.clear() == 0
    assert (folder.log.read_text(), process.printed) == ("began\n", 6)
    for each in sleeping:
        wait_gone(each)
    assert template.process.is_running()
    assert not _family(template.process)


def _family(process: psutil.Process | None) -> list[psutil.Process]:
    return [] if process is None else process.children(recursive=True)


def test_without_a_template_that_is_ready_it_is_started_as_ever(warm: Warm) -> None:
    warm.script.write_text("print('cold')")
    folder = RunFolder(warm.root / "tasks", TaskId("buy"), RunId("run" + "0" * 21))
    folder.path.mkdir(parents=True)
    process = CliProcess(warm.command(), folder, Redactor(), warm.template())
    assert not process.is_warm
    assert process.wait(20) == ProcessExit(0, None)
    process.clear()
    assert folder.log.read_text() == "cold\n"
