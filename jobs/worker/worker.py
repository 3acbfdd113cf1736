"""The RQ worker of this project: RQ's fork worker, with a heartbeat, recovery, and an end in time."""

import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
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

from jobs.queue.connection import stop_waiting
from jobs.queue.heartbeat import HEARTBEAT_SECONDS, send_heartbeat
from jobs.queue.job import EXECUTE_RUN, publish_change, return_popped, save_to_job, task_of_job
from jobs.run.verdict import HORSE_DIED
from jobs.worker.execute import execute_run
from jobs.worker.execution import HORSE_SECONDS
from jobs.worker.recover import Recovery, close_orphan
from runner.errors import SettingsError
from runner.ids import new_run_id, parse_run_id
from runner.log import configure_logging, log_event
from runner.project.run_files import project_files
from runner.settings import read_settings

EARLIER_NAMES = ("jobs.execute.execute_run",)  # of `execute_run`, in jobs that were enqueued before an upgrade
POP_SECONDS = 1  # how long one blocking pop waits, and so how long an idle worker takes to leave
RECOVERY_HEARTBEATS = 2  # heartbeats from one round of recovery to the next


class RunJob(Job):
    """A job that can only be a run: the content of Redis cannot make a worker call anything else."""

    success_callback = failure_callback = stopped_callback = property(lambda self: None)  # runs have no callbacks

    @property
    def func(self) -> Callable[[str], str]:
        """Always ours, imported before the worker forks."""
        return execute_run

    def perform(self) -> Any:
        """The function's value. Raises `ValueError` if the job names another function than ours."""
        if self.func_name not in (EXECUTE_RUN, *EARLIER_NAMES):
            raise ValueError(f"this worker only calls {EXECUTE_RUN}, and the job wants {self.func_name}")
        return super().perform()

    def _handle_success(self, result_ttl: int, pipeline: Pipeline, *args: Any, **kwargs: Any) -> None:
        """As RQ's, without keeping the function's value: the run's record says how it ended, and a result takes more
        memory than all the rest of the job (Redis gives each stream 4 kB)."""
        super()._handle_success(result_ttl, pipeline, *args, **kwargs)
        pipeline.delete(Result.get_key(self.id))


class RunWorker(Worker):
    """Executes runs, one at a time. SIGTERM or SIGINT ends its run and then itself, within 4 seconds."""

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
        self._heartbeat_lock = threading.Lock()
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
        """Work as RQ's worker does, with a heartbeat in a thread of its own."""
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
        """Execute the job; one that was popped when the worker had to leave goes back to the front of its queue."""
        if not self._stop_requested:
            try:
                super().execute_job(job, queue)
                publish_change(self.connection, queue.name, job.id)  # now that the next of its task has come forward
            except RedisError:
                if not self._stop_requested:
                    raise
                self._close_after_horse(job, save=False)
                raise StopRequested from None
            return
        return_popped(queue, job.id)
        log_event("job_returned", run=job.id, worker=self.name)

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """As RQ's, but never in the middle of a heartbeat: a lock that its thread holds then (Python 3.11 has one in
        every `cached_property`) would be held in the work-horse for ever."""
        with self._heartbeat_lock:
            self._prepare(job)
            super().fork_work_horse(job, queue)
        if self._stop_requested:  # since the job was taken, when there was no horse yet to be signalled
            self._end_horse()

    def _prepare(self, job: Job) -> None:
        """Read the secrets and files of the task once, so that only its first work-horse has to wait for them."""
        task_id = task_of_job(job)
        if task_id is not None:
            files = project_files(self.settings)
            files.redactor(task_id)
            files.traversal_ids(task_id)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Take no new job, end the running one, leave. May be called again; signals nothing but our own horse."""
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
        self._close_after_horse(job, save=True)

    def register_birth(self) -> None:
        """Register as RQ's worker does, and from then on notice if Redis forgets it."""
        Worker.register_birth(self)
        self._was_born = True

    def teardown(self) -> None:
        """Sign off, if Redis is still there."""
        try:
            Worker.teardown(self)
        except RedisError as error:
            log_event("sign_off_failed", worker=self.name, error=error)

    @contextmanager
    def _leaving_without_redis(self) -> Iterator[None]:
        """When a whole stack ends, Redis may end first: then this worker leaves without it."""
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

    def _close_after_horse(self, job: Job, *, save: bool) -> None:
        """End what a dead horse left behind; its run has an outcome then. `save` copies it into the job, too."""
        run_id, task_id = parse_run_id(job.id), task_of_job(job)
        if run_id is None or task_id is None:
            return
        closed = close_orphan(project_files(self.settings), task_id, run_id, HORSE_DIED)
        if save and closed is not None:
            save_to_job(job, closed)

    def _send_heartbeats(self) -> None:
        """Send heartbeats, and every other time look after runs that other workers may have left behind."""
        recovery = Recovery(self.settings, self.queues[0], project_files(self.settings), partial(fail_job, self))
        for number in itertools.count():
            with self._heartbeat_lock:
                self._stay_registered()
                current = [execution.job_id for execution in [*self.executions.values()]]
                send_heartbeat(self.connection, self.name, current[0] if current else None)
                if number % RECOVERY_HEARTBEATS == 0:
                    self._recover(recovery)
            if self._left.wait(HEARTBEAT_SECONDS):
                return

    def _stay_registered(self) -> None:
        """Register this worker again if Redis has forgotten it (it was emptied, say)."""
        try:
            if self._stop_requested or not self._was_born:
                return
            if not self.connection.sismember(self.redis_workers_keys, self.key):
                self.connection.delete(self.key)
                self.register_birth()
                log_event("registered_again", worker=self.name)
        except RedisError as error:
            log_event("register_failed", level=logging.WARNING, worker=self.name, error=error)

    def _recover(self, recovery: Recovery) -> None:
        try:
            recovery.run_once()
        except (RedisError, OSError) as error:
            log_event("recovery_failed", level=logging.WARNING, worker=self.name, error=error)


def fail_job(worker: BaseWorker, job: Job, message: str) -> None:
    """End a job whose worker is gone: RQ's failed registry, and a free place for the next run of the task."""
    job.ended_at = now()
    queue = worker.queues[0]
    executions: list[Execution | None] = [*job.get_executions()] or [None]
    for execution in executions:
        worker.handle_job_failure(job, queue, exc_string=message, execution=execution)
