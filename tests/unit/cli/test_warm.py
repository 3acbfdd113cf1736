"""The template of a worker: when there is one, when it is replaced, and when there will be none any more."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli import warm as module
from runner.redaction import Secret
from tests.unit.cli.templates import Warm, finish, wait_gone
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm starts need Linux")
HELLO = "print('hello')"


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Warm]:
    warm = Warm(tmp_path)
    yield warm
    warm.close()


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


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


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("import broken", "ValueError: <secret>PIN</secret> is wrong"),
        ("import leaves", "its imports have ended its process"),
        ("import exits", "SystemExit: 3"),
        ("import threads", "it has 2 threads once it is imported"),
        ("import starts", "it has started other processes once it is imported"),
        ("import connects", "once it is imported"),
        ("import opens", "/code/cli.py open once it is imported"),
        ("import reads", "it reads BUGNINJA_RUN_ID while it is imported"),
        ("import asks", "it reads BUGNINJA_TASK_ID while it is imported"),
        ("this is no Python", "SyntaxError: invalid syntax (cli.py, line 1)"),
    ],
)
def test_a_cli_that_cannot_be_forked_is_started_cold(
    warm: Warm, code: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    modules = {
        "broken": "raise ValueError('hunter2-secret is wrong')",
        "leaves": "import os; os._exit(0)",
        "exits": "import sys; sys.exit(3)",
        "threads": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()",
        "starts": "import subprocess; P = subprocess.Popen(['sleep', '60'])",
        "connects": "import socket; S = socket.socketpair()",
        "opens": f"F = open({str(warm.script)!r})",
        "reads": "import os; X = os.environ.get('BUGNINJA_RUN_ID')",
        "asks": "import os; X = 'BUGNINJA_TASK_ID' in os.environ",
    }
    for name, text in modules.items():
        (warm.code / f"{name}.py").write_text(text)
    warm.script.write_text(code)
    template = warm.template(Secret("PIN", "hunter2-secret"))
    wait_for(lambda: warm.is_ready(template) or template._program is None, 20, "the end of its imports")
    assert "event=cold" in caplog.text
    assert why in caplog.text.replace("\\'", "'")
    assert template.fork(warm.command()) is None
    template.keep(wanted=True)
    assert template._launched is None, "there is no other try"


def test_a_thread_that_ends_before_a_fork_is_no_matter(warm: Warm) -> None:
    """As those of OpenBLAS do, which NumPy has."""
    code = (
        "import os, threading\nleave = threading.Event()\nthread = threading.Thread(target=leave.wait)\nthread.start()\n"
        "os.register_at_fork(before=lambda: (leave.set(), thread.join()))\n"
    )
    (warm.code / "threads.py").write_text(code)
    template = warm.ready("import threads; print('hello')")
    assert warm.run(template) == ("hello\n", 0)


def test_imports_that_take_too_long_are_the_last(
    warm: Warm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "IMPORT_SECONDS", 0.3)
    (warm.code / "slow.py").write_text("import time; time.sleep(60)")
    warm.script.write_text("import slow")
    template = warm.template()
    template.keep()
    assert template._launched is not None
    process = template._launched

    def is_over() -> bool:
        template.keep()
        return template._launched is None

    wait_for(is_over, 10, "its end")
    assert "event=cold error='its imports took more than 0 seconds'" in caplog.text
    assert process.returncode == -signal.SIGKILL


def test_further_modules_are_imported_if_there_are_such(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warm = Warm(tmp_path, RUNNER_WARM_IMPORTS="late, nowhere.at.all, json.nothing")
    (warm.code / "late.py").write_text("")
    try:
        template = warm.ready("import sys; print('late' in sys.modules)")
        assert warm.run(template) == ("True\n", 0)
        assert "missing=nowhere.at.all,json.nothing" in caplog.text
    finally:
        warm.close()


def test_a_further_module_that_cannot_be_imported_is_a_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    warm = Warm(tmp_path, RUNNER_WARM_IMPORTS="late")
    (warm.code / "late.py").write_text("import nowhere")
    warm.script.write_text(HELLO)
    try:
        template = warm.template()
        wait_for(lambda: warm.is_ready(template) or template._program is None, 20, "the end of its imports")
        assert "ModuleNotFoundError: No module named 'nowhere'" in caplog.text.replace("\\'", "'")
    finally:
        warm.close()


def test_modules_that_bugninja_has_are_no_matter_for_others(warm: Warm, caplog: pytest.LogCaptureFixture) -> None:
    warm.ready()
    assert "event=template_ready" in caplog.text
    assert "missing" not in caplog.text


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"RUNNER_WARM": "off"}, None),
        ({"RUNNER_COMMAND": "sh -c x {task_id}"}, "is not run by a Python"),
        ({"RUNNER_COMMAND": "nothing {task_id}"}, "there is no program nothing"),
        ({"RUNNER_COMMAND": "python {task_id}"}, "its program is not the same for all runs"),
    ],
)
def test_where_it_cannot_be_there_is_none(
    tmp_path: Path, variables: dict[str, str], why: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    template = Warm(tmp_path, **variables).template()
    template.keep(wanted=True)
    assert template._launched is None
    assert (why in caplog.text) if why else not caplog.text


def test_elsewhere_there_is_none(warm: Warm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("runner.cli.warm.sys.platform", "darwin")
    template = warm.template()
    template.keep(wanted=True)
    assert template._launched is None
    assert "event=cold error='it needs Linux'" in caplog.text


def test_a_python_that_is_not_there_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    template = Warm(tmp_path, RUNNER_PYTHON="/no/such/python").template()
    template.keep(wanted=True)
    assert template._launched is None
    assert "event=cold error='/no/such/python cannot be started (No such file or directory)'" in caplog.text


def test_a_launcher_may_change_the_environment_and_stay(tmp_path: Path) -> None:
    """As `uv run` does."""
    launcher = tmp_path / "uv"
    launcher.write_text(
        f'#!/bin/sh\nshift\nexport BY_UV=yes\n[ "$1" = python ] && shift\n"{sys.executable}" "$@"; exit $?\n'
    )
    launcher.chmod(0o755)
    warm = Warm(tmp_path)
    warm.environ["RUNNER_COMMAND"] = f"uv run python {warm.script} {{task_id}}"
    try:
        template = warm.ready(
            "import json, os, sys; print(json.dumps([os.environ['BY_UV'], sys.argv[1:], sys.orig_argv]))"
        )
        assert template.process is not None
        printed, code = warm.run(template)
        assert (json.loads(printed), code) == (["yes", ["buy"], [sys.executable, str(warm.script), "buy"]], 0)
        process = template.process
        template.end()
        wait_gone(process)
    finally:
        warm.close()
