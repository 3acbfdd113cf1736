"""The pictures and recordings of runs: a path from outside -> a file that may be served, or none."""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePath
from typing import BinaryIO, NamedTuple

from runner.errors import NotFound, printable
from runner.files import identity_of, is_in_place, open_file
from runner.ids import TaskId, parse_task_id, run_ids_in

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
    """A file that may be served, open: its size in bytes, its media type, and a strong ETag of its content."""

    file: BinaryIO
    size: int
    type: str
    etag: str


def open_media(tasks_root: Path, task: str, folder: str, path: str) -> Media:
    """The picture or recording `tasks/TASK/FOLDER/PATH`. Raises `NotFound` for all else, links included."""
    task_id, parts = parse_task_id(task), path.split("/")
    media_type = MEDIA_TYPES.get(PurePath(parts[-1]).suffix.lower())
    is_allowed = folder in FOLDERS and len(parts) <= MAX_PARTS and all(map(PART.fullmatch, parts))
    try:
        if task_id is None or media_type is None or not is_allowed:
            raise FileNotFoundError
        file = open_file(tasks_root.joinpath(task_id, folder, *parts), tasks_root)
    except OSError:
        wanted = printable(f"tasks/{task}/{folder}/{path}")
        raise NotFound(f"There is no picture or recording '{wanted}'.") from None
    inode, modified, size = identity_of(os.fstat(file.fileno()))
    return Media(file, size, media_type, f'"{inode:x}-{modified:x}-{size:x}"')


def recordings(tasks_root: Path, task_id: TaskId, file_ids: Collection[str]) -> list[str]:
    """The recordings of a run, as paths below the project: those in the task's folder `videos` whose names have one of
    these IDs in them. Reads the disk."""
    folder = tasks_root / task_id / "videos"
    try:
        names = sorted(os.listdir(folder)) if is_in_place(folder) else []
    except OSError:
        return []
    videos = (name for name in names if MEDIA_TYPES.get(PurePath(name).suffix.lower(), "").startswith("video/"))
    return [
        f"tasks/{task_id}/videos/{name}"
        for name in videos
        if PART.fullmatch(name) and not {*run_ids_in(name)}.isdisjoint(file_ids)
    ]
