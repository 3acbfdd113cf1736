"""The template of a worker: when there is one, and when there is another one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from runner.cli import warm as module
from runner.cli.children import Children
from runner.cli.warm_process import receive
from tests.unit.cli.templates import Warm, finish, wait_gone
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm starts need Linux")
HELLO = "print('hello')"


def test_one_that_is_ready_forks_for_each_run_and_ends_with_its_worker(warm: Warm) -> None:
    template = warm.ready("import sys; print(*sys.argv[1:])")
    process = template.process
    assert process is not None
    assert [warm.run(template, number) for number in range(3)] == [("run buy\n", 0)] * 3
    assert template.process == process
    template.end()
    assert template.process is None
    assert not process.is_running()
    assert template.fork(warm.command()) is None
    template.end()


def test_until_it_is_ready_nothing_is_forked(warm: Warm) -> None:
    warm.script.write_text(HELLO)
    template = warm.template()
    assert template.fork(warm.command()) is None
    template.keep()
    assert template.process is None
    assert template.fork(warm.command()) is None


def test_a_run_with_another_program_or_environment_is_not_its_own(warm: Warm) -> None:
    template, command = warm.ready(), warm.command()
    assert template.fork(command._replace(argv=(sys.executable, "other.py", "run", "buy"))) is None
    assert template.fork(warm.command(LANG="tlh")) is None
    assert template.fork(command._replace(environ={**command.environ, "MORE": "1"})) is None
    process = template.fork(command._replace(argv=(*command.argv[:2], "replay")))
    assert process is not None
    assert finish(process) == ("hello\n", 0)


@pytest.mark.parametrize(
    "path",
    [
        "code/cli.py",
        "code/module.py",
        "code/package/data.md",
        "project/bugninja.toml",
        "project/.env",
        "project/pyproject.toml",
        "uv.lock",
        ".env",
        "site-packages/thing-1.dist-info/RECORD",
        "site-packages/other.pth",
    ],
)
def test_what_has_changed_is_started_cold_and_then_imported_anew(
    tmp_path: Path, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "code" / "package").mkdir(parents=True)
    (tmp_path / "code" / "package" / "__init__.py").write_text("")
    (tmp_path / "code" / "package" / "data.md").write_text("")
    (tmp_path / "code" / "module.py").write_text("TEXT = 'old'")
    (tmp_path / "site-packages" / "thing-1.dist-info").mkdir(parents=True)
    shutil.rmtree(tmp_path / "code" / "__pycache__", ignore_errors=True)
    warm = SomewhereElse(tmp_path, PYTHONPATH=str(tmp_path / "site-packages"))
    try:
        template = warm.ready("import module, package; print('hello')")
        first = template.process
        assert warm.run(template) == ("hello\n", 0)
        (tmp_path / path).write_text("print('another')" if path.endswith("cli.py") else "X = 1\n")
        assert template.fork(warm.command()) is None
        changed = tmp_path / path
        assert f"{changed} has changed" in caplog.text or f"{changed.parent} has changed" in caplog.text
        wait_for(lambda: warm.is_ready(template) and template.process != first, 20, "another template")
        assert warm.run(template) == ("another\n" if path.endswith("cli.py") else "hello\n", 0)
    finally:
        warm.close()


class SomewhereElse(Warm):
    """In a folder that has some of the code already."""

    def __init__(self, folder: Path, **variables: str) -> None:
        shutil.move(folder / "code", folder / "there")
        super().__init__(folder, **variables)
        shutil.copytree(folder / "there", self.code, dirs_exist_ok=True)


def test_a_source_that_changes_while_it_is_imported_has_changed(warm: Warm) -> None:
    (warm.code / "module.py").write_text("from pathlib import Path\nPath(__file__).touch()\n")
    template = warm.ready("import module")
    assert template.fork(warm.command()) is None


def test_one_whose_sources_always_change_is_of_no_use(warm: Warm, caplog: pytest.LogCaptureFixture) -> None:
    template = warm.ready()
    for number in range(module.MOST_CHANGES):
        assert template.process is not None
        process = template.process
        warm.script.write_text(f"print({number})")
        assert template.fork(warm.command()) is None
        wait_gone(process)
        if number < module.MOST_CHANGES - 1:
            wait_for(lambda process=process: warm.is_ready(template) and template.process != process, 20)  # type: ignore[misc]
    template.keep(wanted=True)
    assert f"event=cold error='{warm.script} has changed, again and again'" in caplog.text
    assert template.process is None
    template.keep(wanted=True)
    assert template._launched is None


def test_its_last_words_are_read_although_it_ends_just_then(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    template = warm.ready()
    first = template.process
    assert first is not None
    asked = list[object]()

    def change_after_a_look(where: socket.socket) -> dict[str, Any] | None:
        told = receive(where)
        if where is template._control and told is None and not asked:
            warm.script.write_text("print('other')")
            asked.append(template.fork(warm.command()))
            wait_gone(first)
        return told

    with monkeypatch.context() as patch:
        patch.setattr(module, "receive", change_after_a_look)
        template.keep()
    assert asked == [None]
    wait_for(lambda: warm.is_ready(template) and template.process != first, 20, "another template, without a run")


def test_changes_between_runs_are_no_such_thing(warm: Warm) -> None:
    template = warm.ready()
    for number in range(module.MOST_CHANGES + 1):
        assert warm.run(template) == ("hello\n", 0)
        process = template.process
        warm.script.write_text(f"print('hello')  # {number}")
        assert template.fork(warm.command()) is None
        wait_for(lambda process=process: warm.is_ready(template) and template.process != process, 20)  # type: ignore[misc]
    assert warm.run(template) == ("hello\n", 0)


def test_it_is_replaced_after_some_runs(
    warm: Warm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RUNS", 2)
    template = warm.ready()
    first = template.process
    for _ in range(2):
        template.keep(wanted=True)
        assert template.process == first
        assert warm.run(template) == ("hello\n", 0)
    wait_for(lambda: warm.is_ready(template) and template.process != first, 20, "another template")
    assert "event=template_ended error='it has started 2 runs'" in caplog.text


def test_it_is_replaced_when_it_has_grown(
    warm: Warm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    template = warm.ready()
    first = template.process
    template.keep()
    assert template.process == first
    monkeypatch.setattr(module, "GROWTH", 0.9)
    template.keep()
    monkeypatch.undo()
    caplog.set_level("INFO")
    wait_for(lambda: warm.is_ready(template) and template.process != first, 20, "another template")


def test_one_without_runs_gives_its_memory_back_until_there_is_one(
    warm: Warm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    template = warm.ready()
    monkeypatch.setattr(module, "IDLE_SECONDS", -1)
    template.keep()
    assert "event=template_ended error='there was no run for long'" in caplog.text
    template.keep()
    assert template._launched is None
    monkeypatch.setattr(module, "IDLE_SECONDS", 3600)
    wait_for(lambda: warm.is_ready(template, wanted=True), 20, "another template")
    template.keep()
    assert template.process is not None


def test_one_that_was_stopped_is_replaced(warm: Warm, caplog: pytest.LogCaptureFixture) -> None:
    template = warm.ready()
    first = template.process
    assert first is not None
    first.suspend()
    wait_for(lambda: warm.is_ready(template) and template.process != first, 20, "another template")
    assert "event=template_ended error='it was stopped'" in caplog.text
    assert not first.is_running()


def test_one_that_was_killed_comes_back_when_there_is_a_run(warm: Warm, caplog: pytest.LogCaptureFixture) -> None:
    template = warm.ready()
    assert template.process is not None
    os.kill(template.process.pid, signal.SIGKILL)
    wait_gone(template.process)
    assert template.fork(warm.command()) is None
    template.keep()
    assert "event=template_ended error='it was killed'" in caplog.text
    template.keep()
    assert template._launched is None
    wait_for(lambda: warm.is_ready(template, wanted=True), 20, "another template")


def test_one_that_takes_no_more_requests_makes_nobody_wait(warm: Warm) -> None:
    template = warm.ready()
    assert template.process is not None
    template.process.suspend()
    with suppress(BlockingIOError):
        while True:
            template._control.send(b"{}" * 1000, socket.MSG_DONTWAIT)
    asking = threading.Thread(target=lambda: template.fork(warm.command()), daemon=True)
    asking.start()
    asking.join(10)
    assert not asking.is_alive()


def test_one_that_answers_too_late_has_started_nothing(warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what its modules do at their end."""
    ended = warm.root / "ended"
    (warm.code / "noted.py").write_text(f"import atexit; atexit.register(lambda: open({str(ended)!r}, 'w').close())")
    template = warm.ready("import noted; print('hello')")
    assert template.process is not None
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.1)
    template.process.suspend()
    assert template.fork(warm.command()) is None
    template.process.resume()
    monkeypatch.undo()
    os.set_blocking(template._control.fileno(), True)
    assert receive(template._control) == {"runs": 1}
    wait_for(lambda: template.process is not None and not template.process.children(), 10, "the end of its child")
    assert not ended.exists()
    assert warm.run(template) == ("hello\n", 0)
    assert ended.exists()


def test_a_template_that_ends_while_one_looks_has_left_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        children = Children(psutil.Process(process.pid))

        def glob(*_: object) -> None:
            process.kill()
            process.wait()
            raise FileNotFoundError

        monkeypatch.setattr(Path, "glob", glob)
        assert not children.are_left()
