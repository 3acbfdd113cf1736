"""Find, read and cache the files of runs. Everything here may be called from several threads."""

import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from runner.errors import NotFound, TraversalBroken
from runner.files import is_in_place
from runner.ids import RunId, TaskId, parse_run_id, parse_task_id
from runner.redaction import Secret
from runner.secrets import read_task_secrets
from runner.traversal import Traversal, parse_traversal

SUFFIX = ".json"
STAMP = re.compile(r"traverse_(\d{8}_\d{6})_")
MAX_TRAVERSAL_BYTES = 64 * 1024 * 1024
WRITING_SECONDS = 600  # the longest that a CLI which still works on a run leaves its file alone
CACHE_BYTES = 64 * 1024 * 1024
SETTLED_NS = 2_000_000_000  # file systems stamp a folder to the second at worst: a younger listing may be incomplete


Identity = tuple[int, int, int]  # inode, time of the last change in nanoseconds, size in bytes


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


class Content(NamedTuple):
    """A file's content, named by what changes whenever it does."""

    identity: tuple[object, ...]
    size: int
    reading: Reading


class Listing(NamedTuple):
    """The entries of a folder at one time."""

    modified: int
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
    """All files of the runs of a project. A listing is read again when its folder changed, a file when it did."""

    def __init__(self, tasks_root: Path, secrets: Iterable[Secret] = ()) -> None:
        """`secrets` are those of the environment; those of a task are read from its file."""
        self.tasks_root = tasks_root
        self.of_environment = tuple(secrets)
        self._lock = threading.Lock()
        self._listings: dict[Path, Listing] = {}
        self._task_secrets: dict[TaskId, tuple[Identity, tuple[Secret, ...]]] = {}
        self._contents: OrderedDict[Path, Content] = OrderedDict()
        self._bytes = 0

    def find_task(self, run_id: RunId) -> TaskId | None:
        """The task whose folder has files of this run, or None if the project knows no such run."""
        for task_id in self.task_ids():
            folder = self.tasks_root / task_id
            if run_id in self._names(folder / "runs", parse_run_id):
                return task_id
            if run_id in self._names(folder / "traversals", traversal_run_id):
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
        return (TaskId(name) for name in sorted(self._names(self.tasks_root, self._task_id)))

    def version(self, task_id: TaskId) -> tuple[object, object]:
        """Something that is another thing (`is`) as soon as a run or a traversal of the task came or went."""
        folder = self.tasks_root / task_id
        return self._names(folder / "runs", parse_run_id), self._names(folder / "traversals", traversal_run_id)

    def traversal_ids(self, task_id: TaskId) -> Set[RunId]:
        """The IDs in the names of all traversal files of the task."""
        return {RunId(key) for key in self._names(self.tasks_root / task_id / "traversals", traversal_run_id)}

    def newest_first(self, task_id: TaskId) -> list[RunId]:
        """The same IDs, the newest file first: their names begin with the time at which the CLI began."""
        names = self._names(self.tasks_root / task_id / "traversals", traversal_run_id)
        return [RunId(run_id) for run_id, _ in sorted(names.items(), key=lambda pair: pair[1], reverse=True)]

    def run_ids(self, task_id: TaskId) -> Set[RunId]:
        """The IDs of the task's runs that this project accepted."""
        return {RunId(key) for key in self._names(self.tasks_root / task_id / "runs", parse_run_id)}

    def traversal_path(self, task_id: TaskId, run_id: RunId) -> Path | None:
        """Where the CLI writes the run's traversal, or None as long as it has written none."""
        folder = self.tasks_root / task_id / "traversals"
        name = self._names(folder, traversal_run_id).get(run_id)
        return None if name is None else folder / name

    def read(self, task_id: TaskId, run_id: RunId) -> Reading:
        """What the run's traversal says now, without secrets.

        A file that is missing or cannot be used leaves the last good content in place.
        """
        path = self.traversal_path(task_id, run_id)
        return NOTHING_YET if path is None else self._read(task_id, path)

    def look(self, task_id: TaskId, run_id: RunId) -> Look:
        """What the run's traversal says now, secrets included and not kept: only for counting and judging."""
        path = self.traversal_path(task_id, run_id)
        if path is None:
            return NOT_THERE
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                content = file.read(MAX_TRAVERSAL_BYTES + 1)
        except OSError:
            return NOT_THERE
        return Look(path.name, identity_of(status), _parse(content, None, None, status.st_mtime))

    def identity(self, task_id: TaskId, run_id: RunId) -> Identity | None:
        """What changes whenever the run's traversal does; None if it is not there."""
        path = self.traversal_path(task_id, run_id)
        try:
            return None if path is None else identity_of(path.stat())
        except OSError:
            return None

    def secrets(self, task_id: TaskId) -> tuple[Secret, ...]:
        """All that is secret around this task, as its file and the environment are now."""
        path = self.tasks_root / task_id / f"task_{task_id}.toml"
        try:
            status = path.stat()
        except OSError:
            return self.of_environment
        identity = identity_of(status)
        known = self._task_secrets.get(task_id)
        if known is None or known[0] != identity:
            known = (identity, self.of_environment + read_task_secrets(self.tasks_root, task_id))
            self._task_secrets[task_id] = known
        return known[1]

    def _read(self, task_id: TaskId, path: Path) -> Reading:
        secrets = self.secrets(task_id)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                identity = (*identity_of(status), secrets)
                with self._lock:
                    known = self._contents.get(path)
                    if known is not None:
                        self._contents.move_to_end(path)
                if known is not None and known.identity == identity:
                    return known.reading
                content = file.read(MAX_TRAVERSAL_BYTES + 1)
        except FileNotFoundError:
            with self._lock:
                known = self._contents.get(path)
            return known.reading._replace(modified=None) if known else NOTHING_YET
        except OSError as error:
            return Reading(None, f"it cannot be read ({error.strerror})", None)
        reading = _parse(content, secrets, known.reading.traversal if known else None, status.st_mtime)
        self._remember(path, Content(identity, status.st_size, reading))
        return reading

    def _remember(self, path: Path, content: Content) -> None:
        with self._lock:
            old = self._contents.pop(path, None)
            self._bytes += content.size - (old.size if old else 0)
            self._contents[path] = content
            while self._bytes > CACHE_BYTES and len(self._contents) > 1:
                self._bytes -= self._contents.popitem(last=False)[1].size

    def _task_id(self, name: str) -> TaskId | None:
        """The name as that of a task, unless it is a link: the runs of a task are those of one folder."""
        return parse_task_id(name) if is_in_place(self.tasks_root / name) else None

    def _names(self, folder: Path, key: Callable[[str], str | None]) -> Mapping[str, str]:
        """`key` of each entry of the folder -> its name, without those whose key is None."""
        try:
            modified = os.stat(folder).st_mtime_ns
            listing = self._listings.get(folder)
            if listing is None or not listing.settled or listing.modified != modified:
                settled = time.time_ns() - modified > SETTLED_NS
                names = {found: name for name in os.listdir(folder) if (found := key(name)) is not None}
                same = listing is not None and listing.names == names
                listing = Listing(modified, settled, listing.names if listing is not None and same else names)
                self._listings[folder] = listing
        except OSError:
            return NO_NAMES
        return listing.names


NO_NAMES: Mapping[str, str] = {}


def identity_of(status: os.stat_result) -> Identity:
    """What changes whenever the file's content does."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def _parse(content: bytes, secrets: Iterable[Secret] | None, last_good: Traversal | None, modified: float) -> Reading:
    if len(content) > MAX_TRAVERSAL_BYTES:
        return Reading(last_good, f"it is larger than {MAX_TRAVERSAL_BYTES // 1024 // 1024} MiB", modified)
    try:
        return Reading(parse_traversal(content, secrets), None, modified)
    except TraversalBroken as broken:
        return Reading(last_good, str(broken), modified)
