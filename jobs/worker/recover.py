"""Recovery: end runs that no worker executes any more, and enqueue accepted runs that Redis has lost.

Every worker does this all the time; a lock in Redis lets one do it at a time. The decisions are made from the run's
record, its job, and the heartbeat of the worker that has it.
"""

import time
from collections.abc import Callable, Iterator

from redis import Redis

from jobs.queue.heartbeat import is_executing
from jobs.queue.job import (
    Job,
    Queue,
    clean_rate_limits,
    enqueue,
    fetch_job,
    is_queued_or_started,
    job_state,
    make_queue,
    record_of_job,
    return_stray,
    started_jobs,
    stray_ids,
    task_of_job,
)
from jobs.queue.records import close_interrupted, close_run, read_record
from jobs.run.record import RunRecord
from jobs.run.state import JobState, State
from jobs.run.verdict import STOPPED, WORKER_DIED, Interruption
from runner.cli.process import end_processes
from runner.ids import RunId, TaskId
from runner.log import log_event
from runner.project.run_files import RunFiles
from runner.settings import Settings

LOCK_KEY = "bugninja-runner:recovery"
LOCK_SECONDS = 60
SETTLING_SECONDS = 15  # how long an accepted run may be on its way into the queue


def close_orphan(
    files: RunFiles,
    task_id: TaskId,
    run_id: RunId,
    interruption: Interruption,
    job: Job | None = None,
    known: RunRecord | None = None,
) -> RunRecord | None:
    """End what is left of a run whose worker or work-horse died, and record the end: STOPPED if that was requested.

    `known` stands in for a record that cannot be found. Returns the record that stands then; None if there is none.
    """
    end_processes(run_id)
    folder = files.folder(task_id, run_id)
    record = read_record(folder) or known
    if record is None:
        return None
    return close_interrupted(folder, record, STOPPED if folder.stop_requested() else interruption, job, files)


def handle_redelivery(files: RunFiles, record: RunRecord, job: Job) -> State:
    """The state of a run whose job was delivered again. Closes the run if its worker died."""
    if record.outcome is not None:
        return record.state
    if record.worker != job.worker_name and is_executing(job.connection, record.worker, record.run_id):
        return record.state
    closed = close_orphan(files, record.task_id, record.run_id, WORKER_DIED, job, record)
    return State.ERROR if closed is None else closed.state


class Recovery:
    """Looks after the runs of one queue. Remembers which are over, so that each of those is read once."""

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        files: RunFiles,
        fail: Callable[[Job, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fail` ends a job whose worker is gone, with a message for RQ; `clock` gives seconds that only grow."""
        self._settings, self._queue, self._files = settings, queue, files
        self._redis: Redis = queue.connection
        self._fail, self._clock = fail, clock
        self._over: set[RunId] = set()
        self._suspects: set[RunId] = set()
        self._strays: set[str] = set()
        self._jobs_to_end: set[RunId] = set()
        self._without_job_since: dict[RunId, float] = {}

    def run_once(self) -> None:
        """Look at everything once, unless another worker does so. Raises redis's errors and `OSError`."""
        if not self._redis.set(LOCK_KEY, "taken", nx=True, ex=LOCK_SECONDS):
            return
        try:
            self._return_strays()
            for record in self._unfinished():
                self._recover(record)
            self._end_jobs_of_ended_runs()
            clean_rate_limits(self._redis)
        finally:
            self._redis.delete(LOCK_KEY)

    def _unfinished(self) -> Iterator[RunRecord]:
        for task_id in list(self._files.task_ids()):
            for run_id in self._files.run_ids(task_id) - self._over:
                record = read_record(self._files.folder(task_id, run_id))
                if record is None:
                    continue
                if record.outcome is not None:
                    self._over.add(run_id)
                else:
                    yield record

    def _recover(self, record: RunRecord) -> None:
        job = fetch_job(self._redis, record.run_id)
        if record.started_at is None and self._files.folder(record.task_id, record.run_id).stop_requested():
            self._close(record, job, STOPPED)
        elif job is None:
            self._without_job(record)
        else:
            self._without_job_since.pop(record.run_id, None)
            self._with_job(record, job)

    def _with_job(self, record: RunRecord, job: Job) -> None:
        recorded, state = record_of_job(job), job_state(job)
        if recorded is not None and recorded.outcome is not None:
            close_run(self._files.folder(record.task_id, record.run_id), recorded, recorded.outcome, None)
        elif state is JobState.CANCELED:
            self._close(record, job, STOPPED)
        elif state in (JobState.STARTED, JobState.ENDED):
            self._close_if_orphaned(record, job, job.worker_name or record.worker)

    def _without_job(self, record: RunRecord) -> None:
        if record.started_at is not None:
            self._close_if_orphaned(record, None, record.worker)
            return
        since = self._without_job_since.setdefault(record.run_id, self._clock())
        if self._clock() - since > SETTLING_SECONDS:
            log_event("enqueued_again", run=record.run_id, task=record.task_id)
            enqueue(make_queue(self._redis, self._settings.queue_name), record, self._settings)

    def _close_if_orphaned(self, record: RunRecord, job: Job | None, worker: str | None) -> None:
        """Close a run that no heartbeat names, in two rounds: heartbeats may be lost together with Redis."""
        if is_executing(self._redis, worker, record.run_id):
            self._suspects.discard(record.run_id)
        elif record.run_id not in self._suspects:
            self._suspects.add(record.run_id)
        else:
            stopped = self._files.folder(record.task_id, record.run_id).stop_requested()
            self._close(record, job, STOPPED if stopped else WORKER_DIED)

    def _close(self, record: RunRecord, job: Job | None, interruption: Interruption) -> None:
        close_orphan(self._files, record.task_id, record.run_id, interruption, job, record)
        if job is not None and is_queued_or_started(job):
            self._fail(job, interruption.message)

    def _end_jobs_of_ended_runs(self) -> None:
        """A job whose run was closed while Redis was away is still started for RQ, and its task's next run waits.

        It is ended when that was so in two rounds: its worker may just be about to do so itself.
        """
        ended = {run_id: job for run_id, job in started_jobs(self._queue) if self._is_over(run_id, job)}
        for run_id in ended.keys() & self._jobs_to_end:
            log_event("job_ended", run=run_id)
            self._fail(ended[run_id], "The run is over; its worker could not reach Redis.")
        self._jobs_to_end = {*ended}

    def _is_over(self, run_id: RunId, job: Job) -> bool:
        task_id = task_of_job(job)
        if task_id is None or is_executing(self._redis, job.worker_name, run_id):
            return False
        record = read_record(self._files.folder(task_id, run_id))
        return record is not None and record.outcome is not None

    def _return_strays(self) -> None:
        """A job that a worker popped, and died before it began, stands in RQ's intermediate queue: put it back.

        It is put back when it stood there in two rounds.
        """
        strays = stray_ids(self._queue)
        for job_id in strays & self._strays:
            return_stray(self._queue, job_id)
        self._strays = strays
