"""The folder of a run: made in one step, changed under a lock, deleted in one step."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from runner.errors import NotFound
from runner.files import locked, replace_file
from runner.ids import RunId, TaskId
from runner.project import run_folder
from runner.project.run_folder import RunFolder, task_lock, unfinished_folders

TASK, RUN, OTHER = TaskId("buy"), RunId("r" * 24), RunId("o" * 24)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The folder of the tasks, with one task."""
    (tmp_path / "buy").mkdir()
    return tmp_path


@pytest.fixture
def folder(root: Path) -> RunFolder:
    return RunFolder(root, TASK, RUN)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes of all that was brought to the disk, in this order."""
    found: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: found.append(os.fstat(handle).st_ino))
    return found


def names(path: Path) -> list[str]:
    return sorted(child.name for child in path.iterdir())


def inode(path: Path) -> int:
    return path.stat().st_ino


def fails(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def test_the_files_of_a_run_have_fixed_names(folder: RunFolder) -> None:
    path = folder.tasks_root / "buy" / "runs" / RUN
    assert folder.path == path
    files = [folder.log, folder.record, folder.kept_id, folder.stop]
    assert [file.relative_to(path).name for file in files] == ["cli.log", "run.json", "kept-id", "stop"]


def test_a_new_run_is_on_the_disk_with_all_its_folders(folder: RunFolder, synced: list[int]) -> None:
    folder.create(b"{}")
    runs = folder.path.parent
    assert synced == [inode(path) for path in (runs.parent, folder.record, folder.path, runs)]
    assert names(folder.path) == ["reserve", "run.json"]
    assert (folder.path / "reserve").stat().st_size == 16 * 1024
    synced.clear()
    second = RunFolder(folder.tasks_root, TASK, OTHER)
    second.create(b"[]")
    assert synced == [inode(path) for path in (second.record, second.path, runs)], "the folder of all was there"


def test_a_run_is_made_beside_its_place(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    present: list[list[str]] = []

    def look(path: Path, content: bytes) -> None:
        present.append(names(path.parent.parent))
        raise fails(errno.EIO)

    monkeypatch.setattr(run_folder, "write_new", look)
    for _ in range(2):
        with pytest.raises(OSError, match="Input/output error"):
            folder.create(b"{}")
    (first,), (second,) = present
    assert first.startswith(f".new-{RUN}-")
    assert len(first) == len(f".new-{RUN}-") + 8
    assert first != second, "two that make it at once are not in each other's way"
    assert names(folder.path.parent) == []


def test_a_run_that_is_there_stays_whatever_it_holds(folder: RunFolder) -> None:
    folder.create(b"first")
    folder.log.write_bytes(b"printed")
    with pytest.raises(FileExistsError, match="not empty") as caught:
        folder.create(b"second")
    assert caught.value.errno == errno.ENOTEMPTY
    assert (folder.read_record(), folder.log.read_bytes()) == (b"first", b"printed")
    assert names(folder.path.parent) == [RUN]


@pytest.mark.parametrize("number", [errno.ENOTEMPTY, errno.EEXIST])
def test_a_folder_without_a_record_is_no_run(folder: RunFolder, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems differ in how they say that a folder is not empty."""
    folder.path.mkdir(parents=True)
    (folder.path / "cli.log").write_bytes(b"x")
    rename = Path.rename

    def rename_or_say(path: Path, target: Path) -> Path:
        if target.exists():
            raise fails(number)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", rename_or_say)
    folder.create(b"{}")
    assert (folder.read_record(), names(folder.path)) == (b"{}", ["reserve", "run.json"])
    assert names(folder.path.parent) == [RUN]


def test_a_move_that_fails_for_another_reason_is_an_error(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise fails(errno.ENOSPC)

    folder.path.mkdir(parents=True)
    monkeypatch.setattr(Path, "rename", no_space)
    with pytest.raises(OSError, match="No space"):
        folder.create(b"{}")
    assert names(folder.path.parent) == [RUN]


def test_a_run_whose_name_is_not_on_the_disk_is_not_accepted(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.path.parent.mkdir()
    runs = inode(folder.path.parent)

    def fsync(handle: int) -> None:
        if os.fstat(handle).st_ino == runs:
            raise fails(errno.EIO)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"):
        folder.create(b"{}")
    assert names(folder.path.parent) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_only_a_full_disk_takes_the_reserved_space(
    folder: RunFolder, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.create(b"{}")
    reserve = folder.path / "reserve"

    def replace(path: Path, content: bytes) -> None:
        if reserve.exists():
            raise fails(number)
        replace_file(path, content)

    monkeypatch.setattr(run_folder, "replace_file", replace)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output error"):
            folder.write_record(b"new")
        assert (folder.read_record(), reserve.exists()) == (b"{}", True)
    else:
        folder.write_record(b"new")
        assert (folder.read_record(), reserve.exists()) == (b"new", False)


def test_a_full_disk_without_reserved_space_is_an_error(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.create(b"{}")
    folder.release()
    folder.release()
    assert names(folder.path) == ["run.json"]

    def full(*_: object) -> None:
        raise fails(errno.ENOSPC)

    monkeypatch.setattr(run_folder, "replace_file", full)
    with pytest.raises(OSError, match="No space"):
        folder.write_record(b"new")


def test_the_lock_of_a_run_is_a_file_in_it(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "LOCK_SECONDS", 0.0)
    with pytest.raises(FileNotFoundError), folder.lock():
        raise AssertionError("there is no such run")
    folder.create(b"{}")
    with folder.lock():
        assert names(folder.path) == ["lock", "reserve", "run.json"]
        with pytest.raises(TimeoutError), folder.lock():
            raise AssertionError("two have it")
    folder.release()
    assert names(folder.path) == ["run.json"]


def test_a_request_to_stop_is_on_the_disk(folder: RunFolder, synced: list[int]) -> None:
    folder.create(b"{}")
    synced.clear()
    assert not folder.stop_requested()
    for _ in range(2):
        folder.request_stop()
        assert folder.stop_requested()
    assert synced == [inode(folder.path)] * 2
    assert folder.stop.stat().st_mode & 0o777 == 0o600


def test_a_run_is_deleted_in_one_step_for_those_who_look(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.remove()
    folder.create(b"{}")
    rmtree, left = shutil.rmtree, []

    def look(path: Path) -> None:
        left.extend(names(folder.path.parent))
        rmtree(path)

    monkeypatch.setattr(shutil, "rmtree", look)
    folder.remove()
    assert len(left) == 1
    assert left[0].startswith(f".gone-{RUN}-")
    assert names(folder.path.parent) == []


def test_what_is_being_made_or_deleted_is_found(root: Path) -> None:
    runs = root / "buy" / "runs"
    assert [*unfinished_folders(root, TASK)] == []
    for name in (".new-x", ".gone-y", ".adopted", RUN):
        (runs / name).mkdir(parents=True)
    assert [path.name for path in unfinished_folders(root, TASK)] == [".new-x", ".gone-y"]


def test_the_lock_of_a_task_needs_no_run(root: Path, synced: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "LOCK_SECONDS", 0.0)
    with task_lock(root, TASK):
        assert synced == [inode(root / "buy")]
        assert names(root / "buy" / "runs") == [".lock"]
        with pytest.raises(TimeoutError), locked(root / "buy" / "runs" / ".lock", 0):
            raise AssertionError("two have it")
        with pytest.raises(TimeoutError), task_lock(root, TASK):
            raise AssertionError("two have it")


def test_whatever_is_called_as_the_record_is_no_missing_one(folder: RunFolder) -> None:
    folder.create(b"{}")
    folder.record.unlink()
    folder.record.symlink_to("nowhere")
    with pytest.raises(FileExistsError):
        folder.create(b"[]")
    with pytest.raises(OSError, match="links are not followed"):
        folder.read_record()
    assert folder.record.is_symlink()


def test_no_run_is_made_and_nothing_found_in_a_folder_elsewhere(root: Path, folder: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / ".new-x").mkdir(parents=True)
    (root / "buy" / "runs").symlink_to(elsewhere)
    with pytest.raises(OSError, match="links are not followed"):
        folder.create(b"{}")
    with pytest.raises(OSError, match="links are not followed"):
        task_lock(root, TASK)
    assert [*unfinished_folders(root, TASK)] == []
    assert names(elsewhere) == [".new-x"]


def test_a_log_is_empty_as_long_as_it_is_not_there(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with folder.open_log() as file:
            assert file.read() == b""
        folder.path.mkdir(parents=True, exist_ok=True)
    folder.log.write_bytes(b"printed")
    with folder.open_log() as file:
        assert file.read() == b"printed"
    folder.log.unlink()
    folder.log.symlink_to("run.json")
    with pytest.raises(NotFound, match=rf"^The log of run '{RUN}' cannot be read \(links are not followed\)\.$"):
        folder.open_log()

    def refuse(*_: object) -> None:
        raise fails(errno.EACCES)

    monkeypatch.setattr(run_folder, "open_file", refuse)
    with pytest.raises(NotFound, match=r"\(Permission denied\)"):
        folder.open_log()
