"""Find and read the files of runs. Everything here may be called from several threads."""

import heapq
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import lru_cache
from pathlib import Path

from runner.errors import TraversalBroken
from runner.files import UNKNOWN, Identity, NotRegular, file_identity, is_folder, is_in_place, is_there, read_file
from runner.ids import RunId, TaskId, parse_run_id, parse_task_id
from runner.project.batch_files import BatchFiles
from runner.project.listings import FolderListings, entries, modified_at
from runner.project.project import check_project
from runner.project.run_folder import RunFolder
from runner.project.task import task_toml
from runner.project.traversal import Reading, Traversal, parse_traversal, traversal_run_id
from runner.redaction import Redactor, Secret
from runner.secrets import NO_NAMES, SecretNames, read_environment_secrets, read_task_secrets, secrets_of_text
from runner.settings import Settings

NEWEST = 16  # files that are looked at before all are sorted
WRITING_SECONDS = 600  # the longest that a CLI which still works on a run leaves its file alone


def is_abandoned(modified: float) -> bool:
    """Whether a recording that last changed then (seconds since 1970), and that no job answers for, will stay so."""
    return time.time() - modified > WRITING_SECONDS


class RunFiles:
    """All files of the runs of a project. A folder is listed again when it changed; no content is kept."""

    def __init__(self, tasks_root: Path, secrets: Iterable[Secret] = (), names: SecretNames = NO_NAMES) -> None:
        """`secrets` are those of the environment; those of a task are read from its file, with the help of `names`."""
        self.tasks_root = tasks_root
        self._names = names
        self.environment = Redactor(secrets)
        """Takes out the secrets of the environment."""
        self.batches = BatchFiles(tasks_root.parent / "batches")
        self._root = os.fspath(tasks_root)
        self._listings = FolderListings()
        self._redactors: dict[TaskId, tuple[Identity | None, Redactor]] = {}

    def check_project(self) -> None:
        check_project(self.tasks_root)

    def tasks_of(self, run_id: RunId) -> list[TaskId]:
        """The tasks that have this run: those that have its folder, else those that have a traversal of that name.

        More than one if the folder of a task was copied; none if the project knows no such run.
        """
        return self.tasks_with_record(run_id) or [
            task_id for task_id in self.task_ids() if run_id in self._traversals(task_id)
        ]

    def tasks_with_record(self, run_id: RunId) -> list[TaskId]:
        """The tasks that have accepted a run of this ID."""
        return [task_id for task_id in self.task_ids() if is_there(self.folder(task_id, run_id).path)]

    def folder(self, task_id: TaskId, run_id: RunId) -> RunFolder:
        return RunFolder(self.tasks_root, task_id, run_id)

    def folder_at(self, path: Path) -> RunFolder | None:
        """The folder of a run, if it can be one of this project (it need not exist)."""
        task, run = parse_task_id(path.parent.parent.name), parse_run_id(path.name)
        folder = None if task is None or run is None else self.folder(task, run)
        return folder if folder is not None and folder.path == path else None

    def task_ids(self) -> Iterator[TaskId]:
        """The names of the folders in `tasks/` that can be tasks, in alphabetical order."""
        return (TaskId(name) for name in sorted(self.tasks_version()))

    def folders(self) -> list[Path]:
        """Those in which tasks and traversals come and go."""
        tasks = [Path(self._root, task_id) for task_id in self.task_ids()]
        traversals = (task / "traversals" for task in tasks)
        return [self.tasks_root, *tasks, *(folder for folder in traversals if is_folder(folder))]

    def tasks_version(self) -> Mapping[str, str]:
        """The names of the tasks: another mapping (`is`) as soon as a task came or went."""
        return self._listings.names(self._root, self._task_id, keep_keys=False)

    def traversal_ids(self, task_id: TaskId) -> Set[RunId]:
        """The IDs in the names of all traversal files of the task."""
        return {RunId(key) for key in self._traversals(task_id)}

    def newest_first(self, task_id: TaskId) -> Iterator[RunId]:
        """The same IDs, the newest file first: their names begin with the time at which the CLI began."""
        names = {name: RunId(run_id) for run_id, name in self._traversals(task_id).items()}
        newest = heapq.nlargest(NEWEST, names)  # mostly one of these is wanted, and to sort 100,000 takes long
        yield from (names[name] for name in newest)
        yield from (names[name] for name in sorted(names, reverse=True)[len(newest) :])

    def run_ids(self, task_id: TaskId) -> Set[RunId]:
        """The IDs of the task's runs that this project accepted."""
        return {RunId(key) for key in self._runs(task_id)}

    def traversal_path(self, task_id: TaskId, run_id: RunId) -> Path | None:
        """Where the CLI writes the run's traversal, or None as long as it has written none."""
        name = self._traversals(task_id).get(run_id)
        return None if name is None else Path(self._traversals_folder(task_id), name)

    def list_runs(self, task_id: TaskId) -> set[RunId]:
        """The IDs of the task's accepted runs; nothing of the listing is kept. Raises `OSError`."""
        return {run_id for name in entries(self._runs_folder(task_id)) if (run_id := parse_run_id(name))}

    def list_traversals(self, task_id: TaskId) -> dict[RunId, str]:
        """The IDs in the names of the task's traversals, and these names; nothing of the listing is kept. Raises
        `OSError`."""
        names = entries(self._traversals_folder(task_id))
        return {run_id: name for name in names if (run_id := traversal_run_id(name))}

    def listing_times(self, task_id: TaskId) -> tuple[int | None, int | None]:
        """When a run or a traversal of the task last came or went, in nanoseconds; None without such a folder."""
        return modified_at(self._runs_folder(task_id)), modified_at(self._traversals_folder(task_id))

    def traversal_file(self, task_id: TaskId, name: str) -> Path:
        """The path of the traversal with this name."""
        return Path(f"{self._traversals_folder(task_id)}/{name}")

    def identities(self, task_id: TaskId, run_id: RunId, name: str | None) -> tuple[Identity | None, Identity | None]:
        """Values that change whenever the run's record, or its traversal of this name, does."""
        traversal = None if name is None else file_identity(f"{self._traversals_folder(task_id)}/{name}")
        return file_identity(f"{self._runs_folder(task_id)}/{run_id}/run.json"), traversal

    def task_file(self, task_id: TaskId) -> Path:
        return task_toml(self.tasks_root, task_id)

    def read(
        self, task_id: TaskId, run_id: RunId, last_good: Traversal | None = None, path: Path | None = None
    ) -> Reading:
        """What the run's traversal (at this path, if it is known) says now, without secrets.

        A file that is missing or cannot be used leaves the last good content in place.
        """
        return self._read(path or self.traversal_path(task_id, run_id), self.redactor(task_id), last_good)

    def read_kept(self, folder: RunFolder, epoch: int) -> Reading | None:
        """What was kept of the run's traversal by the owner with this epoch, without secrets: those of then, and those
        of now. None if there is nothing, or nothing usable."""
        reading = self._read(folder.kept_traversal(epoch), self.redactor(folder.task_id), None)
        return None if reading.traversal is None else reading

    def read_unredacted(self, task_id: TaskId, run_id: RunId, name: str | None = None) -> Reading:
        """What the run's traversal (of this name, if it is known) says now, secrets included: only for counting and
        judging."""
        path = self.traversal_file(task_id, name) if name else self.traversal_path(task_id, run_id)
        return self._read(path, None, None)

    def identity(self, task_id: TaskId, run_id: RunId) -> Identity | None:
        """A value that changes whenever the run's traversal does; None if it is not there."""
        path = self.traversal_path(task_id, run_id)
        return None if path is None else file_identity(path)

    def url_redactor(self, url: str) -> Redactor:
        """Takes the secrets of the environment, and those in this URL, out of texts."""
        return self.environment.with_secrets(secrets_of_text("START_URL", url, self._names))

    def redactor(self, task_id: TaskId) -> Redactor:
        """Takes the secrets of the environment and of the task out of texts: those in its file now, and those that were
        there earlier in the life of this process, which its runs may still show."""
        path = self.task_file(task_id)
        identity = file_identity(path)
        known = self._redactors.get(task_id)
        if known is None or known[0] != identity:
            before = self.environment if known is None else known[1]
            known = identity, before.with_secrets(read_task_secrets(path, self.tasks_root, self._names))
            self._redactors[task_id] = known
        return known[1]

    def _read(self, path: Path | None, redactor: Redactor | None, last_good: Traversal | None) -> Reading:
        if path is None:
            return Reading(last_good, None, None)
        try:
            content, modified = read_file(path, self.tasks_root)
        except FileNotFoundError:
            return Reading(last_good, None, None)
        except OSError as error:
            changed = (file_identity(path) or UNKNOWN)[1] / 1e9
            why = f"it cannot be read ({error.strerror})"
            return Reading(last_good, why, changed, path.name, isinstance(error, NotRegular | PermissionError))
        traversal, problem = self._parse(content, redactor)
        return Reading(last_good if problem else traversal, problem, modified, path.name)

    def _parse(self, content: bytes, redactor: Redactor | None) -> tuple[Traversal | None, str | None]:
        """The traversal in the file, or why it cannot be used."""
        try:
            return parse_traversal(content, redactor, self._names), None
        except TraversalBroken as broken:
            return None, str(broken)
        except RecursionError:
            return None, "its JSON is nested too deep"

    def _runs_folder(self, task_id: TaskId) -> str:
        return f"{self._root}/{task_id}/runs"

    def _traversals_folder(self, task_id: TaskId) -> str:
        return f"{self._root}/{task_id}/traversals"

    def _runs(self, task_id: TaskId) -> Mapping[str, str]:
        return self._listings.names(self._runs_folder(task_id), parse_run_id)

    def _traversals(self, task_id: TaskId) -> Mapping[str, str]:
        return self._listings.names(self._traversals_folder(task_id), traversal_run_id)

    def _task_id(self, name: str) -> TaskId | None:
        """The name as that of a task, unless it is a link: the runs of a task are those of one folder."""
        return parse_task_id(name) if is_in_place(self.tasks_root / name) else None


def project_files(settings: Settings) -> RunFiles:
    """The files of the project, with the secrets of this process's environment and of the project.

    One per process: what a worker has read of them before it forks, its work-horses need not read again.
    """
    names = SecretNames(settings.redact_names, settings.redact_not)
    secrets = tuple(read_environment_secrets(os.environ, settings.project_root, names))
    return _run_files(settings.tasks_root, secrets, names)


@lru_cache(maxsize=1)
def _run_files(tasks_root: Path, secrets: tuple[Secret, ...], names: SecretNames) -> RunFiles:
    return RunFiles(tasks_root, secrets, names)
