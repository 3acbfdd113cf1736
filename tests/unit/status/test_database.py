"""The file of the rows: shared, and made anew when it was deleted."""

import sqlite3
import threading

import pytest

from jobs.status import database as module
from jobs.status.database import Database
from runner.errors import SettingsError
from tests.unit.runs import full_disk
from tests.unit.status.opening import Opener, in_threads, is_in_memory, keys, opener, put

__all__ = ["opener"]


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


def test_a_file_that_is_closed_while_others_look_ends_no_process(opener: Opener) -> None:
    for _ in range(50):
        database, started, ended = opener(), threading.Barrier(3), threading.Event()

        def look(
            database: Database = database, started: threading.Barrier = started, ended: threading.Event = ended
        ) -> None:
            assert database.version
            started.wait()
            while not ended.is_set():
                assert database.version

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        started.wait()
        database.close()
        ended.set()
        for thread in threads:
            thread.join()
        database.close()
