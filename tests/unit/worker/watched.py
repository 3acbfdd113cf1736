"""One run in the hands of a work-horse: with a CLI that does one thing at each tick, and a clock that obeys."""

import math
import os
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import fakeredis
import msgspec
import pytest

from jobs.queue.job import Job, build_job, fetch_job, make_queue, record_of_job
from jobs.run.record import RunRecord, record_to_json
from jobs.worker import execution as module
from jobs.worker.execution import Execution
from jobs.worker.signals import ShutdownFlag
from runner.cli.command import ProcessExit
from runner.ids import TaskId
from runner.project.run_files import RunFiles
from runner.settings import Settings
from tests.project import Project, traversal_bytes
from tests.unit.run.records import STARTED as BEGUN
from tests.unit.runs import write_run

STARTED = msgspec.structs.replace(BEGUN, task_id=TaskId("buy"), epoch=1)
STAMP = "20261123_080000"
Step = Callable[[], object]


def nothing() -> None:
    """What a CLI does in a quiet tick."""


class Cli:
    """Stands in for `CliProcess`."""

    pid, log_problem, is_warm = 1, None, False

    def __init__(self, steps: Sequence[Step], end: ProcessExit) -> None:
        self.steps, self.how = [*steps], end
        self.printed = 0
        self.graces: list[float] = []
        self.waits: set[float] = set()
        self.cleared = self.bytes = self.measured = 0

    def wait(self, seconds: float) -> ProcessExit | None:
        self.waits.add(seconds)
        if not self.steps:
            return self.how
        self.steps.pop(0)()
        return None

    def end(self, grace: float, at_most: Callable[[], float] = lambda: math.inf) -> ProcessExit:
        self.graces.append(min(grace, at_most()))
        return ProcessExit(None, "SIGTERM")

    def clear(self) -> int:
        self.cleared += 1
        return 0

    def memory(self) -> int:
        self.measured += 1
        return self.bytes

    def print(self) -> None:
        self.printed += 1


END = ProcessExit(0, None)


class Watched:
    """One run in the hands of a worker."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self.task = project.add_task("buy")
        self.project, self.monkeypatch = project, monkeypatch
        self.files = RunFiles(project.root / "tasks")
        self.folder = self.files.folder(TaskId("buy"), STARTED.run_id)
        self.shutdown, self.now = ShutdownFlag(), 1000.0
        self.worker_pid = os.getpid()
        self.redis = fakeredis.FakeRedis()
        self.record = STARTED
        self.folder.create(record_to_json(self.record))
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def job(self, settings: Settings) -> Job:
        job = build_job(make_queue(self.redis, "bugninja"), self.record, settings)
        job.save()
        return job

    def execution(self, **environ: str) -> Execution:
        settings = self.project.settings(**{"RUN_TIMEOUT": "100", "STOP_GRACE": "10", **environ})
        job = self.job(settings)
        return Execution(job, self.folder, self.record, self.worker_pid, self.files, settings, self.shutdown)

    def run(self, *steps: Step, end: ProcessExit = END, **environ: str) -> RunRecord:
        self.cli = Cli(steps, end)
        self.monkeypatch.setattr(module, "CliProcess", lambda *_: self.cli)
        return self.execution(**environ).run()

    def kept(self) -> RunRecord | None:
        """The copy of the record in Redis."""
        job = fetch_job(self.redis, STARTED.run_id)
        return None if job is None else record_of_job(job)

    def later(self, seconds: float) -> Step:
        def wait() -> None:
            self.now += seconds

        return wait

    def writes(self, run_id: str, *args: Any) -> Step:
        return lambda: write_run(self.task, STAMP, run_id, traversal_bytes(*args))
