"""`make install` on machines that are not ready for it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.stack import ROOT

FAKE = """#!/bin/sh
# Python {version}, as far as the Makefile knows it
case "$*" in
    --version) echo "Python {version}" ;;
    *ensurepip*) exit {without_venv} ;;
    *sys.version_info*) exit {too_old} ;;
    "-m venv"*) for last; do :; done; rm -rf "$last"; mkdir -p "$last/bin"; cp "$0" "$last/bin/python" ;;
    "-m pip"*) exit {pip_fails} ;;
esac
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the project as far as `make install` needs it, and a folder for programs."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", ".env.example"):
        shutil.copy2(ROOT / name, tmp_path / name)
    (tmp_path / "programs").mkdir()
    return tmp_path


def add_python(
    path: Path, version: str = "3.12.1", *, too_old: bool = False, without_venv: bool = False, pip_fails: bool = False
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        FAKE.format(version=version, too_old=int(too_old), without_venv=int(without_venv), pip_fails=int(pip_fails))
    )
    path.chmod(0o755)


def make(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": f"{copy / 'programs'}:/usr/bin:/bin", "HOME": str(copy)}
    command = ["make", "--no-print-directory", "install", *words]
    return subprocess.run(command, cwd=copy, env=environ, capture_output=True, text=True, check=False)


def sentences(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said, without the last words of `make` itself."""
    return [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]


def test_a_python_that_is_too_old_is_named_and_a_later_try_works(copy: Path) -> None:
    add_python(copy / "programs" / "python3", "3.9.2", too_old=True)
    failed = make(copy)
    assert failed.returncode != 0
    assert sentences(failed) == [
        "Python must be 3.11 or newer, got Python 3.9.2: say make run PYTHON=python3.12, or so."
    ]
    assert not (copy / ".venv").exists()
    add_python(copy / "programs" / "python3.12")
    assert make(copy, "PYTHON=python3.12").returncode == 0
    assert (copy / ".venv" / "installed").exists()
    assert make(copy).returncode == 0, "once it is there, the python3 on the PATH is of no interest"


def test_a_python_that_is_not_there_is_named(copy: Path) -> None:
    failed = make(copy, "PYTHON=python3.99")
    assert failed.returncode != 0
    (sentence,) = sentences(failed)
    assert sentence.startswith("Python must be 3.11 or newer, and there is no python3.99:")


def test_a_python_without_venv_is_named(copy: Path) -> None:
    add_python(copy / "programs" / "python3", without_venv=True)
    failed = make(copy)
    assert failed.returncode != 0
    assert sentences(failed) == [
        "python3 must have venv and pip: install its package, such as python3-venv on Debian and Ubuntu."
    ]


@pytest.mark.parametrize("left", ["an older python", "half a venv", "a dangling link"])
def test_a_venv_that_cannot_be_used_is_made_anew(copy: Path, left: str) -> None:
    python = copy / ".venv" / "bin" / "python"
    if left == "an older python":
        add_python(python, too_old=True)
    elif left == "a dangling link":
        python.parent.mkdir(parents=True)
        python.symlink_to("/no/such/python")
    (copy / ".venv").mkdir(exist_ok=True)
    (copy / ".venv" / "installed").touch()
    os.utime(copy / ".venv" / "installed", (4e9, 4e9))
    (copy / ".venv" / "old").touch()
    add_python(copy / "programs" / "python3")
    assert make(copy).returncode == 0
    assert "3.12.1" in python.read_text()
    assert not (copy / ".venv" / "old").exists()


def test_packages_that_could_not_be_installed_are_tried_again(copy: Path) -> None:
    add_python(copy / "programs" / "python3", pip_fails=True)
    assert make(copy).returncode != 0
    assert not (copy / ".venv" / "installed").exists()
    add_python(copy / ".venv" / "bin" / "python")
    assert make(copy).returncode == 0
    assert (copy / ".venv" / "installed").exists()


def test_folders_that_cannot_be_written_to_are_named(copy: Path) -> None:
    """`test -w` is what the Makefile asks: here it says no, as it does to everybody but root."""
    shell = copy / "shell"
    shell.write_text('#!/bin/sh\ntest() { [ "$1" != -w ]; }\nshift\neval "$1"\n')
    shell.chmod(0o755)
    add_python(copy / "programs" / "python3")
    for _ in ("the folder of the project", ".venv"):
        failed = make(copy, f"SHELL={shell}")
        assert failed.returncode != 0
        (sentence,) = sentences(failed)
        assert sentence.startswith(".venv must be writable for ")
        add_python(copy / ".venv" / "bin" / "python")
