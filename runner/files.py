"""Read files that may be growing, and replace one so that no reader ever sees half of it."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600
BLOCK = 64 * 1024
TAIL_BYTES = 1024 * 1024  # in which the last lines are looked for
LOCK_POLL = 0.01  # seconds between two tries to get a lock

Identity = tuple[int, int, int]  # inode, time of the last change in nanoseconds, size in bytes


def identity_of(status: os.stat_result) -> Identity:
    """A value that changes whenever the file's content does."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def file_identity(path: str | Path) -> Identity | None:
    """The same of the file that is at this path now; None if there is none."""
    try:
        return identity_of(os.stat(path))
    except OSError:
        return None


def identity_now(path: Path) -> Identity | None:
    """The same, never from the cache of a network file system: those ask the server when a file is opened.

    Raises `OSError` if that cannot be said.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return identity_of(os.fstat(handle))
    finally:
        os.close(handle)


def is_in_place(path: Path) -> bool:
    """Whether the last part of the path is no link to another place (or to itself)."""
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


def file_size(path: Path) -> int:
    """The size in bytes; 0 if the file is not there yet."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def last_lines(path: Path, count: int) -> bytes:
    """The last `count` lines (as far as they are in the last MiB)."""
    lines = read_tail(path, TAIL_BYTES).split(b"\n")
    whole = lines[:-1] if lines[-1] == b"" else lines
    return b"".join(line + b"\n" for line in whole[len(whole) - min(count, len(whole)) :])


def read_span(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of the span in blocks, also if the file has grown meanwhile. Raises `OSError` at once."""
    return _blocks(path.open("rb"), start, end) if start < end else iter(())


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start, os.SEEK_SET)
        while start < end and (block := file.read(min(BLOCK, end - start))):
            start += len(block)
            yield block


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


def make_folder(path: Path) -> None:
    """Make a folder whose name survives a power cut; one that is there already is fine. Raises `OSError`."""
    try:
        path.mkdir()
    except FileExistsError:
        return
    sync_folder(path.parent)


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Exclude all others that lock this file, on whatever machine: a lock on a file also holds over NFS, one on a
    folder does not. Raises `TimeoutError` if another holds it for so long, and `OSError`."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, PRIVATE)
    try:
        deadline = time.monotonic() + seconds
        while not _lock(handle):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path.name} is held by another process")
            time.sleep(LOCK_POLL)
        yield
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
