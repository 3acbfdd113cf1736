"""Reading files that grow, and replacing one so that it survives a power cut."""

import errno
import fcntl
import os
import tempfile
import time
from datetime import UTC
from io import BytesIO
from itertools import count
from pathlib import Path

import pytest

from runner import files
from runner.files import (
    UNKNOWN,
    NotRegular,
    file_identity,
    file_size,
    identity_now,
    identity_of,
    is_folder,
    is_in_place,
    is_there,
    last_lines,
    locked,
    make_folder,
    make_marker,
    read_ends,
    read_file,
    read_if_there,
    read_span,
    read_tail,
    replace_file,
    sync_folder,
    utc_time,
    write_new,
)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Inode and size of each file, or folder, that was brought to the disk, at that time."""
    found: list[tuple[int, int]] = []

    def fsync(handle: int) -> None:
        status = os.fstat(handle)
        found.append((status.st_ino, status.st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def own(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_size


def refused(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_an_identity_changes_with_the_content(tmp_path: Path, handles: list[int]) -> None:
    path = tmp_path / "file"
    assert file_identity(path) is None
    assert identity_now(path, tmp_path) is None
    path.write_bytes(b"one")
    first = file_identity(path)
    assert first == (path.stat().st_ino, path.stat().st_mtime_ns, 3)
    assert identity_now(path, tmp_path) == first
    path.write_bytes(b"more")
    assert file_identity(path) == identity_now(path, tmp_path) != first


def test_what_is_below_a_file_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    below = tmp_path / "file" / "below"
    assert (identity_now(below, tmp_path), file_identity(below), read_if_there(below, tmp_path)) == (None, None, None)
    assert not is_there(below)


def test_an_identity_that_cannot_be_said_is_unknown_or_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "loop"
    path.symlink_to(path)
    with pytest.raises(NotRegular, match="links are not followed"):
        identity_now(path, tmp_path)
    assert file_identity(path) == identity_of(path.lstat()), "that of the link"
    assert is_there(path)
    monkeypatch.setattr(os, "lstat", refused)
    monkeypatch.setattr(os, "stat", refused)
    assert (file_identity(tmp_path), is_there(tmp_path), is_folder(tmp_path)) == (UNKNOWN, False, False)
    assert is_in_place(tmp_path)


def test_a_link_is_not_in_place(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").touch()
    assert is_in_place(tmp_path)
    assert not is_in_place(tmp_path / "link")
    assert [is_folder(tmp_path / name) for name in (".", "link", "file", "none")] == [True, True, False, False]


def test_a_marker_is_an_empty_private_file(tmp_path: Path, handles: list[int]) -> None:
    path = tmp_path / "marker"
    make_marker(path)
    make_marker(path)
    assert (path.stat().st_mode & 0o777, path.stat().st_size, handles) == (0o600, 0, [])
    (tmp_path / "link").symlink_to("nowhere")
    make_marker(tmp_path / "link")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(FileNotFoundError):
        make_marker(tmp_path / "no" / "folder")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    os.utime(path, ns=(0, 5_500_000_000))
    monkeypatch.setattr(files, "MAX_BYTES", 3)
    assert read_file(path, tmp_path) == (b"abc", 5.5)
    monkeypatch.setattr(files, "MAX_BYTES", 2)
    with pytest.raises(OSError, match="it is larger than 0 MiB"):
        read_file(path, tmp_path)


def test_so_much_is_read_at_once_and_in_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 64 * 2**20)
    assert len(read_file(path, tmp_path)[0]) == 64 * 2**20
    os.truncate(path, 64 * 2**20 + 1)
    with pytest.raises(OSError, match="it is larger than 64 MiB"):
        read_file(path, tmp_path)
    assert [len(block) for block in read_span(BytesIO(bytes(2**16 + 1)), 0, 2**16 + 1)] == [2**16, 1]
    assert len(last_lines(BytesIO(bytes(2**20 + 1)), 2**20 + 1, 1)) == 2**20 + 1, "the line is ended"


def test_the_end_of_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert (read_tail(path, tmp_path, 3), read_ends(path, tmp_path, 3), read_if_there(path, tmp_path)) == (
        b"",
        b"",
        None,
    )
    path.write_bytes(b"abcde")
    tails = [read_tail(path, tmp_path, size) for size in (0, 1, 3, 5, 9)]
    assert tails == [b"", b"e", b"cde", b"abcde", b"abcde"]
    assert [read_ends(path, tmp_path, size) for size in (0, 2, 3, 5, 9)] == [b"", b"abde", *[b"abcde"] * 3]
    assert read_if_there(path, tmp_path) == b"abcde"


def test_an_end_that_grows_while_it_is_read_is_as_long_as_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    def grow(a: int, b: int) -> int:
        with path.open("ab") as file:
            file.write(b"def")
        return max(a, b)

    monkeypatch.setattr(files, "max", grow, raising=False)
    assert read_tail(path, tmp_path, 2) == b"bc"


def test_the_last_lines_are_whole_and_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def lines(content: bytes, count: int, end: int | None = None) -> bytes:
        return last_lines(BytesIO(content), len(content) if end is None else end, count)

    content = b"a\nb\n\nc"
    assert [lines(content, count) for count in (0, 1, 2, 9)] == [b"", b"c\n", b"\nc\n", b"a\nb\n\nc\n"]
    content = b"a\nb\nc\n"
    assert [lines(content, count) for count in (1, 2, 3, 4)] == [b"c\n", b"b\nc\n", b"a\nb\nc\n", b"a\nb\nc\n"]
    assert lines(content, 1, end=4) == b"b\n", "what came later is not in it"
    monkeypatch.setattr(files, "TAIL_BYTES", 3)
    assert lines(content, 3) == b"\nc\n", "no more is read than that"


def test_a_span_is_read_in_blocks_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    file = BytesIO(b"abcdefgh")
    assert file_size(file) == 8
    monkeypatch.setattr(files, "BLOCK", 3)
    assert [*read_span(file, 1, 8)] == [b"bcd", b"efg", b"h"]
    assert [*read_span(file, 0, 4)] == [b"abc", b"d"]
    assert [*read_span(file, 6, 20)] == [b"gh"], "the file has become smaller"
    assert [*read_span(file, 3, 4)] == [b"d"]
    assert [*read_span(file, 3, 3)] == []


def test_a_file_is_replaced_in_one_step_and_then_on_the_disk(tmp_path: Path, synced: list[tuple[int, int]]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    before = own(path)
    replace_file(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert own(path)[0] != before[0]
    assert [ino for ino, _ in synced] == [own(path)[0], own(tmp_path)[0]], "first the content, then the name"
    assert synced[0][1] == 5
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_will_replace_a_file_is_hidden_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename from another file system is no single step."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    present: list[list[str]] = []
    monkeypatch.setattr(os, "fsync", lambda _: present.append(sorted(path.name for path in tmp_path.iterdir())))
    replace_file(tmp_path / "file", b"x")
    temporary = present[0][0]
    assert temporary.startswith(".file.")
    assert present == [[temporary, "elsewhere"], ["elsewhere", "file"]]


def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for place, name in ((os, "fsync"), (Path, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, refused)
            with pytest.raises(OSError, match="Input/output error"):
                replace_file(path, b"new")
        assert [(child.name, child.read_bytes()) for child in tmp_path.iterdir()] == [("file", b"old")]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *_: Path(next(tmp_path.glob(".file.*"))).unlink() or refused())  # type: ignore[func-returns-value]
        with pytest.raises(OSError, match="Input/output error"):
            replace_file(path, b"new")  # and what a person has deleted meanwhile is no other fault


def test_a_new_file_is_private_on_the_disk_and_never_replaces_one(
    tmp_path: Path, synced: list[tuple[int, int]]
) -> None:
    path = tmp_path / "file"
    write_new(path, b"12345")
    assert (path.read_bytes(), path.stat().st_mode & 0o777, synced) == (b"12345", 0o600, [own(path)])
    with pytest.raises(FileExistsError):
        write_new(path, b"x")
    assert path.read_bytes() == b"12345"


def test_the_name_of_a_folder_is_on_the_disk_as_soon_as_it_is_made(
    tmp_path: Path, synced: list[tuple[int, int]], handles: list[int]
) -> None:
    make_folder(tmp_path / "new")
    assert [ino for ino, _ in synced] == [own(tmp_path)[0]]
    make_folder(tmp_path / "new")
    assert len(synced) == 1, "it was there"
    (tmp_path / "link").symlink_to("new")
    with pytest.raises(NotRegular, match="links are not followed"):
        make_folder(tmp_path / "link")
    assert handles == []


def test_only_a_folder_is_synced_as_one(tmp_path: Path, handles: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")
    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)
    assert handles == []


def test_a_lock_excludes_others_as_long_as_it_is_held(
    tmp_path: Path, handles: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    monkeypatch.setattr(time, "monotonic", count().__next__)
    with locked(path, 0):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(TimeoutError, match=r"^lock is held by another process$"), locked(path, 3):
            raise AssertionError("two have it")
    assert waits == [0.01] * 3
    with locked(path, 0):
        pass
    assert handles == []


def test_a_lock_is_had_as_soon_as_it_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    other = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(other, fcntl.LOCK_UN))
    with locked(path, 60), pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(other)


def test_a_lock_that_cannot_be_taken_at_all_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path / "lock", 0):
        raise AssertionError("nobody has it")


@pytest.mark.parametrize(
    ("seconds", "year"),
    [(0.0, 1970), (1e9, 2001), (1e12, 9999), (-1e12, 1), (1e300, 9999), (-1e300, 1), (float("inf"), 9999)],
)
def test_a_file_of_any_time_has_one_that_can_be_shown(seconds: float, year: int) -> None:
    assert utc_time(seconds).year == year
    assert utc_time(seconds).tzinfo is UTC
