"""The command of the CLI -> the Python program in it, and how to start another script with the same interpreter."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from shutil import which
from typing import NamedTuple

from runner.errors import NotPython

PYTHON = re.compile(r"python[0-9.]*")
PYTHON_VALUES = ("-X", "-W")  # options whose value is a word of its own
UV_VALUES = (
    "--directory",
    "--env-file",
    "--extra",
    "--group",
    "--package",
    "--project",
    "--python",
    "--with",
    "-p",
)
CONSOLE_SCRIPT = "--console-script"
FIRST_LINES = 1024  # bytes of a script, within which its interpreter is named


class Program(NamedTuple):
    """A Python program: the first `length` words of the command of the CLI."""

    interpreter: tuple[str, ...]
    """The words that start its Python."""
    target: tuple[str, ...]
    """Its script; or `-m` and its module, or `--console-script` and the name of one that this Python has."""
    length: int
    name: str
    """What the system calls its process: what the kernel was told to execute."""


def find_program(command: Sequence[str], folder: Path, path: str | None, python: str = "") -> Program:
    """The program in this command, which is started in `folder`, and whose first word is looked up on `path`; `python`
    is its interpreter, if that is known. Raises `NotPython`."""
    name = Path(command[0]).name
    if python:
        program = Program((python,), (CONSOLE_SCRIPT, name), 1, name)
    elif name == "uv" and command[1:2] == ("run",):
        program = _run_by_uv(command)
    elif PYTHON.fullmatch(name):
        program = _run_by_python(command, 0)
    else:
        script = command[0] if os.sep in command[0] else _found(command[0], path)
        program = Program(_interpreter_of(folder / script, path), (script,), 1, name)
    if any("{" in word for word in command[: program.length]):
        raise NotPython("its program is not the same for all runs")
    return program


def _run_by_uv(command: Sequence[str]) -> Program:
    """`uv run [options] PROGRAM`: with `python` in the place of the program, it starts that of the same environment."""
    at = _first_word(command, 2, UV_VALUES)
    if PYTHON.fullmatch(command[at]):
        return _run_by_python(command, at)
    if command[at].endswith(".py") or {"-s", "--script"} & {*command[2:at]}:
        raise NotPython("uv may give a script an environment of its own")
    target = (command[at],) if os.sep in command[at] else (CONSOLE_SCRIPT, command[at])
    return Program((*command[:at], "python"), target, at + 1, Path(command[at]).name)


def _run_by_python(command: Sequence[str], at: int) -> Program:
    """`python [options] SCRIPT` or `python [options] -m MODULE`, from this index on."""
    end = _first_word(command, at + 1, PYTHON_VALUES, stops=("-m", "-c", "-"))
    if command[end] in ("-c", "-"):
        raise NotPython(f"its Python runs no file, but what follows {command[end]}")
    length = end + 1 + (command[end] == "-m")
    return Program(tuple(command[:end]), tuple(command[end:length]), length, Path(command[at]).name)


def _first_word(command: Sequence[str], at: int, with_value: Sequence[str], stops: Sequence[str] = ()) -> int:
    """The index of the first word from here on that is neither an option nor the value of one, or that is a stop."""
    while at < len(command):
        if command[at] in stops or not command[at].startswith("-"):
            return at
        at += 2 if command[at] in with_value else 1
    raise NotPython("it names no program")


def _interpreter_of(script: Path, path: str | None) -> tuple[str, ...]:
    """What its first line names. That of a launcher by a shell, as pip writes them in long paths, is beside it."""
    try:
        with script.open("rb") as file:
            first, _, rest = file.read(FIRST_LINES).decode("utf-8", "replace").partition("\n")
    except OSError as error:
        raise NotPython(f"{script} cannot be read ({error.strerror})") from None
    words = first.removeprefix("#!").split() if first.startswith("#!") else []
    if words and Path(words[0]).name == "env":
        words = [_found(word, path) for word in words[1:2]] + words[2:]
    if words and Path(words[0]).name == "sh" and rest.startswith("'''exec'"):
        words = [os.fspath(script.resolve().parent / "python")]
    if not words or not PYTHON.fullmatch(Path(words[0]).name):
        raise NotPython(f"{script} is not run by a Python")
    return tuple(words)


def _found(program: str, path: str | None) -> str:
    found = which(program, path=path)
    if found is None:
        raise NotPython(f"there is no program {program}")
    return found
