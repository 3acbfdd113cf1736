"""What a worker does beside its jobs: rounds of small steps, each kind in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from runner.log import log_event

SHARE = 100  # a round that takes long is followed by a pause that is so many times as long as what it computed
LONGEST_PAUSE = 8.0  # seconds
DONE = object()


class Background:
    """Threads that no fault ends, and between two steps of which the worker can fork."""

    def __init__(self, worker_name: str) -> None:
        self._worker_name = worker_name
        self._left = threading.Event()
        self._locks: list[threading.Lock] = []

    def start(self, kind: str, make_round: Callable[[], Iterator[None]], pause: float) -> None:
        """Do rounds of this kind from now on, and pause for so many seconds after each. A round ends at a step that
        fails."""
        lock = threading.Lock()
        self._locks.append(lock)
        threading.Thread(target=self._work, args=(kind, make_round, pause, lock), name=kind, daemon=True).start()

    def leave(self) -> None:
        """Begin no other step."""
        self._left.set()

    def has_left(self, seconds: float) -> bool:
        """Whether it was told to leave, or is within so many seconds."""
        return self._left.wait(seconds)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Inside it no thread does anything. So no lock that one needs (Python 3.11 has one in every
        `cached_property`) is held in a work-horse that is forked here, for ever."""
        with ExitStack() as stack:
            for lock in self._locks:
                stack.enter_context(lock)
            yield

    def _work(self, kind: str, make_round: Callable[[], Iterator[None]], pause: float, lock: threading.Lock) -> None:
        while not self._left.is_set():
            began = time.thread_time()
            steps, done = make_round(), False
            while not done and not self._left.is_set():
                done = True
                with lock, self._logged(kind):
                    done = next(steps, DONE) is DONE
            self._left.wait(max(pause, min(LONGEST_PAUSE, SHARE * (time.thread_time() - began))))

    @contextmanager
    def _logged(self, kind: str) -> Iterator[None]:
        """Inside it a fault is logged, of whatever type."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 (a thread that ends is missed by nobody)
            fault = f"{type(error).__name__}: {error}"
            log_event(f"{kind}_failed", level=logging.WARNING, worker=self._worker_name, error=fault)
