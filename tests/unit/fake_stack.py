"""The whole flow in one process: a fake Redis and RQ's burst worker, but a real CLI process."""

from contextlib import suppress
from typing import Any

import fakeredis
from rq.job import Job
from rq.queue import Queue
from rq.worker import BaseWorker
from starlette.testclient import TestClient

from app import create_app
from jobs.services import Services
from jobs.worker.recover import Recovery
from jobs.worker.worker import RunWorker
from runner.errors import ProjectGone
from runner.project.run_files import RunFiles
from runner.settings import Settings
from tests.project import Project
from tests.waiting import wait_for


class FakeStack:
    """The application on a fake Redis, and a worker that executes the queue on demand."""

    def __init__(
        self,
        project: Project,
        server: fakeredis.FakeServer | None = None,
    ) -> None:
        self.project = project
        self._recovery: WholeRecovery | None = None
        self.settings = project.settings()
        self.server = fakeredis.FakeServer() if server is None else server
        self.redis = fakeredis.FakeRedis(server=self.server)
        reader = fakeredis.FakeAsyncRedis(server=self.server)

        def build(settings: Settings) -> Services:
            self.services = Services.build(settings, self.redis, reader)
            return self.services

        self.client = UpToDate(create_app(self.settings, build), "http://127.0.0.1:8000", raise_server_exceptions=False)
        self.client.stack = self

    def post(self, task: str, config: str | None = None, prefix: str = "") -> Any:
        return self.client.post(f"{prefix}/test-runs/execute-configuration/{task}/{config or f'{task}_default'}")

    def work(self) -> None:
        """Execute all jobs that are in the queue."""
        self.worker().work(burst=True, logging_level="ERROR")

    def work_as_procfile(self) -> None:
        """The same with the loop of the Procfile's worker, which waits for the next job until it has to leave."""
        worker = self.worker()
        worker.leave_when_idle = True
        worker.work(logging_level="ERROR")

    def worker(self) -> "InlineWorker":
        return InlineWorker(["bugninja"], connection=self.redis, serializer="json")

    def run(self, task: str) -> Any:
        """The document of a run of the task after a worker has executed it."""
        run_id = self.post(task).json()["id"]
        self.work()
        return self.get(run_id)

    def send(self, path: str, status: int = 202, labels: Any = None, key: str | None = None) -> Any:
        """The answer to a POST, with labels and an Idempotency-Key if they are given."""
        body, headers = None if labels is None else {"labels": labels}, {} if key is None else {"Idempotency-Key": key}
        response = self.client.post(path, json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json()

    def recovery(self) -> "WholeRecovery":
        """The recovery of the worker that leads."""
        self._recovery = self._recovery or self.new_recovery()
        return self._recovery

    def new_recovery(self) -> "WholeRecovery":
        """That of another worker."""
        return WholeRecovery(self.settings, self.worker(), RunFiles(self.settings.tasks_root))

    def get(self, run_id: str) -> Any:
        response = self.client.get(f"/test-runs/{run_id}")
        assert response.status_code == 200, response.text
        return response.json()


class UpToDate(TestClient):
    """A client whose GETs are answered when everything that a test has put on the disk has been read."""

    stack: FakeStack

    def get(self, *arguments: Any, **options: Any) -> Any:
        self.read_all()
        return super().get(*arguments, **options)

    def read_all(self) -> None:
        """Bring lists up to date."""
        with suppress(ProjectGone):
            wait_for(self.stack.services.lists.projection.sweep, 10)


class InlineWorker(RunWorker):
    """The worker of the Procfile, but its work-horse is this very process, and no thread works beside it."""

    work = BaseWorker.work

    leave_when_idle = False

    def dequeue_job_and_maintain_ttl(self, timeout: int | None, max_idle_time: int | None = None) -> Any:
        if timeout is not None and self.leave_when_idle and not self.connection.llen(self.queues[0].key):
            self._stop_requested = True
        return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        execution = self.execution
        assert execution is not None
        self.perform_job(job, queue, execution)

    def monitor_work_horse(self, job: Job, queue: Queue, execution: Any) -> None:
        """The horse has ended by itself."""


class WholeRecovery(Recovery):
    """Recovery in whole rounds."""

    def run_once(self) -> None:
        for _ in self.round():
            pass
