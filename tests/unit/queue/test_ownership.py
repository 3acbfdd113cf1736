"""One function changes records: under the run's lock, and only for the owner."""

import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.applications import Starlette

from jobs.queue.records import change_record, close_unstarted, read_record, show_record
from jobs.run.state import Reason, State
from jobs.run.verdict import STOPPED, WORKER_DIED
from runner.errors import OwnershipLost, RecordUnreadable
from runner.project.run_folder import RunFolder
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import change_record as overwrite
from tests.unit.runs import listed, run_folder
from tests.waiting import wait_for

NOW = datetime(2026, 11, 23, 8, tzinfo=UTC)


@pytest.fixture
def folder(buy: FakeStack) -> RunFolder:
    """The folder of a run that waits."""
    return run_folder(buy, buy.post("buy").json()["id"])


@contextmanager
def held_by_another(folder: RunFolder) -> Iterator[None]:
    """Inside it another process (a handle of its own is the same) has the lock of the run."""
    handle = os.open(folder.path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def application(stack: FakeStack) -> Starlette:
    """What is inside all middleware."""
    app: Any = stack.client.app
    while not isinstance(app, Starlette):
        app = app.app
    return app


def test_only_the_owner_changes_a_record(folder: RunFolder) -> None:
    claimed = change_record(folder, 0, epoch=1, worker="one", started_at=NOW)
    assert (claimed.epoch, claimed.worker, claimed.state) == (1, "one", "RUNNING")
    assert read_record(folder) == claimed
    for epoch in (0, 2):
        with pytest.raises(OwnershipLost):
            change_record(folder, epoch, worker="two")
    assert read_record(folder) == claimed
    taken_over = change_record(folder, 1, epoch=2)
    with pytest.raises(OwnershipLost):
        change_record(folder, 1, traversal_id="t" * 24)
    assert read_record(folder) == taken_over


def test_the_first_outcome_stays(folder: RunFolder) -> None:
    record = read_record(folder)
    assert record is not None
    closed = close_unstarted(folder, record, STOPPED, None)
    with pytest.raises(OwnershipLost):
        close_unstarted(folder, record, WORKER_DIED, None)
    assert read_record(folder) == closed
    assert closed.outcome is not None
    assert (closed.outcome.state, closed.outcome.reason) == (State.ERROR, Reason.STOPPED)


def test_a_run_that_is_over_keeps_neither_lock_nor_reserved_space(folder: RunFolder) -> None:
    record = read_record(folder)
    assert record is not None
    change_record(folder, 0, worker="w")
    assert {path.name for path in folder.path.iterdir()} == {"run.json", "reserve", "lock"}
    close_unstarted(folder, record, STOPPED, None)
    assert {path.name for path in folder.path.iterdir()} == {"run.json"}


def test_of_many_that_claim_a_run_at_once_one_gets_it(folder: RunFolder) -> None:
    won: list[str] = []
    start = threading.Barrier(8)

    def claim(name: str) -> None:
        start.wait()
        try:
            change_record(folder, 0, epoch=1, worker=name)
        except OwnershipLost:
            return
        won.append(name)

    threads = [threading.Thread(target=claim, args=(f"w{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = read_record(folder)
    assert record is not None
    assert won == [record.worker]


def test_a_lock_is_waited_for_but_not_for_ever(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.project.run_folder.LOCK_SECONDS", 0.1)
    with held_by_another(folder):
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            change_record(folder, 0, worker="w")
        assert time.monotonic() - began >= 0.1
    assert change_record(folder, 0, worker="w").worker == "w"


def test_stops_that_wait_for_a_lock_are_answered_and_delay_no_get(
    buy: FakeStack, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.project.run_folder.LOCK_SECONDS", 0.5)
    path = f"/test-runs/{folder.run_id}"
    with held_by_another(folder), ThreadPoolExecutor(44) as pool:
        stops = [pool.submit(buy.client.post, f"{path}/stop") for _ in range(44)]
        limiter = application(buy).state.stopping
        wait_for(lambda: limiter.borrowed_tokens == limiter.total_tokens, 10, "waiting stops")
        assert buy.client.get(f"{path}/log").status_code == 200
        assert not all(stop.done() for stop in stops)
    answers = [stop.result() for stop in stops]
    assert {answer.status_code for answer in answers} == {503}
    assert "another process holds its record" in answers[0].json()["detail"]
    assert buy.client.post(f"{path}/stop").status_code == 200


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": 2, "state": "NEW"}, "it was written by a newer version of this program (2)"),
        ({"run_id": "o" * 24}, f"it is that of run '{'o' * 24}'"),
        ({"queued_at": "2026-11-23T08:00:00"}, "Expected `datetime` with a timezone component"),
        ({"run_type": "NEWER_WORD"}, "Invalid enum value 'NEWER_WORD'"),
        ({"traversal_id": "../../x"}, "Expected `str` matching regex"),
        ({"queued_at": 3}, "Expected `datetime`"),
        ({"outcome": {"state": "NEWER", "reason": None, "error_message": None, "finished_at": "2026-11-23T08:00:00Z"}},
         "Invalid enum value 'NEWER'"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_used_is_shown_as_such_and_never_overwritten(
    buy: FakeStack, folder: RunFolder, changes: dict[str, Any], problem: str
) -> None:
    overwrite(buy, folder.run_id, **changes)
    content = folder.record.read_bytes()
    with pytest.raises(RecordUnreadable):
        read_record(folder)
    other = buy.post("buy").json()["id"]
    run = buy.get(folder.run_id)
    assert (run["current_state"], run["reason"]) == ("ERROR", "lost")
    assert problem in run["error_message"]
    assert f"tasks/buy/runs/{folder.run_id}/run.json" in run["error_message"]
    assert {item["id"]: item["current_state"] for item in listed(buy)["items"]} == {
        folder.run_id: "ERROR", other: "PENDING",
    }  # fmt: skip
    assert buy.client.post(f"/test-runs/{folder.run_id}/stop").status_code == 409
    assert buy.client.post(f"/test-runs/{folder.run_id}/rerun").status_code == 409
    recovery = buy.recovery()
    for _ in range(3):
        recovery.run_once()
        buy.work()
    assert folder.record.read_bytes() == content
    assert buy.get(other)["current_state"] == "FINISHED", "the next run of the task does not wait for it"


def test_a_repaired_record_is_shown_at_once(buy: FakeStack, folder: RunFolder) -> None:
    content = folder.record.read_bytes()
    folder.record.write_bytes(content[:100])
    assert buy.get(folder.run_id)["current_state"] == "ERROR"
    assert listed(buy)["items"][0]["current_state"] == "ERROR"
    folder.record.write_bytes(content)
    assert buy.get(folder.run_id)["current_state"] == "PENDING"
    assert listed(buy)["items"][0]["current_state"] == "PENDING"


def test_a_record_without_permission_is_shown_as_such(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("runner.project.run_folder.read_if_there", denied)
    record = show_record(folder)
    assert record is not None
    assert record.outcome is not None
    assert "it cannot be read (Permission denied)" in (record.outcome.error_message or "")
    assert not record.is_readable


def test_a_record_of_the_first_version_that_was_started_has_an_owner(buy: FakeStack, folder: RunFolder) -> None:
    content = json.loads(folder.record.read_bytes())
    del content["epoch"], content["version"], content["machine"]
    folder.record.write_bytes(json.dumps({**content, "started_at": "2026-11-23T08:00:00Z", "worker": "w"}).encode())
    record = read_record(folder)
    assert record is not None
    assert (record.epoch, record.version) == (1, 1)
    buy.work()
    assert not folder.log.exists(), "it is not started again"


def test_a_folder_is_never_there_without_its_record(buy: FakeStack) -> None:
    folder = run_folder(buy, "n" * 24)
    folder.create(b"{}")
    assert {path.name for path in folder.path.iterdir()} == {"run.json", "reserve"}
    with pytest.raises(FileExistsError):
        folder.create(b"[]")
    assert folder.record.read_bytes() == b"{}", "the run that has the ID stays"
    assert [path.name for path in folder.path.parent.iterdir()] == [folder.run_id]
    folder.remove()
    folder.remove()
    assert [*folder.path.parent.iterdir()] == []
