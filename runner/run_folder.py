"""Where the files of a run are: `tasks/TASK/runs/RUN_ID/` is ours, `tasks/TASK/traversals/` is the CLI's."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from runner.files import read_if_there, replace_file, sync_folder
from runner.ids import RunId, TaskId


class RunFolder(NamedTuple):
    """The folder that this project keeps for one run: its record and what the CLI printed."""

    tasks_root: Path
    task_id: TaskId
    run_id: RunId

    @property
    def path(self) -> Path:
        """The folder itself."""
        return self.tasks_root / self.task_id / "runs" / self.run_id

    @property
    def log(self) -> Path:
        """All that the CLI printed, as bytes from a program we do not control."""
        return self.path / "cli.log"

    @property
    def record(self) -> Path:
        """The durable copy of the run's metadata."""
        return self.path / "run.json"

    def read_record(self) -> bytes | None:
        """The record's JSON, or None if this run was never accepted (or was deleted)."""
        return read_if_there(self.record)

    def write_record(self, content: bytes) -> None:
        """Replace the record in one step; it is on the disk when this returns. Raises `OSError`."""
        replace_file(self.record, content)

    def create(self, content: bytes) -> None:
        """Make the folder with its first record, durably. Raises `OSError`; then nothing of it stays."""
        try:
            self.path.mkdir(parents=True)
            replace_file(self.record, content)
            sync_folder(self.path.parent)
        except FileExistsError:
            raise
        except OSError:
            self.remove()
            raise

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Inside it nobody else who takes the lock changes the record. Raises `OSError` if the folder is gone."""
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Delete the folder and all in it; a folder that is not there is fine."""
        shutil.rmtree(self.path, ignore_errors=True)
