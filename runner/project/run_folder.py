"""Where the files of a run are: `tasks/TASK/runs/RUN_ID/` is ours, `tasks/TASK/traversals/` is the CLI's."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from runner.files import PRIVATE, read_if_there, replace_file, sync_folder, write_new
from runner.ids import RunId, TaskId

RESERVED_BYTES = 16 * 1024  # for the record of a run's end
FULL = (errno.ENOSPC, errno.EDQUOT)


class RunFolder(NamedTuple):
    """The folder that this project keeps for one run: its record and what the CLI printed."""

    tasks_root: Path
    task_id: TaskId
    run_id: RunId

    @property
    def path(self) -> Path:
        return self.tasks_root / self.task_id / "runs" / self.run_id

    @property
    def log(self) -> Path:
        """All that the CLI printed, as bytes from a program we do not control."""
        return self.path / "cli.log"

    @property
    def record(self) -> Path:
        """The record of the run."""
        return self.path / "run.json"

    def read_record(self) -> bytes | None:
        """The record's JSON, or None if this run was never accepted (or was deleted)."""
        return read_if_there(self.record)

    def write_record(self, content: bytes) -> None:
        """Replace the record in one step; it is on the disk when this returns. Raises `OSError`.

        On a full disk it takes the space that was reserved for it when the run was accepted.
        """
        try:
            replace_file(self.record, content)
        except OSError as error:
            if error.errno not in FULL or not self._reserve.exists():
                raise
            self.release()
            replace_file(self.record, content)

    def release(self) -> None:
        """Give the reserved space back: no record will be written any more, or it is needed now."""
        self._reserve.unlink(missing_ok=True)

    @property
    def _reserve(self) -> Path:
        return self.path / "reserve"

    @property
    def stop(self) -> Path:
        """Exists as soon as a stop was requested."""
        return self.path / "stop"

    def request_stop(self) -> None:
        """Request the end of the run; may be called again. On the disk, so that it needs no Redis and
        outlives every process. Raises `OSError`."""
        self.stop.touch(PRIVATE)
        sync_folder(self.path)

    def stop_requested(self) -> bool:
        """Whether a stop was requested."""
        return self.stop.exists()

    def create(self, content: bytes) -> None:
        """Make the folder with its first record, durably. Raises `OSError`; then nothing of it stays."""
        try:
            self.path.mkdir(parents=True)
            self._reserve.write_bytes(bytes(RESERVED_BYTES))
            write_new(self.record, content)  # last: to wait for one file mostly brings the others to the disk, too
            sync_folder(self.path)
            sync_folder(self.path.parent)
        except FileExistsError:
            raise
        except OSError:
            self.remove()
            raise

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Exclude all others that take this lock. Raises `OSError` if the folder is gone."""
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Delete the folder and all in it; a folder that is not there is fine."""
        shutil.rmtree(self.path, ignore_errors=True)
