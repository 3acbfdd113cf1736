"""The file of the rows, opened as by several processes; for tests."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.status import database as module
from jobs.status.database import Database

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
