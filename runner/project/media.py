"""The pictures and recordings of runs: a path from outside -> a file that may be served, or none."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from runner.errors import NotFound, printable
from runner.ids import TaskId, parse_task_id

FOLDERS = ("screenshots", "videos")
MEDIA_TYPES: Mapping[str, str] = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".webm": "video/webm",
    ".mp4": "video/mp4",
}
PART = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._ -]{0,254}")  # of a path; none begins with a dot
MAX_PARTS = 8


class Media(NamedTuple):
    """A file that may be served: its size in bytes, its media type, and a strong ETag of its content."""

    path: Path
    size: int
    type: str
    etag: str


def find_media(tasks_root: Path, task: str, folder: str, path: str) -> Media:
    """The picture or recording `tasks/TASK/FOLDER/PATH`. Raises `NotFound` for all else."""
    wanted = f"tasks/{task}/{folder}/{path}"
    task_id, parts = parse_task_id(task), path.split("/")
    if task_id is None or folder not in FOLDERS or len(parts) > MAX_PARTS or not all(map(PART.fullmatch, parts)):
        raise NotFound(f"There is no picture or recording '{printable(wanted)}'.")
    found = _inside(tasks_root, task_id, folder, parts)
    media_type = MEDIA_TYPES.get(found.suffix.lower()) if found else None
    status = _status(found) if found is not None and media_type is not None else None
    if found is None or media_type is None or status is None:
        raise NotFound(f"There is no picture or recording '{printable(wanted)}'.")
    etag = f'"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"'
    return Media(found, status.st_size, media_type, etag)


def _inside(tasks_root: Path, task_id: TaskId, folder: str, parts: list[str]) -> Path | None:
    """The file with all links followed, or None if they lead out of the folder."""
    root = Path(os.path.realpath(tasks_root)) / task_id / folder
    found = Path(os.path.realpath(root.joinpath(*parts)))
    return found if found.is_relative_to(root) else None


def _status(path: Path) -> os.stat_result | None:
    """That of a plain file; None if it is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None
