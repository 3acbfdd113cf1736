"""Tell the projection what has changed, and wake SSE and long-poll clients: this process's own changes, Redis pub/sub,
file system events; and sweeps for what all of these miss.

A listener is an event that is set; nothing is queued for it. One that reads slowly finds the newest state when it is
ready, and skips the states in between.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from anyio import to_thread
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from jobs.queue.job import changes_channel
from jobs.status.cache import RenderedJSON
from jobs.status.projection import Place, Projection
from runner.errors import ProjectGone
from runner.ids import RunId, parse_run_id, parse_task_id
from runner.log import log_event, log_fault
from runner.project.run_files import RunFiles
from runner.project.traversal import traversal_run_id

TRAVERSALS = "traversals"  # the name of the folders with them
EVERY_RUN = None  # in the place of a run's ID: changes of any run


class Watch(Protocol):
    def __call__(self, folders: Iterable[Path], *, quick: bool) -> AsyncIterator[frozenset[Path]]:
        """Yields the paths in these folders that have just changed, or now and then none. Raises `OSError` if they
        cannot be watched."""


@dataclass(frozen=True)
class Intervals:
    """Seconds between two events of watching."""

    sweep: float = 2.0
    """Between two sweeps, if they are quick."""
    keep_alive: float = 15.0
    """Until a listener gets a None because nothing has changed."""
    ping: float = 2.0
    """Between two pings of a silent Redis."""
    retry: float = 1.0
    """Until a Redis that went away is asked again."""
    unwatched: float = 30.0
    """Until a file system that cannot be watched is tried again."""


INTERVALS = Intervals()
SHARE, IDLE_SHARE = 20, 400  # times as long as a sweep takes, until the next; the second if nothing has changed


class Changes:
    """Brings the projection up to date, and wakes the listeners of one process, while `run` runs."""

    def __init__(
        self,
        projection: Projection,
        files: RunFiles,
        redis: AsyncRedis,
        queue_name: str,
        intervals: Intervals,
        watch: Watch,
    ) -> None:
        self._projection = projection
        self._files = files
        self._redis = redis
        self._channel = changes_channel(queue_name)
        self._intervals = intervals
        self._watch = watch
        self._listeners: dict[str | None, set[asyncio.Event]] = {}
        self._told, self._sweep_now = asyncio.Event(), asyncio.Event()
        self._ended = False

    @contextmanager
    def listen(self, run_id: str | None) -> Iterator[asyncio.Event]:
        """Inside it the event is set whenever something may have changed about the run, or (None) about any run."""
        event = asyncio.Event()
        self._listeners.setdefault(run_id, set()).add(event)
        try:
            yield event
        finally:
            self._listeners[run_id].discard(event)
            if not self._listeners[run_id]:
                del self._listeners[run_id]

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
        self._projection.end()
        self._told.set()
        self._sweep_now.set()
        self._wake_all()

    def notify(self, run_id: str, place: Place | None = None) -> None:
        """Note that this run has changed, or is new at this place, or a traversal with its ID; wake its listeners."""
        self._projection.tell(RunId(run_id), place)
        self._told.set()
        self._wake(run_id)

    async def run(self) -> None:
        """Watch for changes until cancelled. A fault in one source is logged, and the source started again."""
        sources = (self._sweep, self._catch_up, self._subscribe, self._watch_files)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*map(self._keep_running, sources))

    async def _keep_running(self, source: Callable[[], Awaitable[None]]) -> None:
        while not self._ended:
            try:
                await source()
            except Exception:  # noqa: BLE001
                log_fault(f"{source.__name__} failed, and is started again")
                await asyncio.sleep(self._intervals.retry)

    async def _sweep(self) -> None:
        before = None
        while not self._ended:
            began, is_indexing = time.monotonic(), self._projection.indexing() is not None
            with suppress(ProjectGone):
                await to_thread.run_sync(self._projection.sweep, abandon_on_cancel=True)
            took = 0.0 if is_indexing else time.monotonic() - began
            version = self._projection.database.version
            if version != before:  # by this sweep, or by another process
                self._wake_all()
            share = IDLE_SHARE if version == before else SHARE
            before = version
            await self._pause(max(self._intervals.sweep, share * took))

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the rows are gone, or there are other folders."""
        self._sweep_now.clear()
        while seconds > 0 and not self._sweep_now.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._intervals.sweep):
                    await self._sweep_now.wait()
            seconds = 0 if self._projection.indexing() is not None else seconds - self._intervals.sweep

    async def _catch_up(self) -> None:
        while not self._ended:
            await self._told.wait()
            self._told.clear()
            with suppress(ProjectGone):
                await to_thread.run_sync(self._projection.catch_up)
            self._wake(EVERY_RUN)
            if len(self._listeners) > 1:  # runs that wait may have moved up in the queue
                for run_id in await to_thread.run_sync(self._projection.waiting):
                    self._wake(run_id)

    async def _subscribe(self) -> None:
        was_there = False
        while not self._ended:
            try:
                async with AsyncExitStack() as stack:
                    pubsub = await stack.enter_async_context(self._redis.pubsub(ignore_subscribe_messages=True))
                    await pubsub.subscribe(self._channel)
                    self._wake_all()  # earlier messages are lost, and what was stale is so no more
                    was_there = True
                    while not self._ended:
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
        run, _, task = data.decode(errors="replace").partition(" ") if isinstance(data, bytes) else ("", "", "")
        run_id, task_id = parse_run_id(run), parse_task_id(task)
        if run_id is not None:
            self.notify(run_id, None if task_id is None else Place(task_id, run_id))

    async def _watch_files(self) -> None:
        before: list[Path] = []
        while not self._ended:
            folders, quick = self._files.folders(), bool(self._listeners)
            try:
                async for changed in self._watch(folders, quick=quick):
                    if folders != before:  # what came into new ones before they were watched
                        self._sweep_now.set()
                        before = folders
                    for path in changed:
                        self._on_path(path)
                    if self._ended or quick is not bool(self._listeners):
                        break
                    if any(map(self._may_be_folder, changed)) and self._files.folders() != folders:
                        break
            except OSError as error:
                log_event("watch_failed", error=error)
                await asyncio.sleep(self._intervals.unwatched)

    def _may_be_folder(self, path: Path) -> bool:
        """Whether it can be one in which tasks or traversals come and go."""
        return path.parent == self._files.tasks_root or path.name == TRAVERSALS

    def _on_path(self, path: Path) -> None:
        run_id, task_id = traversal_run_id(path.name), parse_task_id(path.parent.parent.name)
        if run_id is not None and task_id is not None:
            self.notify(run_id, Place(task_id, run_id, path.name))

    def _wake(self, run_id: str | None) -> None:
        for event in self._listeners.get(run_id, ()):
            event.set()

    def _wake_all(self) -> None:
        for event in chain.from_iterable(self._listeners.values()):
            event.set()
