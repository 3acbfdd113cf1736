"""Whatever happens to the file of the rows, they are made anew."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobs.status import database as module
from jobs.status.database import Database
from runner.files import locked
from tests.unit.status.opening import Opener, in_threads, is_in_memory, keys, opener, put

__all__ = ["opener"]


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


def test_what_is_none_of_ours_is_kept_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (value)")
    database = Database(path, "project")
    assert database.read(lambda it: it.execute("SELECT count(*) FROM runs").fetchone()) == (0,)
    database.close()
    with closing(sqlite3.connect(f"{path}.damaged")) as connection:
        assert connection.execute("SELECT count(*) FROM precious").fetchone() == (0,)
    assert path.stat().st_mode & 0o777 == 0o600
