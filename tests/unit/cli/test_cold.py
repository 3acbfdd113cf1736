"""What is imported for a template, and why there may be none."""

import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import psutil
import pytest

from runner.cli import warm as module
from runner.redaction import Secret
from tests.stack import ROOT
from tests.unit.cli.templates import Warm, wait_gone
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm starts need Linux")
HELLO = "print('hello')"


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
        ("import makes", "while it was imported"),
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
        "makes": "import tempfile; T = tempfile.TemporaryDirectory()",
        "opens": f"F = open({str(warm.script)!r})",
        "reads": "import os; X = os.environ.get('BUGNINJA_RUN_ID')",
        "asks": "import os; X = 'BUGNINJA_TASK_ID' in os.environ",
    }
    warm.environ["TMPDIR"] = str(warm.code)
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


def test_a_long_reason_is_understood(warm: Warm, caplog: pytest.LogCaptureFixture) -> None:
    (warm.code / "broken.py").write_text(f"raise ValueError({'😀' * 980 + 'hunter2-secret' * 1000!r})")
    warm.script.write_text("import broken")
    template = warm.template(Secret("PIN", "hunter2-secret"))
    wait_for(lambda: warm.is_ready(template) or template._program is None, 20, "its end")
    assert "event=cold error='ValueError: " in caplog.text
    assert "hunter2" not in caplog.text


def test_what_nobody_understands_ends_it(warm: Warm, caplog: pytest.LogCaptureFixture) -> None:
    template = warm.ready()
    process, (ours, theirs) = template.process, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    assert process is not None
    with theirs, template._control:
        template._control = ours
        theirs.send(b"{'")
        template.keep()
    assert "event=cold error='JSONDecodeError: " in caplog.text
    assert template._launched is None
    wait_gone(process)


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


def test_many_modules_may_be_missing(tmp_path: Path) -> None:
    warm = Warm(tmp_path, RUNNER_WARM_IMPORTS=",".join(f"nowhere{number:050d}" for number in range(500)))
    try:
        assert warm.run(warm.ready()) == ("hello\n", 0)
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


def test_one_that_still_imports_ends_with_its_worker(warm: Warm) -> None:
    (warm.code / "slow.py").write_text("import time; open('begun', 'w').close(); time.sleep(60)")
    warm.script.write_text("import slow")
    code = (
        "import json, sys, time; from runner.cli.warm import Template; from runner.redaction import Redactor\n"
        "from runner.settings import read_settings; environ = json.loads(sys.argv[1])\n"
        "template = Template(read_settings(environ), environ, Redactor()); template.keep()\n"
        "print(template._launched.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, json.dumps(warm.environ)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as worker:
        assert worker.stdout is not None
        process = psutil.Process(int(worker.stdout.readline()))
        wait_for(lambda: (warm.root / "begun").exists(), 20, "its imports")
        worker.kill()
    wait_gone(process)


def test_one_that_is_stopped_ends_with_its_worker(warm: Warm) -> None:
    warm.script.write_text(HELLO)
    code = (
        "import json, sys, time; from runner.cli.warm import Template; from runner.redaction import Redactor\n"
        "from runner.settings import read_settings; environ = json.loads(sys.argv[1])\n"
        "template = Template(read_settings(environ), environ, Redactor())\n"
        "while not template.process: template.keep()\n"
        "print(template.process.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, json.dumps(warm.environ)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as worker:
        assert worker.stdout is not None
        process = psutil.Process(int(worker.stdout.readline()))
        process.suspend()
        worker.kill()
    wait_gone(process)


@pytest.mark.parametrize("change", ["link", "path"])
def test_a_command_that_means_another_program_has_another_template(tmp_path: Path, change: str) -> None:
    """After an update has put a link elsewhere, or there is one earlier on the PATH."""
    for version in ("old", "new"):
        folder = tmp_path / version
        folder.mkdir()
        (folder / "python").write_text(f'#!/bin/sh\nV={version} exec {sys.executable} "$@"\n')
        (folder / "tool").write_text(f"#!{folder}/python\nimport os; print('{version}', os.environ['V'])\n")
        for name in ("python", "tool"):
            (folder / name).chmod(0o755)
    (tmp_path / "now").symlink_to(tmp_path / "old")
    path = f"{tmp_path}/first:{tmp_path}/now:{os.environ['PATH']}"
    warm = Warm(tmp_path, PATH=path, RUNNER_COMMAND="tool run {task_id}")
    try:
        template = warm.template()
        wait_for(lambda: warm.is_ready(template), 20, "the template")
        assert warm.run(template) == ("old old\n", 0)
        if change == "path":
            (tmp_path / "first").symlink_to(tmp_path / "new")
        else:
            (tmp_path / "now").unlink()
            (tmp_path / "now").symlink_to(tmp_path / "new")
        template.keep(wanted=True)
        assert template.fork(warm.command()) is None
        wait_for(lambda: warm.is_ready(template), 20, "the template")
        assert warm.run(template) == ("new new\n", 0)
    finally:
        warm.close()


def test_a_command_that_is_away_may_come_back(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tool = tmp_path / "tool"
    tool.write_text(f"#!{sys.executable}\nprint('hello')\n")
    tool.chmod(0o755)
    template = (warm := Warm(tmp_path, RUNNER_COMMAND="tool {task_id}")).template()
    try:
        wait_for(lambda: warm.is_ready(template), 20, "it")
        tool.rename(tmp_path / "away")
        template.keep(wanted=True)
        assert "event=template_ended error='there is no program tool'" in caplog.text
        (tmp_path / "away").rename(tool)
        wait_for(lambda: warm.is_ready(template, wanted=True), 20, "another template")
    finally:
        warm.close()


def test_an_archive_on_the_path_is_noticed(tmp_path: Path) -> None:
    archive = tmp_path / "code.zip"
    warm = Warm(tmp_path, PYTHONPATH=f"{archive}")
    try:
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("thing.py", "TEXT = 'old'")
        template = warm.ready("import thing; print(thing.TEXT)")
        assert warm.run(template) == ("old\n", 0)
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("more.py", "")
        assert template.fork(warm.command()) is None
    finally:
        warm.close()
