"""Stopping a run, by what is on the disk and in Redis at that moment."""

from typing import Any

import fakeredis
import msgspec
import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs.queue import stop as module
from jobs.queue.job import enqueue, make_queue
from jobs.queue.records import change_record, close_unstarted, read_record
from jobs.queue.stop import RunStopper
from jobs.run.record import record_to_json
from jobs.run.state import Reason
from jobs.run.verdict import WORKER_DIED
from runner.errors import Busy, NotPossible, StorageUnavailable
from runner.ids import TaskId
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from tests.project import Project
from tests.unit.run.records import QUEUED
from tests.unit.runs import full_disk

RECORD = msgspec.structs.replace(QUEUED, task_id=TaskId("buy"))


class Stop:
    """A run that waits, and who stops it."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        project.add_task("buy")
        settings, files = project.settings(), RunFiles(project.root / "tasks")
        self.redis: Any = fakeredis.FakeRedis()
        self.published: list[tuple[object, ...]] = []
        monkeypatch.setattr(module, "publish_change", lambda *arguments: self.published.append(arguments))
        self.folder = files.folder(RECORD.task_id, RECORD.run_id)
        self.folder.create(record_to_json(RECORD))
        enqueue(make_queue(self.redis, "bugninja"), [RECORD], settings)
        self.stopper = RunStopper(settings, self.redis, files)

    def __call__(self) -> str:
        return self.stopper.stop(RECORD.run_id)

    def reason(self) -> Reason | None:
        record = read_record(self.folder)
        return None if record is None or record.outcome is None else record.outcome.reason


@pytest.fixture
def stop(project: Project, monkeypatch: pytest.MonkeyPatch) -> Stop:
    return Stop(project, monkeypatch)


def test_a_run_that_waits_is_over_and_its_job_leaves_the_queue(stop: Stop) -> None:
    assert stop() == RECORD.run_id
    assert (stop.reason(), stop.folder.stop_requested()) == (Reason.STOPPED, False)
    job = Job.fetch(RECORD.run_id, stop.redis, JSONSerializer)
    assert (job.get_status(), job.meta["outcome"]["reason"]) == ("canceled", "stopped")
    assert (stop.redis.llen("rq:queue:bugninja"), stop.redis.ttl(job.key) > 1000) == (0, True)
    assert stop.published == [(stop.redis, "bugninja", RECORD.run_id)]


def test_a_job_that_is_gone_does_not_keep_a_run_from_being_stopped(stop: Stop) -> None:
    stop.redis.flushall()
    assert stop() == RECORD.run_id
    assert stop.reason() is Reason.STOPPED
    assert stop.redis.keys("rq:job:*") == []


def test_a_run_that_has_begun_is_asked_to_end(stop: Stop) -> None:
    change_record(stop.folder, 0, epoch=1, started_at=RECORD.queued_at)
    assert stop() == RECORD.run_id
    assert (stop.reason(), stop.folder.stop_requested()) == (None, True)
    assert stop.published == [(stop.redis, "bugninja", RECORD.run_id)]


@pytest.mark.parametrize("begun", [True, False])
def test_a_run_that_changes_while_it_is_stopped_is_looked_at_again(
    stop: Stop, begun: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close_too_late(folder: RunFolder, *rest: Any) -> Any:
        if begun:
            change_record(folder, 0, epoch=1, started_at=RECORD.queued_at)
        else:
            close_unstarted(folder, RECORD, WORKER_DIED, None)
        return close_unstarted(folder, *rest)

    monkeypatch.setattr(module, "close_unstarted", close_too_late)
    if begun:
        stop()
        assert (stop.reason(), stop.folder.stop_requested()) == (None, True)
    else:
        with pytest.raises(NotPossible, match=f"^Run '{RECORD.run_id}' is over already: it is ERROR.$"):
            stop()
        assert (stop.reason(), stop.folder.stop_requested()) == (Reason.INTERRUPTED, False)


def test_why_a_run_cannot_be_stopped_is_said(stop: Stop, monkeypatch: pytest.MonkeyPatch) -> None:
    def held(*_: object) -> None:
        raise TimeoutError

    for fault, error, sentence in (
        (held, Busy, "The run cannot be stopped: another process holds its record. Try again in a moment."),
        (
            full_disk,
            StorageUnavailable,
            "The run cannot be stopped: its folder is not usable (No space left on device).",
        ),
    ):
        monkeypatch.setattr(module, "close_unstarted", fault)
        with pytest.raises(error) as caught:
            stop()
        assert str(caught.value) == sentence
    stop.folder.record.unlink()
    with pytest.raises(NotPossible) as made_by_hand:
        stop()
    assert str(made_by_hand.value) == f"Run '{RECORD.run_id}' was made by hand with the CLI; stop it where it runs."
    assert stop.published == []
