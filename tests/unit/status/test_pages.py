"""Pages of many runs: whichever way they are found, they are those that a slow and simple way finds."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from sqlite3 import Connection
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.run.record import Outcome, RunRecord
from jobs.run.state import Origin, Reason, RunType, State, Trigger
from jobs.run.test_case import TestCase as Case
from jobs.status.database import Database
from jobs.status.lists import find_page
from jobs.status.query import STATES_OF, RunListQuery
from jobs.status.row import Row
from jobs.status.table import RunTable
from runner.ids import RunId, TaskId
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TASKS = [TaskId("buy"), TaskId("sell"), TaskId("search_shop")]
SIZE = 300


def record(number: int) -> RunRecord:
    """One of many runs: most of them passed, some tasks and states are rare, and several have the same time."""
    task = TASKS[0 if number % 50 else number // 50 % 3]
    states = (
        [State.FINISHED] * 5 + [State.FAILED] * 3 + [State.ERROR, State.RUNNING if number % 60 == 59 else State.PENDING]
    )
    state, at = states[number % 10], BEGAN + timedelta(hours=number // 3)
    reason = {State.FAILED: Reason.TEST_FAILED, State.ERROR: Reason.TIMEOUT}.get(state)
    labels = {"branch": "main" if number % 3 else "next", **({"rare": "yes"} if number % 97 == 0 else {})}
    return RunRecord(
        run_id=RunId(f"{'abc'[number % 3]}{number:03}".ljust(24, "x")),
        task_id=task,
        test_case=Case(task, f"Name of {task}", "What it is about", ""),
        browser_config=None,
        run_type=RunType.AGENTIC if number % 40 else RunType.REPLAY,
        origin=Origin.WEB_UI,
        trigger=Trigger.RERUN if number % 7 == 0 else Trigger.API,
        labels=labels,
        queued_at=at,
        started_at=None if state is State.PENDING else at,
        outcome=Outcome(state, reason, None, at + timedelta(seconds=30)) if state.is_final else None,
    )


RECORDS = [record(number) for number in range(SIZE)]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """All of these runs."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "tasks").mkdir()
    database = Database(folder / "runs.sqlite", "pages")

    def fill(connection: Connection) -> None:
        table = RunTable(connection, RunFiles(folder / "tasks"), TaskCatalog(folder / "tasks"))
        for found in RECORDS:
            table.put(found.task_id, Row(found, True, (1, 0), None, 0.0, None if found.outcome else "open"))
        table.finish()

    database.write(fill)
    yield database
    database.close()


def fits(found: RunRecord, query: RunListQuery, labels: Sequence[tuple[str, str]]) -> bool:
    """Whether the run is on the pages of this query, in the simplest words."""
    text, case = query.search.casefold(), found.test_case
    assert case is not None
    named = text in f"{case.id}\n{case.test_name}\n{case.test_description}".casefold()
    return (
        (query.status is None or found.state in STATES_OF[query.status])
        and (query.run_type is None or found.run_type is query.run_type)
        and (query.trigger is None or found.trigger is query.trigger)
        and (query.since is None or found.queued_at >= query.since)
        and (query.until is None or found.queued_at < query.until)
        and (not text or named or (len(text) > 1 and found.run_id.startswith(text)))
        and all(found.labels.get(key) == value for key, value in labels)
    )


TIMES = st.none() | st.integers(-5, 105).map(lambda hours: BEGAN + timedelta(hours=hours))
QUERIES = st.builds(
    RunListQuery,
    page=st.integers(1, 40),
    page_size=st.integers(1, 60),
    sort_order=st.sampled_from(["asc", "desc"]),
    search=st.sampled_from(["", "", "", "shop", "BUY", "a0", "b1", "b", "name of s", "nothing"]),
    status=st.none() | st.sampled_from([*STATES_OF]),
    run_type=st.none() | st.sampled_from(RunType),
    trigger=st.none() | st.sampled_from(Trigger),
    since=TIMES,
    until=TIMES,
)
LABELS = st.sampled_from([(), (), (("branch", "main"),), (("rare", "yes"),), (("branch", "next"), ("rare", "yes"))])


@pytest.mark.parametrize("sorting", [0, 4, 10**9], ids=["sorted", "as estimated", "passed over"])
@settings(max_examples=150)
@given(query=QUERIES, task=st.none() | st.sampled_from([*TASKS, TaskId("gone")]), labels=LABELS)
def test_a_page_has_what_the_filters_let_through(
    database: Database, sorting: int, query: RunListQuery, task: TaskId | None, labels: Any
) -> None:
    wanted = [found for found in RECORDS if fits(found, query, labels) and task in (None, found.task_id)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jobs.status.lists.SORTING", sorting)
        page = database.read(lambda it: find_page(it, query, task, labels))
    times = sorted((found.queued_at for found in wanted), reverse=query.sort_order == "desc")
    first = (query.page - 1) * query.page_size
    assert page.total_count == len(wanted)
    assert [item.queued_at for item in page.items] == times[first : first + query.page_size]
    by_id = {found.run_id: found for found in wanted}
    assert {item.id for item in page.items} <= by_id.keys()
    assert all(item.current_state is by_id[RunId(item.id)].state for item in page.items)


@settings(max_examples=60)
@given(query=QUERIES, labels=LABELS)
def test_pages_that_follow_each_other_have_each_run_once(database: Database, query: RunListQuery, labels: Any) -> None:
    found: list[str] = []
    number = 0
    while True:
        number += 1
        turned = msgspec.structs.replace(query, page=number, page_size=17)
        page = database.read(lambda it, turned=turned: find_page(it, turned, None, labels))  # type: ignore[misc]
        found += [item.id for item in page.items]
        if not page.has_next:
            break
    assert len(found) == len({*found}) == page.total_count
