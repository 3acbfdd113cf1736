"""Batches when files go, cannot be read or cannot be written, and when processes meet."""

import errno
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from jobs.queue.batches import BatchAcceptor, Wanted, read_batch
from jobs.queue.new_runs import NewRuns
from jobs.queue.records import change_record
from jobs.run.batch import RunLine
from jobs.run.record import RunRecord
from jobs.status.batches import Batches
from jobs.worker.batches import BatchRecovery
from runner.errors import ProjectGone, StorageUnavailable
from runner.ids import TaskId
from runner.project.batch_files import BatchFile, Mark
from runner.project.run_folder import RunFolder
from runner.settings import read_settings
from tests.project import Project
from tests.unit.fake_stack import FakeStack
from tests.unit.queue.test_batches import add, recover, shop, show, start, states

assert shop  # the fixture


def the_file(stack: FakeStack, batch: Any) -> BatchFile:
    return stack.services.batches.find(batch["id"])


def marks(stack: FakeStack) -> set[str]:
    return {file.suffix for file in (stack.project.root / "batches").iterdir()} - {".json"}


def runs_of(stack: FakeStack, task: str) -> Path:
    return stack.project.root / "tasks" / task / "runs"


@pytest.mark.parametrize("is_read_first", [True, False])
def test_recovery_that_meets_a_batch_before_its_record_loses_nothing(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch, *, is_read_first: bool
) -> None:
    """It believes that the process which makes the batch has died."""
    link = os.link
    recovery = BatchRecovery(shop.settings, shop.redis, shop.services.batches._files)

    def meet(fresh: Path, path: Path) -> None:
        def read_nothing(_: BatchFile) -> None:
            if is_read_first:
                link(fresh, path)  # right after the look

        with monkeypatch.context() as reading:
            reading.setattr(BatchFile, "read", read_nothing)
            recovery.look_after(BatchFile(path.parent, path.stem), {})
        if not is_read_first:
            link(fresh, path)

    with monkeypatch.context() as met:
        met.setattr("os.link", meet)
        met.setattr(BatchAcceptor, "complete", lambda *_: [])
        batch = start(shop, tasks=["buy", "login"])
    assert marks(shop) == {".accepting"}
    recover(shop, 1)
    shop.work()
    assert states(show(shop, batch)) == {"buy": "FINISHED", "login": "FAILED"}


def test_a_batch_that_was_refused_because_of_the_disk_never_runs(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("runner.project.batch_files.sync_folder", unreadable)
        assert "was not accepted" in start(shop, 507, tasks=["buy"])["detail"]
    assert not [*(shop.project.root / "batches").iterdir()]


def test_recovery_says_once_what_is_wrong_with_a_batch(shop: FakeStack, caplog: pytest.LogCaptureFixture) -> None:
    broken, link = (the_file(shop, start(shop, tasks=["buy"])).path for _ in range(2))
    broken.write_text("{}")
    link.unlink()
    link.symlink_to("/dev/null")
    caplog.set_level("INFO")
    recover(shop, 3)
    assert [caplog.text.count(event) for event in ("event=not_recovered", "event=recovery_failed")] == [1, 1]


def test_marks_without_a_record_are_deleted(shop: FakeStack) -> None:
    folder = shop.project.root / "batches"
    folder.mkdir()
    for mark in (Mark.ACCEPTING, Mark.OPEN):
        (folder / f"batch_20200101_080000_000000_{'o' * 24}{mark}").touch()
    recover(shop, 1)
    assert not [*folder.iterdir()]


def test_a_run_that_is_not_accepted_yet_is_no_failure(shop: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    create = NewRuns.create

    def full(self: NewRuns, record: RunRecord) -> None:
        if record.task_id == "buy":
            raise StorageUnavailable("full")
        create(self, record)

    with monkeypatch.context() as disk:
        disk.setattr(NewRuns, "create", full)
        batch = start(shop, tasks=["login", "search", "buy"], fail_fast=3)
        shop.work()
    assert marks(shop) == {".accepting"}
    recover(shop, 1)
    shop.work()
    assert states(show(shop, batch)) == {"login": "FAILED", "search": "ERROR", "buy": "FINISHED"}


def test_the_end_of_a_batch_is_recorded_although_one_of_its_runs_is_gone(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.run.batch.UNSEEN", timedelta(0))
    batch = start(shop, tasks=["buy", "login"])
    shutil.rmtree(runs_of(shop, "login") / batch["runs"][1]["id"])
    shop.work()
    over = show(shop, batch)
    recover(shop)
    assert marks(shop) == set()
    shutil.rmtree(runs_of(shop, "buy"))
    assert show(shop, batch) == over


def test_a_batch_is_not_over_because_a_record_cannot_be_read_just_now(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = start(shop, tasks=["buy", "login"], fail_fast=1)
    shop.work()
    with monkeypatch.context() as fault:
        fault.setattr(RunFolder, "read_record", unreadable)
        shown = show(shop, batch)
        assert (shown["current_state"], shown["finished_at"]) == ("RUNNING", None)
        assert "cannot be read" in shown["runs"][0]["message"]
        recover(shop)
    assert marks(shop) >= {".open"}
    recover(shop)
    over = show(shop, batch)
    assert (over["current_state"], states(over)) == ("FAILED", {"buy": "FINISHED", "login": "FAILED"})


def unreadable(*_: Any) -> bytes:
    raise OSError(errno.EMFILE, "Too many open files")


def test_nothing_is_recorded_of_a_batch_whose_project_is_away(shop: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as cut_off:
        cut_off.setattr(BatchAcceptor, "complete", lambda *_: [])
        cut = start(shop, tasks=["buy"])
    batch = start(shop, tasks=["buy", "login"], fail_fast=2)
    tasks, away = shop.project.root / "tasks", shop.project.root / "away"
    files = shop.services.batches._files
    recovery = BatchRecovery(shop.settings, shop.redis, files)
    tasks.rename(away)
    for file in files.batches.all().values():
        with suppress(ProjectGone):
            recovery.look_after(file, {})
    away.rename(tasks)
    assert [file.has(Mark.ACCEPTING) for file in files.batches.all().values()] == [True, False]
    found = read_batch(the_file(shop, batch))
    assert found is not None
    assert found.lines is None
    recover(shop)
    shop.work()
    assert states(show(shop, batch)) == {"buy": "FINISHED", "login": "FAILED"}
    assert states(show(shop, cut)) == {"buy": "FINISHED"}


def test_two_requests_with_the_same_key_at_the_same_moment_start_one_batch(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet, new = threading.Barrier(4), BatchAcceptor._new
    acceptor = shop.services.batch_acceptor

    def new_together(self: BatchAcceptor, wanted: Any) -> Any:
        meet.wait(10)
        return new(self, wanted)

    monkeypatch.setattr(BatchAcceptor, "_new", new_together)
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: acceptor.start(Wanted(all=True), "k"), range(4))]
    assert len({accepted.record.batch_id for accepted in found}) == 1
    assert len({accepted.record.runs for accepted in found}) == 1
    assert [accepted.is_new for accepted in found].count(True) == 1
    assert shop.client.get("/test-runs").json()["total_count"] == 3


def test_the_order_of_labels_makes_no_other_request(shop: FakeStack) -> None:
    first = start(shop, key="k", tasks=["buy"], labels={"a": "1", "b": "2"})
    assert start(shop, 200, key="k", tasks=["buy"], labels={"b": "2", "a": "1"})["id"] == first["id"]


def test_a_key_is_for_a_run_or_for_a_batch(shop: FakeStack) -> None:
    start(shop, key="batch", tasks=["buy"])
    path = "/test-runs/execute-configuration/buy/buy_default"
    assert "another request" in shop.send(path, 409, key="batch")["detail"]
    shop.send(path, key="run")
    assert "another request" in start(shop, 409, key="run", tasks=["buy"])["detail"]


def test_too_many_names_are_refused_before_any_is_looked_for(shop: FakeStack) -> None:
    names = [f"{number:024}" for number in range(501)]
    assert start(shop, 413, tasks=names)["detail"] == "A batch must have at most 500 runs, got 501."


def test_tags_are_few_and_are_repeated_in_an_error_as_text_that_can_be_read(shop: FakeStack) -> None:
    assert start(shop, 422, tags=[["\x1b" * 300]])["detail"] == (
        f"The project must have a task with {'?' * 200}..., got none."
    )
    assert "a list of at most 100 lists of tags" in start(shop, 422, tags=[["smoke"]] * 101)["detail"]


def test_the_list_knows_at_once_what_is_new_of_a_batch(shop: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NewRuns, "create", lambda *_: (_ for _ in ()).throw(StorageUnavailable("full")))
    assert shop.client.get("/batches").json()["items"] == []
    batch = start(shop, tasks=["buy"])
    (item,) = shop.client.get("/batches").json()["items"]
    assert (item["id"], item["stopping"]) == (batch["id"], False)
    the_file(shop, batch).mark(Mark.STOP)
    assert shop.client.get("/batches").json()["items"][0]["stopping"]


def test_a_run_of_a_batch_that_is_rerun_alone_is_not_of_the_batch(shop: FakeStack) -> None:
    batch = start(shop, tasks=["buy"])
    shop.work()
    alone = shop.send(f"/test-runs/{batch['runs'][0]['id']}/rerun")
    assert (alone["batch_id"], alone["trigger"]) == (None, "rerun")


def test_a_run_that_a_user_stopped_is_no_failure(shop: FakeStack) -> None:
    batch = start(shop, tasks=["search", "login", "buy"], fail_fast=2)
    assert shop.client.post(f"/test-runs/{batch['runs'][0]['id']}/stop").status_code == 200
    shop.work()
    recover(shop)
    assert states(show(shop, batch)) == {"search": "ERROR", "login": "FAILED", "buy": "FINISHED"}


def test_tasks_that_need_each_other_or_themselves_are_run_once(stack: FakeStack) -> None:
    add(stack, "egg", needs="hen")
    add(stack, "hen", needs="egg")
    add(stack, "self", needs="self")
    batch = start(stack, all=True)
    assert [run["task_id"] for run in batch["runs"]] == ["hen", "self"]
    stack.work()
    assert show(stack, batch)["current_state"] == "FINISHED"


def test_only_runs_that_are_under_way_are_looked_into(shop: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be hundreds of others, for each of many clients."""
    looked: list[str] = []

    async def with_progress(_: Batches, line: RunLine) -> RunLine:
        looked.append(line.task_id)
        return msgspec.structs.replace(line, last_goal="Buy it")

    batch = start(shop, tasks=["login", "buy"])
    folder = shop.services.batches._files.folder(TaskId("buy"), batch["runs"][1]["id"])
    change_record(folder, 0, started_at=datetime.now(UTC), epoch=1)
    monkeypatch.setattr(Batches, "_with_progress", with_progress)
    assert [run["last_goal"] for run in show(shop, batch)["runs"]] == [None, "Buy it"]
    assert looked == ["buy"]


@pytest.mark.parametrize("name", ["junit.xml", "ctrf.json"])
def test_results_of_many_failures_are_written_beside_the_event_loop(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert shop.client.portal is not None
    loop, threads = shop.client.portal.call(threading.get_ident), []

    def make(*_: Any, **__: Any) -> bytes:
        threads.append(threading.get_ident())
        return b""

    monkeypatch.setattr("jobs.api.results.junit_xml", make)
    monkeypatch.setattr("jobs.api.results.ctrf", make)
    batch = start(shop, tasks=["buy"])
    assert shop.client.get(f"/batches/{batch['id']}/{name}").status_code == 200
    assert len(threads) == 1
    assert loop not in threads


def test_a_record_that_a_network_disk_does_not_show_yet_is_not_lost(shop: FakeStack) -> None:
    batch = start(shop, tasks=["buy"])
    runs, unseen = runs_of(shop, "buy"), shop.project.root / "unseen"
    runs.rename(unseen)
    assert show(shop, batch)["current_state"] == "PENDING"
    recover(shop)
    unseen.rename(runs)
    shop.work()
    recover(shop)
    assert states(show(shop, batch)) == {"buy": "FINISHED"}


def test_without_a_limit_of_runs_per_task_a_batch_that_redis_has_lost_is_enqueued_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = project.environ(RUNS_PER_TASK="0")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(project, "settings", lambda: read_settings(environ))
    stack = FakeStack(project)
    with stack.client:
        add(stack, "buy")
        add(stack, "login")
        batch = start(stack, all=True)
        stack.redis.flushall()
        recover(stack)
        stack.work()
        assert states(show(stack, batch)) == {"buy": "FINISHED", "login": "FINISHED"}


def test_a_batch_that_cannot_be_read_now_is_not_told_to_be_over(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = start(shop, tasks=["buy"])

    def fails(*_: object) -> None:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as busy:
        busy.setattr("jobs.status.batches.read_batch", fails)
        response = shop.client.get(f"/batches/{batch['id']}")
        assert (response.status_code, "Too many open files" in response.json()["detail"]) == (503, True)
        (item,) = shop.client.get("/batches").json()["items"]
        assert "Too many open files" in item["error_message"]
    assert show(shop, batch)["current_state"] == "PENDING"
