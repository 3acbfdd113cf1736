"""Which file is found for a run, without a CLI."""

from typing import BinaryIO

import pytest

from jobs.worker import adopt as module
from jobs.worker.adopt import FileSearch
from runner.files import file_size
from runner.ids import RunId, TaskId
from runner.project.adoption import adopt, adopter
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from tests.project import Project

RUN, ONE, TWO, TASK = RunId("r" * 24), RunId("a" * 24), RunId("b" * 24), TaskId("buy")


@pytest.fixture
def files(project: Project) -> RunFiles:
    (project.add_task("buy") / "traversals").mkdir()
    return RunFiles(project.root / "tasks")


@pytest.fixture
def folder(files: RunFiles) -> RunFolder:
    folder = files.folder(TASK, RUN)
    folder.path.mkdir(parents=True)
    return folder


def record(folder: RunFolder, *names: str) -> None:
    """The files of these runs appear."""
    for name in names:
        (folder.tasks_root / "buy" / "traversals" / f"traverse_20261123_080000_{name}.json").write_bytes(b"{}")


def test_a_file_of_its_own_is_found_at_once_and_not_adopted(files: RunFiles, folder: RunFolder) -> None:
    search = FileSearch(files, folder)
    assert search.find(cli_succeeded=True) is None
    record(folder, RUN, ONE)
    assert search.find(cli_succeeded=False) == search.find(cli_succeeded=True) == RUN
    assert adopter(files.tasks_root, TASK, RUN) is None


def test_the_only_new_file_is_found_when_the_cli_has_succeeded(files: RunFiles, folder: RunFolder) -> None:
    record(folder, TWO)
    search = FileSearch(files, folder)
    record(folder, ONE)
    assert search.find(cli_succeeded=False) is None
    assert search.find(cli_succeeded=True) == ONE
    assert adopter(files.tasks_root, TASK, ONE) == RUN
    assert search.find(cli_succeeded=True) == ONE, "it is found again by who has adopted it"


def test_a_cli_that_had_our_id_has_written_no_other_file(files: RunFiles, folder: RunFolder) -> None:
    search = FileSearch(files, folder)
    record(folder, ONE)
    folder.kept_id.touch()
    assert search.find(cli_succeeded=True) is None
    folder.log.write_bytes(b"saved to " + ONE.encode())
    assert search.find(cli_succeeded=True) == ONE


def test_of_two_new_files_the_one_that_the_log_names_is_found(files: RunFiles, folder: RunFolder) -> None:
    search = FileSearch(files, folder)
    record(folder, ONE, TWO)
    assert search.find(cli_succeeded=True) is None
    assert (adopter(files.tasks_root, TASK, ONE), adopter(files.tasks_root, TASK, TWO)) == (None, None)
    folder.log.write_bytes(b"saved to " + TWO.encode())
    assert search.find(cli_succeeded=False) == TWO
    folder.log.write_bytes(f"saved to {TWO}, or to {ONE}".encode())
    assert search.find(cli_succeeded=True) is None, "it names both"


def test_a_file_that_was_there_before_is_not_found_even_if_the_log_names_it(files: RunFiles, folder: RunFolder) -> None:
    record(folder, ONE)
    folder.log.write_bytes(ONE.encode())
    assert FileSearch(files, folder).find(cli_succeeded=True) is None


def test_a_file_that_is_another_runs_is_not_found(files: RunFiles, folder: RunFolder, project: Project) -> None:
    search = FileSearch(files, folder)
    record(folder, ONE, TWO)
    assert adopt(files.tasks_root, TASK, ONE, TWO)
    project.add_task("sell")
    files.folder(TaskId("sell"), TWO).path.mkdir(parents=True)
    assert search.find(cli_succeeded=True) is None
    (files.tasks_root / "sell" / "runs" / TWO).rmdir()
    assert search.find(cli_succeeded=True) == TWO, "it is the only one that is nobody's"


def test_a_file_that_another_run_adopts_in_this_moment_is_not_found(
    files: RunFiles, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = FileSearch(files, folder)
    record(folder, ONE)
    monkeypatch.setattr(module, "adopt", lambda *_: False)
    assert search.find(cli_succeeded=True) is None


@pytest.mark.parametrize(
    ("content", "is_found"),
    [
        (b"%b" + b"." * 100, True),
        (b"." * 6 + b"%b" + b"." * 100, True),
        (b"." * 100 + b"%b", True),
        (b"." * 100 + b"%b" + b"." * 6, True),
        (b"." * 100 + b"%b" + b"." * 100, False),
        (b"." * 7 + b"%b" + b"." * 7, True),  # at the seam of both ends
        (b"." * 40 + b"%b" + b"." * 100, False),
    ],
)
def test_both_ends_of_the_log_are_searched(
    files: RunFiles, folder: RunFolder, monkeypatch: pytest.MonkeyPatch, content: bytes, is_found: bool
) -> None:
    monkeypatch.setattr(module, "SEARCHED_BYTES", 30)
    search = FileSearch(files, folder)
    record(folder, ONE, TWO)
    folder.log.write_bytes(content % ONE.encode())
    assert search.find(cli_succeeded=True) == (ONE if is_found else None)


def test_a_log_is_searched_as_long_as_it_was_when_it_was_opened(
    files: RunFiles, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CLI that prints without end must not fill the memory of who looks."""
    monkeypatch.setattr(module, "SEARCHED_BYTES", 30)

    def size_and_grow(file: BinaryIO) -> int:
        size = file_size(file)
        with folder.log.open("ab") as log:
            log.write(b"." * 100 + ONE.encode())
        return size

    search = FileSearch(files, folder)
    record(folder, ONE)
    folder.log.write_bytes(b"." * 100)
    with monkeypatch.context() as patch:
        patch.setattr("runner.files.file_size", size_and_grow)
        assert search.find(cli_succeeded=False) is None
    assert search.find(cli_succeeded=False) == ONE
