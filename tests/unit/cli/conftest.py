"""Fixtures of the tests of warm starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.templates import Warm


@pytest.fixture
def warm(tmp_path: Path) -> Iterator[Warm]:
    """A project with a small CLI, which may have templates."""
    warm = Warm(tmp_path)
    yield warm
    warm.close()


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
