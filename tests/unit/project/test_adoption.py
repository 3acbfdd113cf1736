"""Which run has a traversal file with another ID: one for good."""

import os
from pathlib import Path

import pytest

from runner.ids import RunId, TaskId
from runner.project.adoption import adopt, adopter, adoption_link

TASK, RUN, OTHER = TaskId("buy"), RunId("r" * 24), RunId("o" * 24)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the tasks, with one task that has runs."""
    (tmp_path / "buy" / "runs").mkdir(parents=True)
    return tmp_path


def test_a_file_has_one_adopter_for_good(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_ino))
    third = RunId("t" * 24)
    assert adopter(root, TASK, OTHER) is None
    assert adopt(root, TASK, OTHER, RUN)
    links = root / "buy" / "runs" / ".adopted"
    assert synced == [links.parent.stat().st_ino, links.stat().st_ino], "it is as durable as a record"
    assert adopt(root, TASK, OTHER, RUN), "the same again is no other"
    assert not adopt(root, TASK, OTHER, third)
    assert adopter(root, TASK, OTHER) == RUN
    assert adopt(root, TASK, third, RUN)
    assert sorted(path.name for path in links.iterdir()) == [OTHER, third]
    assert adoption_link(root, TASK, third).readlink() == Path(RUN)


def test_a_link_that_is_no_adoption_names_no_run(root: Path) -> None:
    link = adoption_link(root, TASK, OTHER)
    link.parent.mkdir(parents=True)
    link.symlink_to("../elsewhere")
    assert adopter(root, TASK, OTHER) is None
    assert not adopt(root, TASK, OTHER, RUN)
