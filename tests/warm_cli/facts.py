"""All that a process can know of itself, except for what is another thing in each run."""

import asyncio
import fcntl
import gc
import locale
import os
import resource
import signal
import stat
import sys
import threading
import time
from pathlib import Path
from typing import Any

OWN = ("BUGNINJA_RUN_ID", "BUGNINJA_TASK_ID", "BUGNINJA_RUN_FOLDER")
STATUS = (
    "Umask",
    "Groups",
    "Uid",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "ShdPnd",
    "CapEff",
    "NoNewPrivs",
    "Seccomp",
    "Threads",
)
LIMITS = ("RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_STACK", "RLIMIT_NPROC", "RLIMIT_AS")


def all_facts() -> dict[str, Any]:
    """The facts, to be printed as JSON."""
    groups = (_interpreter, _main_module, _environment, _process, _signals, _descriptors, _streams, _hooks)
    return {group.__name__: group() for group in groups}


def _interpreter() -> dict[str, Any]:
    return {
        "argv": sys.argv,
        "orig_argv": sys.orig_argv,
        "path": sys.path,
        "executable": [sys.executable, sys.prefix, sys.base_prefix],
        "flags": [str(sys.flags), sys.warnoptions, sys._xoptions],
        "finders": [getattr(finder, "__name__", type(finder).__name__) for finder in sys.meta_path],
        "recursion": sys.getrecursionlimit(),
        "collector": [gc.isenabled(), gc.get_threshold()],
        "locale": [locale.getlocale(), time.tzname],
        "loops": type(asyncio.get_event_loop_policy()).__name__,
    }


def _main_module() -> dict[str, Any]:
    main = sys.modules["__main__"]
    spec = main.__spec__
    loader = type(getattr(main, "__loader__", None))
    return {
        "names": sorted(vars(main)),
        "file": main.__file__,
        "spec": spec and [spec.name, spec.origin, spec.parent, spec.cached],
        "package": main.__package__,
        "doc": main.__doc__,
        "cached": getattr(main, "__cached__", None),
        "loader": [loader.__module__, loader.__qualname__, getattr(main.__loader__, "path", None)],
        "builtins": type(vars(main)["__builtins__"]).__name__,
        "is the caller": sys._getframe(4).f_globals is vars(main) or sys._getframe(5).f_globals is vars(main),
    }


def _environment() -> dict[str, Any]:
    return {
        "os.environ": dict(sorted(os.environ.items())),
        "cwd": str(Path.cwd()),
        "seen by others": [line for line in _read("environ").split("\0") if line.partition("=")[0] in OWN],
        "of libc": os.popen("env | grep ^BUGNINJA_ | sort").read(),
    }


def _process() -> dict[str, Any]:
    pid, thread = os.getpid(), threading.main_thread()
    return {
        "leads": [os.getsid(0) == pid, os.getpgid(0) == pid, os.tcgetpgrp(0) == pid if os.isatty(0) else None],
        "parent": os.getppid() > 1,
        "command": _read("cmdline").rstrip("\0").replace("\0", " "),
        "comm": _read("comm"),
        "exe": str(Path("/proc/self/exe").readlink()),
        "main thread": [thread.is_alive(), thread is threading.current_thread(), thread.native_id == pid, thread.name],
        "threads": [threading.active_count(), len(os.listdir("/proc/self/task"))],
        "status": [line for line in _read("status").splitlines() if line.partition(":")[0] in STATUS],
        "limits": [resource.getrlimit(getattr(resource, name)) for name in LIMITS],
        "priority": [os.getpriority(os.PRIO_PROCESS, 0), _read("oom_score_adj"), sorted(os.sched_getaffinity(0))],
        "timers": [signal.getitimer(signal.ITIMER_REAL), _read("timerslack_ns")],
    }


def _signals() -> dict[str, str]:
    numbers = sorted(signal.valid_signals())
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    handlers = {signal.Signals(number).name: repr(signal.getsignal(number)) for number in numbers if number < 32}
    return {**handlers, "blocked": repr(blocked), "wakeup": str(signal.set_wakeup_fd(-1))}


def _descriptors() -> dict[str, Any]:
    opened = sorted(os.listdir("/proc/self/fd"), key=int)
    links = {number: str(Path(f"/proc/self/fd/{number}").readlink()).partition("[")[0] for number in opened[:3]}
    flags = [[fcntl.fcntl(number, command) for command in (fcntl.F_GETFD, fcntl.F_GETFL)] for number in range(3)]
    kinds = [stat.S_IFMT(os.fstat(number).st_mode) for number in range(3)]
    same = os.fstat(1).st_ino == os.fstat(2).st_ino
    return {"open": opened, "links": links, "flags": flags, "kinds": kinds, "one pipe": same}


def _streams() -> dict[str, Any]:
    streams: list[Any] = [sys.stdin, sys.stdout, sys.stderr]
    asked = ("name", "mode", "encoding", "errors", "line_buffering", "write_through", "newlines")
    return {
        "attributes": [[getattr(stream, name) for name in asked] for stream in streams],
        "types": [[type(stream).__name__, type(stream.buffer).__name__] for stream in streams],
        "terminal": [[stream.isatty(), stream.fileno(), stream.readable()] for stream in streams],
        "seekable": [stream.seekable() for stream in streams],
        "originals": [sys.__stdout__ is sys.stdout, sys.__stderr__ is sys.stderr, sys.__stdin__ is sys.stdin],
    }


def _hooks() -> dict[str, Any]:
    return {
        "hooks": [
            sys.excepthook is sys.__excepthook__,
            threading.excepthook is threading.__excepthook__,
            sys.unraisablehook is sys.__unraisablehook__,
            sys.displayhook is sys.__displayhook__,
            sys.breakpointhook is sys.__breakpointhook__,
        ],
        "traced": [sys.gettrace(), sys.getprofile(), threading.gettrace()],
        "handled": repr(sys.exc_info()),
        "last": hasattr(sys, "last_exc") or hasattr(sys, "last_value"),
    }


def _read(name: str) -> str:
    return Path("/proc/self", name).read_text(errors="replace")
