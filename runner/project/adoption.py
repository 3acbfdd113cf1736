"""Which run has adopted a traversal file with another ID: a link `runs/.adopted/FILE_ID -> RUN_ID`.

Making a link is one step in which only one can succeed, and it is as durable as the record that names the file.
"""

from pathlib import Path

from runner.files import make_folder, sync_folder
from runner.ids import RunId, TaskId, parse_run_id


def adoption_link(tasks_root: Path, task_id: TaskId, traversal_id: RunId) -> Path:
    """Where the adoption of the file with this ID is noted; the link leads nowhere."""
    return tasks_root / task_id / "runs" / ".adopted" / traversal_id


def adopter(tasks_root: Path, task_id: TaskId, traversal_id: RunId) -> RunId | None:
    """The run that has adopted the file; None if none has."""
    try:
        return parse_run_id(str(adoption_link(tasks_root, task_id, traversal_id).readlink()))
    except OSError:
        return None


def adopted_file(tasks_root: Path, task_id: TaskId, run_id: RunId) -> RunId | None:
    """The ID of the file that the run has adopted; None if none is found among all adoptions of the task."""
    links = adoption_link(tasks_root, task_id, run_id).parent
    try:
        names = [link.name for link in links.iterdir()]
    except OSError:
        return None
    found = (file_id for name in names if (file_id := parse_run_id(name)) is not None)
    return next((file_id for file_id in found if adopter(tasks_root, task_id, file_id) == run_id), None)


def adopt(tasks_root: Path, task_id: TaskId, traversal_id: RunId, run_id: RunId) -> bool:
    """Adopt the file for this run; False if another run has it. Raises `OSError`."""
    link = adoption_link(tasks_root, task_id, traversal_id)
    make_folder(link.parent)
    try:
        link.symlink_to(run_id)
    except FileExistsError:
        return adopter(tasks_root, task_id, traversal_id) == run_id
    sync_folder(link.parent)
    return True
