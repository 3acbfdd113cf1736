"""Find and read the files of runs. Everything here may be called from several threads."""

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from runner.errors import NotFound, TraversalBroken
from runner.files import Identity, file_identity, identity_of, is_in_place
from runner.ids import RunId, TaskId, parse_run_id, parse_task_id
from runner.project.traversal import Traversal, parse_traversal
from runner.redaction import Redactor, Secret
from runner.secrets import read_task_secrets

SUFFIX = ".json"
STAMP = re.compile(r"traverse_(\d{8}_\d{6})_")
MAX_TRAVERSAL_BYTES = 64 * 1024 * 1024
WRITING_SECONDS = 600  # the longest that a CLI which still works on a run leaves its file alone
SECOND_NS = 1_000_000_000
TICK_NS = 50_000_000  # the longest tick of a clock by which file systems stamp that know parts of a second
NO_NAMES: Mapping[str, str] = {}


class Reading(NamedTuple):
    """What a traversal file says now.

    `traversal` is the newest whole content that was seen (None if there was none yet), `problem` says why the content
    that is there now cannot be used (None if it can), `modified` is when the file last changed (seconds since 1970;
    None if it is not there).
    """

    traversal: Traversal | None
    problem: str | None
    modified: float | None


NOTHING_YET = Reading(None, None, None)


class Look(NamedTuple):
    """A traversal file as it is now: its name, what identifies its content, and what it says."""

    name: str
    identity: Identity | None
    reading: Reading


NOT_THERE = Look("", None, NOTHING_YET)


class Listing(NamedTuple):
    """The entries of a folder at one time. `modified` is None if it was not there; one that is not `settled` may lack
    an entry that came within the same tick of the file system's clock."""

    modified: int | None
    settled: bool
    names: Mapping[str, str]


def is_abandoned(modified: float) -> bool:
    """Whether a recording that last changed then (seconds since 1970), and that no job answers for, will stay so."""
    return time.time() - modified > WRITING_SECONDS


def traversal_run_id(name: str) -> RunId | None:
    """The run ID in the name of a traversal file (Bugninja: what follows the last `_`), or None for other files."""
    if not name.startswith("traverse_") or not name.endswith(SUFFIX):
        return None
    return parse_run_id(name.removesuffix(SUFFIX).rpartition("_")[2])


def started_at(name: str) -> datetime | None:
    """When the CLI began, in UTC, from its file's name (local time there); None if it is not in it."""
    found = STAMP.match(name)
    if found is None:
        return None
    try:
        return datetime.strptime(found.group(1), "%Y%m%d_%H%M%S").astimezone(UTC)
    except ValueError:
        return None


class RunFiles:
    """All files of the runs of a project. A folder is listed again when it changed; no content is kept."""

    def __init__(self, tasks_root: Path, secrets: Iterable[Secret] = ()) -> None:
        """`secrets` are those of the environment; those of a task are read from its file."""
        self.tasks_root = tasks_root
        self.of_environment = tuple(secrets)
        self._root = os.fspath(tasks_root)
        self._listings: dict[str, Listing] = {}
        self._redactors: dict[TaskId, tuple[Identity | None, Redactor]] = {}

    def find_task(self, run_id: RunId) -> TaskId | None:
        """The task whose folder has files of this run, or None if the project knows no such run."""
        for task_id in self.task_ids():
            if run_id in self._runs(task_id) or run_id in self._traversals(task_id):
                return task_id
        return None

    def task_of(self, run_id: RunId) -> TaskId:
        """The same. Raises `NotFound`."""
        task_id = self.find_task(run_id)
        if task_id is None:
            raise NotFound(f"There is no run '{run_id}'.")
        return task_id

    def task_ids(self) -> Iterator[TaskId]:
        """The names of the folders in `tasks/` that can be tasks, in alphabetical order."""
        return (TaskId(name) for name in sorted(self._names(self._root, self._task_id)))

    def folders(self) -> list[Path]:
        """Those in which tasks and traversals come and go."""
        tasks = [Path(self._root, task_id) for task_id in self.task_ids()]
        traversals = (task / "traversals" for task in tasks)
        return [self.tasks_root, *tasks, *(folder for folder in traversals if folder.is_dir())]

    def tasks_version(self) -> object:
        """Something that is another thing (`is`) as soon as a task came or went."""
        return self._names(self._root, self._task_id)

    def known_version(self, task_id: TaskId | None) -> tuple[object, ...] | None:
        """The version of the task, or (None) of the tasks, if no folder has to be listed for it: their times alone are
        looked at. None if one has to."""
        folders = [self._root] if task_id is None else [self._runs_folder(task_id), self._traversals_folder(task_id)]
        listed = tuple(map(self._listed, folders))
        return None if None in listed else listed

    def version(self, task_id: TaskId) -> tuple[object, object]:
        """Something that is another thing (`is`) as soon as a run or a traversal of the task came or went."""
        return self._runs(task_id), self._traversals(task_id)

    def traversal_ids(self, task_id: TaskId) -> Set[RunId]:
        """The IDs in the names of all traversal files of the task."""
        return {RunId(key) for key in self._traversals(task_id)}

    def newest_first(self, task_id: TaskId) -> list[RunId]:
        """The same IDs, the newest file first: their names begin with the time at which the CLI began."""
        names = self._traversals(task_id)
        return [RunId(run_id) for run_id, _ in sorted(names.items(), key=lambda pair: pair[1], reverse=True)]

    def run_ids(self, task_id: TaskId) -> Set[RunId]:
        """The IDs of the task's runs that this project accepted."""
        return {RunId(key) for key in self._runs(task_id)}

    def traversal_path(self, task_id: TaskId, run_id: RunId) -> Path | None:
        """Where the CLI writes the run's traversal, or None as long as it has written none."""
        name = self._traversals(task_id).get(run_id)
        return None if name is None else Path(self._traversals_folder(task_id), name)

    def task_file(self, task_id: TaskId) -> Path:
        """Where the task's own file is."""
        return Path(self._root, task_id, f"task_{task_id}.toml")

    def read(self, task_id: TaskId, run_id: RunId, last_good: Traversal | None = None) -> Reading:
        """What the run's traversal says now, without secrets.

        A file that is missing or cannot be used leaves the last good content in place.
        """
        path = self.traversal_path(task_id, run_id)
        return self._read(path, self.secrets(task_id), last_good).reading

    def look(self, task_id: TaskId, run_id: RunId) -> Look:
        """What the run's traversal says now, secrets included: only for counting and judging."""
        return self._read(self.traversal_path(task_id, run_id), None, None)

    def identity(self, task_id: TaskId, run_id: RunId) -> Identity | None:
        """What changes whenever the run's traversal does; None if it is not there."""
        path = self.traversal_path(task_id, run_id)
        return None if path is None else file_identity(path)

    def secrets(self, task_id: TaskId) -> tuple[Secret, ...]:
        """All that is secret around this task, as its file and the environment are now."""
        return self.redactor(task_id).secrets

    def redactor(self, task_id: TaskId) -> Redactor:
        """What takes all of that out of texts."""
        identity = file_identity(self.task_file(task_id))
        known = self._redactors.get(task_id)
        if known is None or known[0] != identity:
            of_task = read_task_secrets(self.tasks_root, task_id) if identity is not None else ()
            known = (identity, Redactor([*self.of_environment, *of_task]))
            self._redactors[task_id] = known
        return known[1]

    def _read(self, path: Path | None, secrets: Iterable[Secret] | None, last_good: Traversal | None) -> Look:
        if path is None:
            return NOT_THERE._replace(reading=Reading(last_good, None, None))
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                content = file.read(MAX_TRAVERSAL_BYTES + 1)
        except FileNotFoundError:
            return NOT_THERE._replace(reading=Reading(last_good, None, None))
        except OSError as error:
            return NOT_THERE._replace(reading=Reading(last_good, f"it cannot be read ({error.strerror})", None))
        reading = _parse(content, secrets, last_good, status.st_mtime)
        return Look(path.name, identity_of(status), reading)

    def _runs_folder(self, task_id: TaskId) -> str:
        return f"{self._root}/{task_id}/runs"

    def _traversals_folder(self, task_id: TaskId) -> str:
        return f"{self._root}/{task_id}/traversals"

    def _runs(self, task_id: TaskId) -> Mapping[str, str]:
        return self._names(self._runs_folder(task_id), parse_run_id)

    def _traversals(self, task_id: TaskId) -> Mapping[str, str]:
        return self._names(self._traversals_folder(task_id), traversal_run_id)

    def _task_id(self, name: str) -> TaskId | None:
        """The name as that of a task, unless it is a link: the runs of a task are those of one folder."""
        return parse_task_id(name) if is_in_place(self.tasks_root / name) else None

    def _listed(self, folder: str) -> Mapping[str, str] | None:
        listing = self._listings.get(folder)
        return listing.names if listing and listing.settled and listing.modified == _modified(folder) else None

    def _names(self, folder: str, key: Callable[[str], str | None]) -> Mapping[str, str]:
        """`key` of each entry of the folder -> its name, without those whose key is None."""
        modified = _modified(folder)
        known = self._listings.get(folder)
        if known is None or not known.settled or known.modified != modified:
            settled = modified is None or _is_settled(modified)
            before = {} if known is None or folder == self._root else {name: id_ for id_, name in known.names.items()}
            names = {found: name for name in _entries(folder) if (found := before.get(name) or key(name)) is not None}
            same = known is not None and known.names == names
            known = Listing(modified, settled, known.names if known is not None and same else names)
            self._listings[folder] = known
        return known.names


def _modified(folder: str) -> int | None:
    """When an entry of the folder last came or went, in nanoseconds; None if it is not there."""
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return None


def _is_settled(modified: int) -> bool:
    """Whether a folder that is listed now, and last changed then, will have another time when it changes again.

    File systems that stamp whole seconds (or even ones) need two of them for that, others a tick of their clock.
    """
    return time.time_ns() - modified > (2 * SECOND_NS if modified % SECOND_NS == 0 else TICK_NS)


def _entries(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _parse(content: bytes, secrets: Iterable[Secret] | None, last_good: Traversal | None, modified: float) -> Reading:
    if len(content) > MAX_TRAVERSAL_BYTES:
        return Reading(last_good, f"it is larger than {MAX_TRAVERSAL_BYTES // 1024 // 1024} MiB", modified)
    try:
        return Reading(parse_traversal(content, secrets), None, modified)
    except TraversalBroken as broken:
        return Reading(last_good, str(broken), modified)
