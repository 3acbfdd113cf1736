"""All services of the web process, on one set of connections and caches."""

from collections.abc import Callable
from typing import Any, NamedTuple, Self

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from jobs.queue.accept import RunAcceptor
from jobs.queue.connection import connect, connect_async
from jobs.queue.stop import RunStopper
from jobs.status.cache import ResponseCache
from jobs.status.changes import INTERVALS, Changes, Intervals, Watch
from jobs.status.history import FRESH_SECONDS, RunHistory
from jobs.status.lists import RunLists
from jobs.status.metrics import NO_RUNS, Numbers
from jobs.status.reader import RunReader
from jobs.status.tasks import Tasks
from runner.project.catalog import TaskCatalog
from runner.project.run_files import project_files
from runner.project.watch import watch
from runner.settings import Settings


class Services(NamedTuple):
    """The runs and tasks of one project, and one queue. One of these per process."""

    settings: Settings
    acceptor: RunAcceptor
    stopper: RunStopper
    reader: RunReader
    lists: RunLists
    changes: Changes
    tasks: Tasks
    numbers: Callable[[], Numbers]
    writing: Redis
    reading: AsyncRedis

    @classmethod
    def build(
        cls,
        settings: Settings,
        writing: Redis,
        reading: AsyncRedis,
        *,
        fresh_seconds: float = FRESH_SECONDS,
        intervals: Intervals = INTERVALS,
        watch: Watch = watch,
        numbers: Callable[[], Numbers] = lambda: NO_RUNS,
    ) -> Self:
        """The services on these connections; nothing is read or sent yet."""
        files = project_files(settings)
        catalog = TaskCatalog(settings.tasks_root)
        history = RunHistory(files, catalog, fresh_seconds)
        cache: ResponseCache[Any] = ResponseCache()
        lists = RunLists(history, cache)
        return cls(
            settings=settings,
            acceptor=RunAcceptor(settings, writing, files, catalog),
            stopper=RunStopper(settings, writing, files),
            reader=RunReader(reading, files, catalog, history, cache),
            lists=lists,
            changes=Changes(lists, files, reading, settings.queue_name, intervals, watch),
            tasks=Tasks(settings, files, catalog, history),
            numbers=numbers,
            writing=writing,
            reading=reading,
        )

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """The services on the Redis of REDIS_URL; nothing is sent to it yet."""
        return cls.build(settings, connect(settings.redis_url), connect_async(settings.redis_url))

    async def close(self) -> None:
        self.writing.close()
        await self.reading.aclose()
