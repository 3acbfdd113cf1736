"""The RQ worker of this project: RQ's fork worker, which also leaves in time and says that it lives."""

import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

from redis.client import Pipeline, PubSub, PubSubWorkerThread
from redis.exceptions import RedisError
from rq.exceptions import StopRequested
from rq.executions import Execution
from rq.job import Job
from rq.queue import Queue
from rq.results import Result
from rq.utils import now
from rq.worker import BaseWorker, Worker

from jobs.queue.accept import RunQueue
from jobs.queue.connection import stop_waiting
from jobs.queue.heartbeat import HEARTBEAT_SECONDS, send_heartbeat
from jobs.queue.job import publish_change, save_to_job, task_of_job
from jobs.queue.records import close_cut_off
from jobs.run.record import EXECUTE_RUN, RunRecord, record_from_json
from jobs.run.verdict import HORSE_DIED, STOPPED
from jobs.worker.execute import files_of
from jobs.worker.recover import Reconciler
from runner.cli.process import end_processes
from runner.errors import SettingsError
from runner.ids import new_run_id, parse_run_id
from runner.log import configure_logging, log_event
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder
from runner.settings import read_settings

POP_SECONDS = 1  # how long one blocking pop waits, and so how long an idle worker takes to leave
ROUND_HEARTBEATS = 2  # beats from one look at what others may have left behind to the next
HORSE_SECONDS = 3.2  # for the work-horse to end its CLI and record the outcome; honcho kills everything after 5


class RunJob(Job):
    """A job that can only be a run: what stands in Redis cannot make a worker call anything else."""

    @property
    def success_callback(self) -> None:
        """None: runs have no callbacks."""

    @property
    def failure_callback(self) -> None:
        """None: runs have no callbacks."""

    @property
    def stopped_callback(self) -> None:
        """None: runs have no callbacks."""

    def perform(self) -> Any:
        """The function's value. Raises `ValueError` if the job names another function than ours."""
        if self.func_name != EXECUTE_RUN:
            raise ValueError(f"this worker only calls {EXECUTE_RUN}, and the job wants {self.func_name}")
        return super().perform()

    def _handle_success(self, result_ttl: int, pipeline: Pipeline, *args: Any, **kwargs: Any) -> None:
        """As RQ's, without keeping the function's value: the run's metadata says how it ended, and a result takes more
        memory than all the rest of the job (Redis gives each stream 4 kB)."""
        super()._handle_success(result_ttl, pipeline, *args, **kwargs)
        pipeline.delete(Result.get_key(self.id))


class RunWorker(Worker):
    """Carries out runs, one at a time. SIGTERM or SIGINT ends its run and then itself, within 4 seconds."""

    max_connection_wait_time = 1.0  # seconds between two tries of RQ's own to reach Redis

    def __init__(
        self, queues: str | Queue | Sequence[str] | Sequence[Queue], name: str | None = None, **kwargs: Any
    ) -> None:
        """As RQ's worker. Ends the process with a message if the settings cannot be used."""
        try:
            self.settings = read_settings(os.environ)
        except SettingsError as error:
            raise SystemExit(str(error)) from None
        configure_logging(self.settings.log_level)
        self._left = threading.Event()
        self._was_born = False
        self._between_heartbeats = threading.Lock()
        kwargs["job_class"] = RunJob
        super().__init__(queues, name=name or f"{socket.gethostname()}-{os.getpid()}-{new_run_id()[:6]}", **kwargs)

    @property
    def dequeue_timeout(self) -> int:
        """Seconds of one blocking pop."""
        return POP_SECONDS

    @property
    def connection_timeout(self) -> int:
        """Seconds until an unanswered command counts as failed."""
        return POP_SECONDS + 2

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """As RQ's, with a heartbeat beside it."""
        threading.Thread(target=self._send_heartbeats, name="heartbeat", daemon=True).start()
        try:
            return super().work(*args, **kwargs)
        finally:
            self._left.set()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next job. Raises `StopRequested` between two pops, never in the middle of one, which could lose a job."""
        if timeout is None or max_idle_time is not None:
            return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
        while not self._stop_requested:
            with self._leaving_without_redis():
                result = super().dequeue_job_and_maintain_ttl(POP_SECONDS, max_idle_time=POP_SECONDS)
            if result is not None:
                return result
        raise StopRequested

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """As RQ's, which waits for Redis around it for ever; raises `StopRequested` when there is no time for that."""
        with self._leaving_without_redis():
            super().heartbeat(timeout, pipeline)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Carry out the job; one that was popped while we were asked to leave goes back to the front of its queue."""
        if not self._stop_requested:
            try:
                super().execute_job(job, queue)
                publish_change(self.connection, queue.name, job.id)  # now that the next of its task has come forward
            except RedisError:
                if not self._stop_requested:
                    raise
                self._close_on_disk(job)
                raise StopRequested from None
            return
        with self.connection.pipeline() as pipeline:
            queue.push_job_id(job.id, pipeline=pipeline, at_front=True)
            pipeline.lrem(queue.intermediate_queue_key, 1, job.id)
            pipeline.execute()
        log_event("given_back", run=job.id, worker=self.name)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """As RQ's, but never in the middle of a heartbeat: a lock that its thread holds then (Python 3.11 has one in
        every `cached_property`) would be held in the work-horse for ever."""
        with self._between_heartbeats:
            self._prepare(job)
            super().fork_work_horse(job, queue)
        if self._stop_requested:  # since the job was taken, when there was no horse yet to be told
            self._end_horse()

    def _prepare(self, job: Job) -> None:
        """Read what the work-horses of this task need, so that only the first has to wait for that."""
        task_id = task_of_job(job)
        if task_id is not None:
            files = files_of(self.settings)
            files.redactor(task_id)
            files.traversal_ids(task_id)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Take no new job, end the running one, leave. May be called again; speaks to nobody but our own horse."""
        self._stop_requested = True
        self._shutdown_requested_date = now()
        stop_waiting()
        if self.horse_pid:
            self._end_horse()

    def _end_horse(self) -> None:
        """Ask the work-horse to end its run, and kill it if that takes too long. It may just have ended by itself: a
        signal can come after it was waited for, and before RQ has noted that."""
        pid = self.horse_pid

        def kill_if_still_there() -> None:
            if self.horse_pid == pid:  # and not 0 meanwhile, which would mean ourselves
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        killer = threading.Timer(HORSE_SECONDS, kill_if_still_there)
        killer.daemon = True
        killer.start()

    def handle_work_horse_killed(self, job: Job, retpid: int, ret_val: int, rusage: Any) -> None:
        """The horse died before it could record an outcome: end what it left behind, and record that."""
        closed = self._close_on_disk(job)
        if closed is not None:
            save_to_job(job, closed)

    def register_birth(self) -> None:
        """As RQ's."""
        Worker.register_birth(self)
        self._was_born = True

    def teardown(self) -> None:
        """Sign off, if Redis is still there."""
        try:
            Worker.teardown(self)
        except RedisError as error:
            log_event("not_signed_off", worker=self.name, because=error)

    @contextmanager
    def _leaving_without_redis(self) -> Iterator[None]:
        """When a whole stack ends, Redis may end first: then there is nobody left to tell anything to."""
        try:
            yield
        except RedisError:
            if self._stop_requested:
                raise StopRequested from None
            raise

    def _pubsub_exception_handler(self, exc: Exception, pubsub: PubSub, pubsub_thread: PubSubWorkerThread) -> None:
        if self._stop_requested:
            pubsub_thread.stop()
        else:
            super()._pubsub_exception_handler(exc, pubsub, pubsub_thread)

    def _close_on_disk(self, job: Job) -> RunRecord | None:
        """End what a dead horse left behind; its run has an outcome then, its own or that it was interrupted."""
        run_id, task_id = parse_run_id(job.id), task_of_job(job)
        if run_id is None or task_id is None:
            return None
        end_processes(run_id)
        folder = RunFolder(self.settings.tasks_root, task_id, run_id)
        meta = record_from_json(folder.read_record() or b"")
        if meta is None:
            return None
        cut = STOPPED if folder.stop_requested() else HORSE_DIED
        return close_cut_off(folder, meta, cut, None, self._files())

    def _send_heartbeats(self) -> None:
        """Give a sign of life, and every other time look after what others may have left behind."""
        reconciler = self._reconciler()
        for number in itertools.count():
            with self._between_heartbeats:
                self._stay_registered()
                current = [execution.job_id for execution in [*self.executions.values()]]
                send_heartbeat(self.connection, self.name, current[0] if current else None)
                if number % ROUND_HEARTBEATS == 0:
                    self._reconcile(reconciler)
            if self._left.wait(HEARTBEAT_SECONDS):
                return

    def _stay_registered(self) -> None:
        """Tell Redis again that this worker exists, if it has forgotten that (it was emptied, say)."""
        try:
            if self._was_born and not self._stop_requested and not self._is_registered():
                self.connection.delete(self.key)
                self.register_birth()
                log_event("registered_again", worker=self.name)
        except RedisError as error:
            log_event("not_registered", level=logging.WARNING, worker=self.name, because=error)

    def _is_registered(self) -> bool:
        return bool(self.connection.sismember(self.redis_workers_keys, self.key))

    def _files(self) -> RunFiles:
        return files_of(self.settings)

    def _reconciler(self) -> Reconciler:
        files = self._files()
        accepting = RunQueue(self.settings, self.connection, files, TaskCatalog(self.settings.tasks_root))
        return Reconciler(self.queues[0], files, accepting.enqueue, partial(fail_job, self))

    def _reconcile(self, reconciler: Reconciler) -> None:
        try:
            reconciler.reconcile()
        except (RedisError, OSError) as error:
            log_event("not_reconciled", level=logging.WARNING, worker=self.name, because=error)


def fail_job(worker: BaseWorker, job: Job, because: str) -> None:
    """End a job whose worker is gone: RQ's failed registry, and a free place for the next run of the task."""
    job.ended_at = now()
    queue = worker.queues[0]
    executions: list[Execution | None] = [*job.get_executions()] or [None]
    for execution in executions:
        worker.handle_job_failure(job, queue, exc_string=because, execution=execution)
