"""The threads beside a worker."""

import threading
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from redis.exceptions import RedisError

from jobs.worker.background import Background
from tests.waiting import wait_for


@pytest.fixture
def background() -> Iterator[Background]:
    background = Background("w")
    yield background
    background.leave()
    for thread in threading.enumerate():
        if thread.name in ("long", "short", "faulty"):
            thread.join(10)
            assert not thread.is_alive()


def counting(counts: list[int]) -> Callable[[], Iterator[None]]:
    """Rounds of two steps, which count themselves."""

    def make_round() -> Iterator[None]:
        for _ in range(2):
            counts.append(1)
            yield

    return make_round


def test_no_fault_ends_a_thread(background: Background, caplog: pytest.LogCaptureFixture) -> None:
    faults = [ValueError("an active worker"), psutil.AccessDenied(1), RedisError("x"), OSError(5, "x"), KeyError("x")]
    left, rounds = [*faults], list[int]()

    def make_round() -> Iterator[None]:
        yield
        if left:
            raise left.pop()
        rounds.append(1)

    background.start("faulty", make_round, 0.01)
    wait_for(lambda: len(rounds) > 1, 10, "rounds without a fault")
    for fault in faults:
        assert "event=faulty_failed worker=w error=" in caplog.text
        assert f"{type(fault).__name__}: " in caplog.text


def test_a_long_step_delays_no_other_thread_but_the_fork(background: Background) -> None:
    go_on, in_step, forked, counts = threading.Event(), threading.Event(), threading.Event(), list[int]()

    def long() -> Iterator[None]:
        in_step.set()
        go_on.wait(10)
        yield

    def fork() -> None:
        with background.paused():
            forked.set()
            before = len(counts)
            assert not threading.Event().wait(0.1)
            assert len(counts) <= before + 1, "nothing is done meanwhile"

    background.start("long", long, 60)
    background.start("short", counting(counts), 0.01)
    assert in_step.wait(10)
    before = len(counts)
    wait_for(lambda: len(counts) > before + 4, 10, "more steps of the other thread")
    forking = threading.Thread(target=fork)
    forking.start()
    assert not forked.wait(0.2)
    go_on.set()
    assert forked.wait(10)
    forking.join(10)
    before = len(counts)
    wait_for(lambda: len(counts) > before, 10, "steps after the fork")


def test_it_leaves_between_two_steps(background: Background) -> None:
    counts, first = list[int](), threading.Event()

    def endless() -> Iterator[None]:
        while True:
            counts.append(1)
            first.set()
            yield

    background.start("long", endless, 60)
    assert first.wait(10)
    assert not background.has_left(0)
    background.leave()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "long"]
    thread.join(10)
    assert not thread.is_alive()
    assert background.has_left(0)


def test_a_round_that_computes_for_long_is_followed_by_a_longer_pause(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("jobs.worker.background.time.thread_time", lambda: clock[0])
    pauses: list[float] = []
    monkeypatch.setattr(background._left, "wait", lambda seconds: pauses.append(seconds) or time.sleep(0.001))  # type: ignore[func-returns-value]
    costs = iter([0.0, 0.07, 3.0])

    def make_round() -> Iterator[None]:
        cost = next(costs, None)
        if cost is None:
            background.leave()
        clock[0] += cost or 0.0
        yield

    background.start("long", make_round, 5.0)
    wait_for(lambda: len(pauses) >= 3, 10, "three pauses")
    assert [round(pause, 3) for pause in pauses[:3]] == [5.0, 7.0, 8.0]
