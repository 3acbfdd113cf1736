"""Read files that may be growing, and replace one so that no reader ever sees half of it."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600
BLOCK = 64 * 1024
TAIL_BYTES = 1024 * 1024  # in which the last lines are looked for

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
