"""What a worker and its work-horse do about signals."""

import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

import fakeredis
import pytest

from jobs.queue.job import make_queue
from jobs.worker import signals as module
from jobs.worker.signals import handle_terminal, leave_it_to_the_worker, shutdown_flag
from jobs.worker.worker import RunWorker
from tests.project import Project

ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Those that are there now are there again afterwards."""
    before = {number: signal.getsignal(number) for number in ALL}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_to_end_is_noted_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    monkeypatch.setattr(module, "stop_waiting", lambda: told.append(True))
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with shutdown_flag() as flag:
        os.kill(os.getpid(), signal.SIGINT)
        assert not flag.is_set, "Ctrl-C is the worker's affair"
        assert signal.getsignal(signal.SIGINT) is not signal.SIG_IGN, "which the CLI would inherit"
        os.kill(os.getpid(), signal.SIGTERM)
        assert (flag.is_set, told) == (True, [True])
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_terminals_signals_are_handled_unless_they_are_ignored() -> None:
    told: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        told.append(number)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    handle_terminal(handler)
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGQUIT)
    assert told == [signal.SIGQUIT]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    handle_terminal(leave_it_to_the_worker)
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGQUIT)
    assert told == [signal.SIGQUIT]


def test_a_worker_leaves_at_each_of_them_and_its_horse_at_none_of_a_terminal(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in project.environ().items():
        monkeypatch.setenv(name, value)
    redis = fakeredis.FakeRedis()
    worker: Any = RunWorker([make_queue(redis, "bugninja")], connection=redis)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    worker._install_signal_handlers()
    assert [signal.getsignal(number) for number in ALL] == [worker.request_stop] * 4
    seen: list[object] = []
    monkeypatch.setattr("jobs.worker.worker.adopt_orphans", lambda: seen.append("adopts"))
    monkeypatch.setattr("jobs.worker.worker.Worker.main_work_horse", lambda _, *job: seen.extend(job))
    worker.main_work_horse("job", "queue")
    assert seen == ["adopts", "job", "queue"]
    assert [signal.getsignal(number) for number in ALL[2:]] == [leave_it_to_the_worker] * 2
