"""The RQ worker: signals, and jobs that are no runs."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import fakeredis
import pytest
from redis import Redis
from rq.queue import Queue

from jobs.worker.worker import RunJob, RunWorker
from tests.project import Project
from tests.stack import ROOT
from tests.unit.fake_stack import FakeStack


@pytest.fixture
def worker(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunWorker]:
    for name, value in project.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("jobs.worker.worker.stop_waiting", lambda: None)
    connection: Redis = fakeredis.FakeRedis()
    worker = RunWorker(["bugninja"], connection=connection)
    yield worker
    worker._horse_pid = 0  # as RQ sets it when it has waited for the horse


def test_redis_cannot_make_a_worker_call_another_function(stack: FakeStack, tmp_path: Path) -> None:
    target = tmp_path / "made-by-redis"
    queue = Queue("bugninja", connection=stack.redis, serializer="json")
    job = queue.enqueue_call("os.mkdir", args=[str(target)])
    stack.work()
    assert not target.exists()
    assert job.get_status() == "failed"
    result = job.latest_result()
    assert result is not None
    assert "no record of the run" in (result.exc_string or "")


def test_a_signal_that_comes_when_the_horse_has_just_ended_is_no_error(
    worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.worker.worker.HORSE_SECONDS", 0.0)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    worker._horse_pid = ended.pid
    worker.request_stop(signal.SIGTERM, None)
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(10)  # what it raises becomes a warning, and so an error
    assert worker._stop_requested


def test_a_job_of_another_program_does_not_end_the_worker(worker: RunWorker) -> None:
    for data in (b"no JSON at all", b"null", b'["jobs.worker.execute.execute_run", null, [], null]'):
        job = RunJob("x", connection=worker.connection, serializer="json")
        job.data = data
        worker._prepare(job)
        assert not worker._claim(job, worker.queues[0])
        worker._close_after_horse(job, save=True)
        assert not worker.connection.exists(job.key)


def test_a_signal_ends_the_horse(worker: RunWorker) -> None:
    horse = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    worker._horse_pid = horse.pid
    worker.request_stop(signal.SIGTERM, None)
    assert horse.wait(10) == -signal.SIGTERM


def test_a_work_horse_finds_all_its_modules_imported() -> None:
    code = "import sys, jobs.worker.worker; print('jobs.worker.execution' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert printed == "True\n"
