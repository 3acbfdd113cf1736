"""Keep the rows of all runs as the disk is: those that were accepted, and those made by hand with the CLI. Each once.

`tell` names a run that has changed, and `catch_up` reads it. `sweep` finds what was not told.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from sqlite3 import Connection
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from jobs.status.database import Database
from jobs.status.row import look, read_row
from jobs.status.table import RunTable
from runner.errors import ProjectGone
from runner.files import file_identity
from runner.ids import RunId, TaskId
from runner.log import log_event
from runner.project.catalog import TaskCatalog
from runner.project.listings import tick
from runner.project.run_files import RunFiles

BATCH = 250  # runs that are read for one transaction
PAUSE = 0.002  # seconds between two of them, for others to write

PLACES = "SELECT name, run_id, runs.file, seen FROM runs JOIN tasks ON tasks.id = task WHERE "
OF_TASK = (
    "SELECT run_id, recorded, traversal_id, runs.file, seen IS NOT NULL FROM {} JOIN tasks ON tasks.id = {}"
    " WHERE name = ?"
)
LISTED = OF_TASK.format("groups JOIN runs ON group_id = groups.id", "groups.task")
UNCLAIMED = (  # files that no run is about to adopt any more
    "group_id IS NULL AND task NOT IN (SELECT groups.task FROM groups JOIN runs ON group_id = groups.id"
    " WHERE state = 'RUNNING' AND recorded AND runs.file IS NULL AND traversal_id IS NULL)"
)
UNLISTED = OF_TASK.format("runs", "runs.task") + " AND group_id IS NULL"


def encode(value: object) -> str:
    """JSON."""
    return msgspec.json.encode(value).decode()


class Place(NamedTuple):
    """Where a run is."""

    task_id: TaskId
    run_id: RunId
    file: str | None = None
    """The name of its traversal, where that is known."""
    seen: str | None = None


class Indexing(Struct, frozen=True):
    """How many of the files on the disk have been read, as long as that is not all of them."""

    done: int
    total: int

    def after(self, count: int) -> "Indexing":
        """When so many more have been read."""
        return Indexing(min(self.done + count, self.total), self.total)


class Projection:
    """The rows of one project. Its methods may be called from several threads, and read the disk if not said
    otherwise."""

    def __init__(self, database: Database, files: RunFiles, catalog: TaskCatalog) -> None:
        self.database = database
        self._files = files
        self._catalog = catalog
        self._catching_up = threading.Lock()
        self._told: dict[tuple[RunId, TaskId | None], Place | None] = {}
        self._changed: dict[TaskId, tuple[object, float]] = {}  # the times of folders, and since when they are so
        self._faults: dict[tuple[str, ...], str] = {}
        self._is_ending = False

    def tell(self, run_id: RunId, place: Place | None = None) -> None:
        """Note that a run has changed; if it is new, or may be made by hand, also its place. Reads nothing."""
        self._told[run_id, place and place.task_id] = place

    @property
    def is_behind(self) -> bool:
        """Whether something was told that is not in the rows yet. Reads nothing."""
        return bool(self._told) or self._catching_up.locked()

    def end(self) -> None:
        """Read no further: the process is about to end."""
        self._is_ending = True

    def catch_up(self) -> None:
        """Read the runs that were told. Raises `ProjectGone`, and then they are still to be read."""
        with self._catching_up:
            told = {}
            while self._told:  # one by one: another thread may tell one meanwhile
                key, told[key] = self._told.popitem()
            try:
                self._read_told(told)
            except BaseException:
                for key, place in told.items():
                    self._told.setdefault(key, place)
                raise

    def _read_told(self, told: dict[tuple[RunId, TaskId | None], Place | None]) -> None:
        places = {place[:2]: place for (run_id, _), at in told.items() for place in self._affected(run_id, at)}
        self._update(places.values())
        self._update(self._places(UNCLAIMED))

    def places(self, run_id: RunId) -> list[Place]:
        """Where this run is, as far as that is known: of a task that was copied, there are several. Reads no disk."""
        return self._places("run_id = ?", run_id)

    def indexing(self) -> Indexing | None:
        """How far the first sweep is; None if it is done. Reads no disk."""
        found = self._query("SELECT value FROM meta WHERE key = 'indexing'")
        return msgspec.json.decode(found[0][0], type=Indexing) if found else None

    def check_project(self) -> None:
        """See that the project is there. Raises `ProjectGone`."""
        self._files.check_project()

    def has_runs(self, task_id: TaskId) -> bool:
        """Whether there is a run of the task. Reads no disk."""
        return bool(self._query("SELECT 1 FROM groups JOIN tasks ON tasks.id = task WHERE name = ? AND n > 0", task_id))

    def find_new(self, run_id: RunId) -> TaskId | None:
        """The task that has a traversal of this name, among those in whose folders something came or went since they
        were listed."""
        listed = dict(self._query("SELECT name, listed FROM tasks"))
        for task_id in self._files.task_ids():
            with suppress(OSError):
                is_changed = listed.get(task_id) != str(self._files.listing_times(task_id))
                if is_changed and run_id in self._files.list_traversals(task_id):
                    return task_id
        return None

    def waiting(self) -> list[RunId]:
        """The runs that wait, or some of them if they are many. Reads no disk."""
        statement = "SELECT run_id FROM groups JOIN runs ON group_id = groups.id WHERE state = 'PENDING' LIMIT 1000"
        return [run_id for (run_id,) in self._query(statement)]

    def sweep(self) -> bool:
        """Read what has changed on the disk; whether no other process is just doing it for all. Raises
        `ProjectGone`."""
        self.check_project()
        with self.database.exclusive() as is_alone:
            if is_alone:
                self._sweep()
        return is_alone

    def _sweep(self) -> None:
        opened, _ = self.database.version
        tasks = [*self._files.task_ids()]
        indexing = self._begin_indexing(tasks)
        unsettled = self._places("seen IS NOT NULL")  # first: a run that has started may adopt a file
        self._update(at for at in unsettled if at.seen != look(self._files, *at[:3]))
        self._update(self._places(UNCLAIMED))
        known = {task_id: times for task_id, *times in self._query("SELECT name, listed, file FROM tasks")}
        for task_id in tasks:
            with self._logging_faults(task=task_id):
                self._sweep_task(task_id, known.pop(task_id, None), indexing)
            indexing = indexing and indexing.after(self._count(task_id))
        for task_id in known:  # they are gone
            self._update([*self._news(task_id, set(), {})])
        if indexing is not None and not self._is_ending and self.database.version[0] == opened:
            self.database.write(lambda it: it.execute("DELETE FROM meta WHERE key = 'indexing'"))

    def _begin_indexing(self, tasks: list[TaskId]) -> Indexing | None:
        """None if all has been read before."""
        if self.indexing() is None:
            return None
        indexing = Indexing(0, sum(map(self._count, tasks)))
        self.database.write(partial(self._note_progress, indexing))
        return indexing

    def _count(self, task_id: TaskId) -> int:
        return len(self._files.list_runs(task_id)) + len(self._files.list_traversals(task_id))

    def _sweep_task(self, task_id: TaskId, known: list[str] | None, indexing: Indexing | None) -> None:
        """Read the runs that came to the task or went, and the task itself if its file has changed."""
        times = self._files.listing_times(task_id)
        file = file_identity(self._files.task_file(task_id))
        if known == [str(times), str(file)]:
            return
        is_settled = self._is_settled(task_id, times)  # before they are listed
        accepted, written = self._files.list_runs(task_id), self._files.list_traversals(task_id)
        self._update(self._news(task_id, accepted, written), indexing)
        if not self._is_ending:
            listed = str(times) if is_settled else None
            self.database.write(lambda it: self._note_listed(it, task_id, listed))

    def _news(self, task_id: TaskId, accepted: set[RunId], written: dict[RunId, str]) -> Iterator[Place]:
        """What is on the disk and not in the rows, or the other way round; accepted runs first."""
        rows = self._query(LISTED, task_id) + self._query(UNLISTED, task_id)
        recorded = {run_id: is_recorded for run_id, is_recorded, *_ in rows}
        adopted = {file_id for _, _, file_id, *_ in rows}
        names = {run_id: name for run_id, _, _, name, _ in rows}
        unnamed = {run_id for run_id, _, file_id, name, is_open in rows if is_open and name is file_id is None}
        for run_id in accepted:
            if not recorded.get(run_id):
                yield Place(task_id, run_id, written.get(run_id))
        for run_id in recorded.keys() - accepted - written.keys():
            yield Place(task_id, run_id, names[run_id])
        for run_id, name in written.items():
            is_new = recorded.get(run_id, run_id not in adopted)
            if (is_new and run_id not in accepted) or run_id in unnamed:
                yield Place(task_id, run_id, name)

    def _is_settled(self, task_id: TaskId, times: tuple[int | None, int | None]) -> bool:
        """Whether nothing can come into the folders without changing these times."""
        known, since = self._changed.get(task_id, (None, 0.0))
        if known != times:
            since = time.monotonic()
            self._changed[task_id] = times, since
        return all(at is None or time.monotonic() - since > tick(at) for at in times)

    def _note_listed(self, connection: Connection, task_id: TaskId, listed: str | None) -> None:
        RunTable(connection, self._files, self._catalog).task(task_id)
        connection.execute("UPDATE tasks SET listed = ? WHERE name = ?", (listed, task_id))

    def _update(self, places: Iterable[Place], indexing: Indexing | None = None) -> None:
        """Read these runs, and write their rows. They are read in the transaction, so that of two processes that
        do so at the same time none writes what is older."""
        waiting = iter(places)
        while batch := [*islice(waiting, BATCH)]:
            if self._is_ending:
                return
            indexing = indexing and indexing.after(len(batch))
            self.database.write(partial(self._write, batch, indexing))
            if len(batch) == BATCH:
                time.sleep(PAUSE)

    def _write(self, places: list[Place], indexing: Indexing | None, connection: Connection) -> None:
        table = RunTable(connection, self._files, self._catalog)
        is_one_gone = False
        for task_id, run_id, file, *_ in places:
            with self._logging_faults(task=task_id, run=run_id):
                row = read_row(self._files, task_id, run_id, file)
                if row is None:
                    is_one_gone |= table.delete(task_id, run_id)
                else:
                    table.put(task_id, row)
        if is_one_gone:
            self.check_project()  # or it is all that is gone
        table.finish()
        if indexing is not None:
            self._note_progress(indexing, connection)

    @contextmanager
    def _logging_faults(self, **what: str) -> Iterator[None]:
        """Go on with the next, if it is no fault of the database. Each fault is logged once."""
        place = (*what.values(),)
        try:
            yield
            self._faults.pop(place, None)
        except (sqlite3.Error, ProjectGone):
            raise
        except Exception as error:  # noqa: BLE001
            if self._faults.get(place) != repr(error):
                log_event("not_indexed", level=logging.ERROR, **what, error=repr(error))
            self._faults[place] = repr(error)

    def _note_progress(self, indexing: Indexing, connection: Connection) -> None:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'indexing'", (encode(indexing),))

    def _affected(self, run_id: RunId, told: Place | None) -> Iterator[Place]:
        """Where this run is; if a traversal was told, also the runs that have or may have adopted it."""
        if told is not None and told.file is None:
            yield from self.places(run_id) or [told]
        elif told is not None:
            opened = self._places("seen IS NOT NULL AND name = ?", told.task_id)
            yield from (at for at in opened if at.seen != look(self._files, *at[:3]))
            yield told
            yield from self._places("traversal_id = ? AND name = ?", run_id, told.task_id)
        else:
            yield from self.places(run_id) or [Place(task, run_id) for task in self._files.tasks_with_record(run_id)]

    def _places(self, condition: str, *values: str) -> list[Place]:
        return [Place(*row) for row in self._query(PLACES + condition, *values)]

    def _query(self, statement: str, *values: str) -> list[Any]:
        return self.database.read(lambda it: it.execute(statement, values).fetchall())
