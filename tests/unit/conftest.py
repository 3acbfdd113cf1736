"""Fixtures of the unit floor: the whole flow in one process."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.project import FAULT, PASSED, VISIT, Project, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import by_hand, write_run


@pytest.fixture
def stack(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStack]:
    for name, value in project.environ().items():
        monkeypatch.setenv(name, value)
    stack = FakeStack(project)
    with stack.client:
        yield stack


@pytest.fixture
def buy(stack: FakeStack) -> FakeStack:
    """A stack with a task `buy`, which passes."""
    stack.project.add_task("buy", "visit pass")
    return stack


@pytest.fixture
def history(stack: FakeStack) -> FakeStack:
    """25 runs of two tasks, newest `b24`: passed, failed, error, running in turn; every fifth is a replay."""
    for task in ("alpha", "beta"):
        stack.project.add_task(task, toml=f'[task]\nname = "Name of {task}"\n[metadata]\ntask_id = "{task:c<24}"\n')
    kinds: tuple[tuple[list[Any], str], ...] = (
        ([PASSED], "SUCCESSFUL"),
        ([VISIT, FAULT], "FAILED"),
        ([], "FAILED"),
        ([VISIT], "PENDING"),
    )
    for number in range(25):
        task = "alpha" if number < 15 else "beta"
        actions, status = kinds[number % 4]
        more = {"run_type": "REPLAY"} if number % 5 == 0 else {}
        content = traversal_bytes(actions, status, **more)
        write_run(stack.project.root / "tasks" / task, f"20260101_0800{number:02}", by_hand(f"{number:02}"), content)
    return stack
