"""The Python program in the command of the CLI."""

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from runner.cli.program import Program, find_program
from runner.errors import NotPython

LAUNCHER = "#!/bin/sh\n'''exec' \"/a very long path/bin/python\" \"$0\" \"$@\"\n' '''\nimport x\n"


@pytest.fixture
def opt(tmp_path: Path) -> Path:
    """A folder with programs, which is the PATH."""
    programs = {
        "bugninja": "#!/opt/venv/bin/python3.11\nimport x\n",
        "with-options": "#!/opt/venv/bin/python -E -s\n",
        "by-env": "#!/usr/bin/env python\n",
        "by-env-only": "#!/usr/bin/env nothing\n",
        "launched": LAUNCHER,
        "shell": "#!/bin/sh\nexec bugninja\n",
        "binary": "\x7fELF",
        "python": "",
    }
    for name, content in programs.items():
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def find(opt: Path, command: Sequence[str], python: str = "") -> Program:
    return find_program(tuple(command), opt, str(opt), python)


@pytest.mark.parametrize(
    ("command", "interpreter", "target", "length", "name"),
    [
        ("bugninja run {task_id}", "/opt/venv/bin/python3.11", "{opt}/bugninja", 1, "bugninja"),
        ("{opt}/bugninja run {task_id}", "/opt/venv/bin/python3.11", "{opt}/bugninja", 1, "bugninja"),
        ("./bugninja run {task_id}", "/opt/venv/bin/python3.11", "./bugninja", 1, "bugninja"),
        ("with-options run {task_id}", "/opt/venv/bin/python -E -s", "{opt}/with-options", 1, "with-options"),
        ("by-env {task_id}", "{opt}/python", "{opt}/by-env", 1, "by-env"),
        ("launched {task_id}", "{opt}/python", "{opt}/launched", 1, "launched"),
        ("python -m some.module run {task_id}", "python", "-m some.module", 3, "python"),
        (
            "/usr/bin/python3.12 -u -X dev -W ignore -m x {task_id}",
            "/usr/bin/python3.12 -u -X dev -W ignore",
            "-m x",
            8,
            "python3.12",
        ),
        ("python some/script.py {task_id}", "python", "some/script.py", 2, "python"),
        ("uv run bugninja run {task_id}", "uv run python", "--console-script bugninja", 3, "bugninja"),
        (
            "/usr/bin/uv run --frozen --project p bugninja {task_id}",
            "/usr/bin/uv run --frozen --project p python",
            "--console-script bugninja",
            6,
            "bugninja",
        ),
        ("uv run python -u -m x {task_id}", "uv run python -u", "-m x", 6, "python"),
        (
            "uv run --env-file=x -p 3.12 python3 s.py {task_id}",
            "uv run --env-file=x -p 3.12 python3",
            "s.py",
            7,
            "python3",
        ),
    ],
)
def test_the_program_and_its_python_are_found(
    opt: Path, command: str, interpreter: str, target: str, length: int, name: str
) -> None:
    words = command.replace("{opt}", str(opt)).split()
    expected = [tuple(text.replace("{opt}", str(opt)).split()) for text in (interpreter, target)]
    assert find(opt, words) == Program(expected[0], expected[1], length, name)


def test_a_python_that_is_named_has_a_console_script_of_that_name(opt: Path) -> None:
    expected = Program(("/opt/venv/bin/python",), ("--console-script", "shell"), 1, "shell")
    assert find(opt, ["shell", "run", "{task_id}"], "/opt/venv/bin/python") == expected
    assert find(opt, ["/usr/local/bin/shell", "{task_id}"], "/opt/venv/bin/python") == expected


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("nothing {task_id}", "there is no program nothing"),
        ("{opt}/nothing {task_id}", "{opt}/nothing cannot be read (No such file or directory)"),
        ("shell {task_id}", "{opt}/shell is not run by a Python"),
        ("binary {task_id}", "{opt}/binary is not run by a Python"),
        ("by-env-only {task_id}", "there is no program nothing"),
        ("python -c print(1) {task_id}", "its Python runs no file, but what follows -c"),
        ("python - {task_id}", "its Python runs no file, but what follows -"),
        ("python -u", "it names no program"),
        ("uv run --frozen", "it names no program"),
        ("python {task_id}.py", "its program is not the same for all runs"),
        ("python -m tests.{task_id}", "its program is not the same for all runs"),
        ("uv run {task_id}", "its program is not the same for all runs"),
        ("uv run some/script.py {task_id}", "uv may give a script an environment of its own"),
        ("uv run -s script {task_id}", "uv may give a script an environment of its own"),
        ("uv run --script script {task_id}", "uv may give a script an environment of its own"),
        ("uv tool run bugninja {task_id}", "there is no program uv"),
    ],
)
def test_a_command_without_one_says_why(opt: Path, command: str, why: str) -> None:
    with pytest.raises(NotPython) as caught:
        find(opt, command.replace("{opt}", str(opt)).split())
    assert str(caught.value) == why.replace("{opt}", str(opt))


def test_a_console_script_of_pip_is_one(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("rq")
    assert find_program((str(script), "info"), tmp_path, None) == Program((sys.executable,), (str(script),), 1, "rq")
