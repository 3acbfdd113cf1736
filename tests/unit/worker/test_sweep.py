"""What is left on this machine of runs that are over."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from jobs.queue.records import change_record
from jobs.worker.sweep import SILENT_SECONDS, Sweeps, machine_key, sweep
from runner.cli.machine import machine_id
from runner.cli.process import run_processes
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import change_record as overwrite
from tests.unit.runs import run_folder

OVER = {"state": "ERROR", "reason": "interrupted", "error_message": "x", "finished_at": "2026-11-23T08:00:00Z"}


@pytest.fixture
def folder(buy: FakeStack) -> Iterator[RunFolder]:
    """The folder of a run that was begun, and that has a process."""
    folder = run_folder(buy, buy.post("buy").json()["id"])
    change_record(folder, 0, epoch=1)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    process = subprocess.Popen(command, env={"BUGNINJA_RUN_FOLDER": str(folder.path)})
    yield folder
    process.kill()
    process.wait()


def finish(steps: Iterator[None]) -> None:
    for _ in steps:
        pass


def numbers(stack: FakeStack) -> tuple[object, object]:
    begun, done = stack.redis.hmget(machine_key(machine_id()), "begun", "done")
    return begun, done


def test_only_processes_of_runs_that_are_over_are_ended(buy: FakeStack, folder: RunFolder) -> None:
    files = RunFiles(buy.settings.tasks_root)
    finish(sweep(files, buy.redis))
    assert run_processes(folder.path), "it is executed"
    assert numbers(buy) == (b"1", b"1")
    overwrite(buy, folder.run_id, version=99)
    finish(sweep(files, buy.redis))
    assert run_processes(folder.path), "nobody can say whether it is"
    overwrite(buy, folder.run_id, version=1, outcome=OVER)
    finish(sweep(files, buy.redis))
    assert not run_processes(folder.path)
    assert numbers(buy) == (b"3", b"3")
    assert 0 < buy.redis.ttl(machine_key(machine_id())) <= SILENT_SECONDS == 60


def test_processes_of_a_run_that_was_deleted_are_ended(buy: FakeStack, folder: RunFolder) -> None:
    folder.remove()
    finish(sweep(RunFiles(buy.settings.tasks_root), buy.redis))
    assert not run_processes(folder.path)


def test_a_sweep_that_leaves_something_is_not_done(
    buy: FakeStack, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwrite(buy, folder.run_id, outcome=OVER)
    monkeypatch.setattr("jobs.worker.sweep.end_processes", lambda path: 1)
    finish(sweep(RunFiles(buy.settings.tasks_root), buy.redis))
    assert numbers(buy) == (b"1", None)


def test_a_sweep_needs_no_redis(buy: FakeStack, folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    overwrite(buy, folder.run_id, outcome=OVER)

    def away(*_: Any, **__: Any) -> None:
        raise RedisConnectionError("away")

    monkeypatch.setattr(buy.redis, "pipeline", away)
    finish(sweep(RunFiles(buy.settings.tasks_root), buy.redis))
    assert not run_processes(folder.path)
    assert numbers(buy) == (None, None)


def test_a_sweep_counts_that_began_after_a_run_was_noted(buy: FakeStack) -> None:
    sweeps, key = Sweeps(buy.redis), machine_key("m")
    buy.redis.hset(key, mapping={"begun": 3, "done": 3})
    sweeps.note("run", "m")
    assert not sweeps.since_noted("run", "m")
    buy.redis.hset(key, mapping={"begun": 4})
    assert not sweeps.since_noted("run", "m")
    buy.redis.hset(key, mapping={"done": 4})
    assert sweeps.since_noted("run", "m")
    buy.redis.hset(key, mapping={"begun": 5, "done": 5})
    assert not sweeps.since_noted("another", "m"), "it was not noted, so nothing is known"
    buy.redis.delete(key)
    assert sweeps.since_noted("another", "m"), "the machine is silent"
