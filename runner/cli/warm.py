"""Warm starts: a template process that has imported the CLI, and that forks for each run.

The template (`runner/cli/template.py`) belongs to a worker and runs beside it; the work-horse asks it to fork. Whatever
is against that, the CLI is started as usual.
"""

import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil

from runner.cli.children import descendants
from runner.cli.command import RUN_ID_VARIABLE, RUN_VARIABLES, Command, base_environ
from runner.cli.program import Program, find_program
from runner.cli.template import ENDING_SECONDS, GO, MESSAGE_BYTES, ROOM
from runner.cli.warm_process import WarmProcess, receive
from runner.errors import NotPython
from runner.log import log_event
from runner.redaction import Redactor
from runner.settings import WARM_IMPORTS, Settings

SCRIPT = Path(__file__).with_name("template.py")
ROOM_BYTES = 8 * 1024  # more than the variables of a run can take
PRINTED_BYTES = 1024 * 1024  # that imports may print
IMPORT_SECONDS = 60.0  # after which imports count as failed
ANSWER_SECONDS = 2.0  # within which a template must have forked
RUNS = 100  # after which a template is replaced
GROWTH = 1.3  # times its first memory, with which it is replaced
IDLE_SECONDS = 3600  # without a run, after which it ends
MOST_CHANGES = 3  # of the sources, in a row and with no run between: then there is no use in templates
SHOWN = 1000  # characters of a reason


class Template:
    """The template of one worker, if its CLI can have one. The worker calls `keep` and `end`, its work-horse `fork`."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], redactor: Redactor) -> None:
        """Nothing is started yet. `redactor` takes the secrets out of what imports say."""
        self.process: psutil.Process | None = None
        """The template, once it is ready."""
        self._settings, self._environ, self._redactor = settings, base_environ(settings, environ), redactor
        self._launched: subprocess.Popen[bytes] | None = None  # it, or what has started it
        self._rests = False
        self._runs = self._changes = self._memory = 0
        self._used_at = self._deadline = 0.0
        self._program: Program | None = None
        try:
            self._program = self._find_program() if settings.runner_warm else None
        except NotPython as error:
            log_event("cold", error=error)

    def _find_program(self) -> Program:
        if sys.platform != "linux":
            raise NotPython("it needs Linux")
        words, folder = self._settings.runner_command, self._settings.project_root
        return find_program(words, folder, self._environ.get("PATH"), self._settings.runner_python)

    def keep(self, *, wanted: bool = False) -> None:
        """Take note of what it says, replace it in time, and start it if it is not there. One that has ended because
        there were no runs, or that was killed, is started again when there is one (`wanted`). Raises nothing."""
        try:
            self._keep(wanted=wanted)
        except NotPython as error:  # it was, and may be so again
            self._replace(str(error), rest=True)
        except (OSError, psutil.Error, ValueError, KeyError, TypeError) as error:
            self._give_up(self._redactor.text(f"{type(error).__name__}: {error}"))

    def _keep(self, *, wanted: bool) -> None:
        is_there = self._launched is not None and self._launched.poll() is None  # before its last words are read
        while self._launched is not None and (told := receive(self._control)):
            self._note(told)
        if self._launched is not None:
            self._check(is_there=is_there)
        if self._program is None or not (wanted or (self._launched is None and not self._rests)):
            return
        before, self._program = self._program, self._find_program()
        if self._launched is not None and self._program != before:
            self._replace("the command means another program now")
        if self._launched is None:
            self._start(self._program)

    def _note(self, told: dict[str, Any]) -> None:
        """Take note of a message."""
        self._used_at = time.monotonic()
        if "ready" in told:
            self._note_ready(**told)
        elif "failed" in told:
            self._give_up(self._redactor.text(told["failed"])[:SHOWN])
        elif "runs" in told:
            self._runs = told["runs"]
        else:
            self._changes = 0 if self._runs else self._changes + 1
            reason = f"{told['changed']} has changed"
            self._replace(reason) if self._changes < MOST_CHANGES else self._give_up(f"{reason}, again and again")

    def _note_ready(self, ready: int, seconds: float, missing: list[str]) -> None:
        try:
            self.process = psutil.Process(ready)
        except psutil.NoSuchProcess:
            self._replace("it was killed", rest=True)
        else:
            self._memory, self._runs = _memory(self.process), 0
            names = None if self._settings.runner_warm_imports == WARM_IMPORTS else ",".join(missing)
            log_event("template_ready", pid=ready, seconds=seconds, missing=names or None)

    def _check(self, *, is_there: bool) -> None:
        """Replace it in time, and notice if it is gone."""
        now = time.monotonic()
        if self.process is None and not is_there:
            self._give_up("its imports have ended its process")
        elif self.process is None:
            if now > self._deadline:
                self._give_up(f"its imports took more than {IMPORT_SECONDS:.0f} seconds")
        elif not is_there:
            self._replace("it was killed", rest=True)
        elif now > self._used_at + IDLE_SECONDS:
            self._replace("there was no run for long", rest=True)
        elif _is_stopped(self.process):
            self._replace("it was stopped")
        elif self._runs >= RUNS:
            self._replace(f"it has started {self._runs} runs")
        elif _memory(self.process) > self._memory * GROWTH:
            self._replace("its memory has grown")

    def _replace(self, reason: str, *, rest: bool = False) -> None:
        """End it; the next one is started now, or (`rest`) when there is a run."""
        log_event("template_ended", error=reason)
        self.end()
        self._rests = rest

    def _start(self, program: Program) -> None:
        self._rests, self._deadline = False, time.monotonic() + IMPORT_SECONDS
        try:
            with ExitStack() as files:
                self._control, self._launched = self._launch(program, files)
        except OSError as error:
            self._give_up(f"{program.interpreter[0]} cannot be started ({error.strerror})")

    def _launch(self, program: Program, files: ExitStack) -> tuple[socket.socket, subprocess.Popen[bytes]]:
        """Our end of its socket, and the process. What only that needs is put into `files`. Raises `OSError`."""
        control, theirs = map(files.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        control.setblocking(False)  # one that is stopped takes nothing any more some time
        printed, printing = os.pipe()
        for descriptor in (printed, printing):
            files.callback(os.close, descriptor)
        with suppress(OSError):  # if it may not be so large, imports may print less
            fcntl.fcntl(printing, fcntl.F_SETPIPE_SZ, PRINTED_BYTES)
        config = {
            "program": program.target,
            "name": program.name,
            "imports": self._settings.runner_warm_imports,
            "run_variables": RUN_VARIABLES,
            "printed": printed,
        }
        launched = subprocess.Popen(
            [*program.interpreter, SCRIPT, str(theirs.fileno()), json.dumps(config)],
            cwd=self._settings.project_root,
            env={**self._environ, ROOM: "x" * ROOM_BYTES},
            stdin=subprocess.DEVNULL,
            stdout=printing,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno(), printed],
            start_new_session=True,
        )
        return control.dup(), launched

    def _give_up(self, reason: str) -> None:
        """From now on each CLI is started as usual."""
        self.end()
        self._program = None
        log_event("cold", level=logging.WARNING, error=reason)

    def end(self) -> None:
        """End it at once, if it is there, with all that it has started and that has become ours by that."""
        if self._launched is not None:
            known = [self.process] if self.process else []
            if self._launched.poll() is None:
                known.append(psutil.Process(self._launched.pid))
            family = {each for process in known for each in (process, *descendants(process))}
            for process in family:
                with suppress(psutil.Error):
                    process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._launched.wait(ENDING_SECONDS)
            psutil.wait_procs(family, timeout=ENDING_SECONDS)
            self._control.close()
        self._launched = self.process = None

    def fork(self, command: Command) -> WarmProcess | None:
        """The CLI of this command, in a session of its own; None if it has to be started in another way."""
        if self.process is None or self._program is None or not self._is_for(command):
            return None
        try:
            with ExitStack() as undo:
                process = self._ask(command, self._program.length, undo)
                undo.pop_all()
                return process
        except (OSError, psutil.Error, ValueError) as error:
            log_event("not_forked", run=command.environ[RUN_ID_VARIABLE], error=error)
            return None

    def _ask(self, command: Command, length: int, undo: ExitStack) -> WarmProcess:
        """Raises `OSError` and the like, and `ValueError` with the reason if the template does not fork. Without the
        word to go the child does nothing, and it ends when its socket is closed, which is in `undo`."""
        run, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        undo.enter_context(run)
        with theirs:
            output, printing = os.pipe()
            stdout = undo.enter_context(os.fdopen(output, "rb", buffering=0))
            with os.fdopen(printing, "wb", buffering=0):
                own = {name: command.environ[name] for name in RUN_VARIABLES}
                request = json.dumps({"words": command.argv[length:], "environ": own}).encode()
                socket.send_fds(self._control, [request], [theirs.fileno(), printing])
        run.settimeout(ANSWER_SECONDS)
        answer, pidfds, _, _ = socket.recv_fds(run, MESSAGE_BYTES, 1)
        told = json.loads(answer or "{}")
        if not pidfds:
            raise ValueError(told.get("refused", "its template has ended"))
        undo.callback(os.close, pidfds[0])
        process = WarmProcess(told["pid"], pidfds[0], run, stdout)
        run.setblocking(True)
        run.send(GO)
        return process

    def _is_for(self, command: Command) -> bool:
        """Whether it would be the same CLI, in the same environment."""
        words = self._settings.runner_command[: self._program.length] if self._program else ()
        shared = {name: value for name, value in command.environ.items() if name not in RUN_VARIABLES}
        return command.argv[: len(words)] == words and shared == self._environ


def _memory(process: psutil.Process) -> int:
    """Bytes; 0 if it is gone."""
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _is_stopped(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False
