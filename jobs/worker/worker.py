"""The RQ worker of this project: RQ's fork worker, with a heartbeat, recovery, and an end in time."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from types import FrameType
from typing import Any

from redis.client import Pipeline, PubSub, PubSubWorkerThread
from redis.exceptions import RedisError
from rq.exceptions import StopRequested
from rq.job import Job
from rq.queue import Queue
from rq.utils import now
from rq.worker import Worker

from jobs.queue.connection import impatient, stop_waiting
from jobs.queue.heartbeat import HEARTBEAT_SECONDS, send_heartbeat
from jobs.queue.job import is_unusable, make_queue, publish_change, task_of_job
from jobs.queue.places import drop_popped, end_job, return_popped
from jobs.worker.background import Background
from jobs.worker.execute import claim_run, close_after_horse, close_unstartable, finish_claim
from jobs.worker.execution import HORSE_SECONDS
from jobs.worker.recover import ROUND_SECONDS, Recovery
from jobs.worker.run_job import RunJob
from jobs.worker.signals import handle_terminal, leave_it_to_the_worker
from jobs.worker.sweep import sweep
from runner.cli.children import Children, adopt_orphans
from runner.cli.command import log_missing
from runner.cli.warm import Template
from runner.errors import NoSuchRun, SettingsError
from runner.ids import new_run_id
from runner.log import configure_logging, log_event
from runner.project.run_files import project_files
from runner.settings import read_settings

POP_SECONDS = 1  # how long one blocking pop waits, and so how long an idle worker takes to leave
NO_RECORD = "PROJECT_ROOT has no record of the run; was it deleted, or has the web process another PROJECT_ROOT?"
UNUSABLE_SECONDS = 1.0  # from one try to read a queue that cannot be read to the next
LEAVE_SECONDS = HORSE_SECONDS + 0.2  # after which a worker that leaves waits for nothing any more
CLOSING_SECONDS = 0.2  # unless it is just ending what the work-horse has left


class JobEnder(Worker):
    """Ends jobs as RQ's worker does. It pops none, so RQ need not make its connection wait longer for that."""

    connection_timeout = 0


class RunWorker(Worker):
    """Executes runs, one at a time. SIGTERM, SIGINT, SIGHUP or SIGQUIT ends its run and then itself, within 4 s."""

    max_connection_wait_time = 1.0  # seconds between two tries of RQ's own to reach Redis

    def __init__(
        self, queues: str | Queue | Sequence[str] | Sequence[Queue], name: str | None = None, **kwargs: Any
    ) -> None:
        """As RQ's worker. Ends the process with a message if the settings cannot be used."""
        try:
            self.settings = read_settings(os.environ)
            self._files = project_files(self.settings)
        except SettingsError as error:
            raise SystemExit(str(error)) from None
        configure_logging(self.settings.log_level)
        self._was_born = False
        self._claimed: RunJob | None = None  # the job of the run that it owns now
        self._template = Template(self.settings, os.environ, self._files.environment)
        self._children = Children()  # the work-horse, and what it leaves behind
        self._asked: SimpleQueue[int] = SimpleQueue()  # numbers of signals to leave; putting one in takes no lock
        kwargs["job_class"] = RunJob
        super().__init__(queues, name=name or f"{socket.gethostname()}-{os.getpid()}-{new_run_id()[:6]}", **kwargs)
        if self.queue_names() != [self.settings.queue_name]:
            got = ", ".join(self.queue_names())
            raise SystemExit(f"The queue of this worker must be {self.settings.queue_name} (QUEUE_NAME), got {got}.")
        self._impatient = impatient(self.connection)
        self._background = Background(self.name)
        self._recovery = self._make_recovery()

    @property
    def dequeue_timeout(self) -> int:
        return POP_SECONDS  # that one blocking pop takes

    @property
    def connection_timeout(self) -> int:
        return POP_SECONDS + 2  # until an unanswered command counts as failed

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Work as RQ's worker does, with heartbeats, sweeps and recovery in threads beside it."""
        adopt_orphans()
        log_missing(self.settings, os.environ)
        self._background.start("heartbeat", self._beat, HEARTBEAT_SECONDS)
        self._background.start("sweep", partial(sweep, self._files, self._impatient), ROUND_SECONDS)
        self._background.start("recovery", self._recovery.round, ROUND_SECONDS)
        threading.Thread(target=self._leave_in_time, name="leave", daemon=True).start()
        log_event("working", worker=self.name, queue=self.queues[0].name, project=self.settings.project_root)
        try:
            return super().work(*args, **kwargs)
        finally:
            self._background.leave()
            self._template.end()

    def run_maintenance_tasks(self) -> None:
        """Nothing: `Recovery` does this by the records of runs, and without ending at a job that cannot be loaded."""

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next job. Raises `StopRequested` between two pops, never in the middle of one, which could lose a job."""
        if timeout is None or max_idle_time is not None:
            return super().dequeue_job_and_maintain_ttl(timeout, max_idle_time)
        while not self._stop_requested:
            self._template.keep()
            try:
                with self._leaving_without_redis():
                    result = super().dequeue_job_and_maintain_ttl(POP_SECONDS, max_idle_time=POP_SECONDS)
            except Exception as error:
                if isinstance(error, StopRequested) or not is_unusable(error):
                    raise
                self._drop(getattr(error, "job_id", None), error)  # where RQ's worker would quit, at each start anew
                continue
            if result is not None:
                return result
        raise StopRequested

    def _drop(self, job_id: str | None, error: Exception) -> None:
        """Forget a job in Redis that cannot be loaded; the run that it was for, if there is one, gets a new one."""
        log_event("job_dropped", level=logging.ERROR, run=job_id, error=f"{type(error).__name__}: {error}")
        if job_id is None:
            self._background.has_left(UNUSABLE_SECONDS)  # the queue itself may be what cannot be used
        else:
            drop_popped(self.queues[0], job_id)

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        """As RQ's, which waits for Redis around it for ever; raises `StopRequested` when there is no time for that."""
        with self._leaving_without_redis():
            super().heartbeat(timeout, pipeline)

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Execute the job, if its run can be claimed; one that was popped when the worker had to leave goes back to the
        front of its queue."""
        if self._stop_requested:
            return_popped(queue, job.id)
            log_event("job_returned", run=job.id, worker=self.name)
        elif self._claim(job, queue):
            try:
                super().execute_job(job, queue)
                if self._claimed is not None:
                    finish_claim(self._files, self._claimed, self._children)
                publish_change(self.connection, queue.name, job.id)  # now that the next of its task has come forward
            except RedisError:
                if not self._stop_requested:
                    raise
                self._close_after_horse(job, save=False)
                raise StopRequested from None
            finally:
                self._claimed = None

    def _claim(self, job: Job, queue: Queue) -> bool:
        """Make the run of the job this worker's own; whether it is. If it is not to be started, nothing but its
        delivery is forgotten: another worker may be executing it, and have the turn of its task."""
        if not isinstance(job, RunJob):
            raise TypeError(f"a job of {type(job)}")
        self._claimed = job  # the heartbeat names it from now on
        try:
            job.claim, job.template = claim_run(self._files, job, task_of_job(job), self.name), self._template
        except NoSuchRun:
            log_event("refused", run=job.id, error=NO_RECORD)
            end_job(self, job.id, NO_RECORD, None)
        except TimeoutError:  # somebody else holds its lock for long: it comes again, after the others
            return_popped(queue, job.id, at_front=False)
        except OSError as error:
            end_job(self, job.id, close_unstartable(self._files, job, error), None)
        else:
            if job.claim is not None:
                return True
            drop_popped(queue, job.id)
        self._claimed = None
        return False

    def fork_work_horse(self, job: Job, queue: Queue) -> None:
        """As RQ's, but never while one of our threads does something."""
        self._template.keep(wanted=True)
        self._children = Children(self._template.process)
        with self._background.paused():
            self._prepare(job)
            super().fork_work_horse(job, queue)
        if self._stop_requested:  # since the job was taken, when there was no horse yet to be signalled
            self._end_horse()

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        """As RQ's, in the process that was just forked."""
        handle_terminal(leave_it_to_the_worker)
        adopt_orphans()
        super().main_work_horse(job, queue)

    def _prepare(self, job: Job) -> None:
        """Read the secrets and files of the task once, so that only its first work-horse has to wait for them."""
        task_id = task_of_job(job)
        if task_id is not None:
            self._files.redactor(task_id)
            self._files.traversal_ids(task_id)

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]
        handle_terminal(self.request_stop)

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Take no new job, end the running one, leave. May be called again; signals nothing but our own horse."""
        self._stop_requested = True
        self._shutdown_requested_date = now()
        stop_waiting()
        self._asked.put(signum)
        if self.horse_pid:
            self._end_horse()

    def _end_horse(self) -> None:
        """Ask the work-horse to end its run. It may just have ended by itself: a signal can come after it was waited
        for, and before RQ has noted that."""
        with suppress(ProcessLookupError):
            os.kill(self.horse_pid, signal.SIGTERM)

    def _leave_in_time(self) -> None:
        """When asked to leave, kill a work-horse that takes too long, and end this process if it still waits: for a
        Redis that takes everything and answers nothing, each command takes as long as a socket waits."""
        self._asked.get()
        if self._background.has_left(HORSE_SECONDS):
            return
        if pid := self.horse_pid:  # and not 0, which would mean ourselves
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not self._background.has_left(LEAVE_SECONDS - HORSE_SECONDS):
            if self._claimed is not None:
                self._close_after_horse(self._claimed, save=False)
            if self._background.has_left(CLOSING_SECONDS):
                return
            log_event("left_without_redis", level=logging.WARNING, worker=self.name)
            os._exit(0)

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
            self._recovery.leave()
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
        if isinstance(job, RunJob):
            close_after_horse(self._files, job, self._children, save=save)

    def _beat(self) -> Iterator[None]:
        """A heartbeat. Its thread does nothing else, so that nothing can delay one."""
        send_heartbeat(self._impatient, self.name, self._claimed.id if self._claimed else None)
        self._stay_registered()
        yield

    def _stay_registered(self) -> None:
        """Register this worker again if Redis has forgotten it (it was emptied, say)."""
        if self._stop_requested or not self._was_born:
            return
        if not self._impatient.sismember(self.redis_workers_keys, self.key):
            self.connection.delete(self.key)
            self.register_birth()
            log_event("registered_again", worker=self.name)

    def _make_recovery(self) -> Recovery:
        queue = make_queue(self._impatient, self.settings.queue_name)
        worker = JobEnder([queue], name=self.name, connection=self._impatient, serializer=queue.serializer)
        return Recovery(self.settings, worker, self._files)
