"""The whole flow in one process: a fake Redis and RQ's burst worker, but a real CLI process."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import fakeredis
from rq import SimpleWorker
from starlette.testclient import TestClient

from app import create_app
from jobs.queue.job import make_queue
from jobs.services import Services
from jobs.worker.recover import Recovery
from jobs.worker.worker import RunJob, fail_job
from runner.project.run_files import RunFiles
from runner.settings import Settings
from tests.project import Project


class FakeStack:
    """The application on a fake Redis, and a worker that executes the queue on demand."""

    def __init__(
        self,
        project: Project,
        server: fakeredis.FakeServer | None = None,
        fresh_seconds: float = 0.0,
        wait_seconds: float = 0.1,
    ) -> None:
        """`fresh_seconds` is 0, so that everything that a test puts on the disk is listed at once."""
        self.project = project
        self.settings = project.settings()
        self.server = fakeredis.FakeServer() if server is None else server
        self.redis = fakeredis.FakeRedis(server=self.server)
        reader = fakeredis.FakeAsyncRedis(server=self.server)

        def build(settings: Settings) -> Services:
            self.services = Services.build(
                settings, self.redis, reader, fresh_seconds=fresh_seconds, wait_seconds=wait_seconds
            )
            return self.services

        self.client = TestClient(
            create_app(self.settings, build), "http://127.0.0.1:8000", raise_server_exceptions=False
        )

    def post(self, task: str, config: str | None = None, prefix: str = "") -> Any:
        return self.client.post(f"{prefix}/test-runs/execute-configuration/{task}/{config or f'{task}_default'}")

    def work(self) -> None:
        worker = SimpleWorker(["bugninja"], connection=self.redis, job_class=RunJob, serializer="json")
        worker.work(burst=True, logging_level="ERROR")

    def run(self, task: str) -> Any:
        """The document of a run of the task after a worker has executed it."""
        run_id = self.post(task).json()["id"]
        self.work()
        return self.get(run_id)

    def send(self, path: str, status: int = 202) -> Any:
        """The answer to a POST."""
        response = self.client.post(path)
        assert response.status_code == status, response.text
        return response.json()

    def recovery(self, clock: Callable[[], float] = time.monotonic) -> Recovery:
        """The recovery of a worker."""
        files = RunFiles(self.settings.tasks_root)
        queue = make_queue(self.redis, "bugninja")
        worker = SimpleWorker([queue], connection=self.redis, job_class=RunJob, serializer="json")
        return Recovery(self.settings, queue, files, partial(fail_job, worker), clock)

    def get(self, run_id: str) -> Any:
        response = self.client.get(f"/test-runs/{run_id}")
        assert response.status_code == 200, response.text
        return response.json()
