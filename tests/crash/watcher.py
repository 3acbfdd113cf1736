"""Inside a process of the stack: name each step of it that others can see, note it, or die just before one of them.

A step is a change of the project's folder, a process that is started or signalled, a write to Redis about a run, or a
log line about one. Reading is no step: who dies before or after it leaves the same behind. The production code has no
hooks for this: Python's audit events and a wrapper around redis-py's `send_packed_command` tell all of it.
"""

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

READS = frozenset(
    [
        "AUTH",
        "CLIENT",
        "EXEC",
        "EXISTS",
        "GET",
        "HELLO",
        "HEXISTS",
        "HGET",
        "HGETALL",
        "HMGET",
        "INFO",
        "LLEN",
        "LPOS",
        "LRANGE",
        "MULTI",
        "PING",
        "PTTL",
        "SCARD",
        "SCRIPT",
        "SELECT",
        "SISMEMBER",
        "SMEMBERS",
        "TTL",
        "TYPE",
        "UNSUBSCRIBE",
        "UNWATCH",
        "WATCH",
        "ZCARD",
        "ZCOUNT",
        "ZRANGE",
        "ZRANK",
        "ZSCORE",
    ]
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
RUN_ID = re.compile(r"(?<![a-z0-9])[a-z][a-z0-9]{23}(?![a-z0-9])")
BLURRED = (
    (RUN_ID, "ID"),
    (re.compile(r"ID-[0-9a-f]{8}"), "ID-X"),
    (re.compile(r"\.json\.[a-z0-9_]{8}"), ".json.X"),
    (re.compile(r"\d{8}_\d{6}(_\d{6})?"), "TIME"),
)
LOOK = "look at run.json"  # the only step that is none: it comes again and again as long as the CLI runs
REPEATED = (LOOK, "kill SIGKILL")  # nobody knows how often
COMMAND = re.compile(rb"\*\d+\r\n\$\d+\r\n([A-Za-z]+)\r\n")


class Orders(NamedTuple):
    """What a process of the stack is to do: in the environment, as JSON."""

    process: str
    """`web`, `worker` or `prune`."""
    project: str
    armed: str | None = None
    """A file; no step counts before it exists."""
    notes: str | None = None
    """A file in which each step is noted: a line with its kind and its name."""
    kind: str = ""
    """Of the step before which to die: the process, or `horse` or `recovery` inside the worker."""
    name: str = ""
    number: int = 1
    """Which one of the steps of this kind and name."""
    victims: tuple[str, ...] = ()
    """Who dies: `self`, or `parent`, or both."""
    died: str | None = None
    """A file made then, with the time; once it exists nothing dies any more."""
    factor: float = 1.0
    """By which the worker's times of looking for dead ones are shortened."""


def install(environ: Mapping[str, str]) -> None:
    """Watch this process from now on."""
    orders = Orders(**json.loads(environ["CRASH"]))
    if orders.process == "worker":
        shorten(orders.factor)
    if orders.notes is not None or orders.victims:
        Watcher(orders).install()


def shorten(factor: float) -> None:
    """Let workers miss each other sooner. Before `jobs.worker.worker` is imported, which takes these by name."""
    from jobs.queue import heartbeat

    heartbeat.HEARTBEAT_SECONDS /= factor  # type: ignore[assignment]
    heartbeat.HEARTBEAT_TTL = round(heartbeat.HEARTBEAT_TTL / factor)
    from jobs.worker import recover

    recover.ROUND_SECONDS /= factor
    recover.LEAD_SECONDS /= factor
    recover.CLEANING_ROUNDS = 2  # soon enough to be waited for


class Watcher:
    """Sees the steps of this process and of its work-horses."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._is_horse = False
        self._passed: Counter[str] = Counter()
        self._tree: dict[int, str] = {}  # the folder that each thread is just deleting
        self._busy = threading.local()  # a watcher's own steps do not count

    def install(self) -> None:
        """From now on. It cannot be taken back."""
        from redis.connection import AbstractConnection

        send: Any = AbstractConnection.send_packed_command

        def send_watched(connection: Any, command: Any, *args: Any, **kwargs: Any) -> Any:
            self._on_redis(command)
            return send(connection, command, *args, **kwargs)

        AbstractConnection.send_packed_command = send_watched  # type: ignore[method-assign, assignment]
        make_record = logging.getLogRecordFactory()

        def make_watched(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = make_record(*args, **kwargs)
            self._on_log(record.getMessage() if record.name == "bugninja_runner" else "")
            return record

        logging.setLogRecordFactory(make_watched)
        os.register_at_fork(after_in_child=self._become_horse)
        sys.addaudithook(self._on_audit)

    def _become_horse(self) -> None:
        self._is_horse = True
        self._passed.clear()

    @property
    def _kind(self) -> str | None:
        """Whose steps those of the present thread are; None for threads that only tell that the process lives."""
        if self._orders.process != "worker":
            return self._orders.process
        if threading.current_thread() is threading.main_thread():
            return "horse" if self._is_horse else "worker"
        return "recovery" if threading.current_thread().name == "recovery" else None

    def _on_audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in EVENTS or getattr(self._busy, "is_set", False):
            return
        if event == "os.fork":
            self._step("fork")
        elif event == "subprocess.Popen":
            if self._is_horse:  # the worker itself starts its template, some time
                self._step("start the CLI")
        elif event in ("os.kill", "os.killpg"):
            if args[1]:
                self._step(f"{event[3:]} {signal.Signals(args[1]).name}")
        elif event != "open" or (isinstance(args[2], int) and args[2] & WRITING):
            self._on_path(event, args)
        elif self._is_horse and str(args[0]) == "run.json":
            self._step(LOOK)

    def _on_path(self, event: str, args: tuple[Any, ...]) -> None:
        path, thread = args[1 if event in ("os.symlink", "os.link") else 0], threading.get_ident()
        if event in ("os.remove", "os.rmdir") and args[1] not in (None, -1):  # a part of a tree
            if thread in self._tree:
                self._step(f"remove in {self._tree[thread]}")
            return
        if event == "shutil.rmtree":
            self._tree.pop(thread, None)
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path).startswith(f"{self._orders.project}/"):
            return
        name = blurred(os.fspath(path)[len(self._orders.project) + 1 :])
        if event == "shutil.rmtree":
            self._tree[thread] = name
        else:
            self._step(f"{event.removeprefix('os.')} {name}")

    def _on_redis(self, command: Any) -> None:
        content = b"".join([command] if isinstance(command, bytes) else map(bytes, command))
        if self._orders.process == "worker" and not RUN_ID.search(content.decode(errors="replace")):
            return
        names = [name.decode().upper() for name in COMMAND.findall(content)]
        writes = [name for name in names if name not in READS]
        if writes:
            self._step("redis " + "+".join(dict.fromkeys(writes)))

    def _on_log(self, line: str) -> None:
        found = re.match(r"event=(\w+) .*\brun=", line)
        if found:
            self._step(f"log {found[1]}")

    def _step(self, name: str) -> None:
        """This step is about to be done."""
        kind, orders = self._kind, self._orders
        if kind is None or getattr(self._busy, "is_set", False):
            return
        self._busy.is_set = True
        try:
            if orders.armed is not None and not Path(orders.armed).exists():
                return
            if orders.notes is not None:
                with Path(orders.notes).open("a") as notes:
                    notes.write(f"{kind} {name}\n")
            elif kind == orders.kind and name == orders.name:
                self._passed[name] += 1
                if self._passed[name] == orders.number:
                    self._die()
        finally:
            self._busy.is_set = False

    def _die(self) -> None:
        try:
            with Path(self._orders.died or "").open("x") as died:
                died.write(str(time.monotonic()))
        except FileExistsError:
            return
        me = psutil.Process()
        victims = {"parent": me.parent(), "self": me}
        for victim in self._orders.victims:
            os.kill(getattr(victims[victim], "pid", me.pid), signal.SIGKILL)


EVENTS = frozenset(
    [
        "open",
        "os.fork",
        "os.kill",
        "os.killpg",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "os.truncate",
        "os.utime",
        "shutil.rmtree",
        "subprocess.Popen",
    ]
)


def blurred(text: str) -> str:
    """The text without what is different each time."""
    for pattern, name in BLURRED:
        text = pattern.sub(name, text)
    return text


def numbered(lines: Iterable[str]) -> list[str]:
    """The same lines, each with its number among those that are equal to it; of what is repeated only the first one."""
    seen: Counter[str] = Counter()
    found = []
    for line in lines:
        seen[line] += 1
        if seen[line] == 1 or not line.endswith(REPEATED):
            found.append(f"{line} #{seen[line]}")
    return found
