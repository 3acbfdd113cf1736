"""Start the CLI, follow it, and end it with everything that it started.

A process group is not enough: Bugninja 0.1.6 starts its browser in a session of its own. But every descendant inherits
`BUGNINJA_RUN_ID` in its environment, also when its parent is gone, so that is where we look.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from runner.cli.command import RUN_ID_VARIABLE, Command, ProcessExit
from runner.cli.log_file import LogFile
from runner.errors import CommandNotStarted
from runner.ids import RunId
from runner.redaction import Redactor

SWEEP_SECONDS = 2.0  # until a process that was sent SIGKILL is expected to be gone
CHUNK_BYTES = 64 * 1024


class CliProcess:
    """A running CLI, in a session of its own, printing into the run's log."""

    def __init__(self, command: Command, run_id: RunId, log: Path, redactor: Redactor) -> None:
        """Start it. Raises `CommandNotStarted`."""
        self.run_id = run_id
        self.printed = 0  # bytes so far
        program = command.argv[0]
        try:
            self._log = LogFile(log, redactor)
        except OSError as error:
            raise CommandNotStarted(program, f"its log cannot be written ({error.strerror}).") from None
        self._process = self._start(program, command)
        self._reader = threading.Thread(target=self._read_output, name="log", daemon=True)
        self._reader.start()

    def _start(self, program: str, command: Command) -> psutil.Popen:
        try:
            return psutil.Popen(
                command.argv,
                cwd=command.folder,
                env=dict(command.environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            missing = "no such program on the PATH" if error.filename == program else f"{error.filename} is missing"
            raise CommandNotStarted(program, f"{missing}.") from None
        except OSError as error:
            raise CommandNotStarted(program, f"{error.strerror}.") from None
        except ValueError as error:
            raise CommandNotStarted(program, f"{error}.") from None

    def _read_output(self) -> None:
        with self._process.stdout as output:
            while chunk := os.read(output.fileno(), CHUNK_BYTES):
                self.printed += len(chunk)
                self._log.feed(chunk)
        self._log.close()

    @property
    def log_problem(self) -> str | None:
        """Why the log does not have all that was printed; None if it has."""
        return self._log.problem

    @property
    def pid(self) -> int:
        """The process ID, which is also the ID of its process group and session."""
        return int(self._process.pid)

    def wait(self, seconds: float) -> ProcessExit | None:
        """How it ended, as soon as it has; None if it still runs after so many seconds."""
        try:
            code = self._process.wait(timeout=seconds)
        except psutil.TimeoutExpired:
            return None
        return _process_end(code)

    def end(self, grace: float) -> ProcessExit:
        """End it and all its descendants: SIGTERM to its group, `grace` seconds, then SIGKILL to whatever is left."""
        family = run_processes(self.run_id) | _descendants([self._process])
        self._signal_group(signal.SIGTERM)
        ended = self.wait(grace)
        if ended is None:
            self._signal_group(signal.SIGKILL)
            ended = self.wait(SWEEP_SECONDS) or ProcessExit(None, "SIGKILL")
        end_processes(self.run_id, also=family)
        return ended

    def clear(self) -> int:
        """End what is left of it after its end, and complete its log. The number of processes that still live."""
        left = end_processes(self.run_id)
        self._reader.join(SWEEP_SECONDS)
        return left

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # all of the group has ended by itself


def _process_end(code: int | None) -> ProcessExit:
    if code is not None and code < 0:
        return ProcessExit(None, signal.Signals(-code).name)
    return ProcessExit(code, None)


def run_processes(run_id: RunId) -> set[psutil.Process]:
    """Every process of this machine that carries the run's ID in its environment, with all its descendants."""
    carriers = [process for process in psutil.process_iter() if _carries(process, run_id)]
    return set(carriers) | _descendants(carriers)


def end_processes(run_id: RunId, also: Iterable[psutil.Process] = ()) -> int:
    """SIGKILL to all processes of the run and to those in `also`, until none is left. The number that still live."""
    deadline = time.monotonic() + SWEEP_SECONDS
    family = set(also) | run_processes(run_id)
    while alive := set(_living(family)):
        for process in alive:
            _kill(process)
        _, stubborn = psutil.wait_procs(alive, timeout=max(0.0, min(0.2, deadline - time.monotonic())))
        if time.monotonic() > deadline:
            return len(stubborn)
        family = set(stubborn) | run_processes(run_id)
    return 0


def _carries(process: psutil.Process, run_id: RunId) -> bool:
    try:
        return process.environ().get(RUN_ID_VARIABLE) == run_id
    except (psutil.Error, OSError):  # gone meanwhile, or another user's
        return False


def _descendants(processes: Iterable[psutil.Process]) -> set[psutil.Process]:
    found: set[psutil.Process] = set()
    for process in processes:
        try:
            found.update(process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    return found


def _living(processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.NoSuchProcess:
            continue


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return  # it ended by itself
