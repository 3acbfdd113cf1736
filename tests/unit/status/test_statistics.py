"""Statistics out of the rows."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobs.run.record import Outcome, RunRecord
from jobs.run.state import Origin, Reason, RunType, State
from jobs.run.statistics import Health
from jobs.status.database import Database
from jobs.status.row import Row
from jobs.status.statistics import AllStatisticsQuery, FailuresQuery, RunStatistics
from jobs.status.table import RunTable
from runner.ids import RunId, TaskId
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from tests.project import FAULT, PASSED, VISIT, Project, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.pruning import prune
from tests.unit.runs import by_hand, run_folder, write_run

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
STATES = {"p": State.FINISHED, "f": State.FAILED, "e": State.ERROR, "w": State.PENDING}
Fill = Callable[[str, str], RunStatistics]


@pytest.fixture
def fill(project: Project) -> Iterator[Fill]:
    """Puts runs of a task into the rows, the oldest first: p passed, f failed, e error, w waits."""
    database = Database(project.root.with_name("runs.sqlite"), "statistics")
    files, catalog = RunFiles(project.root / "tasks"), TaskCatalog(project.root / "tasks")

    def put(task: str, runs: str) -> RunStatistics:
        project.add_task(task)

        def write(connection: Connection) -> None:
            table = RunTable(connection, files, catalog)
            for number, letter in enumerate(runs):
                table.put(TaskId(task), row_of(task, number, STATES[letter]))
            table.finish()

        database.write(write)
        return RunStatistics(database, catalog)

    yield put
    database.close()


def row_of(task: str, number: int, state: State) -> Row:
    at = BEGAN + timedelta(minutes=number)
    reason = {State.FAILED: Reason.TEST_FAILED, State.ERROR: Reason.TIMEOUT}.get(state)
    outcome = Outcome(state, reason, f"Saw {number} things", at + timedelta(seconds=12), failed_action="click")
    record = RunRecord(
        run_id=run_id(task, number),
        task_id=TaskId(task),
        test_case=None,
        browser_config=None,
        run_type=RunType.AGENTIC,
        origin=Origin.WEB_UI,
        queued_at=at,
        started_at=None if state is State.PENDING else at + timedelta(seconds=2),
        first_step_at=at + timedelta(seconds=5),
        warm=number % 2 == 0,
        outcome=outcome if state.is_final else None,
    )
    return Row(record, True, (1, 0), None, 0.0, None if state.is_final else "open")


def run_id(task: str, number: int) -> RunId:
    return RunId(f"{task}{number:04}".ljust(24, "x"))


def test_a_streak_is_as_long_as_it_is(fill: Fill) -> None:
    fill("long", "f" + "p" * 100)
    fill("ever", "p" * 150)
    fill("short", "p" * 50 + "fff")
    statistics = fill("none", "eew")
    long, ever = statistics.of_task("long", 30), statistics.of_task("ever", 30)
    short, none = statistics.of_task("short", 30), statistics.of_task("none", 30)
    assert long.streak is not None
    assert (long.streak.state, long.streak.length, long.streak.first_run) == (State.FINISHED, 100, run_id("long", 1))
    assert long.streak.since == BEGAN + timedelta(minutes=1, seconds=12)
    assert ever.streak is not None
    assert (ever.streak.length, ever.streak.first_run) == (150, run_id("ever", 0))
    assert short.streak is not None
    assert (short.streak.state, short.streak.length, short.health) == (State.FAILED, 3, Health.BROKEN)
    assert short.last_passed is not None
    assert short.last_passed.id == run_id("short", 49)
    assert (none.streak, none.pass_rate, none.counts[State.ERROR], none.counts[State.PENDING]) == (None, None, 2, 1)


def test_an_error_is_counted_apart_and_is_no_verdict(fill: Fill) -> None:
    found = fill("buy", "pepefep").of_task("buy", 30)
    assert (found.last, found.pass_rate, found.flips, found.counts[State.ERROR]) == (4, 0.75, 2, 3)
    assert (found.duration.p50, found.queue_wait.p50) == (10.0, 2.0)
    assert (found.first_step.warm.p50, found.first_step.cold.p50) == (3.0, None), "the even ones were warm"


def test_only_the_last_verdicts_count(fill: Fill) -> None:
    found = fill("buy", "f" * 40 + "p" * 4).of_task("buy", 4)
    assert (found.last, found.pass_rate, found.health) == (4, 1.0, Health.STABLE)
    assert found.counts[State.FAILED] == 40


def test_all_tasks_are_there_in_the_order_that_is_asked_for(fill: Fill, project: Project) -> None:
    fill("b", "pfpf")
    statistics = fill("a", "pppp")
    project.add_task("new")
    assert [task.task_id for task in statistics.of_all(AllStatisticsQuery())] == ["a", "b", "new"]
    assert [task.task_id for task in statistics.of_all(AllStatisticsQuery(sort="pass_rate"))] == ["b", "a", "new"]


def test_failures_that_are_alike_are_one_group_of_their_time(fill: Fill) -> None:
    fill("buy", "pff")
    statistics = fill("sell", "fe")
    groups = statistics.failures(FailuresQuery(since="1d"), BEGAN + timedelta(hours=1))
    assert [(group.reason, group.count, group.tasks) for group in groups] == [
        (Reason.TEST_FAILED, 3, ["buy", "sell"]),
        (Reason.TIMEOUT, 1, ["sell"]),
    ]
    assert groups[0].message == "Saw # things"
    assert (groups[0].example.id, groups[0].example.message) == (run_id("buy", 2), "Saw 2 things")
    assert groups[0].first_seen == BEGAN + timedelta(seconds=12)
    assert groups[0].last_seen == BEGAN + timedelta(minutes=2, seconds=12)
    assert statistics.failures(FailuresQuery(since="1d"), BEGAN + timedelta(days=2)) == []


def test_a_run_that_a_user_stopped_is_no_failure(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run = stack.post("buy").json()["id"]
    stack.send(f"/test-runs/{run}/stop", 200)
    assert stack.get(run)["reason"] == "stopped"
    assert stack.client.get("/failures").json() == []


def numbers_of(stack: FakeStack, name: str) -> dict[tuple[str, ...], float]:
    """The samples of a metric by the values of their labels."""
    families = text_string_to_metric_families(stack.client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


def test_what_has_ended_never_falls(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "visit fail")
    run = stack.run("buy")["id"]
    write_run(folder, "20250101_080000", by_hand("a"), traversal_bytes([VISIT, PASSED], "SUCCESSFUL"), age=9e6)
    before = numbers_of(stack, "bugninja_runner_runs_total")
    assert sorted(before.values()) == [1.0, 1.0]
    assert numbers_of(stack, "bugninja_runner_last_verdict") == {("buy",): 0.0}
    assert sum(numbers_of(stack, "bugninja_runner_run_duration_seconds_count").values()) == 2
    assert prune(stack, RECORDS_KEEP_DAYS="30") == {by_hand("a")}
    assert stack.client.get("/test-runs").json()["total_count"] == 1
    assert numbers_of(stack, "bugninja_runner_runs_total") == before
    assert numbers_of(stack, "bugninja_runner_run_duration_seconds_count") == {(): 2.0}
    assert run_folder(stack, run).record.exists()


@pytest.mark.parametrize("ask", [{"url": "/stats?format=csv"}, {"url": "/stats", "headers": {"Accept": "text/csv"}}])
def test_statistics_are_there_as_csv(stack: FakeStack, ask: Any) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT, FAULT], "FAILED"))
    answer = stack.client.get(**ask)
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.text.splitlines()[1].startswith("buy,new,0,0,0,1,0,")
    assert stack.client.get("/stats").json()[0]["counts"]["FAILED"] == 1


def test_a_failure_of_a_run_made_by_hand_shows_no_secret(stack: FakeStack, tmp_path: Path) -> None:
    folder = stack.project.add_task("buy", toml='[task]\n[secrets]\nPASSWORD = "hunter2-secret"\n')
    broken = ("done", {"text": "The field has hunter2-secret in it", "success": False})
    visit = ("go_to_url", {"url": "http://shop.example/hunter2-secret/cart"})
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([visit, broken], "FAILED"))
    (group,) = stack.client.get("/failures").json()
    assert group["count"] == 1
    assert "hunter2" not in str(group)
    database = stack.settings.history_file
    assert b"hunter2" not in b"".join(path.read_bytes() for path in database.parent.iterdir())


def test_statistics_of_a_task_that_never_was_are_a_404(stack: FakeStack) -> None:
    assert stack.client.get("/tasks/nothing/stats").status_code == 404
    assert "since must be" in stack.client.get("/failures?since=yesterday").json()["detail"]
    assert "last must be an integer from 2" in stack.client.get("/stats?last=1").json()["detail"]


def test_what_is_stored_of_a_task_goes_with_each_change_of_its_runs(stack: FakeStack) -> None:
    folder, other = stack.project.add_task("buy"), stack.project.add_task("sell")

    def counts(task: str) -> tuple[int, int]:
        found = stack.client.get(f"/tasks/{task}/stats").json()["counts"]
        assert [found] == [task["counts"] for task in stack.client.get("/stats").json() if task["counts"] == found][:1]
        return found["FINISHED"], found["FAILED"]

    assert (counts("buy"), counts("sell")) == ((0, 0), (0, 0))
    path = write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    assert (counts("buy"), counts("sell")) == ((1, 0), (0, 0))
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT, FAULT], "FAILED"))
    write_run(other, "20260101_080000", by_hand("b"), traversal_bytes([PASSED], "SUCCESSFUL"))
    assert (counts("buy"), counts("sell")) == ((0, 1), (1, 0))
    path.unlink()
    assert (counts("buy"), counts("sell")) == ((0, 0), (1, 0))
