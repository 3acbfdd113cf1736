"""Wake SSE and long-poll clients: file system events, Redis pub/sub, and polling the disk as a fallback.

A listener is an event that is set; nothing is queued for it. One that reads slowly finds the newest state when it is
ready, and skips the states in between.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from jobs.queue.job import changes_channel
from jobs.run.state import State
from jobs.status.cache import RenderedJSON
from jobs.status.index import Index
from jobs.status.lists import RunLists
from runner.errors import ProjectGone
from runner.ids import RunId, parse_run_id
from runner.log import log_event, log_fault
from runner.project.run_files import RunFiles
from runner.project.traversal_name import traversal_run_id

EVERY_RUN = None  # in the place of a run's ID: changes of any run


Watch = Callable[[Iterable[Path]], AsyncIterator[frozenset[Path]]]
"""Yields the paths in these folders that have just changed. Raises `OSError` if they cannot be watched."""


@dataclass(frozen=True)
class Intervals:
    """Seconds between two events of watching."""

    poll: float = 0.5
    """Between two looks at the disk while there are listeners."""
    pause: float = 0.05
    """The least between two of them."""
    keep_alive: float = 15.0
    """Until a listener gets a None because nothing has changed."""
    ping: float = 2.0
    """Between two pings of a silent Redis."""
    retry: float = 1.0
    """Until a Redis that went away is asked again."""
    unwatched: float = 30.0
    """Until a file system that cannot be watched is tried again."""


INTERVALS = Intervals()


class Changes:
    """Wakes the listeners of one process. `run` has to run meanwhile; it idles while there are no listeners."""

    def __init__(
        self,
        lists: RunLists,
        files: RunFiles,
        redis: AsyncRedis,
        queue_name: str,
        intervals: Intervals,
        watch: Watch,
    ) -> None:
        self._lists = lists
        self._files = files
        self._redis = redis
        self._channel = changes_channel(queue_name)
        self._intervals = intervals
        self._watch = watch
        self._listeners: dict[str | None, set[asyncio.Event]] = {}
        self._has_listeners = asyncio.Event()
        self._poll_now = asyncio.Event()
        self._ended = False

    @contextmanager
    def listen(self, run_id: str | None) -> Iterator[asyncio.Event]:
        """Inside it the event is set whenever something may have changed about the run, or (None) about any run."""
        event = asyncio.Event()
        self._listeners.setdefault(run_id, set()).add(event)
        self._has_listeners.set()
        try:
            yield event
        finally:
            self._listeners[run_id].discard(event)
            if not self._listeners[run_id]:
                del self._listeners[run_id]
            if not self._listeners and not self._ended:
                self._has_listeners.clear()

    async def follow(
        self, run_id: str | None, read: Callable[[], Awaitable[RenderedJSON]]
    ) -> AsyncGenerator[RenderedJSON | None, None]:
        """What `read` returns about the run, or (None) about any run: at once, and whenever it has changed.

        Ends after a final one, or with this process. Yields None when nothing has changed for a while. Raises what
        `read` raises.
        """
        last_etag = None
        with self.listen(run_id) as changed:
            while not self._ended:
                changed.clear()
                rendered = await read()
                if rendered.etag != last_etag:
                    last_etag = rendered.etag
                    yield rendered
                if rendered.is_final:
                    return
                try:
                    async with asyncio.timeout(self._intervals.keep_alive):
                        await changed.wait()
                except TimeoutError:
                    yield None  # and read again: a hint may have got lost

    def end(self) -> None:
        """Release all listeners and stop watching: the process is about to end.

        `run` has to be cancelled, too; but Python 3.11's `wait_for`, in redis-py, loses a cancellation now and then.
        """
        self._ended = True
        self._has_listeners.set()
        self._poll_now.set()
        self._wake_all()

    def notify(self, run_id: str | None) -> None:
        """Wake the listeners: something has changed about this run, or (None) about some run."""
        self._lists.history.touch()
        self._poll_now.set()
        self._wake(run_id)

    async def run(self) -> None:
        """Watch for changes until cancelled. A fault in one source is logged, and the source started again."""
        sources = (self._poll_disk, self._subscribe, self._watch_files)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*map(self._keep_running, sources))

    async def _keep_running(self, source: Callable[[], Awaitable[None]]) -> None:
        while not self._ended:
            try:
                await source()
            except Exception:  # noqa: BLE001
                log_fault(f"{source.__name__} failed, and is started again")
                await asyncio.sleep(self._intervals.retry)

    async def _poll_disk(self) -> None:
        before: Index | None = None
        while not self._ended:
            if not self._listeners:
                before = None
                await self._has_listeners.wait()
            try:
                index = await self._lists.index()
            except ProjectGone:
                index = Index({})
            if before is None:
                self._wake_all()  # changes until now were not compared
            elif index is not before:
                for run_id in changed_runs(before, index):
                    self._wake(run_id)
                self._wake(EVERY_RUN)
            before = index
            with suppress(TimeoutError):
                async with asyncio.timeout(self._intervals.poll):
                    await self._poll_now.wait()
            await asyncio.sleep(self._intervals.pause)  # the listeners of the run that has changed are served first
            self._poll_now.clear()

    async def _subscribe(self) -> None:
        was_there = False
        while not self._ended:
            await self._has_listeners.wait()
            try:
                async with AsyncExitStack() as stack:
                    pubsub = await stack.enter_async_context(self._redis.pubsub(ignore_subscribe_messages=True))
                    await pubsub.subscribe(self._channel)
                    self._wake_all()  # earlier messages are lost, and what was stale is so no more
                    was_there = True
                    while self._listeners and not self._ended:
                        message = await pubsub.get_message(timeout=self._intervals.ping)
                        if message is None:
                            await self._redis.ping()
                        else:
                            self._on_message(message)
            except RedisError as error:
                if was_there:
                    log_event("pubsub_lost", error=error)
                    self._wake_all()
                was_there = False
                await asyncio.sleep(self._intervals.retry)

    def _on_message(self, message: dict[str, Any]) -> None:
        data = message.get("data")
        self.notify(parse_run_id(data.decode(errors="replace")) if isinstance(data, bytes) else None)
        index = self._lists.history.known
        for run_id in [*self._listeners]:  # runs that wait may have moved up in the queue
            entry = None if run_id is None or index is None else index.find(RunId(run_id))
            if run_id is not None and (entry is None or entry.state is State.PENDING):
                self._wake(run_id)

    async def _watch_files(self) -> None:
        while not self._ended:
            await self._has_listeners.wait()
            folders = self._files.folders()
            try:
                async for changed in self._watch(folders):
                    for path in changed:
                        self.notify(traversal_run_id(path.name))
                    if self._ended or not self._listeners or self._files.folders() != folders:
                        break
            except OSError as error:
                log_event("watch_failed", error=error)
                await asyncio.sleep(self._intervals.unwatched)

    def _wake(self, run_id: str | None) -> None:
        for event in self._listeners.get(run_id, ()):
            event.set()

    def _wake_all(self) -> None:
        for event in chain.from_iterable(self._listeners.values()):
            event.set()


def changed_runs(before: Index, now: Index) -> Iterator[RunId]:
    """The runs that are not the same in both, those that came and those that went."""
    for task_id in before.tasks.keys() | now.tasks.keys():
        then, today = before.tasks.get(task_id), now.tasks.get(task_id)
        if then is not today:
            old, new = then.entries if then else {}, today.entries if today else {}
            yield from (run_id for run_id in old.keys() | new.keys() if old.get(run_id) is not new.get(run_id))
