"""The files of runs, to be deleted for good."""

import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from runner.files import is_in_place
from runner.ids import RunId, TaskId, run_ids_in
from runner.project.media import FOLDERS
from runner.project.run_folder import RunFolder
from runner.project.traversal import traversal_run_id


class TaskFiles:
    """What the CLI has written for the runs of one task, as its folders are listed once: only names are kept."""

    def __init__(self, tasks_root: Path, task_id: TaskId) -> None:
        self._task = tasks_root / task_id
        self._names: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for path in _children(self._task / "traversals"):
            self._names["traversals", traversal_run_id(path.name) or ""].append(path.name)
        for path in _children(self._task / "screenshots"):
            self._names["screenshots", path.name].append(path.name)
        for path in _children(self._task / "videos"):
            for run_id in run_ids_in(path.name):
                self._names["videos", run_id].append(path.name)

    def of_run(self, run_id: RunId, traversal_id: RunId) -> list[Path]:
        """The traversal, the screenshots and the recordings of a run. None of a folder that is a link (by now)."""
        ids = dict.fromkeys((run_id, traversal_id))
        keys = [("traversals", traversal_id), *((kind, found) for kind in FOLDERS for found in ids)]
        return [
            self._task / folder / name
            for folder, key in keys
            if (folder, key) in self._names and is_in_place(self._task / folder)
            for name in self._names[folder, key]
        ]


def all_but_record(folder: RunFolder) -> list[Path]:
    """What is in the folder of a run beside its record."""
    return [path for path in _children(folder.path) if path != folder.record]


def size_of(path: Path) -> int:
    """The bytes that a file or a folder takes; links are not followed."""
    if path.is_dir() and not path.is_symlink():
        return sum(size_of(child) for child in _children(path))
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def remove(path: Path) -> None:
    """Delete a file, a link, or a folder with all in it; one that is gone already is fine. Raises `OSError`."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _children(folder: Path) -> Iterator[Path]:
    """What is in it; nothing if it is a link, since that is then another folder's."""
    try:
        yield from sorted(folder.iterdir()) if is_in_place(folder) else ()
    except (FileNotFoundError, NotADirectoryError):
        return
