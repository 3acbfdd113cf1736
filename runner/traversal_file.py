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

from runner.errors import TraversalBroken
from runner.ids import RunId, TaskId, parse_run_id, parse_task_id
from runner.redaction import Secret
from runner.secrets import read_task_secrets
from runner.traversal import Traversal, parse_traversal

SUFFIX = ".json"
STAMP = re.compile(r"traverse_(\d{8}_\d{6})_")
MAX_TRAVERSAL_BYTES = 64 * 1024 * 1024
CACHE_BYTES = 64 * 1024 * 1024
SETTLED_NS = 2_000_000_000  # file systems stamp a folder to the second at worst: a younger listing may be incomplete


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
        self._secrets = tuple(secrets)
        self._lock = threading.Lock()
        self._listings: dict[Path, Listing] = {}
        self._task_secrets: dict[TaskId, tuple[tuple[int, int, int], tuple[Secret, ...]]] = {}
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

    def task_ids(self) -> Iterator[TaskId]:
        """The names of the folders in `tasks/` that can be tasks, in alphabetical order."""
        return (TaskId(name) for name in sorted(self._names(self.tasks_root, parse_task_id)))

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

    def secrets(self, task_id: TaskId) -> tuple[Secret, ...]:
        """All that is secret around this task, as its file and the environment are now."""
        path = self.tasks_root / task_id / f"task_{task_id}.toml"
        try:
            status = path.stat()
        except OSError:
            return self._secrets
        identity = (status.st_ino, status.st_mtime_ns, status.st_size)
        known = self._task_secrets.get(task_id)
        if known is None or known[0] != identity:
            known = (identity, self._secrets + read_task_secrets(self.tasks_root, task_id))
            self._task_secrets[task_id] = known
        return known[1]

    def _read(self, task_id: TaskId, path: Path) -> Reading:
        secrets = self.secrets(task_id)
        try:
            with path.open("rb") as file:
                status = os.fstat(file.fileno())
                identity = (status.st_ino, status.st_mtime_ns, status.st_size, secrets)
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

    def _names(self, folder: Path, key: Callable[[str], str | None]) -> Mapping[str, str]:
        """`key` of each entry of the folder -> its name, without those whose key is None."""
        try:
            modified = os.stat(folder).st_mtime_ns
            listing = self._listings.get(folder)
            if listing is None or not listing.settled or listing.modified != modified:
                settled = time.time_ns() - modified > SETTLED_NS
                names = {found: name for name in os.listdir(folder) if (found := key(name)) is not None}
                listing = Listing(modified, settled, names)
                self._listings[folder] = listing
        except OSError:
            return {}
        return listing.names


def _parse(content: bytes, secrets: Iterable[Secret], last_good: Traversal | None, modified: float) -> Reading:
    if len(content) > MAX_TRAVERSAL_BYTES:
        return Reading(last_good, f"it is larger than {MAX_TRAVERSAL_BYTES // 1024 // 1024} MiB", modified)
    try:
        return Reading(parse_traversal(content, secrets), None, modified)
    except TraversalBroken as broken:
        return Reading(last_good, str(broken), modified)
