"""The records of batches: files in `batches/`, beside `tasks/`.

`batch_TIME_ID.json` is the record. Beside it are empty files that say what is to be done about it, so that one look at
the folder finds all batches with work left.
"""

import os
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from runner.errors import NotFound
from runner.files import (
    is_there,
    make_folder,
    make_marker,
    read_if_there,
    replace_file,
    sync_folder,
    utc_time,
    write_new,
)
from runner.ids import RunId, parse_run_id
from runner.project.listings import FolderListings

RECORD = ".json"
TIME = "%Y%m%d_%H%M%S_%f"  # UTC


class Mark(StrEnum):
    """What is to be done about a batch."""

    ACCEPTING = ".accepting"  #: some of its runs may have to be accepted
    OPEN = ".open"  #: all are accepted, and its end is not recorded
    STOP = ".stop"  #: none of its runs goes on
    HOLD = ".hold"  #: none of its runs starts: enough have failed


class BatchFile(NamedTuple):
    """The record of one batch. Its methods raise `OSError`."""

    folder: Path
    name: str
    """Without a suffix."""

    @property
    def batch_id(self) -> RunId:
        return RunId(self.name.rpartition("_")[2])

    @property
    def queued_at(self) -> datetime:
        """When the batch was accepted; the beginning of 1970 if the name does not say it."""
        try:
            return datetime.strptime(self.name, f"batch_{TIME}_{self.batch_id}").replace(tzinfo=UTC)
        except ValueError:
            return utc_time(0)

    @property
    def path(self) -> Path:
        return self._with(RECORD)

    def _with(self, suffix: str) -> Path:
        return self.folder / f"{self.name}{suffix}"

    def read(self) -> bytes | None:
        """The record's JSON; None if there is none."""
        return read_if_there(self.path, self.folder)

    def create(self, content: bytes) -> None:
        """Make the record, durably and whole, with the mark ACCEPTING. Raises `FileExistsError` if it is there, else
        `OSError`; then nothing of it stays that could be taken for one."""
        make_folder(self.folder)
        fresh = self.folder / f".{self.name}-{secrets.token_hex(4)}"
        try:
            write_new(fresh, content)
            make_marker(self._with(Mark.ACCEPTING))
            os.link(fresh, self.path)
        finally:
            fresh.unlink(missing_ok=True)
        try:
            make_marker(self._with(Mark.ACCEPTING))  # again: who found it without a record may have deleted it
            sync_folder(self.folder)
        except OSError:
            self.remove()
            raise

    def replace(self, content: bytes) -> None:
        """Put another content in its place."""
        replace_file(self.path, content)

    def has(self, mark: Mark) -> bool:
        return is_there(self._with(mark))

    def mark(self, mark: Mark) -> None:
        """Make this mark, durably; it may be there already."""
        make_marker(self._with(mark))
        sync_folder(self.folder)

    def unmark(self, mark: Mark) -> None:
        self._with(mark).unlink(missing_ok=True)

    def finish(self) -> None:
        """Note that nothing is left to be done."""
        for mark in Mark:
            self.unmark(mark)

    def forget(self) -> None:
        """Delete the marks of a record that is not there. If it comes in this moment, it is still to be accepted."""
        self.unmark(Mark.ACCEPTING)
        self.unmark(Mark.OPEN)
        if is_there(self.path):
            self.mark(Mark.ACCEPTING)

    def remove(self) -> None:
        """Delete the record and all marks."""
        self.path.unlink(missing_ok=True)
        self.finish()


class BatchFiles:
    """The records of all batches of a project. May be used by several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._listings = FolderListings()
        self._sorted: tuple[Mapping[str, str], dict[RunId, BatchFile]] = ({}, {})

    def new(self, batch_id: RunId, queued_at: datetime) -> BatchFile:
        """Where the record of this batch is, or is to be."""
        return BatchFile(self.folder, f"batch_{queued_at.astimezone(UTC):{TIME}}_{batch_id}")

    def all(self) -> Mapping[RunId, BatchFile]:
        """All batches, the oldest first: the same mapping (`is`) as long as none comes or goes."""
        names = self._names()
        if self._sorted[0] is not names:
            files = filter(None, (self._parse(name, RECORD) for name in sorted(names)))
            self._sorted = names, {file.batch_id: file for file in files}
        return self._sorted[1]

    def find(self, batch_id: RunId) -> BatchFile:
        """The batch with this ID. Raises `NotFound`."""
        found = self.all().get(batch_id)
        if found is None:
            raise NotFound(f"There is no batch '{batch_id}'.")
        return found

    def marked(self, *marks: Mark) -> Iterator[BatchFile]:
        """The batches with one of these marks, the oldest first."""
        names = sorted(self._names())
        return (file for mark in marks for name in names if (file := self._parse(name, mark)) is not None)

    def unfinished(self) -> Iterator[Path]:
        """Records that are being made or replaced, or were when their process died."""
        return (self.folder / name for name in self._names() if name.startswith(".batch_"))

    def _names(self) -> Mapping[str, str]:
        return self._listings.names(str(self.folder), str)

    def _parse(self, name: str, suffix: str) -> BatchFile | None:
        """The batch of a file with this suffix; None for other files."""
        if not name.endswith(suffix) or not name.startswith("batch_"):
            return None
        file = BatchFile(self.folder, name.removesuffix(suffix))
        return file if parse_run_id(file.batch_id) else None
