"""What the web process needs to accept and to show runs, on one set of connections and caches."""

import os
from typing import Any, NamedTuple, Self

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from jobs.queue.accept import RunQueue
from jobs.queue.connection import connect, connect_async
from jobs.queue.stop import RunStopper
from jobs.status.cache import Answers
from jobs.status.changes import Changes
from jobs.status.history import RunHistory
from jobs.status.lists import RunLists
from jobs.status.reader import RunReader
from jobs.status.tasks import Tasks
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from runner.secrets import secrets_of_environment
from runner.settings import Settings


class Services(NamedTuple):
    """The runs and tasks of one project, and one queue. One of these per process."""

    settings: Settings
    queue: RunQueue
    stopper: RunStopper
    reader: RunReader
    lists: RunLists
    changes: Changes
    tasks: Tasks
    writing: Redis
    reading: AsyncRedis

    @classmethod
    def build(cls, settings: Settings, writing: Redis, reading: AsyncRedis) -> Self:
        """The services on these connections."""
        files = RunFiles(settings.tasks_root, secrets_of_environment(os.environ, settings.project_root))
        catalog = TaskCatalog(settings.tasks_root)
        history = RunHistory(files, catalog)
        queue = RunQueue(settings, writing, files, catalog)
        answers: Answers[Any] = Answers()
        reader = RunReader(settings, reading, files, catalog, history, answers)
        lists = RunLists(history, answers)
        tasks = Tasks(settings, files, catalog, history)
        changes = Changes(lists, files, reading, settings.queue_name)
        return cls(
            settings, queue, RunStopper(settings, writing, files), reader, lists, changes, tasks, writing, reading
        )

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """The services on the Redis of REDIS_URL; nothing is sent to it yet."""
        return cls.build(settings, connect(settings.redis_url), connect_async(settings.redis_url))

    async def close(self) -> None:
        """Give the connections back."""
        self.writing.close()
        await self.reading.aclose()
