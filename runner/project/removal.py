"""The files of one run, to be deleted for good."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from runner.files import is_in_place
from runner.ids import RunId
from runner.project.adoption import adoption_link
from runner.project.run_folder import RunFolder
from runner.project.traversal_name import traversal_run_id


def files_of_run(folder: RunFolder, traversal_id: RunId) -> list[Path]:
    """All that there is of a run beside its own folder: its traversal, screenshots and recordings.

    The folder is to be deleted last, since the run is known as long as it is there: who is interrupted can begin again.
    """
    task = folder.tasks_root / folder.task_id
    found = [path for path in _children(task / "traversals") if traversal_run_id(path.name) == traversal_id]
    found += [path for path in _children(task / "screenshots") if path.name in (folder.run_id, traversal_id)]
    found += [path for path in _children(task / "videos") if traversal_id in path.name or folder.run_id in path.name]
    found += [link] if (link := adoption_link(folder.tasks_root, folder.task_id, traversal_id)).is_symlink() else []
    return found


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
