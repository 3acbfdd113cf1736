"""The RQ worker: signals, and jobs that are no runs."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fakeredis
import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError
from rq.queue import Queue

from jobs.queue.heartbeat import heartbeat_key, send_heartbeat
from jobs.worker.worker import RunJob, RunWorker
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


def in_thread(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_a_signal_that_comes_when_the_horse_has_just_ended_is_no_error(
    worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.worker.worker.HORSE_SECONDS", 0.0)
    thread = in_thread(worker._kill_late_horses)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    worker._horse_pid = ended.pid
    worker.request_stop(signal.SIGTERM, None)
    wait_for(worker._stops.empty, 10, "its end")
    assert worker._stop_requested
    assert thread.is_alive()


def test_a_horse_that_does_not_end_in_time_is_killed(worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.worker.worker.HORSE_SECONDS", 0.3)
    in_thread(worker._kill_late_horses)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as horse:
        assert horse.stdout is not None
        horse.stdout.readline()
        worker._horse_pid = horse.pid
        began = time.monotonic()
        worker.request_stop(signal.SIGTERM, None)
        assert horse.wait(10) == -signal.SIGKILL
        assert time.monotonic() - began >= 0.3


def test_only_the_horse_that_was_told_to_end_is_killed(worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.worker.worker.HORSE_SECONDS", 0.0)
    killed: list[int] = []
    monkeypatch.setattr("jobs.worker.worker.os.kill", lambda pid, number: killed.append(pid))
    worker._horse_pid = 0
    worker._stops.put(4711)
    in_thread(worker._kill_late_horses)
    wait_for(worker._stops.empty, 10)
    worker._horse_pid = 4712
    worker._stops.put(4712)
    wait_for(lambda: killed, 10)
    assert killed == [4712]


def fail_at_first(times: int, then: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises something else each time, and at last does what `then` does."""
    faults: list[Exception] = [ValueError("an active worker"), psutil.AccessDenied(1), RedisError("x"), OSError(5, "x")]
    left = faults[:times]

    def function(*arguments: Any) -> Any:
        if left:
            raise left.pop()
        return then(*arguments)

    return function


def test_no_fault_ends_the_heartbeat(worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.worker.worker.HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("jobs.worker.worker.send_heartbeat", fail_at_first(4, send_heartbeat))
    thread = in_thread(worker._send_heartbeats)
    wait_for(lambda: worker.connection.exists(heartbeat_key(worker.name)), 10, "a heartbeat")
    assert thread.is_alive()
    worker._left.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_worker_that_redis_forgot_registers_again_whatever_comes(
    worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.worker.worker.HEARTBEAT_SECONDS", 0.01)
    worker.register_birth()
    born = worker.register_birth
    monkeypatch.setattr(worker, "register_birth", fail_at_first(2, born))
    in_thread(worker._send_heartbeats)
    worker.connection.flushall()
    wait_for(lambda: worker.connection.sismember("rq:workers", worker.key), 10, "its registration")
    worker._left.set()


def test_no_fault_ends_the_recovery(worker: RunWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    monkeypatch.setattr("jobs.worker.worker.ROUND_SECONDS", 0.01)
    sweep, round_ = fail_at_first(4, lambda: None), fail_at_first(4, lambda: rounds.append(1))

    def failing_sweep(*_: Any) -> Iterator[None]:
        yield
        sweep()

    def failing_round(self: Any) -> Iterator[None]:
        yield
        round_()

    monkeypatch.setattr("jobs.worker.worker.sweep", failing_sweep)
    monkeypatch.setattr("jobs.worker.worker.Recovery.round", failing_round)
    thread = in_thread(worker._recover)
    wait_for(lambda: len(rounds) > 1, 10, "whole rounds")
    worker._left.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_long_step_of_recovery_delays_no_heartbeat_but_the_fork(
    worker: RunWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, in_step, forked = threading.Event(), threading.Event(), threading.Event()

    def long_round(self: Any) -> Iterator[None]:
        in_step.set()
        go_on.wait(10)
        yield

    monkeypatch.setattr("jobs.worker.worker.HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr("jobs.worker.worker.Recovery.round", long_round)
    monkeypatch.setattr("jobs.worker.worker.Worker.fork_work_horse", lambda *_: forked.set())
    in_thread(worker._recover)
    assert in_step.wait(10)
    in_thread(worker._send_heartbeats)
    for _ in range(3):
        worker.connection.delete(heartbeat_key(worker.name))
        wait_for(lambda: worker.connection.exists(heartbeat_key(worker.name)), 10, "the next heartbeat")
    fork = in_thread(lambda: worker.fork_work_horse(RunJob("x", connection=worker.connection), worker.queues[0]))
    fork.join(0.2)
    assert not forked.is_set()
    go_on.set()
    assert forked.wait(10)
    worker._left.set()


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
