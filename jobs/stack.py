"""Start the lines of the Procfile with the variables of `.env`, and end them all together.

`python -m jobs.stack start [NAME ...] [-c worker=4]`, or `run COMMAND ...` for another command with these variables.
"""

import argparse
import os
import queue
import selectors
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from io import TextIOWrapper
from itertools import cycle
from pathlib import Path
from types import FrameType
from typing import NoReturn

from honcho.colour import get_colours
from honcho.environ import parse_procfile
from honcho.printer import Message, Printer
from honcho.process import Popen

from jobs.queue.connection import CHECKS
from runner.env_file import read_env_file
from runner.errors import CommandNotStarted, Invalid, RunnerError
from runner.settings import read_settings

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
KILL_SECONDS = 5.0  # from SIGTERM to SIGKILL
POLL_SECONDS = 0.1
READ_BYTES = 65536
LINES = 1000  # that wait to be printed
PRINT_SECONDS = 1.0  # for the last of them


class Output:
    """Prints lines in a thread of its own, so that a terminal which takes none (Ctrl-S) or is gone holds up nothing."""

    def __init__(self, width: int) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        self._printer = Printer(sys.stdout, width=width)
        self._lines: queue.Queue[Message | None] = queue.Queue(LINES)
        self._thread = threading.Thread(target=self._print, name="output", daemon=True)
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether more lines would be dropped."""
        return self._lines.full()

    def put(self, name: str, colour: str | None, text: str | bytes) -> None:
        """Print these lines some time later, or drop them."""
        with suppress(queue.Full):
            self._lines.put_nowait(Message("line", text, datetime.now(), name, colour))

    def close(self) -> None:
        """Wait for the last lines, but not for long."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=PRINT_SECONDS)
        self._thread.join(PRINT_SECONDS)

    def _print(self) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError, ValueError):  # nobody is there to read it, or it is closed
                self._printer.write(line)


class Line:
    """A process of a line of the Procfile, in a session of its own."""

    def __init__(self, name: str, command: str, environ: Mapping[str, str], colour: str) -> None:
        self.name, self.colour = name, colour
        self.process = Popen(command, env=environ)
        self.has_ended = False
        self.is_at_end = False  # of its output
        self._begun = b""

    def read(self) -> bytes:
        """The next whole lines; empty if there is none yet."""
        chunk = os.read(self.process.stdout.fileno(), READ_BYTES)
        self.is_at_end = not chunk
        text = self._begun + chunk
        whole = len(text) if self.is_at_end or len(text) > READ_BYTES else text.rfind(b"\n") + 1
        self._begun = text[whole:]
        return text[:whole]

    def send(self, number: signal.Signals) -> None:
        """Signal all processes of its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class Stack:
    """All processes. When one of them ends, or a signal comes, all end."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._lines: list[Line] = []
        self._selector, self._colours = selectors.DefaultSelector(), cycle(get_colours())
        self._signal: int | None = None
        self._code: int | None = None  # of the process that ended first

    def handle_signals(self) -> None:
        """End all when one of the signals comes. A hangup that is ignored (`nohup`) stays ignored."""
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)

    def start(self, name: str, command: str, environ: Mapping[str, str]) -> None:
        """Start a process. Raises `OSError`."""
        line = Line(name, command, environ, next(self._colours))
        self._lines.append(line)
        self._selector.register(line.process.stdout, selectors.EVENT_READ, line)
        self._say(f"{name} started (pid={line.process.pid})")

    def watch(self) -> int:
        """Print what they print until all have ended; returns the exit code: of the signal, or of the first process."""
        while self._signal is None and self._code is None:
            self._step(wait=self._output.is_full)  # then they wait, or drop their lines and count them
        self.end(signal.SIGTERM)
        kill_at = time.monotonic() + KILL_SECONDS
        while self._living() and time.monotonic() < kill_at:
            self._step()
        self.end(signal.SIGKILL)
        while self._living():
            self._step()
        code = 128 + self._signal if self._signal else self._code or 0
        return code if code >= 0 else 128 - code

    def end(self, number: signal.Signals) -> None:
        """Signal all processes that live."""
        for line in self._living():
            self._say(f"sending {number.name} to {line.name} (pid {line.process.pid})")
            line.send(number)

    def close(self) -> None:
        """Read no more of what others may still print that have the output of one of the processes."""
        self._selector.close()
        for line in self._lines:
            line.process.stdout.close()

    def _living(self) -> list[Line]:
        return [line for line in self._lines if not line.has_ended]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number

    def _step(self, *, wait: bool = False) -> None:
        """Wait for a moment at most; read what was printed, and see who has ended."""
        if wait:
            time.sleep(POLL_SECONDS)
        else:
            self._read(POLL_SECONDS)
        for line in self._living():
            if line.process.poll() is not None:
                line.has_ended = True
                self._read(0)  # its last words come first
                self._say(f"{line.name} stopped (rc={line.process.returncode})")
                self._code = line.process.returncode if self._code is None else self._code

    def _read(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            line: Line = key.data
            self._output.put(line.name, line.colour, line.read())
            if line.is_at_end:
                self._selector.unregister(line.process.stdout)
                line.process.stdout.close()

    def _say(self, text: str) -> None:
        self._output.put("system", None, text)


def run_stack(commands: Mapping[str, str], environ: Mapping[str, str]) -> int:
    """Run these commands by the names of their processes until one ends or a signal comes; returns the exit code."""
    output = Output(max(map(len, [*commands, "system"])))
    stack = Stack(output)
    stack.handle_signals()
    try:
        for name, command in commands.items():
            stack.start(name, command, environ)
        return stack.watch()
    finally:
        stack.end(signal.SIGTERM)  # of which there are some only if not all could be started
        stack.close()
        output.close()


def run_command(command: list[str], environ: Mapping[str, str]) -> NoReturn:
    """Become this command. Raises `CommandNotStarted`."""
    try:
        os.execvpe(command[0], command, environ)
    except OSError as error:
        raise CommandNotStarted(command[0], f"{error.strerror}.") from None


def chosen(lines: Mapping[str, str], names: Sequence[str], counts: Sequence[str]) -> dict[str, str]:
    """The commands of the lines with these names (all if there is none), `NAME=NUMBER` times, by the names of their
    processes. Raises `Invalid`."""
    numbers = dict.fromkeys(lines, 1)
    for name, _, number in (count.partition("=") for text in counts for count in text.split(",")):
        if name not in lines or not number.isdecimal():
            raise Invalid(f"-c must be NAME=NUMBER, with NAME one of {', '.join(lines)}, got {name}={number}.")
        numbers[name] = int(number)
    for name in names:
        if name not in lines:
            raise Invalid(f"A line of the Procfile must be one of {', '.join(lines)}, got {name}.")
    commands = {f"{name}.{n + 1}": lines[name] for name in names or lines for n in range(numbers[name])}
    if not commands:
        raise Invalid("There must be at least one process to start.")
    return commands


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command line. Ends the process with its usage if they make no sense."""
    parser = argparse.ArgumentParser(prog="python -m jobs.stack", description=__doc__)
    parser.add_argument("-e", "--env", type=Path, default=Path(".env"), help="file with variables (default: .env)")
    commands = parser.add_subparsers(dest="what", required=True)
    start = commands.add_parser("start", help="start the lines of the Procfile")
    start.add_argument("names", nargs="*", metavar="NAME", help="a line (default: all)")
    start.add_argument("-c", "--concurrency", action="append", default=[], metavar="NAME=NUMBER", help="how many of it")
    run = commands.add_parser("run", help="run a command with the variables")
    run.add_argument("command", metavar="COMMAND")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """The command line; returns the exit code. Exits with a sentence if something cannot be used."""
    words = parse(arguments)
    try:
        environ = {**os.environ, **read_env_file(words.env)}
        if words.what == "run":
            run_command([words.command, *words.arguments], environ)
        read_settings(environ, CHECKS)  # so that a problem is named once, and not by each process
        lines = parse_procfile(Path("Procfile").read_text(encoding="utf-8")).processes
        return run_stack(chosen(lines, words.names, words.concurrency), environ)
    except RunnerError as error:
        sys.exit(str(error))
    except OSError as error:
        sys.exit(f"The Procfile cannot be read here: {error.strerror}.")


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # whatever state the thread is in that prints
