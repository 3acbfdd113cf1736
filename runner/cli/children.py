"""Processes whose parent ends: on Linux the work-horse adopts them, and the worker when the work-horse is gone.

So nothing that a run has started can get away, whatever its environment, its session and its parent are, as long as one
of the two lives. Elsewhere this does nothing.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37  # of Linux's prctl(2)


def adopt_orphans() -> None:
    """From now on each descendant of this process whose parent ends becomes its child. A fork does not inherit that."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopts_orphans() -> bool:
    """Whether this process does so."""
    answer = ctypes.c_int(0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0)
    return bool(answer.value)


class Children:
    """The children that this process gets from now on, and their descendants, if it adopts orphans; and those of the
    `template` that forks for it, which adopts them, too."""

    def __init__(self, template: psutil.Process | None = None) -> None:
        self._adopts, self._template = adopts_orphans(), template
        self._before: set[psutil.Process] = set()
        self._before = self._own()

    def processes(self) -> set[psutil.Process]:
        """All of them that there are; some that start or end just now may be missing."""
        return self._own() | (descendants(self._template) if self._template else set())

    def _own(self) -> set[psutil.Process]:
        if not self._adopts or not _has_children():
            return set()
        return descendants(psutil.Process()).difference(self._before, *map(descendants, self._before))

    def reap(self, but: int = 0) -> None:
        """Forget those that have ended, except for the child with the PID `but`."""
        spared = {but, *(process.pid for process in self._before)}
        with suppress(ChildProcessError):  # there are none (any more)
            if self._adopts and _ended_child():
                for pid in _child_ids(psutil.Process()) - spared:
                    os.waitpid(pid, os.WNOHANG)

    def are_left(self) -> bool:
        """Whether there certainly are some that live, also when each is gone before one could see it."""
        self.reap()
        own = _child_ids(psutil.Process()) - {process.pid for process in self._before} if self._adopts else set()
        return bool(own or (self._template and _child_ids(self._template)))


def _child_ids(process: psutil.Process) -> set[int]:
    """The PIDs of its children at one moment, if Linux tells them (CONFIG_PROC_CHILDREN); none if it is gone."""
    try:
        threads = [*Path(f"/proc/{process.pid}/task").glob("*/children")] if process.is_running() else []
        return {int(pid) for path in threads for pid in path.read_text().split()}
    except OSError:  # it or one of its threads has just ended
        return {child.pid for child in descendants(process)}


def descendants(process: psutil.Process) -> set[psutil.Process]:
    """Its children and theirs; none if it is gone."""
    try:
        return {*process.children(recursive=True)}
    except psutil.Error:
        return set()


def _has_children() -> bool:
    """Whether this process has children, living or not yet waited for."""
    try:
        _ended_child()
    except ChildProcessError:
        return False
    return True


def _ended_child() -> int | None:
    """The PID of a child that has ended and was not waited for. Raises `ChildProcessError` if there are no children."""
    ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return None if ended is None else ended.si_pid
