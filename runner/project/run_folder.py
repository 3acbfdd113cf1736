"""Where the files of a run are: `tasks/TASK/runs/RUN_ID/` is ours, `tasks/TASK/traversals/` is the CLI's."""

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runner.errors import NotFound
from runner.files import (
    file_identity,
    is_in_place,
    is_there,
    locked,
    make_folder,
    make_marker,
    open_file,
    read_if_there,
    replace_file,
    sync_folder,
    write_new,
)
from runner.ids import RunId, TaskId

RESERVED_BYTES = 16 * 1024  # for the record of a run's end
FULL = (errno.ENOSPC, errno.EDQUOT)
LOCK_SECONDS = 2.0  # for which a lock is waited for; who has one keeps it for two writes to the disk
UNFINISHED = (".new-", ".gone-")  # how the names of folders begin that are being made, or deleted


class RunFolder(NamedTuple):
    """The folder that this project keeps for one run: its record and what the CLI printed."""

    tasks_root: Path
    task_id: TaskId
    run_id: RunId

    @property
    def path(self) -> Path:
        return Path(f"{self.tasks_root}/{self.task_id}/runs/{self.run_id}")

    @property
    def log(self) -> Path:
        """All that the CLI printed, as bytes from a program we do not control."""
        return self.path / "cli.log"

    def open_log(self) -> BinaryIO:
        """The log so far, to be read; empty before the CLI starts. Raises `NotFound` if it is no file, or cannot be
        read."""
        try:
            return open_file(self.log, self.tasks_root)
        except (FileNotFoundError, NotADirectoryError):
            return BytesIO()
        except OSError as error:
            raise NotFound(f"The log of run '{self.run_id}' cannot be read ({error.strerror}).") from None

    @property
    def record(self) -> Path:
        """The record of the run."""
        return Path(f"{self.tasks_root}/{self.task_id}/runs/{self.run_id}/run.json")

    @property
    def kept_id(self) -> Path:
        """Made by the shim inside the CLI as soon as the CLI has taken our ID for its own."""
        return self.path / "kept-id"

    def kept_traversal(self, epoch: int) -> Path:
        """A copy of the traversal, made when the owner with this epoch recorded the end of the run, without the secrets
        of then: they may be changed or forgotten later, while the CLI's own file has them for ever."""
        return self.path / f"traversal-{epoch}.json"

    def keep_traversal(self, epoch: int, content: bytes, modified: float) -> None:
        """Make that copy, of a file that last changed at `modified` (seconds since 1970). Raises `OSError`."""
        path = self.kept_traversal(epoch)
        replace_file(path, content)
        os.utime(path, (modified, modified))

    def read_record(self) -> bytes | None:
        """The record's JSON, or None if this run was never accepted (or was deleted). Raises `OSError`."""
        return read_if_there(self.record, self.tasks_root)

    def write_record(self, content: bytes) -> None:
        """Replace the record in one step; it is on the disk when this returns. Raises `OSError`.

        On a full disk it takes the space that was reserved for it when the run was accepted.
        """
        try:
            replace_file(self.record, content)
        except OSError as error:
            if error.errno not in FULL or not is_there(self._reserve):
                raise
            self._reserve.unlink()
            replace_file(self.record, content)

    def release(self) -> None:
        """Give back what a record needs that may still change: the reserved space, and the lock. A record with an
        outcome needs none, since whoever gets the lock of another file at the same path then finds the outcome."""
        self._reserve.unlink(missing_ok=True)
        self._lock.unlink(missing_ok=True)

    @property
    def _reserve(self) -> Path:
        return self.path / "reserve"

    @property
    def _lock(self) -> Path:
        return self.path / "lock"

    @property
    def stop(self) -> Path:
        """Exists as soon as a stop was requested."""
        return self.path / "stop"

    def request_stop(self) -> None:
        """Request the end of the run; may be called again. On the disk, so that it needs no Redis and
        outlives every process. Raises `OSError`."""
        make_marker(self.stop)
        sync_folder(self.path)

    def stop_requested(self) -> bool:
        """Whether a stop was requested."""
        return is_there(self.stop)

    def create(self, content: bytes) -> None:
        """Make the folder with its first record, durably and in one step: it is never there without the record.

        Raises `FileExistsError` if the run was accepted before, else `OSError`; then nothing of it stays.
        """
        make_folder(self.path.parent)
        fresh = self._aside(UNFINISHED[0])
        try:
            fresh.mkdir()
            (fresh / self._reserve.name).write_bytes(bytes(RESERVED_BYTES))
            write_new(fresh / self.record.name, content)  # last: it mostly brings the others to the disk, too
            sync_folder(fresh)
            self._move_here(fresh)
        except OSError:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        try:
            sync_folder(self.path.parent)
        except OSError:
            self.remove()
            raise

    def _move_here(self, fresh: Path) -> None:
        try:
            fresh.rename(self.path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if file_identity(self.record) is not None:
                raise FileExistsError(error.errno, error.strerror) from None
            self.remove()  # it has no record, so it is no run
            fresh.rename(self.path)

    def lock(self) -> AbstractContextManager[None]:
        """Exclude all others that would change the record. Raises `OSError`, also when the folder is gone, and
        `TimeoutError` if another holds the lock for long."""
        return locked(self._lock, LOCK_SECONDS)

    def remove(self) -> None:
        """Delete the folder and all in it, in one step for those who look; one that is not there is fine. Raises
        `OSError`; what is left then is deleted by the workers."""
        gone = self._aside(UNFINISHED[1])
        try:
            self.path.rename(gone)
        except FileNotFoundError:
            return
        shutil.rmtree(gone)

    def _aside(self, prefix: str) -> Path:
        """A path beside the folder that nothing else has."""
        return self.path.with_name(f"{prefix}{self.run_id}-{secrets.token_hex(4)}")


def unfinished_folders(tasks_root: Path, task_id: TaskId) -> Iterator[Path]:
    """Folders of runs of the task that are being made or deleted, or were when their process died."""
    runs = tasks_root / task_id / "runs"
    for prefix in UNFINISHED if is_in_place(runs) else ():
        yield from runs.glob(f"{prefix}*")


def task_lock(tasks_root: Path, task_id: TaskId) -> AbstractContextManager[None]:
    """Exclude all others that delete runs of the task, or accept replays of them. Raises `OSError`."""
    runs = tasks_root / task_id / "runs"
    make_folder(runs)
    return locked(runs / ".lock", LOCK_SECONDS)
