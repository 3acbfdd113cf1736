"""The rows of all runs: read from the disk as it changes, by several at the same time, and never for nothing."""

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.status import projection as module
from jobs.status.database import Database
from jobs.status.projection import Indexing, Place, Projection
from jobs.status.row import read_row
from runner.errors import ProjectGone
from runner.ids import RunId, TaskId
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from tests.project import FAULT, PASSED, VISIT, Project, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import STAMP, by_hand, listed, run_folder, write_run
from tests.waiting import wait_for

OVER = traversal_bytes([VISIT, PASSED], "SUCCESSFUL")
OPEN = traversal_bytes([VISIT])
COUNTED = "SELECT total(ended) FROM groups UNION ALL SELECT total(n) FROM durations WHERE name = 'run'"
SWEEP = """
import sys
from pathlib import Path
from jobs.status.database import Database
from jobs.status.projection import Projection
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
tasks = Path(sys.argv[1], "tasks")
Projection(Database(Path(sys.argv[1]).parent / "runs.sqlite", "ours"), RunFiles(tasks), TaskCatalog(tasks)).sweep()
"""


@pytest.fixture
def opened(project: Project) -> Iterator[Callable[[], Projection]]:
    """Makes a projection as each process of a machine has one."""
    project.add_task("buy")
    projections: list[Projection] = []

    def make() -> Projection:
        tasks = project.root / "tasks"
        database = Database(project.root.with_name("runs.sqlite"), "ours")
        projections.append(Projection(database, RunFiles(tasks), TaskCatalog(tasks)))
        return projections[-1]

    yield make
    for projection in projections:
        projection.database.close()


@pytest.fixture
def one(opened: Callable[[], Projection]) -> Projection:
    """The only one."""
    return opened()


def write(project: Project, name: str, content: bytes = OVER, task: str = "buy", age: float = 10) -> Path:
    return write_run(project.root / "tasks" / task, STAMP, by_hand(name), content, age)


def fill(project: Project, count: int) -> set[str]:
    for number in range(count):
        write(project, f"x{number:04}x")
    return {by_hand(f"x{number:04}x") for number in range(count)}


def query(projection: Projection, statement: str) -> list[Any]:
    return projection.database.read(lambda it: it.execute(statement).fetchall())


def known(projection: Projection) -> set[str]:
    return {run_id for (run_id,) in query(projection, "SELECT run_id FROM runs WHERE group_id IS NOT NULL")}


def told(project: Project, projection: Projection, name: str, content: bytes) -> None:
    path = write(project, name, content)
    projection.tell(RunId(by_hand(name)), Place(TaskId("buy"), RunId(by_hand(name)), path.name))


def test_a_rebuild_says_how_far_it_is_and_no_more_than_all(
    project: Project, one: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    project.add_task("sell")
    expected = fill(project, 5) | {by_hand("s")}
    write(project, "s", task="sell")
    seen: list[Indexing | None] = [one.indexing()]
    monkeypatch.setattr("jobs.status.projection.time.sleep", lambda _: seen.append(one.indexing()))
    assert one.sweep()
    assert seen == [Indexing(0, 0), Indexing(2, 6), Indexing(4, 6)]
    assert one.indexing() is None
    assert known(one) == expected


def test_a_rebuild_that_was_cut_off_goes_on(
    project: Project, opened: Callable[[], Projection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    expected, first = fill(project, 5), opened()
    monkeypatch.setattr("jobs.status.projection.time.sleep", lambda _: first.end())
    first.sweep()
    assert len(known(first)) == 2
    assert first.indexing() is not None
    second = opened()
    second.sweep()
    assert known(second) == expected
    assert second.indexing() is None


def test_a_process_that_is_killed_during_a_rebuild_leaves_it_to_the_next(
    project: Project, opened: Callable[[], Projection]
) -> None:
    expected, watching = fill(project, 300), opened()
    with subprocess.Popen([sys.executable, "-c", SWEEP, project.root], stdout=subprocess.PIPE) as process:
        wait_for(lambda: known(watching), step=0.001)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert watching.indexing() is not None
    assert watching.sweep()
    assert known(watching) == expected
    assert query(watching, COUNTED) == [(300,), (300,)]


def test_a_file_that_is_deleted_during_a_rebuild_is_not_said_to_have_all(
    project: Project, one: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    expected = fill(project, 5)

    def delete(_: float) -> None:
        project.root.with_name("runs.sqlite").unlink()
        monkeypatch.undo()

    monkeypatch.setattr("jobs.status.projection.time.sleep", delete)
    one.sweep()
    assert known(one) != expected
    assert one.indexing() is not None
    one.sweep()
    assert known(one) == expected
    assert one.indexing() is None


def test_others_write_while_one_sweeps(project: Project, opened: Callable[[], Projection]) -> None:
    expected, first, second = fill(project, 1000), opened(), opened()
    thread = threading.Thread(target=first.sweep)
    thread.start()
    wait_for(lambda: known(second), step=0.001)
    told(project, second, "new", OVER)
    second.catch_up()
    in_time = first.indexing() is not None
    thread.join()
    assert in_time
    assert known(second) == expected | {by_hand("new")}


@pytest.mark.parametrize("at", ["sweep", "catch_up"])
def test_a_project_that_vanishes_meanwhile_leaves_its_rows(
    project: Project, one: Projection, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    expected = fill(project, 3)
    one.sweep()
    before, tasks = query(one, COUNTED), project.root / "tasks"
    away = tasks.with_name("away")
    look_at_it = one.check_project

    def vanish() -> None:
        look_at_it()
        if tasks.exists():
            tasks.rename(away)

    told(project, one, "x0001x", OVER)
    if at == "sweep":
        monkeypatch.setattr(one, "check_project", vanish)
    else:
        tasks.rename(away)
    with pytest.raises(ProjectGone):
        getattr(one, at)()
    assert known(one) == expected
    assert one.is_behind, "what was told is still to be read"
    away.rename(tasks)
    monkeypatch.undo()
    one.catch_up()
    one.sweep()
    assert known(one) == expected
    assert query(one, COUNTED) == before
    assert not one.is_behind


def test_a_run_counts_once_however_often_its_file_changes(project: Project, one: Projection) -> None:
    for content in (OVER, OPEN, OVER, traversal_bytes([VISIT, FAULT], "FAILED")):
        told(project, one, "a", content)
        one.catch_up()
    assert query(one, COUNTED) == [(1,), (1,)]
    assert query(one, "SELECT sum(n) FROM groups") == [(1,)]


def test_a_listing_that_fails_deletes_nothing(
    project: Project, one: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = fill(project, 3)
    one.sweep()
    write(project, "new")
    monkeypatch.setattr("runner.project.run_files.entries", lambda _: [])
    one.sweep()
    assert known(one) == expected
    monkeypatch.undo()
    one.sweep()
    assert known(one) == expected | {by_hand("new")}


def test_what_is_told_while_others_read_is_read(project: Project, one: Projection) -> None:
    def tell(letter: str) -> None:
        for number in range(30):
            told(project, one, f"{letter}{number:02}x", OVER)
            if number % 5 == 0:
                one.catch_up()

    threads = [threading.Thread(target=tell, args=(letter,)) for letter in "abc"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        one.catch_up()
    for thread in threads:
        thread.join()
    one.catch_up()
    assert len(known(one)) == 90
    assert not one.is_behind


def test_a_run_of_two_tasks_is_read_in_both(project: Project, one: Projection) -> None:
    project.add_task("sell")
    for task in ("buy", "sell"):
        path = write(project, "a", task=task)
        one.tell(RunId(by_hand("a")), Place(TaskId(task), RunId(by_hand("a")), path.name))
    one.tell(RunId(by_hand("a")))
    one.catch_up()
    assert {place.task_id for place in one.places(RunId(by_hand("a")))} == {"buy", "sell"}


def test_in_memory_all_is_read_again(project: Project, one: Projection) -> None:
    expected, first = fill(project, 3), one
    first.sweep()
    project.root.with_name("runs.sqlite").unlink()
    project.root.with_name("runs.sqlite").mkdir()
    assert first.indexing() == Indexing(0, 0)
    first.sweep()
    assert known(first) == expected
    assert first.indexing() is None


def test_a_run_that_was_just_accepted_is_in_the_list_at_once(buy: FakeStack) -> None:
    missing: list[str] = []

    def start() -> None:
        for _ in range(3):
            run_id = buy.post("buy").json()["id"]
            page = buy.client.request("GET", "/test-runs?page_size=100").json()
            if run_id not in [item["id"] for item in page["items"]]:
                missing.append(run_id)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []
    assert listed(buy)["total_count"] == 18


def test_a_row_that_cannot_be_made_hides_no_other(
    project: Project, one: Projection, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(project, 3)

    def fail(files: RunFiles, task: TaskId, run: RunId, file: str | None) -> Any:
        if "x0001" in run:
            raise ValueError(run)
        return read_row(files, task, run, file)

    monkeypatch.setattr("jobs.status.projection.read_row", fail)
    one.sweep()
    assert known(one) == {by_hand("x0000x"), by_hand("x0002x")}


def test_a_run_that_was_deleted_goes_and_its_labels_too(buy: FakeStack) -> None:
    run = buy.send("/test-runs/execute-configuration/buy/buy_default", labels={"a": "b"})
    assert listed(buy, "?label=a:b")["total_count"] == 1
    shutil.rmtree(run_folder(buy, run["id"]).path)
    wait_for(lambda: listed(buy)["total_count"] == 0)
    projection = buy.services.lists.projection
    assert query(projection, "SELECT (SELECT count(*) FROM labels), (SELECT total(n) FROM groups)") == [(0, 0)]
