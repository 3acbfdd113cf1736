"""Processes whose parent ends: on Linux the work-horse adopts them, and the worker when the work-horse is gone.

So nothing that a run has started can get away, whatever its environment, its session and its parent are, as long as one
of the two lives. Elsewhere this does nothing.
"""

import ctypes
import os
import sys
from contextlib import suppress

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
    """The children that this process gets from now on, and their descendants; none if it does not adopt orphans."""

    def __init__(self) -> None:
        self._adopts = adopts_orphans()
        self._before: set[psutil.Process] = set()
        self._before = self.processes()

    def processes(self) -> set[psutil.Process]:
        """All of them that there are; some that start or end just now may be missing."""
        if not self._adopts or not _has_children():
            return set()
        others = {*self._before}
        for process in self._before:
            with suppress(psutil.Error):
                others.update(process.children(recursive=True))
        return {*psutil.Process().children(recursive=True)} - others

    def reap(self, but: int = 0) -> bool:
        """Forget those that have ended, except for the child with the PID `but`; whether there are other children."""
        spared = {but, *(process.pid for process in self._before)}
        with suppress(ChildProcessError):  # there are none (any more)
            while self._adopts:
                ended = _ended_child()
                if ended is None or ended in spared:
                    return True
                os.waitpid(ended, 0)
        return False

    def are_left(self) -> bool:
        """Whether there certainly are some that live, also when each is gone before one could see it."""
        return self.reap() and not self._before


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
