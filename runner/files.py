"""Reading and replacing one small file so that nobody ever sees half of it."""

import os
import tempfile
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600

Identity = tuple[int, int, int]  # inode, time of the last change in nanoseconds, size in bytes


def identity_of(status: os.stat_result) -> Identity:
    """What changes whenever the file's content does."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def file_identity(path: str | Path) -> Identity | None:
    """The same of the file that is at this path now; None if there is none."""
    try:
        return identity_of(os.stat(path))
    except OSError:
        return None


def is_in_place(path: Path) -> bool:
    """Whether the last part of the path is what it says, and no link to something else (or to itself)."""
    return not path.is_symlink()


def read_if_there(path: Path) -> bytes | None:
    """The file's content, or None if it does not exist."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_tail(path: Path, size: int) -> bytes:
    """The last `size` bytes of the file, or less if it is smaller; nothing if it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - size))
            return file.read(size)
    except FileNotFoundError:
        return b""


def replace_file(path: Path, content: bytes) -> None:
    """Put the content at `path` in one step that survives a power cut. Raises `OSError`; then the old file stands."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            _write(file, content)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_new(path: Path, content: bytes) -> None:
    """Make a file that is on the disk when this returns; its name is when the folder is synced. Raises `OSError`."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
        _write(file, content)


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make sure that the names in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
