"""What is opened, and what is not: links, FIFOs, folders and devices in the place of a file."""

import os
import socket
from contextlib import chdir
from pathlib import Path

import pytest

from runner.files import (
    NotRegular,
    identity_now,
    locked,
    make_marker,
    open_file,
    open_to_write,
    read_ends,
    read_file,
    read_if_there,
    read_tail,
)


def make_odd(path: Path, kind: str, target: Path) -> None:
    """Put something at the path that is no file."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)  # a whole path would be too long
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"link": target, "loop": path, "device": Path("/dev/zero")}[kind])


ODD = ("fifo", "socket", "folder", "link", "loop", "device")


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str, handles: list[int]) -> None:
    outside, path = tmp_path / "outside", tmp_path / "root" / "file"
    outside.write_bytes(b"secret")
    path.parent.mkdir()
    make_odd(path, kind, outside)
    why = "links are not followed" if kind in ("link", "loop", "device") else "it is no regular file"
    with pytest.raises(NotRegular) as caught:
        open_file(path, path.parent)
    assert caught.value.strerror == why
    assert read_tail(path, path.parent, 9) == b""
    for read in (read_if_there, identity_now):
        with pytest.raises(NotRegular):
            read(path, path.parent)
    with pytest.raises(NotRegular):
        read_ends(path, path.parent, 9)
    assert handles == []


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_not_written_to(tmp_path: Path, kind: str, handles: list[int]) -> None:
    outside, path = tmp_path / "outside", tmp_path / "file"
    outside.write_bytes(b"as it was")
    make_odd(path, kind, outside)
    with pytest.raises(OSError, match=r"no regular file|not followed|Is a directory"):
        open_to_write(path, os.O_WRONLY)
    with pytest.raises(OSError, match=r"no regular file|not followed|Is a directory"), locked(path, 0):
        raise AssertionError("it is locked")
    make_marker(path)
    assert outside.read_bytes() == b"as it was"
    assert handles == []


def test_a_fifo_that_somebody_reads_is_not_written_to(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(NotRegular, match="it is no regular file"):
        open_to_write(path, os.O_WRONLY)
    os.close(reader)


def test_no_link_is_followed_on_the_way_to_a_file_but_the_root_may_be_one(tmp_path: Path, handles: list[int]) -> None:
    real = tmp_path / "real"
    (real / "a" / "b").mkdir(parents=True)
    (real / "a" / "b" / "file").write_bytes(b"x")
    (real / "link").symlink_to("a")
    (tmp_path / "root").symlink_to("real")
    root = tmp_path / "root"
    with open_file(root / "a" / "b" / "file", root) as file:
        assert file.read() == b"x"
    with pytest.raises(NotRegular, match="links are not followed"):
        open_file(root / "link" / "b" / "file", root)
    with pytest.raises(FileNotFoundError):
        open_file(root / "a" / "none" / "file", root)
    with pytest.raises(ValueError, match="not in the subpath"):
        open_file(tmp_path / "elsewhere", root)
    (tmp_path / "file").symlink_to(real / "a" / "b" / "file")
    assert read_file(tmp_path / "file", tmp_path / "file")[0] == b"x", "a root that is a file"
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(NotRegular):
        open_file(tmp_path / "fifo", tmp_path / "fifo")
