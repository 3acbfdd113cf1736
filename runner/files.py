"""Open files once and never through links, read those that may be growing, and replace one so that no reader ever sees
half of it."""

import errno
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

PRIVATE = 0o600
SAFE = os.O_NOFOLLOW | os.O_NONBLOCK  # no link is followed, and nobody waits for the other end of a FIFO
MAX_BYTES = 64 * 1024 * 1024  # of a file that is read whole
BLOCK = 64 * 1024
TAIL_BYTES = 1024 * 1024  # in which the last lines are looked for
LOCK_POLL = 0.01  # seconds between two tries to get a lock

Identity = tuple[int, int, int]  # inode, time of the last change in nanoseconds, size in bytes
UNKNOWN: Identity = (0, 0, 0)  # of a file that cannot be looked at


class NotRegular(OSError):
    """What has the name of a file is none: a link, a FIFO, a folder, a device; or the way to it leads over a link."""


def open_file(path: Path, root: Path) -> BinaryIO:
    """Open a file to read it, which is `root` itself or somewhere below it.

    `root` may be a link, since that is a person's own choice; below it no link is followed. Raises `NotRegular` and
    `OSError`. All that is decided about the file is decided by what was opened, not by its name.
    """
    start, found, rest = os.fspath(path).partition(os.fspath(root))
    if start or not found or rest[:1] not in ("", "/"):
        raise ValueError(f"{path} is not in the subpath of {root}")
    handle = _open(root, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for part in filter(None, rest.split("/")):
            below = _open(part, os.O_RDONLY | SAFE, handle)
            os.close(handle)
            handle = below
        _check_regular(handle)
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")


def open_to_write(path: Path, flags: int) -> int:
    """The handle of a file that is made if it is not there. Raises `NotRegular` for anything else, and `OSError`."""
    handle = _open(path, flags | os.O_CREAT | SAFE)
    try:
        _check_regular(handle)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _open(path: Path | str, flags: int, folder: int | None = None) -> int:
    try:
        return os.open(path, flags, PRIVATE, dir_fd=folder)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotRegular(errno.ELOOP, "links are not followed") from None
        if error.errno in (errno.ENXIO, errno.EOPNOTSUPP):  # a socket, or a FIFO that nobody reads
            raise NotRegular(error.errno, "it is no regular file") from None
        raise


def _check_regular(handle: int) -> None:
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        raise NotRegular(errno.EINVAL, "it is no regular file")


def read_file(path: Path, root: Path) -> tuple[bytes, float]:
    """The content of a file below `root`, and when it last changed, in seconds since 1970.

    Raises `NotRegular` and `OSError`, also for a file of more than MAX_BYTES.
    """
    with open_file(path, root) as file:
        status = os.fstat(file.fileno())
        if status.st_size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {MAX_BYTES // 1024 // 1024} MiB")
        return file.read(), status.st_mtime


def read_if_there(path: Path, root: Path) -> bytes | None:
    """The content of a file below `root`, or None if it does not exist. Raises `NotRegular` and `OSError`."""
    try:
        return read_file(path, root)[0]
    except (FileNotFoundError, NotADirectoryError):
        return None


def identity_of(status: os.stat_result) -> Identity:
    """A value that changes whenever the file's content does."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def file_identity(path: str | Path) -> Identity | None:
    """The same of the file, or link, at this path now; None if there is none, UNKNOWN if that cannot be said."""
    try:
        return identity_of(os.lstat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return UNKNOWN


def identity_now(path: Path, root: Path) -> Identity | None:
    """The same, never from the cache of a network file system: those ask the server when a file is opened.

    Raises `OSError` if that cannot be said.
    """
    try:
        with open_file(path, root) as file:
            return identity_of(os.fstat(file.fileno()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def utc_time(seconds: float) -> datetime:
    """This time since 1970; a file may have one that no `datetime` can be, and then it is the nearest."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return (datetime.max if seconds > 0 else datetime.min).replace(microsecond=0, tzinfo=UTC)


def is_there(path: Path) -> bool:
    """Whether anything has this name. False if that cannot be said."""
    return file_identity(path) not in (None, UNKNOWN)


def is_in_place(path: Path) -> bool:
    """Whether the last part of the path is no link to another place (or to itself)."""
    return not _has_kind(path, stat.S_ISLNK, follow=False)


def is_folder(path: Path) -> bool:
    """Whether a folder, or a link to one, has this name. False if that cannot be said."""
    return _has_kind(path, stat.S_ISDIR, follow=True)


def _has_kind(path: Path, kind: Callable[[int], bool], *, follow: bool) -> bool:
    try:
        return kind(os.stat(path, follow_symlinks=follow).st_mode)
    except OSError:
        return False


def read_tail(path: Path, root: Path, size: int) -> bytes:
    """The last `size` bytes of a file below `root`, or less if it is smaller; nothing if it cannot be read."""
    try:
        with open_file(path, root) as file:
            return _tail(file, file_size(file), size)
    except OSError:
        return b""


def read_ends(path: Path, root: Path, size: int) -> bytes:
    """The first and the last `size` bytes of a file below `root`, none of them twice; nothing if it does not exist.

    Raises `OSError`.
    """
    try:
        with open_file(path, root) as file:
            start, end = file.read(size), file_size(file)
            return start + _tail(file, end, min(size, end - len(start)))
    except FileNotFoundError:
        return b""


def file_size(file: BinaryIO) -> int:
    """The size of an open file, in bytes."""
    return file.seek(0, os.SEEK_END)


def last_lines(file: BinaryIO, end: int, count: int) -> bytes:
    """The last `count` lines of the first `end` bytes (as far as they are in the last MiB of them)."""
    lines = _tail(file, end, TAIL_BYTES).split(b"\n")
    whole = lines[:-1] if lines[-1] == b"" else lines
    return b"".join(line + b"\n" for line in whole[len(whole) - min(count, len(whole)) :])


def _tail(file: BinaryIO, end: int, size: int) -> bytes:
    start = max(0, end - size)
    file.seek(start)
    return file.read(end - start)


def read_span(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    """The bytes of the span in blocks, also if the file has grown meanwhile."""
    file.seek(start)
    while block := file.read(min(BLOCK, end - start)):
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
    """Make a folder whose name survives a power cut; one that is there already is fine, a link to one is not. Raises
    `OSError`."""
    try:
        path.mkdir()
    except FileExistsError:
        if not is_in_place(path):
            raise NotRegular(errno.ELOOP, "links are not followed") from None
        return
    sync_folder(path.parent)


def make_marker(path: Path) -> None:
    """Make an empty file; whatever has its name already will do. Raises `OSError`."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE))


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Exclude all others that lock this file, on whatever machine: a lock on a file also holds over NFS, one on a
    folder does not. Raises `TimeoutError` if another holds it for so long, and `OSError`."""
    handle = open_to_write(path, os.O_RDWR)
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
