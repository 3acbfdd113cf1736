"""The SQLite file with the runs: opened, shared by threads and processes, made anew when it cannot be used."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from sqlite3 import (
    SQLITE_CANTOPEN,
    SQLITE_CORRUPT,
    SQLITE_FULL,
    SQLITE_IOERR,
    SQLITE_NOTADB,
    SQLITE_READONLY,
    Connection,
)
from typing import NamedTuple, TypeVar

from runner.errors import SettingsError
from runner.files import file_identity, locked
from runner.log import log_event

T = TypeVar("T")

SCHEMA = Path(__file__).with_name("schema.sql")
VERSION = 1  # of the schema
OLDEST = (3, 37)  # SQLite that knows all of it
BUSY_SECONDS = 10.0  # to wait for another process that writes
LOCK_SECONDS = 30.0  # to wait for one that makes the file
IDLE_CONNECTIONS = 2
DAMAGED = (SQLITE_CORRUPT, SQLITE_NOTADB)
UNUSABLE = (SQLITE_FULL, SQLITE_IOERR, SQLITE_READONLY, SQLITE_CANTOPEN)


class Opened(NamedTuple):
    """The file, or the memory in place of it."""

    uri: str
    inode: int | None
    """Of the file; None for memory."""
    watch: Connection
    """Sees what the others have written."""
    idle: list[Connection]


class Database:
    """One per process; its methods may be called from several threads. Whatever is wrong with the file is no error for
    anybody, since all that is in it is on the disk elsewhere."""

    def __init__(self, path: Path, project: str) -> None:
        """`project` says whose runs these are: the file of another one is made anew. Raises `SettingsError`."""
        if sqlite3.sqlite_version_info < OLDEST:
            raise SettingsError([f"SQLite must be 3.37 or newer, got {sqlite3.sqlite_version}: use another Python."])
        self._path = path
        self._project = project
        self._lock = threading.Lock()
        self._opened: Opened | None = None
        self._times_opened = 0

    @property
    def version(self) -> tuple[int, int]:
        """Differs whenever anything was written, by whatever process."""
        number = self._repairing(lambda opened: opened.watch.execute("PRAGMA data_version").fetchone()[0])
        return self._times_opened, number

    def read(self, action: Callable[[Connection], T]) -> T:
        """What `action` returns, which sees one state of the file."""
        return self._repairing(lambda opened: self._use(opened, partial(_transact, "BEGIN", action)))

    def write(self, action: Callable[[Connection], T]) -> T:
        """The same in a transaction, which others see as a whole or not at all."""
        write = partial(_transact, "BEGIN IMMEDIATE", action)
        return self._repairing(lambda opened: self._use(opened, write))

    def check_replaced(self) -> None:
        """Open the file anew if it was deleted or replaced meanwhile."""
        opened = self._open()
        if opened.inode not in (None, _inode(self._path)):
            self._drop(opened)

    @contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Whether no other process has this at the same time."""
        with ExitStack() as stack:
            is_alone = True
            if self._open().inode is not None:
                try:
                    stack.enter_context(locked(self._path.with_name(f"{self._path.name}.sweep"), 0))
                except OSError:
                    is_alone = False
            yield is_alone

    def close(self) -> None:
        if self._opened is not None:
            self._drop(self._opened)

    def _use(self, opened: Opened, action: Callable[[Connection], T]) -> T:
        try:
            connection = opened.idle.pop()
        except IndexError:
            connection = _connect(opened.uri)
        try:
            return action(connection)
        finally:
            if self._opened is opened and len(opened.idle) < IDLE_CONNECTIONS:
                opened.idle.append(connection)
            else:
                connection.close()

    def _repairing(self, use: Callable[[Opened], T]) -> T:
        """What `use` returns; it is called again if the file was damaged or the disk failed."""
        opened = self._open()
        try:
            return use(opened)
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if code not in DAMAGED + UNUSABLE:
                raise
            self._drop(opened, error, in_memory=code in UNUSABLE)
        return use(self._open())

    def _drop(self, opened: Opened, error: Exception | None = None, *, in_memory: bool = False) -> None:
        """Use it no more: because of this error, or because it is none any more."""
        with self._lock:
            if self._opened is not opened:
                return  # another thread was quicker
            self._opened = self._make_in_memory(error) if in_memory else None
            if error is not None and not in_memory:
                log_event("history_damaged", level=logging.WARNING, file=self._path, error=error)
                self._delete()
        for connection in [opened.watch, *opened.idle]:
            connection.close()

    def _open(self) -> Opened:
        if self._opened is not None:
            return self._opened
        with self._lock:
            if self._opened is None:
                try:
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    with locked(self._path.with_name(f"{self._path.name}.lock"), LOCK_SECONDS):
                        self._opened = self._open_file()
                except (OSError, sqlite3.OperationalError) as error:
                    self._opened = self._make_in_memory(error)
            return self._opened

    def _open_file(self) -> Opened:
        """The file; a new one if it is none of ours. Raises `OSError` and `OperationalError`."""
        uri = self._path.absolute().as_uri()
        if self._path.exists():
            try:
                watch = _connect(uri)
                if _marks(watch) == self._marks:
                    return self._set_up(uri, watch)
                watch.close()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode & 0xFF in UNUSABLE:
                    raise
                log_event("history_damaged", level=logging.WARNING, file=self._path, error=error)
        self._delete()
        return self._make(uri)

    def _make_in_memory(self, error: Exception | None) -> Opened:
        log_event("history_in_memory", level=logging.WARNING, file=self._path, error=error)
        return self._make(f"file:/history-{id(self)}-{self._times_opened}?vfs=memdb")

    def _make(self, uri: str) -> Opened:
        watch = _connect(uri)
        watch.executescript(SCHEMA.read_text(encoding="utf-8"))
        watch.execute("INSERT INTO meta VALUES ('project', ?)", (self._project,))
        watch.execute(f"PRAGMA user_version = {VERSION}")
        return self._set_up(uri, watch)

    def _set_up(self, uri: str, watch: Connection) -> Opened:
        self._times_opened += 1
        return Opened(uri, None if "memdb" in uri else _inode(self._path), watch, [])

    @property
    def _marks(self) -> tuple[int, str]:
        return VERSION, self._project

    def _delete(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _connect(uri: str) -> Connection:
    connection = sqlite3.connect(uri, BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
    connection.executescript("PRAGMA journal_mode = wal; PRAGMA synchronous = normal; PRAGMA temp_store = memory;")
    return connection


def _marks(connection: Connection) -> tuple[int, str]:
    """The version and the project that the file says; raises if it is none of ours."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (project,) = connection.execute("SELECT value FROM meta WHERE key = 'project'").fetchone() or ("",)
    return version, project


def _transact(begin: str, action: Callable[[Connection], T], connection: Connection) -> T:
    connection.execute(begin)
    try:
        result = action(connection)
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
    return result


def _inode(path: Path) -> int | None:
    identity = file_identity(path)
    return None if identity is None else identity[0]
