"""The file of the rows: shared, and made anew whatever happens to it."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.status import database as module
from jobs.status.database import Database
from runner.errors import SettingsError
from runner.files import locked
from tests.unit.runs import full_disk

Rows = set[str]


class Opener:
    """Opens the file as each process does, and closes it in the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.logged: list[str] = []
        self.databases: list[Database] = []

    def __call__(self, project: str = "ours") -> Database:
        self.databases.append(Database(self.path, project))
        return self.databases[-1]


@pytest.fixture
def opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    opener = Opener(tmp_path / "history" / "runs.sqlite")
    monkeypatch.setattr(module, "log_event", lambda event, **_: opener.logged.append(event))
    yield opener
    for database in opener.databases:
        database.close()


def put(database: Database, key: str) -> None:
    database.write(lambda it: it.execute("INSERT OR REPLACE INTO meta VALUES (?, 1)", (key,)))


def keys(database: Database) -> Rows:
    return {key for (key,) in database.read(lambda it: it.execute("SELECT key FROM meta WHERE value = 1").fetchall())}


def is_in_memory(database: Database) -> bool:
    (_, _, path) = database.read(lambda it: it.execute("PRAGMA database_list").fetchone())
    return not Path(path or "/nowhere").exists()


def in_threads(count: int, action: Callable[[int], None]) -> list[Exception]:
    """What it raises when so many do it at the same time."""
    errors: list[Exception] = []

    def run(number: int) -> None:
        try:
            action(number)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_what_one_writes_all_read_also_later(opener: Opener) -> None:
    first, second = opener(), opener()
    put(first, "a")
    put(second, "b")
    assert keys(first) == keys(second) == {"a", "b"}
    first.close()
    second.close()
    assert keys(opener()) == {"a", "b"}
    assert opener.logged == []
    assert opener().read(lambda it: it.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


def test_many_write_at_the_same_time_and_nothing_is_lost(opener: Opener) -> None:
    databases = opener(), opener()

    def write(number: int) -> None:
        for key in range(10):
            put(databases[number % 2], f"{number}-{key}")

    assert in_threads(6, write) == []
    assert keys(databases[0]) == {f"{number}-{key}" for number in range(6) for key in range(10)}
    assert opener.logged == []


def test_a_transaction_that_fails_leaves_nothing_and_blocks_nobody(opener: Opener) -> None:
    database = opener()

    def fail(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO meta VALUES ('a', 1)")
        raise KeyError

    with pytest.raises(KeyError):
        database.write(fail)
    put(opener(), "b")
    assert keys(database) == {"b"}


def test_a_mistake_in_a_statement_is_no_damage(opener: Opener) -> None:
    database = opener()
    put(database, "a")
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.read(lambda it: it.execute("SELECT 1 FROM nowhere"))
    assert keys(database) == {"a"}


def test_nothing_changes_to_one_who_reads(opener: Opener) -> None:
    database, other = opener(), opener()

    def count(connection: sqlite3.Connection) -> int:
        return len(connection.execute("SELECT 1 FROM meta").fetchall())

    def read(connection: sqlite3.Connection) -> bool:
        before = count(connection)
        put(other, "a")
        put(database, "b")
        return count(connection) == before

    assert database.read(read)
    assert keys(database) == {"a", "b"}


def test_the_version_differs_after_each_write(opener: Opener) -> None:
    database, other = opener(), opener()
    versions = [database.version]
    for writer in (database, other, database, other):
        put(writer, str(len(versions)))
        versions.append(database.version)
    assert database.version == versions[-1]
    database.read(lambda _: put(database, "meanwhile, on another connection"))
    versions.append(database.version)
    database.close()
    put(other, "while it is closed")
    versions.append(database.version)
    opener.path.unlink()
    versions.append(database.version)
    assert len(set(versions)) == len(versions)


@pytest.mark.parametrize("project", ["ours", "another"])
def test_the_file_of_another_version_or_project_is_made_anew(
    opener: Opener, monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    database = opener(project)
    put(database, "a")
    database.close()
    if project == "ours":
        monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    assert keys(opener()) == set()
    put(opener(), "b")
    assert keys(opener()) == {"b"}


@pytest.mark.parametrize("deleted", [("",), ("-wal",), ("-shm",), ("-wal", "-shm"), ("", "-wal", "-shm")])
@pytest.mark.parametrize("nested", [False, True])
def test_it_may_be_deleted_while_several_have_it_open(opener: Opener, deleted: tuple[str, ...], nested: bool) -> None:
    first, second = opener(), opener()
    put(first, "a")
    put(second, "b")

    def delete(_: object = None) -> None:
        for suffix in deleted:
            opener.path.with_name(opener.path.name + suffix).unlink()
        put(first, "c")  # if nested, on a new connection

    if nested:
        first.read(delete)
    else:
        delete()
    put(second, "d")
    assert keys(first) == keys(second) == keys(opener()) == {"c", "d"}
    assert not is_in_memory(first)
    assert first.read(lambda it: it.execute("PRAGMA integrity_check").fetchone()) == ("ok",)
    assert opener.logged == []


def test_it_may_be_deleted_while_threads_use_it(opener: Opener) -> None:
    database = opener()
    put(database, "a")

    def use(number: int) -> None:
        for turn in range(30):
            if number == 0 and turn % 10 == 5:
                opener.path.unlink(missing_ok=True)
            put(database, str(number))
            keys(database)
            assert database.version

    assert in_threads(4, use) == []
    assert not is_in_memory(database)


def fill(database: Database) -> None:
    rows = [(f"k{number}", "v" * 100) for number in range(2000)]
    database.write(lambda it: it.executemany("INSERT INTO meta VALUES (?, ?)", rows))


def damage(path: Path, start: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


def into_main_file(opener: Opener) -> int:
    """Bring all to the file itself; returns its size."""
    connection = sqlite3.connect(opener.path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return opener.path.stat().st_size


@pytest.mark.parametrize("where", ["start", "middle", "truncated", "emptied"])
def test_a_damaged_file_is_made_anew_under_those_who_have_it_open(opener: Opener, where: str) -> None:
    first, second = opener(), opener()
    fill(first)
    keys(second)
    size = into_main_file(opener)
    if where == "start":
        damage(opener.path, 0, 200)
    elif where == "middle":
        damage(opener.path, size // 4, size // 2)
    else:
        os.truncate(opener.path, size // 2 if where == "truncated" else 0)
    whole = "SELECT count(*) FROM (SELECT * FROM meta ORDER BY value)"
    assert second.read(lambda it: it.execute(whole).fetchone()) == (2,)
    put(first, "a")
    assert keys(second) == {"a"}
    assert opener.logged == ["history_damaged"]
    assert not is_in_memory(first)


def make(kind: str, path: Path) -> None:
    other = path.with_name("other")
    if kind == "link":
        other.write_bytes(b"of somebody")
        path.symlink_to(other)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "dangling link":
        path.symlink_to(other)
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        path.write_bytes(b"\xa5" * 9000 if kind == "garbage" else b"")


@pytest.mark.parametrize("kind", ["garbage", "nothing", "fifo", "link", "dangling link", "loop", "device"])
def test_whatever_has_its_name_makes_way(opener: Opener, kind: str) -> None:
    opener.path.parent.mkdir()
    make(kind, opener.path)
    database = opener()
    put(database, "a")
    assert keys(opener()) == {"a"}
    assert opener.path.is_file()
    assert not opener.path.is_symlink()
    assert opener.logged == ["history_damaged"]
    if kind == "link":
        assert opener.path.with_name("other").read_bytes() == b"of somebody"


def put_in_threads(database: Database) -> None:
    def use(number: int) -> None:
        for turn in range(5):
            put(database, f"{number}-{turn}")
            keys(database)

    assert in_threads(4, use) == []
    assert len(keys(database)) == 20


@pytest.mark.parametrize("place", ["runs.sqlite", "runs.sqlite-wal", "runs.sqlite.lock"])
def test_a_folder_in_its_place_means_memory(opener: Opener, place: str) -> None:
    opener.path.with_name(place).mkdir(parents=True)
    database = opener()
    before = database.version
    put_in_threads(database)
    assert is_in_memory(database)
    assert database.version != before
    assert keys(opener()) == set(), "each has its own"
    assert opener.logged == ["history_in_memory"] * 2


def test_a_file_where_its_folder_should_be_means_memory(opener: Opener) -> None:
    opener.path.parent.write_bytes(b"")
    put_in_threads(opener())
    assert opener.logged == ["history_in_memory"]


@pytest.mark.parametrize("error", module.UNUSABLE)
def test_a_disk_that_fails_later_means_memory(opener: Opener, error: int) -> None:
    database = opener()
    put(database, "a")
    tries = []

    def write(connection: sqlite3.Connection) -> None:
        tries.append(connection)
        if len(tries) == 1:
            failed = sqlite3.OperationalError("database or disk is full")
            failed.sqlite_errorcode = error | 1 << 8
            raise failed
        connection.execute("INSERT INTO meta VALUES ('b', 1)")

    database.write(write)
    assert keys(database) == {"b"}
    assert is_in_memory(database)
    assert opener.logged == ["history_in_memory"]
    assert keys(opener()) == {"a"}


def test_one_that_is_stopped_while_it_writes_stops_no_other(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    stopped, other = opener(), opener()
    keys(other)

    def stop(_: sqlite3.Connection) -> None:
        put(other, "a")
        assert is_in_memory(other)

    stopped.write(stop)
    assert keys(other) == {"a"}


def test_one_that_is_stopped_while_it_makes_the_file_stops_no_other(
    opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    opener.path.parent.mkdir()
    with locked(opener.path.with_name("runs.sqlite.lock"), 0):
        put(opener(), "a")
    assert opener.logged == ["history_in_memory"]


def test_one_sweeps_at_a_time(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = opener(), opener()
    with first.exclusive() as is_alone, second.exclusive() as is_second:
        assert (is_alone, is_second) == (True, False)
    with second.exclusive() as is_alone:
        assert is_alone
    monkeypatch.setattr("runner.files._open", full_disk)
    with second.exclusive() as is_alone:
        assert is_alone, "a disk without room for the lock must not stop all sweeps"


def test_an_old_sqlite_is_named(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 9))
    with pytest.raises(SettingsError, match=r"SQLite must be 3\.37 or newer"):
        opener()
