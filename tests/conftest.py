"""Fixtures of all three floors."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.project import Project
from tests.stack import Stack

settings.register_profile("here", deadline=None)  # machines are slow at times, and that is no fault of the code
settings.load_profile("here")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which `nohup` has ignored, and what we start would go on to ignore


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An empty Bugninja project."""
    return Project(tmp_path / "project")


@pytest.fixture
def new_stack(project: Project, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Makes stacks on the project; `new_stack(RUN_TIMEOUT="1")` changes their environment."""
    stacks: list[Stack] = []

    def make(**changes: str) -> Stack:
        folder = tmp_path / f"stack{len(stacks)}"
        folder.mkdir()
        stacks.append(Stack(project, folder, **changes))
        return stacks[-1]

    yield make
    for stack in stacks:
        stack.close()


@pytest.fixture
def stack(new_stack: Callable[..., Stack]) -> Stack:
    """Redis, web and one worker, each started from its line of the Procfile, and ready."""
    stack = new_stack()
    for name in ("redis", "web", "worker"):
        stack.line(name)
    stack.wait_ready()
    return stack


@pytest.fixture
def anyio_backend() -> str:
    """What tests marked with `anyio` run on."""
    return "asyncio"
