"""What the web process needs to accept and to show runs, on one set of connections and caches."""

import os
from typing import Any, NamedTuple, Self

from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from jobs.answer import Answers
from jobs.changes import Changes
from jobs.connection import connect, connect_async
from jobs.history import RunHistory
from jobs.lists import RunLists
from jobs.queue import RunQueue
from jobs.reader import RunReader
from jobs.stop import RunStopper
from jobs.tasks import Tasks
from runner.catalog import TaskCatalog
from runner.secrets import secrets_of_environment
from runner.settings import Settings
from runner.traversal_file import RunFiles


class Runs(NamedTuple):
    """The runs and tasks of one project, and one queue. One of these per process."""

    queue: RunQueue
    stopper: RunStopper
    reader: RunReader
    lists: RunLists
    changes: Changes
    tasks: Tasks
    writing: Redis
    reading: AsyncRedis

    @classmethod
    def on(cls, settings: Settings, writing: Redis, reading: AsyncRedis) -> Self:
        """The runs on these connections."""
        files = RunFiles(settings.tasks_root, secrets_of_environment(os.environ, settings.project_root))
        catalog = TaskCatalog(settings.tasks_root)
        history = RunHistory(files, catalog)
        queue = RunQueue(settings, writing, files, catalog)
        answers: Answers[Any] = Answers()
        reader = RunReader(settings, reading, files, catalog, history, answers)
        lists = RunLists(history, answers)
        tasks = Tasks(settings, files, catalog, history)
        changes = Changes(lists, files, reading, settings.queue_name)
        return cls(queue, RunStopper(settings, writing, files), reader, lists, changes, tasks, writing, reading)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """The runs behind REDIS_URL; nothing is sent to Redis yet."""
        return cls.on(settings, connect(settings.redis_url), connect_async(settings.redis_url))

    async def close(self) -> None:
        """Give the connections back."""
        self.writing.close()
        await self.reading.aclose()
