"""Finding and reading the files of runs."""

import os
from pathlib import Path

import pytest

from runner.ids import RunId, TaskId
from runner.project.run_files import RunFiles
from runner.project.traversal import NOTHING_YET, traversal_run_id
from tests.project import PASSED, VISIT, Project, traversal_bytes

RUN, TASK = RunId("r" * 24), TaskId("t")


NAME = f"traverse_20261123_031018_{RUN}.json"


@pytest.fixture
def folder(project: Project) -> Path:
    path = project.add_task("t") / "traversals"
    path.mkdir()
    return path


@pytest.fixture
def files(project: Project) -> RunFiles:
    return RunFiles(project.root / "tasks")


def test_the_run_id_is_what_follows_the_last_underscore() -> None:
    assert traversal_run_id(NAME) == RUN
    for other in (
        "traverse_x.tmp",
        f"other_{RUN}.json",
        "traverse_20261123_031018_SHORT.json",
        f".traverse_{RUN}.json",
    ):
        assert traversal_run_id(other) is None


def test_a_file_is_found_as_soon_as_it_is_there(files: RunFiles, folder: Path) -> None:
    for run in ("a" * 24, "b" * 24, RUN):
        assert files.traversal_path(TASK, RunId(run)) is None
        (folder / f"traverse_20261123_031018_{run}.json").write_bytes(traversal_bytes([VISIT]))
        assert files.traversal_path(TASK, RunId(run)) == folder / f"traverse_20261123_031018_{run}.json"


def test_a_run_is_found_by_its_folder_or_its_traversal(files: RunFiles, folder: Path) -> None:
    assert files.tasks_of(RUN) == []
    (folder / NAME).write_bytes(b"")
    assert files.tasks_of(RUN) == [TASK]
    (folder.parent / "runs" / ("q" * 24)).mkdir(parents=True)
    assert files.tasks_of(RunId("q" * 24)) == [TASK]


def test_a_project_without_tasks_knows_no_run(tmp_path: Path) -> None:
    assert RunFiles(tmp_path / "nothing").tasks_of(RUN) == []


def test_half_a_file_leaves_the_last_good_steps_and_says_so(files: RunFiles, folder: Path) -> None:
    path = folder / NAME
    assert files.read(TASK, RUN) == NOTHING_YET
    path.write_bytes(traversal_bytes([VISIT]))
    first = files.read(TASK, RUN)
    assert first.traversal is not None
    assert len(first.traversal.actions) == 1
    path.write_bytes(traversal_bytes([VISIT, PASSED])[:100])
    half = files.read(TASK, RUN, first.traversal)
    assert half.traversal == first.traversal
    assert half.problem is not None
    path.write_bytes(traversal_bytes([VISIT, PASSED]))
    whole = files.read(TASK, RUN)
    assert whole.traversal is not None
    assert (len(whole.traversal.actions), whole.problem) == (2, None)


def test_a_change_within_one_tick_of_the_clock_is_seen(files: RunFiles, folder: Path) -> None:
    (folder / NAME).write_bytes(b"")
    assert files.traversal_path(TASK, RUN) is not None
    stamp = os.stat(folder).st_mtime_ns
    other = RunId("o" * 24)
    (folder / f"traverse_20261123_031018_{other}.json").write_bytes(b"")
    os.utime(folder, ns=(stamp, stamp))
    assert files.traversal_path(TASK, other) is not None


@pytest.mark.parametrize("depth", [400, 5000])
def test_what_is_nested_too_deep_is_a_problem_and_no_fault(files: RunFiles, folder: Path, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    (folder / NAME).write_bytes(b'{"brain_states": {}, "actions": {"action_0": {"action": {"x": {"y": %b}}}}}' % deep)
    reading = files.read(TASK, RUN)
    assert reading.problem == (None if depth < 500 else "its JSON is nested too deep")


def test_a_file_that_cannot_be_read_leaves_the_last_good_steps_and_its_time(
    files: RunFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / NAME
    path.write_bytes(traversal_bytes([VISIT]))
    good = files.read(TASK, RUN).traversal
    os.utime(path, (1_000_000_000, 1_000_000_000))
    for error, is_no_file in (
        (PermissionError(13, "Permission denied"), True),
        (OSError(5, "Input/output error"), False),
    ):

        def fail(*_: object, error: OSError = error) -> None:
            raise error

        monkeypatch.setattr("runner.project.run_files.read_file", fail)
        why = f"it cannot be read ({error.strerror})"
        assert files.read(TASK, RUN, good) == (good, why, 1_000_000_000.0, NAME, is_no_file)
