"""Start the CLI, follow it, and end it with everything that it started.

A process group is not enough: Bugninja 0.1.6 starts its browser in a session of its own. But every descendant inherits
`BUGNINJA_RUN_FOLDER` in its environment, also when its parent is gone, so that is where we look. Not for the run's ID:
a copy of a project has runs with the same IDs. What has cleared its environment is found among our own `Children`.
"""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from runner.cli.children import Children, descendants
from runner.cli.command import FOLDER_VARIABLE, Command, ProcessExit
from runner.cli.log_file import LogFile
from runner.cli.warm import Template
from runner.cli.warm_process import WarmProcess
from runner.errors import CommandNotStarted
from runner.project.run_folder import RunFolder
from runner.redaction import Redactor

SWEEP_SECONDS = 2.0  # until a process that was sent SIGKILL is expected to be gone
LOOK_SECONDS = 0.25  # between two looks at how long a process may still take to end by itself
CHUNK_BYTES = 64 * 1024


class CliProcess:
    """A running CLI, in a session of its own, printing into the run's log."""

    def __init__(
        self, command: Command, folder: RunFolder, redactor: Redactor, template: Template | None = None
    ) -> None:
        """Start it, warm if the template can do that. Raises `CommandNotStarted`."""
        self._folder = folder.path
        self._children = Children(template.process if template else None)
        self.printed = 0  # bytes so far
        program = command.argv[0]
        try:
            self._log = LogFile(folder.log, redactor)
        except OSError as error:
            raise CommandNotStarted(program, f"its log cannot be written ({error.strerror}).") from None
        warm = template.fork(command) if template else None
        self.is_warm = warm is not None
        self._process: psutil.Popen | WarmProcess = warm or self._start(program, command)
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
            self._children.reap(but=self.pid)
            return None
        if code is None and isinstance(self._process, psutil.Popen):
            self._process.poll()  # another has waited for it, and Python would take it for running
        return _process_end(code)

    def end(self, grace: float, at_most: Callable[[], float] = lambda: math.inf) -> ProcessExit:
        """End it and all its descendants: SIGTERM to its group, `grace` seconds, then SIGKILL to whatever is left.
        `at_most` tells how many seconds these may be at most, and may say less while they pass."""
        family = run_processes(self._folder) | descendants(self._process)
        self._signal_group(signal.SIGTERM)
        ended = self._wait_within(grace, at_most)
        if ended is None:
            self._signal_group(signal.SIGKILL)
            ended = self.wait(SWEEP_SECONDS) or ProcessExit(None, "SIGKILL")
        end_processes(self._folder, also=family, children=self._children)
        return ended

    def _wait_within(self, grace: float, at_most: Callable[[], float]) -> ProcessExit | None:
        began = time.monotonic()
        while True:
            left = max(0.0, began + min(grace, at_most()) - time.monotonic())
            ended = self.wait(min(left, LOOK_SECONDS))
            if ended is not None or not left:
                return ended

    def clear(self) -> int:
        """End what is left of it after its end, and complete its log. The number of processes that still live."""
        left = end_processes(self._folder, children=self._children)
        self._reader.join(SWEEP_SECONDS)
        return left

    def memory(self) -> int:
        """The memory in bytes that all processes of the run take."""
        return memory_of(self._children.processes() or run_processes(self._folder))

    def _signal_group(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            return  # all of the group has ended by itself


def _process_end(code: int | None) -> ProcessExit:
    if code is not None and code < 0:
        return ProcessExit(None, signal.Signals(-code).name)
    return ProcessExit(code, None)


def run_processes(folder: Path) -> set[psutil.Process]:
    """Every process of this machine that carries the run's folder in its environment, with all its descendants."""
    carriers = [process for process in psutil.process_iter() if run_of(process) == str(folder)]
    return set(carriers).union(*map(descendants, carriers))


def runs_with_processes() -> set[Path]:
    """The folders of all runs, of whatever project, that have processes on this machine."""
    return {Path(folder) for process in psutil.process_iter() if (folder := run_of(process)) is not None}


def end_processes(folder: Path, also: Iterable[psutil.Process] = (), children: Children | None = None) -> int:
    """SIGKILL to all processes of the run, to those in `also`, and to these children of ours, until none is left. The
    number that still live."""
    deadline = time.monotonic() + SWEEP_SECONDS
    family = set(also)
    while True:
        family |= run_processes(folder) | (children.processes() if children else set())
        alive = set(_living(family))
        if not alive and not (children and children.are_left()):
            return 0
        for process in alive:
            _kill(process)
        _, stubborn = psutil.wait_procs(alive, timeout=max(0.0, min(0.2, deadline - time.monotonic())))
        if time.monotonic() > deadline:
            return len(stubborn) or int(children is not None and children.are_left())
        family = set(stubborn)


def run_of(process: psutil.Process) -> str | None:
    """The folder of the run that the process belongs to; None for one that is gone, or another user's, or no run's."""
    try:
        if sys.platform == "linux" and not _may_be_of_a_run(process.pid):
            return None
        return process.environ().get(FOLDER_VARIABLE)
    except (psutil.Error, OSError):
        return None


def _may_be_of_a_run(pid: int) -> bool:
    """A quick look: psutil takes long, most of all for threads of the kernel. Raises `OSError`."""
    with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 (as quick as it can be)
        return FOLDER_VARIABLE.encode() in file.read()


def memory_of(processes: Iterable[psutil.Process]) -> int:
    """The memory in bytes that they take together; what they share counts once (PSS), where the system tells that. One
    that is gone takes none."""
    return sum(map(_memory, processes))


def _memory(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        try:
            return int(process.memory_full_info().pss)
        except (psutil.AccessDenied, AttributeError):  # in a sandbox, or another user's; not on Linux
            return int(process.memory_info().rss)
    return 0


def _living(processes: Iterable[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _kill(process: psutil.Process) -> None:
    with suppress(psutil.Error):  # it ended by itself, or has become another user's
        process.kill()
