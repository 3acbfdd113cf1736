"""Fixtures of the tests of the worker."""

import pytest

from tests.project import Project
from tests.unit.worker.watched import Watched


@pytest.fixture
def run(project: Project, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """A run of which the CLI is about to be started."""
    return Watched(project, monkeypatch)
