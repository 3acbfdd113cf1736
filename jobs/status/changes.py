"""Who waits for changes is told of them: by the file system, by Redis, and by a look at the disk where both are silent.

A listener is an event that is set; nothing is queued for it. One that reads slowly finds the newest state when it is
ready, and has missed what was over by then.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from itertools import chain
from typing import Any

from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError

from jobs.queue.job import changes_channel
from jobs.run.document import State
from jobs.status.cache import Answer
from jobs.status.index import Index
from jobs.status.lists import RunLists
from runner.errors import ProjectGone
from runner.ids import RunId, parse_run_id
from runner.log import log_event, log_fault
from runner.project.run_files import RunFiles, traversal_run_id
from runner.project.watch import watch

LOOK_SECONDS = 0.5  # between two looks at the disk while somebody listens
PAUSE_SECONDS = 0.05  # the least between two of them
SILENCE_SECONDS = 15.0  # after which a listener is told that nothing has changed
PING_SECONDS = 2.0  # between two questions whether a silent Redis is there
RETRY_SECONDS = 1.0  # until a Redis that went away is asked again
UNWATCHED_SECONDS = 30.0  # until a file system that cannot be watched is asked again

EVERY_RUN = None  # what a listener for the list listens to


class Changes:
    """Tells listeners in one process. `run` has to run meanwhile; nothing costs anything while nobody listens."""

    def __init__(self, lists: RunLists, files: RunFiles, redis: AsyncRedis, queue_name: str) -> None:
        self._lists = lists
        self._files = files
        self._redis = redis
        self._channel = changes_channel(queue_name)
        self._listeners: dict[RunId | None, set[asyncio.Event]] = {}
        self._somebody = asyncio.Event()
        self._look_now = asyncio.Event()
        self._ended = False

    @contextmanager
    def listen(self, run_id: RunId | None) -> Iterator[asyncio.Event]:
        """Inside it the event is set whenever something may have changed about the run, or (None) about any run."""
        event = asyncio.Event()
        self._listeners.setdefault(run_id, set()).add(event)
        self._somebody.set()
        try:
            yield event
        finally:
            self._listeners[run_id].discard(event)
            if not self._listeners[run_id]:
                del self._listeners[run_id]
            if not self._listeners and not self._ended:
                self._somebody.clear()

    async def follow(
        self, run_id: RunId | None, ask: Callable[[], Awaitable[Answer]]
    ) -> AsyncGenerator[Answer | None, None]:
        """What `ask` answers about the run, or (None) about any run: at once, and whenever it is another answer.

        Ends after a final one, or with this process. None in between says that nothing has changed for a while. Raises
        what `ask` raises.
        """
        seen = None
        with self.listen(run_id) as changed:
            while not self._ended:
                changed.clear()
                answer = await ask()
                if answer.etag != seen:
                    seen = answer.etag
                    yield answer
                if answer.is_final:
                    return
                try:
                    async with asyncio.timeout(SILENCE_SECONDS):
                        await changed.wait()
                except TimeoutError:
                    yield None  # and ask again: a hint may have got lost

    def end(self) -> None:
        """Let all listeners go, and watch no more: the process is about to end.

        `run` has to be cancelled, too; but Python 3.11's `wait_for`, in redis-py, loses a cancellation now and then.
        """
        self._ended = True
        self._somebody.set()
        self._look_now.set()
        self._wake_all()

    def notify(self, run_id: RunId | None) -> None:
        """Something has changed about this run, or (None) about some run."""
        self._lists.touch()
        self._look_now.set()
        self._wake(run_id)

    async def run(self) -> None:
        """Watch for changes until it is cancelled. A fault of ours in it goes to the log, and does not end it."""
        sources = (self._look_at_disk, self._listen_to_redis, self._watch_files)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*map(self._keep_running, sources))

    async def _keep_running(self, source: Callable[[], Awaitable[None]]) -> None:
        while not self._ended:
            try:
                await source()
            except Exception:  # noqa: BLE001
                log_fault(f"{source.__name__} failed, and is started again")
                await asyncio.sleep(RETRY_SECONDS)

    async def _look_at_disk(self) -> None:
        before: Index | None = None
        while not self._ended:
            if not self._listeners:
                before = None
                await self._somebody.wait()
            try:
                index = await self._lists.index()
            except ProjectGone:
                index = Index({})
            if before is None:
                self._wake_all()  # what has changed until now, nobody has compared
            elif index is not before:
                for run_id in changed_runs(before, index):
                    self._wake(run_id)
                self._wake(EVERY_RUN)
            before = index
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look_now.wait()
            await asyncio.sleep(PAUSE_SECONDS)  # those who wait for the run that has changed are served first
            self._look_now.clear()

    async def _listen_to_redis(self) -> None:
        was_there = False
        while not self._ended:
            await self._somebody.wait()
            try:
                async with AsyncExitStack() as stack:
                    pubsub = await stack.enter_async_context(self._redis.pubsub(ignore_subscribe_messages=True))
                    await pubsub.subscribe(self._channel)
                    self._wake_all()  # what was told before is lost, and what was stale is so no more
                    was_there = True
                    while self._listeners and not self._ended:
                        message = await pubsub.get_message(timeout=PING_SECONDS)
                        if message is None:
                            await self._redis.ping()
                        else:
                            self._on_message(message)
            except RedisError as error:
                if was_there:
                    log_event("no_news", because=error)
                    self._wake_all()
                was_there = False
                await asyncio.sleep(RETRY_SECONDS)

    def _on_message(self, message: dict[str, Any]) -> None:
        data = message.get("data")
        self.notify(parse_run_id(data.decode(errors="replace")) if isinstance(data, bytes) else None)
        index = self._lists.known()
        for run_id in [*self._listeners]:  # those that wait may have come forward in the queue
            entry = None if run_id is None or index is None else index.find(run_id)
            if run_id is not None and (entry is None or entry.state is State.PENDING):
                self._wake(run_id)

    async def _watch_files(self) -> None:
        while not self._ended:
            await self._somebody.wait()
            folders = self._files.folders()
            try:
                async for changed in watch(folders):
                    for path in changed:
                        self.notify(traversal_run_id(path.name))
                    if self._ended or not self._listeners or self._files.folders() != folders:
                        break
            except OSError as error:
                log_event("not_watched", because=error)
                await asyncio.sleep(UNWATCHED_SECONDS)

    def _wake(self, run_id: RunId | None) -> None:
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
