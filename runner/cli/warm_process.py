"""A CLI that a template has forked."""

import json
import os
import select
import socket
from typing import IO, Any

import psutil

from runner.cli.template import MESSAGE_BYTES

STATUS_SECONDS = 1.0  # within which it must have said how a child ended


class WarmProcess(psutil.Process):
    """A CLI that a template has forked; as far as `CliProcess` needs it, like `psutil.Popen`."""

    def __init__(self, pid: int, pidfd: int, run: socket.socket, stdout: IO[bytes]) -> None:
        super().__init__(pid)
        self.stdout = stdout
        self._pidfd, self._run = pidfd, run
        self._code: int | None = None
        self._has_ended = False

    def wait(self, timeout: float | None = None) -> int | None:  # type: ignore[override]
        """As that of `psutil.Popen`: its exit code, or the negative number of the signal that ended it. None if its
        template ended before it, since then nobody knows."""
        if not self._has_ended:
            self._code = self._wait(timeout)
            self._has_ended = True
            self._run.close()
            os.close(self._pidfd)
        return self._code

    def _wait(self, timeout: float | None) -> int | None:
        run = self._run.fileno()
        ready = _readable(timeout, run, self._pidfd)
        if ready == {self._pidfd}:
            ready |= _readable(STATUS_SECONDS, run)
        if run in ready and (told := receive(self._run)):
            return int(told["code"])
        if not ready or (self._pidfd not in ready and not _readable(timeout, self._pidfd)):
            raise psutil.TimeoutExpired(timeout or 0, self.pid)
        return None


def receive(where: socket.socket) -> dict[str, Any] | None:
    """The next message; None if there is none (any more)."""
    try:
        content = where.recv(MESSAGE_BYTES)
    except OSError:
        return None
    return json.loads(content) if content else None


def _readable(seconds: float | None, *descriptors: int) -> set[int]:
    """Those that can be read, as soon as one can, and at the latest after so many seconds."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return {descriptor for descriptor, _ in poll.poll(None if seconds is None else seconds * 1000)}
