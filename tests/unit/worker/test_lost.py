"""A run that gets another owner while its CLI runs: the CLI is ended, and nothing is written by who has lost it."""

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from jobs.queue.records import change_record, close_unstarted, read_record
from jobs.run.verdict import WORKER_DIED
from jobs.worker.execute import close_dead
from runner.cli.process import end_processes, run_of, run_processes, runs_with_processes
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import run_folder
from tests.waiting import wait_for


def close(folder: RunFolder) -> None:
    record = read_record(folder)
    assert record is not None
    close_unstarted(folder, record, WORKER_DIED, None)


def take_over(folder: RunFolder) -> None:
    change_record(folder, 1, epoch=2)


def delete(folder: RunFolder) -> None:
    shutil.rmtree(folder.path)


def damage(folder: RunFolder) -> None:
    folder.record.write_bytes(b"{")


def work_while(stack: FakeStack, folder: RunFolder, strike: Callable[[RunFolder], None]) -> float:
    """Execute the run; `strike` at it when its CLI runs. Returns the seconds from there to the end of the execution."""
    struck = [0.0]

    def wait_and_strike() -> None:
        wait_for(lambda: run_processes(folder.path), 10, "the CLI")
        strike(folder)
        struck[0] = time.monotonic()

    thread = threading.Thread(target=wait_and_strike)
    thread.start()
    stack.work()
    thread.join()
    return time.monotonic() - struck[0]


@pytest.mark.parametrize("strike", [close, take_over, delete, damage])
def test_whoever_loses_a_run_ends_its_cli_at_once_and_writes_nothing(
    stack: FakeStack, strike: Callable[[RunFolder], None]
) -> None:
    stack.project.add_task("buy", "deaf child visit sleep:60")
    folder = run_folder(stack, stack.post("buy").json()["id"])
    contents: list[bytes | None] = []

    def strike_and_read(folder: RunFolder) -> None:
        strike(folder)
        contents.append(folder.read_record())

    assert work_while(stack, folder, strike_and_read) < 3
    assert [folder.read_record()] == contents
    assert not run_processes(folder.path)
    job = Job.fetch(folder.run_id, stack.redis, JSONSerializer)
    assert (job.get_status(), job.get_meta()["outcome"]) == ("finished", None)


def test_a_disk_that_does_not_answer_for_a_moment_is_no_other_owner(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy", "visit sleep:1 pass")
    run_id = stack.post("buy").json()["id"]

    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("jobs.worker.execution.identity_now", fails)
    stack.work()
    assert stack.get(run_id)["current_state"] == "FINISHED"


def test_a_run_that_is_closed_while_its_horse_lives_has_the_true_reason(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes a run over ends its CLI, and whoever watched that must not record how it ended."""

    def kill(path: Path, children: None) -> int:  # and not wait, which in one process would be in the other one's way
        return len([process.kill() for process in run_processes(path)])  # type: ignore[func-returns-value]

    monkeypatch.setattr("jobs.worker.execute.end_processes", kill)
    stack.project.add_task("buy", "visit sleep:60")
    folder = run_folder(stack, stack.post("buy").json()["id"])
    files = RunFiles(stack.settings.tasks_root)

    def recover(folder: RunFolder) -> None:
        record = read_record(folder)
        assert record is not None
        close_dead(files, folder, record, WORKER_DIED)

    work_while(stack, folder, recover)
    run = stack.get(folder.run_id)
    assert (run["current_state"], run["reason"]) == ("ERROR", "interrupted")
    assert run["error_message"] == WORKER_DIED.message
    record = read_record(folder)
    assert record is not None
    assert record.epoch == 2


def test_of_two_that_close_the_run_of_a_dead_worker_one_does(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.project.add_task("buy")
    folder = run_folder(stack, stack.post("buy").json()["id"])
    change_record(folder, 0, epoch=1, started_at=read_record(folder).queued_at)  # type: ignore[union-attr]
    files, record = RunFiles(stack.settings.tasks_root), read_record(folder)
    assert record is not None
    ended: list[Path] = []
    monkeypatch.setattr("jobs.worker.execute.end_processes", lambda path, children: ended.append(path))
    closed = close_dead(files, folder, record, WORKER_DIED)
    with pytest.raises(Exception, match="another process owns it"):
        close_dead(files, folder, record, WORKER_DIED)
    assert ended == [folder.path], "who loses ends nothing"
    assert read_record(folder) == closed


def test_a_process_of_another_user_or_none_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> Any:
        raise psutil.AccessDenied(1)

    for name in ("kill", "children", "environ"):
        with monkeypatch.context() as patch:
            patch.setattr(psutil.Process, name, denied)
            assert end_processes(tmp_path, also=[]) == 0
            assert run_of(psutil.Process()) is None or name != "environ"
    with monkeypatch.context() as patch:
        patch.setattr(psutil.Process, "kill", denied)
        patch.setattr("runner.cli.process.SWEEP_SECONDS", 0.1)
        assert end_processes(tmp_path, also=[psutil.Process()]) == 1, "it is there, and cannot be ended"


def test_runs_are_told_apart_by_their_folders(stack: FakeStack, tmp_path: Path) -> None:
    """A copy of a project has runs with the same IDs; its processes are none of ours."""
    stack.project.add_task("buy", "visit sleep:60")
    folder = run_folder(stack, stack.post("buy").json()["id"])
    elsewhere = RunFolder(tmp_path / "copy" / "tasks", folder.task_id, folder.run_id)

    def look(folder: RunFolder) -> None:
        assert end_processes(elsewhere.path) == 0
        assert run_processes(folder.path)
        assert folder.path in runs_with_processes()
        close(folder)

    work_while(stack, folder, look)
    files = RunFiles(stack.settings.tasks_root)
    assert files.folder_at(folder.path) == folder
    assert files.folder_at(elsewhere.path) is None
