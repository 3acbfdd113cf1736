"""From the start of a batch to the exit code: what happens meanwhile comes in one queue, also signals."""

import os
import signal
import sys
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from types import FrameType
from typing import Any

from runner.client.batches import Api, Batch
from runner.client.connection import Failed
from runner.client.following import follow
from runner.client.lines import View

TICK = 0.1
STALL = 60.0  # seconds without a change, after which we ask whether there is a worker at all
STOPPING = 5.0  # seconds in which what was interrupted has to end: a CI kills soon
LAST_PATIENCE = 5.0  # seconds for a server that cannot be reached, once we have to go
NO_ANSWER, TIMED_OUT = 4, 5
SHOW_CURSOR = b"\x1b[?25h"
Event = Batch | Failed | signal.Signals | str | dict[str, float]


class Signals:
    """SIGINT, SIGTERM, SIGHUP: the first one is put into a queue, the second one ends the process at once."""

    def __init__(self, events: "SimpleQueue[Event]") -> None:
        self._events = events
        self._count = 0
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Let this process take them so; SIGHUP unless `nohup` lets it be ignored."""
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            if number in (signal.SIGINT, signal.SIGTERM) or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self.take)

    def remove(self) -> None:
        """Let the next one end the process, in the usual way unless it is the second."""
        for number, handler in self._before.items() if not self._count else ():
            signal.signal(number, handler)

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. `SimpleQueue.put` may be called in a handler: it takes no lock."""
        self._count += 1
        if self._count > 1:
            if sys.stderr.isatty():
                os.write(2, SHOW_CURSOR)
            os._exit(128 + number)
        self._events.put(signal.Signals(number))


class Session:
    """One batch that is followed. Make it, and call `watch`."""

    def __init__(
        self, api: Api, view: View, begin: Callable[[], Batch], ours: bool, timeout: float | None, stall: float = STALL
    ) -> None:
        """`begin` starts the batch or finds it, in a thread. An interruption stops the batch if it is `ours`. The times
        are in seconds."""
        self._api, self._view, self._begin, self._ours = api, view, begin, ours
        self._timeout, self._stall = timeout, stall
        self.batch: Batch | None = None
        self.error = ""  # why the batch was left before it was over, as a sentence
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._interrupted: signal.Signals | None = None
        self._changed = time.monotonic()
        self._deadline = None if timeout is None else self._changed + timeout

    def watch(self) -> int:
        """Follow the batch until it is over, or has to be left. Returns the exit code."""
        self._api.connection.warn = self._events.put
        signals = Signals(self._events)
        signals.install()
        self._in_background(self._follow)
        with self._view:
            while (code := self._step()) is None:
                pass
        signals.remove()
        if code and self.batch and not self.batch.over:
            self._api.connection.patience = LAST_PATIENCE
        return code

    def _step(self) -> int | None:
        """Take in what happens next, or that nothing does. Returns the exit code at the end."""
        try:
            code = self._take(self._events.get(timeout=TICK))
        except Empty:
            code = None
            self._view.tick()
        return self._late() if code is None else code

    def _take(self, event: Event) -> int | None:
        match event:
            case Batch():
                return self._take_batch(event)
            case Failed():
                self.error = str(event)
                return self._signal_code() or self._code_of(event)
            case signal.Signals():
                self._interrupt(event)
            case str():
                self._view.say(event)
            case _:
                self._view.expect(event)
        return None

    def _take_batch(self, batch: Batch) -> int | None:
        is_first, before = self.batch is None, self.batch
        self.batch = batch
        if before is None or before.document != batch.document:
            self._changed = time.monotonic()
        self._view.show(batch)
        if batch.over:
            return self._signal_code() or batch.code
        if is_first and self._interrupted:
            self._in_background(self._stop)
        if is_first and self._view.wants_medians:
            self._in_background(lambda: self._events.put(self._api.medians()))
        return None

    def _interrupt(self, number: signal.Signals) -> None:
        self._interrupted, self._api.connection.patience = number, LAST_PATIENCE
        self._deadline = time.monotonic() + (STOPPING if self._ours else 0)
        if self._ours:
            self._view.say(f"{number.name}: stopping what was started. Once more leaves at once.")
            if self.batch:
                self._in_background(self._stop)

    def _late(self) -> int | None:
        """The exit code if there is no time left, or no worker."""
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            self.error = self._why_left()
            return self._signal_code() or (TIMED_OUT if self.batch else NO_ANSWER)
        if self.batch and self.batch.counts["pending"] and now - self._changed >= self._stall:
            self._changed = now
            if missing := self._api.missing(workers_only=True):
                self.error = f"Nothing has changed for {self._stall:g} s. {missing}"
                return NO_ANSWER
        return None

    def _why_left(self) -> str:
        if not self.batch and (self._ours or not self._interrupted):
            return "The runner has not answered in time" + (": it may have started the tests." if self._ours else ".")
        if not self._interrupted:
            return f"Not over after {self._timeout:g} s."
        return "The runs have not ended in time." if self._ours else ""

    def _signal_code(self) -> int | None:
        return 128 + self._interrupted if self._interrupted else None

    def _code_of(self, error: Failed) -> int:
        """A batch that is followed and is suddenly unknown is no wrong usage."""
        return NO_ANSWER if self.batch else error.code

    def _in_background(self, do: Callable[[], None]) -> None:
        Thread(target=do, daemon=True).start()

    def _follow(self) -> None:
        try:
            batch = self._begin()
            self._events.put(batch)
            for later in follow(self._api, batch):
                self._events.put(later)
        except Failed as error:
            self._events.put(error)
        except Exception as error:  # noqa: BLE001 (the main thread would wait for ever)
            self._events.put(Failed(f"This is a fault of the client: {type(error).__name__}: {error}"))

    def _stop(self) -> None:
        if self.batch:
            try:
                self._api.stop(self.batch)
            except Failed as error:
                self._events.put(f"It could not be stopped: {error}")
