"""The RQ worker: signals, and jobs that are no runs."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fakeredis
import pytest
from redis import Redis
from rq.queue import Queue

from jobs.queue.connection import ANSWER_SECONDS, CONNECT_SECONDS
from jobs.queue.heartbeat import HEARTBEAT_SECONDS, heartbeat_key
from jobs.worker.recover import ROUND_SECONDS
from jobs.worker.run_job import RunJob
from jobs.worker.worker import RunWorker
from tests.project import Project
from tests.stack import ROOT
from tests.unit.fake_stack import FakeStack
from tests.waiting import wait_for


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


@pytest.fixture
def leaving(worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The worker's thread that ends it in time; gives the codes with which it has ended the process."""
    monkeypatch.setattr("jobs.worker.worker.HORSE_SECONDS", 0.3)
    monkeypatch.setattr("jobs.worker.worker.LEAVE_SECONDS", 0.4)
    codes: list[int] = []
    monkeypatch.setattr("jobs.worker.worker.os._exit", codes.append)
    thread = threading.Thread(target=worker._leave_in_time, name="leave")
    thread.start()
    yield codes
    worker._background.leave()
    worker._asked.put(0)
    thread.join(10)
    assert not thread.is_alive()


def test_a_signal_that_comes_when_the_horse_has_just_ended_is_no_error(worker: RunWorker, leaving: list[int]) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    worker._horse_pid = ended.pid
    worker.request_stop(signal.SIGTERM, None)
    wait_for(lambda: leaving, 10, "its end")
    assert worker._stop_requested


def test_a_horse_that_does_not_end_in_time_is_killed(worker: RunWorker, leaving: list[int]) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as horse:
        assert horse.stdout is not None
        horse.stdout.readline()
        worker._horse_pid = horse.pid
        began = time.monotonic()
        worker.request_stop(signal.SIGTERM, None)
        assert horse.wait(10) == -signal.SIGKILL
        assert time.monotonic() - began >= 0.3
        worker._background.leave()


def test_a_worker_that_waits_for_ever_is_ended_and_closes_its_run(
    worker: RunWorker, leaving: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[tuple[str, bool]] = []
    monkeypatch.setattr(worker, "_close_after_horse", lambda job, *, save: closed.append((job.id, save)))
    killed: list[int] = []
    monkeypatch.setattr("jobs.worker.worker.os.kill", lambda pid, _: killed.append(pid))
    worker._claimed = RunJob("r" * 24, connection=worker.connection)
    worker.request_stop(signal.SIGTERM, None)
    wait_for(lambda: leaving, 10, "its end")
    assert (leaving, closed, killed) == ([0], [("r" * 24, False)], [])


def test_a_worker_that_is_closing_its_run_in_time_is_not_ended(
    worker: RunWorker, leaving: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    def close(job: RunJob, *, save: bool) -> None:
        closed.append(job.id)
        worker._background.leave()

    monkeypatch.setattr(worker, "_close_after_horse", close)
    worker._claimed = RunJob("r" * 24, connection=worker.connection)
    worker.request_stop(signal.SIGTERM, None)
    wait_for(lambda: closed, 10, "its end")
    wait_for(lambda: "leave" not in {thread.name for thread in threading.enumerate()}, 10, "the end of its thread")
    assert leaving == []


def test_a_worker_that_redis_forgot_registers_again(worker: RunWorker) -> None:
    worker.register_birth()
    worker.connection.flushall()
    assert [*worker._beat()] == [None]
    assert worker.connection.sismember("rq:workers", worker.key)
    assert worker.connection.exists(heartbeat_key(worker.name))
    worker.connection.flushall()
    worker._stop_requested = True
    assert [*worker._beat()] == [None]
    assert not worker.connection.sismember("rq:workers", worker.key), "it is just signing off"


def test_the_threads_of_a_worker_never_wait_for_redis_for_long(worker: RunWorker) -> None:
    for connection in (worker._impatient, worker._recovery._redis, worker._recovery._worker.connection):
        kwargs = connection.connection_pool.connection_kwargs
        assert (kwargs["socket_timeout"], kwargs["socket_connect_timeout"]) == (ANSWER_SECONDS, CONNECT_SECONDS)


def test_heartbeats_sweeps_and_recovery_work_beside_each_other(
    worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, float] = {}
    monkeypatch.setattr(worker._background, "start", lambda kind, _, pause: started.update({kind: pause}))
    monkeypatch.setattr("jobs.worker.worker.Worker.work", lambda *_: True)
    adopts: list[bool] = []
    monkeypatch.setattr("jobs.worker.worker.adopt_orphans", lambda: adopts.append(True))
    assert worker.work()
    assert adopts == [True]
    assert started == {"heartbeat": HEARTBEAT_SECONDS, "sweep": ROUND_SECONDS, "recovery": ROUND_SECONDS}
    assert worker._background.has_left(0)


def test_a_worker_forks_only_when_its_threads_pause(worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    forked, paused = list[bool](), [False]
    monkeypatch.setattr("jobs.worker.worker.Worker.fork_work_horse", lambda *_: forked.append(paused[0]))

    @contextmanager
    def pause() -> Iterator[None]:
        paused[0] = True
        yield
        paused[0] = False

    monkeypatch.setattr(worker._background, "paused", pause)
    worker.fork_work_horse(RunJob("x", connection=worker.connection), worker.queues[0])
    assert forked == [True]


def test_the_heartbeat_names_the_run_from_its_claim_on(buy: FakeStack) -> None:
    run_id, worker = buy.post("buy").json()["id"], buy.worker()
    named: list[str | None] = []
    worker.fork_work_horse = lambda *_: named.append(worker._claimed.id if worker._claimed else None)  # type: ignore[method-assign]
    worker.work(burst=True, logging_level="ERROR")
    assert named == [run_id]
    assert worker._claimed is None


def test_a_worker_of_another_queue_does_not_start(worker: RunWorker) -> None:
    with pytest.raises(SystemExit, match=r"must be bugninja \(QUEUE_NAME\), got other\."):
        RunWorker(["other"], connection=worker.connection)


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
