"""Which signals end a worker, and what its work-horse does about them."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from jobs.queue.connection import stop_waiting

TERMINAL_SIGNALS = (signal.SIGHUP, signal.SIGQUIT)  # it was closed; Ctrl-\\. RQ has handlers for SIGINT and SIGTERM
Handler = Callable[[int, FrameType | None], None]


class ShutdownFlag:
    """Whether the worker of this run is being shut down."""

    is_set = False


@contextmanager
def shutdown_flag() -> Iterator[ShutdownFlag]:
    """Inside it SIGTERM sets the flag, instead of ending this process without a word."""
    flag = ShutdownFlag()

    def on_signal(number: int, frame: FrameType | None) -> None:
        flag.is_set = True
        stop_waiting()

    before = signal.signal(signal.SIGTERM, on_signal), signal.signal(signal.SIGINT, leave_it_to_the_worker)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def leave_it_to_the_worker(number: int, frame: FrameType | None) -> None:
    """Nothing: a terminal signals all of its foreground group. A function, since the CLI would inherit SIG_IGN."""


def handle_terminal(handler: Handler) -> None:
    """Call the handler when the terminal is closed or gets a Ctrl-\\, unless that is ignored (nohup)."""
    for number in TERMINAL_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
