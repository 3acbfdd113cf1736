"""All services of the web process, on one set of connections and caches."""

from typing import NamedTuple, Self

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from jobs.queue.accept import RunAcceptor
from jobs.queue.batches import BatchAcceptor
from jobs.queue.connection import connect, connect_async
from jobs.queue.stop import RunStopper
from jobs.status.batches import Batches
from jobs.status.cache import ResponseCache
from jobs.status.changes import INTERVALS, Changes, Intervals, Watch
from jobs.status.database import Database
from jobs.status.lists import RunLists
from jobs.status.projection import Projection
from jobs.status.reader import RunReader
from jobs.status.statistics import RunStatistics
from jobs.status.tasks import Tasks
from runner.project.catalog import TaskCatalog
from runner.project.run_files import project_files
from runner.project.watch import watch
from runner.settings import Settings


class Services(NamedTuple):
    """The runs and tasks of one project, and one queue. One of these per process."""

    settings: Settings
    acceptor: RunAcceptor
    batch_acceptor: BatchAcceptor
    stopper: RunStopper
    batches: Batches
    reader: RunReader
    lists: RunLists
    changes: Changes
    tasks: Tasks
    statistics: RunStatistics
    writing: Redis
    reading: AsyncRedis

    @classmethod
    def build(
        cls,
        settings: Settings,
        writing: Redis,
        reading: AsyncRedis,
        *,
        intervals: Intervals = INTERVALS,
        watch: Watch = watch,
    ) -> Self:
        """The services on these connections; nothing is read or sent yet."""
        files = project_files(settings)
        catalog = TaskCatalog(settings.tasks_root)
        cache = ResponseCache()
        database = Database(settings.history_file, str(settings.project_root))
        projection = Projection(database, files, catalog)
        statistics = RunStatistics(database, catalog)
        reader, lists = RunReader(reading, files, catalog, projection, cache), RunLists(projection, catalog, cache)
        return cls(
            settings=settings,
            acceptor=RunAcceptor(settings, writing, files, catalog),
            batch_acceptor=BatchAcceptor(settings, writing, files, catalog),
            stopper=RunStopper(settings, writing, files),
            batches=Batches(files, lists, reader),
            reader=reader,
            lists=lists,
            changes=Changes(projection, files, reading, settings.queue_name, intervals, watch),
            tasks=Tasks(settings, files, catalog, statistics),
            statistics=statistics,
            writing=writing,
            reading=reading,
        )

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """The services on the Redis of REDIS_URL; nothing is sent to it yet."""
        return cls.build(settings, connect(settings.redis_url), connect_async(settings.redis_url))

    async def close(self) -> None:
        self.writing.close()
        self.lists.projection.database.close()
        await self.reading.aclose()
