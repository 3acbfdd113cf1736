"""Bring runs to their end that nobody carries out any more, and jobs to a worker that nobody has.

Every worker does this all the time; a lock in Redis lets one do it at a time. What it decides, it decides from the
run's record, its job, and the sign of life of the worker that has it.
"""

import time
from collections.abc import Callable, Iterator

from redis import Redis
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry
from rq.utils import as_text

from jobs.queue.heartbeat import is_executing
from jobs.queue.job import task_of_job
from jobs.queue.records import close_cut_off, close_run
from jobs.run.record import RunRecord, record_from_job_meta, record_from_json
from jobs.run.verdict import STOPPED, WORKER_DIED, Cut
from runner.cli.process import end_processes
from runner.ids import RunId, parse_run_id
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder

LOCK_KEY = "bugninja-runner:reconcile"
LOCK_SECONDS = 60
SETTLING_SECONDS = 15  # that an accepted run may be on its way into the queue


class Reconciler:
    """Looks after the runs of one queue. Remembers which are over, so that each of those is read once."""

    def __init__(
        self,
        queue: Queue,
        files: RunFiles,
        enqueue: Callable[[RunRecord], None],
        fail: Callable[[Job, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`enqueue` puts an accepted run into the queue; `fail` ends a job that nobody has, with a reason for RQ.

        `clock` gives seconds that only grow, whatever happens to the time of day.
        """
        self._clock = clock
        self._queue, self._files = queue, files
        self._enqueue, self._fail = enqueue, fail
        self._over: set[RunId] = set()
        self._suspects: set[RunId] = set()
        self._stray: set[str] = set()
        self._ended: set[RunId] = set()
        self._without_job_since: dict[RunId, float] = {}

    def reconcile(self) -> None:
        """Look at everything once, unless another worker is at it."""
        redis: Redis = self._queue.connection
        if not redis.set(LOCK_KEY, "taken", nx=True, ex=LOCK_SECONDS):
            return
        try:
            self._return_strays()
            for meta in self._unfinished():
                self._look_at(meta)
            self._end_jobs_of_ended_runs()
            for registry in RateLimitRegistry.all(redis):
                registry.cleanup()
        finally:
            redis.delete(LOCK_KEY)

    def _unfinished(self) -> Iterator[RunRecord]:
        for task_id in list(self._files.task_ids()):
            for run_id in self._files.run_ids(task_id) - self._over:
                record = RunFolder(self._files.tasks_root, task_id, run_id).read_record()
                meta = record_from_json(record) if record is not None else None
                if meta is None:
                    continue
                if meta.outcome is not None:
                    self._over.add(run_id)
                else:
                    yield meta

    def _look_at(self, meta: RunRecord) -> None:
        job = self._job(meta.run_id)
        if meta.started_at is None and self._folder(meta).stop_requested():
            self._close(meta, job, STOPPED)
        elif job is None:
            self._without_job(meta)
        else:
            self._without_job_since.pop(meta.run_id, None)
            self._with_job(meta, job)

    def _job(self, run_id: RunId) -> Job | None:
        """The run's job; None if Redis has none, or only what a worker could still say of it."""
        try:
            job = Job.fetch(run_id, self._queue.connection, self._queue.serializer)
        except NoSuchJobError:
            return None
        return None if job.get_status(refresh=False) is JobStatus.CREATED else job

    def _folder(self, meta: RunRecord) -> RunFolder:
        return RunFolder(self._files.tasks_root, meta.task_id, meta.run_id)

    def _with_job(self, meta: RunRecord, job: Job) -> None:
        recorded = record_from_job_meta(job.meta)
        if recorded is not None and recorded.outcome is not None:
            close_run(self._folder(meta), recorded, recorded.outcome, None)
        elif job.get_status(refresh=False) in (JobStatus.STOPPED, JobStatus.CANCELED):
            self._close(meta, job, STOPPED)
        elif job.get_status(refresh=False) in (JobStatus.STARTED, JobStatus.FAILED, JobStatus.FINISHED):
            self._close_if_abandoned(meta, job, job.worker_name or meta.worker)

    def _without_job(self, meta: RunRecord) -> None:
        if meta.started_at is not None:
            self._close_if_abandoned(meta, None, meta.worker)
            return
        since = self._without_job_since.setdefault(meta.run_id, self._clock())
        if self._clock() - since > SETTLING_SECONDS:
            log_event("enqueued_again", run=meta.run_id, task=meta.task_id)
            self._enqueue(meta)

    def _close_if_abandoned(self, meta: RunRecord, job: Job | None, worker: str | None) -> None:
        """Close a run that no worker says it has, in two rounds: signs of life may be lost together with Redis."""
        if is_executing(self._queue.connection, worker, meta.run_id):
            self._suspects.discard(meta.run_id)
        elif meta.run_id not in self._suspects:
            self._suspects.add(meta.run_id)
        else:
            self._close(meta, job, STOPPED if self._folder(meta).stop_requested() else WORKER_DIED)

    def _close(self, meta: RunRecord, job: Job | None, cut: Cut) -> None:
        end_processes(meta.run_id)
        folder = self._folder(meta)
        newest = record_from_json(folder.read_record() or b"") or meta
        close_cut_off(folder, newest, cut, job, self._files)
        if job is not None and job.get_status() in (JobStatus.STARTED, JobStatus.QUEUED):
            self._fail(job, cut.because)

    def _end_jobs_of_ended_runs(self) -> None:
        """A job whose run was closed while Redis was away is still started for RQ, and its task's next run waits.

        It is ended when that was so in two rounds: its worker may just be about to do so itself.
        """
        ended = {run_id: job for run_id, job in self._started_jobs() if self._is_over(run_id, job)}
        for run_id in ended.keys() & self._ended:
            log_event("job_ended", run=run_id)
            self._fail(ended[run_id], "The run is over; its worker could not tell Redis.")
        self._ended = {*ended}

    def _started_jobs(self) -> Iterator[tuple[RunId, Job]]:
        for job_id in self._queue.started_job_registry.get_job_ids(cleanup=False):
            run_id = parse_run_id(job_id)
            job = self._job(run_id) if run_id is not None else None
            if run_id is not None and job is not None and job.get_status(refresh=False) is JobStatus.STARTED:
                yield run_id, job

    def _is_over(self, run_id: RunId, job: Job) -> bool:
        task_id = task_of_job(job)
        if task_id is None or is_executing(self._queue.connection, job.worker_name, run_id):
            return False
        meta = record_from_json(RunFolder(self._files.tasks_root, task_id, run_id).read_record() or b"")
        return meta is not None and meta.outcome is not None

    def _return_strays(self) -> None:
        """A job that a worker popped, and died before it began, stands in RQ's intermediate queue: put it back.

        It is put back when it stood there in two rounds and no worker had prepared to execute it.
        """
        redis: Redis = self._queue.connection
        key = self._queue.intermediate_queue_key
        waiting = {as_text(job_id) for job_id in redis.lrange(key, 0, -1) if isinstance(job_id, bytes)}
        for job_id in waiting & self._stray:
            self._return_stray(job_id)
        self._stray = waiting

    def _return_stray(self, job_id: str) -> None:
        job = self._queue.fetch_job(job_id)
        if job is not None and job.get_executions():
            return
        with self._queue.connection.pipeline() as pipeline:
            if job is not None and job.get_status(refresh=False) is JobStatus.QUEUED:
                self._queue.push_job_id(job_id, pipeline=pipeline, at_front=True)
                log_event("put_back", run=job_id)
            pipeline.lrem(self._queue.intermediate_queue_key, 1, job_id)
            pipeline.execute()
