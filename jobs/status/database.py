"""The SQLite file with the runs: opened, shared by threads and processes, made anew when it cannot be used."""

import itertools
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from sqlite3 import (
    SQLITE_BUSY,
    SQLITE_CANTOPEN,
    SQLITE_CORRUPT,
    SQLITE_FULL,
    SQLITE_IOERR,
    SQLITE_NOTADB,
    SQLITE_PERM,
    SQLITE_PROTOCOL,
    SQLITE_READONLY,
    Connection,
)
from typing import NamedTuple, TypeVar

from runner.errors import SettingsError
from runner.files import NotRegular, file_identity, is_in_place, locked, open_to_write
from runner.log import log_event

T = TypeVar("T")

SCHEMA = Path(__file__).with_name("schema.sql")
VERSION = 2  # of the schema
OLDEST = (3, 37)  # SQLite that knows all of it
BUSY_SECONDS = 10.0  # to wait for another process that writes; one that is stopped meanwhile must stop no other
BUSY_POLL = 0.001  # to ask again; SQLite itself asks 10 times a second, and would not get a turn beside one who sweeps
READ, WRITE = "BEGIN", "BEGIN IMMEDIATE"
LOCK_SECONDS = 10.0  # to wait for one that makes the file
IDLE_CONNECTIONS = 2
TRIES = 3  # the file, another one in its place, and memory
FILES = ("", "-wal", "-shm")
DAMAGED = (SQLITE_CORRUPT, SQLITE_NOTADB)
UNUSABLE = (SQLITE_FULL, SQLITE_IOERR, SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_PERM, SQLITE_PROTOCOL, SQLITE_BUSY)

Inodes = tuple[int | None, ...]

_numbers = itertools.count()


class Opened(NamedTuple):
    """The file, or the memory in place of it."""

    uri: str
    inodes: Inodes | None
    """Of FILES; None for memory."""
    watch: Connection
    """Sees what the others have written."""
    watching: threading.Lock
    """Held by who uses `watch`: a connection that is closed in the middle of that ends the process."""
    idle: list[Connection]


class Database:
    """One per process; its methods may be called from several threads. Whatever is wrong with the file is no error for
    anybody, since all that is in it is on the disk elsewhere."""

    def __init__(self, path: Path, project: str) -> None:
        """`project` says whose runs these are: the file of another one is made anew. Raises `SettingsError`."""
        if sqlite3.sqlite_version_info < OLDEST:
            raise SettingsError([f"SQLite must be 3.37 or newer, got {sqlite3.sqlite_version}: use another Python."])
        self._path = path
        self._files = [f"{path}{suffix}" for suffix in FILES]
        self._project = project
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._opened: Opened | None = None
        self.times_opened = 0
        """Another number when what was written may be gone."""

    @property
    def version(self) -> tuple[int, int]:
        """Differs whenever anything was written, by whatever process."""
        return self._repairing(self._version)

    def read(self, action: Callable[[Connection], T]) -> T:
        """What `action` returns, to which nothing changes meanwhile."""
        return self._repairing(lambda opened: self._use(opened, action, READ))

    def write(self, action: Callable[[Connection], T]) -> T:
        """The same in a transaction, which others see as a whole or not at all."""
        with self._writing:  # SQLite lets those wait for long who come when another thread has just begun
            return self._repairing(lambda opened: self._use(opened, action, WRITE))

    @contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Whether no other process has this at the same time."""
        with ExitStack() as stack:
            is_alone = True
            if self._open().inodes is not None:
                try:
                    stack.enter_context(locked(self._path.with_name(f"{self._path.name}.sweep"), 0))
                except TimeoutError:
                    is_alone = False
                except OSError as error:  # there is no room for it
                    log_event("history_not_locked", level=logging.WARNING, file=self._path, error=error)
            yield is_alone

    def close(self) -> None:
        with self._lock:
            opened, self._opened = self._opened, None
        if opened is not None:
            _close(opened)

    def _version(self, opened: Opened) -> tuple[int, int]:
        with opened.watching:
            return self.times_opened, opened.watch.execute("PRAGMA data_version").fetchone()[0]

    def _use(self, opened: Opened, action: Callable[[Connection], T], begin: str) -> T:
        try:
            connection = opened.idle.pop()
        except IndexError:
            connection = _connect(opened.uri)
        try:
            return _transact(connection, action, begin)
        finally:
            if self._opened is opened and len(opened.idle) < IDLE_CONNECTIONS:
                opened.idle.append(connection)
            else:
                connection.close()

    def _repairing(self, use: Callable[[Opened], T]) -> T:
        """What `use` returns; it is called again if the file was replaced or damaged, or the disk failed."""
        for _ in range(TRIES):
            opened = self._open()
            try:
                return use(opened)
            except sqlite3.DatabaseError as error:
                code = getattr(error, "sqlite_errorcode", 0) & 0xFF
                if code in DAMAGED + UNUSABLE and not self._is_replaced(opened):
                    self._replace(opened, error, in_memory=code in UNUSABLE)
                elif self._opened is opened and not self._is_replaced(opened):
                    raise
        return use(self._open())

    def _is_replaced(self, opened: Opened) -> bool:
        """Whether the file was deleted, or others have made it anew."""
        return opened.inodes is not None and opened.inodes != self._inodes()

    def _replace(self, opened: Opened, error: Exception | None = None, *, in_memory: bool = False) -> None:
        """Use it no more: because of this error, or because it is none any more."""
        with self._lock:
            if self._opened is not opened:
                return  # another thread was quicker
            if in_memory:
                self._opened = self._make_in_memory(error)
            else:
                self._opened = self._open_anew(refused=opened.inodes, error=error)
        _close(opened)  # only now, so that no other file has its inode

    def _open(self) -> Opened:
        opened = self._opened
        if opened is not None and self._is_replaced(opened):
            self._replace(opened)
        elif opened is not None:
            return opened
        with self._lock:
            if self._opened is None:
                self._opened = self._open_anew()
            return self._opened

    def _open_anew(self, refused: Inodes | None = None, error: Exception | None = None) -> Opened:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self._path.with_name(f"{self._path.name}.lock"), LOCK_SECONDS):
                return self._open_file(None if refused is None else refused[0], error)
        except (OSError, sqlite3.DatabaseError) as failed:
            return self._make_in_memory(failed)

    def _open_file(self, refused: int | None, error: Exception | None) -> Opened:
        """The file; a new one if it is none of ours, or has this inode. Raises `OSError` and `DatabaseError`."""
        present = file_identity(self._path)
        if present is not None and present[0] != refused:
            try:
                if opened := self._open_present():
                    return opened
            except (NotRegular, sqlite3.DatabaseError) as found:
                if getattr(found, "sqlite_errorcode", 0) & 0xFF in UNUSABLE:
                    raise
                error = found
        if error is not None and present is not None and not self._path.is_dir():
            self._path.replace(f"{self._path}.damaged")  # it may be somebody else's
        for name in self._files:
            Path(name).unlink(missing_ok=True)
        if error is not None:
            log_event("history_damaged", level=logging.WARNING, file=self._path, error=error)
        os.close(open_to_write(self._path, os.O_RDWR))  # which nobody else may read
        return self._make(self._path.absolute().as_uri())

    def _open_present(self) -> Opened | None:
        """The file that is there; None if it is that of another version or project. Raises `NotRegular` and
        `DatabaseError`."""
        if not is_in_place(self._path) or not self._path.is_file():
            raise NotRegular("it is no regular file")
        _, log, index = self._inodes()
        if (log is None) != (index is None):
            raise sqlite3.DatabaseError("a part of it was deleted")
        uri = self._path.absolute().as_uri()
        watch = _connect(f"{uri}?mode=rw")
        try:
            is_ours = _marks(watch) == (VERSION, self._project)
        except BaseException:
            watch.close()
            raise
        if is_ours:
            return self._set_up(uri, watch)
        watch.close()
        return None

    def _make_in_memory(self, error: Exception | None) -> Opened:
        log_event("history_in_memory", level=logging.WARNING, file=self._path, error=error)
        return self._make(f"file:/history-{next(_numbers)}?vfs=memdb")

    def _make(self, uri: str) -> Opened:
        watch = _connect(uri)
        try:
            watch.executescript(SCHEMA.read_text(encoding="utf-8"))
            watch.execute("INSERT INTO meta VALUES ('project', ?)", (self._project,))
            watch.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            watch.close()
            raise
        return self._set_up(uri, watch)

    def _set_up(self, uri: str, watch: Connection) -> Opened:
        self.times_opened += 1
        if "memdb" in uri:
            return Opened(uri, None, watch, threading.Lock(), [])
        return Opened(f"{uri}?mode=rw", self._inodes(), watch, threading.Lock(), [])

    def _inodes(self) -> Inodes:
        return tuple(None if (found := file_identity(path)) is None else found[0] for path in self._files)


def _connect(uri: str) -> Connection:
    connection = sqlite3.connect(uri, BUSY_SECONDS, isolation_level=None, check_same_thread=False, uri=True)
    try:
        connection.executescript("PRAGMA journal_mode = wal; PRAGMA synchronous = normal; PRAGMA temp_store = memory;")
    except BaseException:
        connection.close()
        raise
    return connection


def _close(opened: Opened) -> None:
    with opened.watching:
        opened.watch.close()
    with suppress(IndexError):  # another thread may just take one
        while True:
            opened.idle.pop().close()


def _marks(connection: Connection) -> tuple[int, str]:
    """The version and the project that the file says; raises if it is none of ours."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (project,) = connection.execute("SELECT value FROM meta WHERE key = 'project'").fetchone() or ("",)
    return version, project


def _transact(connection: Connection, action: Callable[[Connection], T], begin: str) -> T:
    if begin == WRITE:
        _begin_write(connection)
    else:
        connection.execute(begin)
    try:
        result = action(connection)
    except BaseException:
        connection.rollback()
        raise
    connection.commit()
    return result


def _begin_write(connection: Connection) -> None:
    deadline = time.monotonic() + BUSY_SECONDS
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute(WRITE)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(BUSY_POLL)
            else:
                return
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
