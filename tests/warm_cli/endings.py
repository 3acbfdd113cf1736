"""Ways to end: each function takes the value of its word."""

import faulthandler
import os
import resource
import signal
import sys
import threading
from typing import NoReturn


def exits(value: str) -> NoReturn:
    """`exits:3`"""
    sys.exit(int(value))


def says(value: str) -> NoReturn:
    """An exit with a text, which is printed, and code 1."""
    sys.exit("the \x1b[31mend\x1b[0m: " + value)


def leaves(value: str) -> NoReturn:
    """At once, with nothing that is done at the end."""
    os._exit(int(value))


def _fail(depth: int) -> None:
    if depth:
        _fail(depth - 1)
    os.environ["NOWHERE"]


def raises(value: str) -> None:
    """An exception with a cause, each with a traceback of some frames."""
    try:
        _fail(5)
    except KeyError as error:
        raise ValueError(f"no luck with {value}") from error


def raises_in_context(_: str) -> None:
    """An exception while another one is handled, and a note."""
    try:
        _fail(0)
    except KeyError:
        error = OSError(2, "No such thing")
        error.add_note("as everybody knows")
        raise error  # noqa: B904


def raises_group(_: str) -> None:
    """Several at once."""
    raise ExceptionGroup("both", [ValueError("one"), ExceptionGroup("inner", [OSError(2, "two")])])


def raises_late(_: str) -> None:
    """By the import of a module that cannot be compiled."""
    exec(compile("a = (\n", "half.py", "exec"))


def has_own_hook(_: str) -> None:
    """Let the program's own function show what ends it."""

    def show(kind: type[BaseException], error: BaseException, trace: object) -> None:
        frames = []
        while trace is not None:
            frames.append(trace.tb_frame.f_code.co_name)  # type: ignore[attr-defined]
            trace = trace.tb_next  # type: ignore[attr-defined]
        print(f"hook: {kind.__name__} {error}", frames)

    sys.excepthook = show


def interrupts(_: str) -> NoReturn:
    """As Ctrl-C."""
    raise KeyboardInterrupt


def dies(value: str) -> None:
    """`dies:SEGV`: of this signal, whatever Python does about it by itself."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    number = signal.Signals[f"SIG{value}"]
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def gets(value: str) -> None:
    """`gets:INT`: this signal, with what Python does about it."""
    os.kill(os.getpid(), signal.Signals[f"SIG{value}"])
    print("has got", value)


def thread_raises(_: str) -> None:
    """In another thread; the program goes on."""
    thread = threading.Thread(target=_fail, args=(1,), name="unlucky")
    thread.start()
    thread.join()


def thread_goes_on(_: str) -> None:
    """A thread that is waited for at the end."""
    threading.Timer(0.1, print, ["the last thread"]).start()
