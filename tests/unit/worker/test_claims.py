"""A run is claimed once, executed by who has claimed it, and closed once when its worker has died."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs.queue.job import record_of_job
from jobs.queue.records import change_record, read_record
from jobs.run.record import record_to_json
from jobs.run.state import Reason, RunType, State
from jobs.run.verdict import HORSE_DIED, WORKER_DIED
from jobs.worker import execute as module
from jobs.worker.execute import Claim, ClaimedJob, claim_run, close_after_horse, close_dead, execute_run, finish_claim
from runner.cli.children import Children
from runner.cli.machine import machine_id
from runner.errors import NoSuchRun, OwnershipLost
from runner.project.run_folder import RunFolder
from tests.project import VISIT
from tests.unit.run.records import QUEUED
from tests.unit.runs import full_disk
from tests.unit.worker.watched import STARTED, Watched

WAITS = msgspec.structs.replace(QUEUED, task_id=STARTED.task_id)


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of the runs of which all processes were ended."""
    found: list[Path] = []
    monkeypatch.setattr(module, "end_processes", lambda path, children: found.append(path))
    return found


def test_a_run_that_waits_is_claimed_once(run: Watched) -> None:
    run.folder.write_record(record_to_json(WAITS))
    job = run.job(run.project.settings())
    claim = claim_run(run.files, job, "buy", "one")
    assert claim is not None
    assert (claim.folder, claim.worker_pid, claim.record) == (run.folder, os.getpid(), read_record(run.folder))
    record = claim.record
    assert (record.worker, record.machine, record.epoch) == ("one", machine_id(), 1)
    assert record.started_at is not None
    assert abs(datetime.now(UTC) - record.started_at) < timedelta(minutes=1)
    assert claim_run(run.files, job, "buy", "two") is None
    assert read_record(run.folder) == record


def test_what_has_no_record_cannot_be_claimed(run: Watched) -> None:
    job = run.job(run.project.settings())
    for task_id in (None, "../x", "sell"):
        with pytest.raises(NoSuchRun, match=STARTED.run_id):
            claim_run(run.files, job, task_id, "one")
    job.id = "no-run"
    with pytest.raises(NoSuchRun, match="no-run"):
        claim_run(run.files, job, "buy", "one")


def test_a_record_that_cannot_be_used_is_not_claimed(run: Watched) -> None:
    run.folder.record.write_bytes(b"{")
    assert claim_run(run.files, run.job(run.project.settings()), "buy", "one") is None


def test_only_a_claimed_job_is_executed(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    job = run.job(run.project.settings())
    for each in (job, ClaimedJob(job.id, job.connection)):
        monkeypatch.setattr(module, "current_job", lambda each=each: each)
        with pytest.raises(RuntimeError, match=r"^the run of buy was not claimed; start workers as the Procfile does$"):
            execute_run("buy")


def test_the_end_of_a_dead_workers_run_is_recorded_once(run: Watched, ended: list[Path]) -> None:
    job = run.job(run.project.settings())
    closed = close_dead(run.files, run.folder, STARTED, WORKER_DIED, job)
    assert (closed.epoch, closed.state, ended) == (2, State.ERROR, [run.folder.path])
    assert read_record(run.folder) == record_of_job(job, refresh=True) == closed
    with pytest.raises(OwnershipLost):
        close_dead(run.files, run.folder, STARTED, WORKER_DIED, job)
    assert len(ended) == 1, "who loses ends nothing"


def test_a_run_is_taken_over_before_its_processes_are_ended(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    epochs: list[int] = []

    def look(path: Path, children: Children | None) -> None:
        record = read_record(run.folder)
        assert record is not None
        epochs.append(record.epoch)
        assert record.outcome is None

    monkeypatch.setattr(module, "end_processes", look)
    close_dead(run.files, run.folder, STARTED, WORKER_DIED)
    assert epochs == [2]


@pytest.mark.parametrize(("run_type", "state"), [(RunType.REPLAY, State.ERROR), (RunType.AGENTIC, State.FINISHED)])
def test_a_dead_workers_replay_is_judged_as_a_replay(
    run: Watched, ended: list[Path], run_type: RunType, state: State
) -> None:
    run.folder.write_record(record_to_json(msgspec.structs.replace(STARTED, run_type=run_type)))
    run.writes(STARTED.run_id, [VISIT], "SUCCESSFUL")()
    assert close_dead(run.files, run.folder, STARTED, WORKER_DIED).state is state


def test_a_stop_that_was_requested_is_the_reason(run: Watched, ended: list[Path]) -> None:
    run.folder.request_stop()
    outcome = close_dead(run.files, run.folder, STARTED, WORKER_DIED).outcome
    assert outcome is not None
    assert outcome.reason is Reason.STOPPED


def test_on_a_full_disk_the_job_says_how_a_dead_workers_run_ended(
    run: Watched, ended: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunFolder, "write_record", full_disk)
    with pytest.raises(OSError, match="No space left"):
        close_dead(run.files, run.folder, STARTED, WORKER_DIED)
    assert ended == [], "nobody has taken it over"
    job = run.job(run.project.settings())
    closed = close_dead(run.files, run.folder, STARTED, WORKER_DIED, job)
    assert (ended, closed.state) == ([run.folder.path], State.ERROR)
    assert record_of_job(job, refresh=True) == closed


def test_whoever_loses_a_run_that_it_has_claimed_says_so(run: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = run.job(run.project.settings())
    job = ClaimedJob(plain.id, plain.connection, serializer=plain.serializer)
    job.origin = plain.origin
    job.claim = module.Claim(run.folder, STARTED, os.getpid())
    monkeypatch.setattr(module, "current_job", lambda: job)
    monkeypatch.setattr(module, "Execution", lambda *_: pytest.fail("it is not executed"))
    for name, value in run.project.environ().items():
        monkeypatch.setenv(name, value)

    def lose(*_: object) -> None:
        change_record(run.folder, 1, epoch=2)
        raise OwnershipLost(STARTED.run_id)

    monkeypatch.setattr(module, "save_to_job", lose)
    assert execute_run("buy") == "LOST"


class Left(Children):
    """What a work-horse has left behind, or not."""

    def __init__(self, *, some: bool) -> None:
        self.some = some

    def are_left(self) -> bool:
        return self.some


def claimed(run: Watched) -> ClaimedJob:
    """The job of the run that this worker has claimed."""
    plain = run.job(run.project.settings())
    job = ClaimedJob(plain.id, plain.connection, serializer=plain.serializer)
    job.claim = Claim(run.folder, STARTED, os.getpid())
    return job


def test_what_a_work_horse_could_not_end_is_ended_by_its_worker(
    run: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[tuple[Path, Children | None]] = []

    def end(path: Path, children: Children | None) -> int:
        seen.append((path, children))
        return 3

    monkeypatch.setattr(module, "end_processes", end)
    some = Left(some=True)
    finish_claim(run.files, claimed(run), Left(some=False))
    finish_claim(run.files, ClaimedJob("x", run.redis), some)
    assert seen == []
    finish_claim(run.files, claimed(run), some)
    assert seen == [(run.folder.path, some)]
    assert f"event=swept run={STARTED.run_id} left=3" in caplog.text


@pytest.mark.parametrize("save", [True, False])
def test_the_worker_of_a_dead_horse_ends_its_own_children_and_closes_the_run(
    run: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, save: bool
) -> None:
    seen: list[Children | None] = []
    monkeypatch.setattr(module, "end_processes", lambda path, children: seen.append(children))
    job, children = claimed(run), Left(some=True)
    close_after_horse(run.files, ClaimedJob("x", run.redis), children, save=save)
    assert seen == []
    close_after_horse(run.files, job, children, save=save)
    record = read_record(run.folder)
    assert seen == [children]
    assert record is not None
    assert record.outcome is not None
    assert (record.outcome.reason, record.outcome.error_message) == (Reason.INTERRUPTED, HORSE_DIED.message)
    assert (record_of_job(job, refresh=True) == record) is save
    close_after_horse(run.files, job, children, save=save)
    assert "event=not_closed" in caplog.text
    assert seen == [children], "who loses ends nothing"
