"""The whole flow in one process: a fake Redis and RQ's burst worker, but a real CLI process."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import fakeredis
import pytest
from rq import SimpleWorker
from rq.queue import Queue
from rq.serializers import JSONSerializer
from starlette.testclient import TestClient

from app import create_app
from jobs.queue.accept import RunQueue
from jobs.services import Services
from jobs.worker.recover import Reconciler
from jobs.worker.worker import RunJob, fail_job
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from tests.project import Project


class FakeStack:
    """The application on a fake Redis, and a worker that carries out what is queued when it is told to."""

    def __init__(self, project: Project, **changes: str) -> None:
        self.project = project
        self.settings = project.settings(**changes)
        self.server = fakeredis.FakeServer()
        self.redis = fakeredis.FakeRedis(server=self.server)
        reader = fakeredis.FakeAsyncRedis(server=self.server)
        app = create_app(self.settings, lambda settings: Services.build(settings, self.redis, reader))
        self.client = TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False)

    def post(self, task: str, config: str | None = None, prefix: str = "") -> Any:
        return self.client.post(f"{prefix}/test-runs/execute-configuration/{task}/{config or f'{task}_default'}")

    def work(self) -> None:
        worker = SimpleWorker(["bugninja"], connection=self.redis, job_class=RunJob, serializer="json")
        worker.work(burst=True, logging_level="ERROR")

    def run(self, task: str) -> Any:
        """The document of a run of the task that a worker has carried out."""
        run_id = self.post(task).json()["id"]
        self.work()
        return self.get(run_id)

    def send(self, path: str, status: int = 202) -> Any:
        """The answer to a POST."""
        response = self.client.post(path)
        assert response.status_code == status, response.text
        return response.json()

    def reconciler(self, clock: Callable[[], float] = time.monotonic) -> Reconciler:
        """What a worker looks after others with."""
        files = RunFiles(self.settings.tasks_root)
        queue = Queue("bugninja", connection=self.redis, serializer=JSONSerializer)
        accepting = RunQueue(self.settings, self.redis, files, TaskCatalog(self.settings.tasks_root))
        worker = SimpleWorker([queue], connection=self.redis, job_class=RunJob, serializer="json")
        return Reconciler(queue, files, accepting.enqueue, partial(fail_job, worker), clock)

    def get(self, run_id: str) -> Any:
        response = self.client.get(f"/test-runs/{run_id}")
        assert response.status_code == 200, response.text
        return response.json()


@pytest.fixture
def stack(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeStack]:
    for name, value in project.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("jobs.status.history.LISTED_SECONDS", 0.0)  # what a test puts on the disk is listed at once
    stack = FakeStack(project)
    with stack.client:
        yield stack
