"""Recovery: end runs that no worker executes any more, enqueue accepted runs that Redis has lost, free turns, bring
batches to their end.

One worker of a queue leads and does this, in rounds. It goes by what is on the disk: each run that is open there must
be in the queue, or in the hands of a worker whose heartbeat names it. Nothing is done about a run before it was out of
place in two rounds, so what is just under way has time to arrive; and all that is done is decided by the run's record,
so that it does no harm if a second worker believes that it leads.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import LockError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.lock import Lock

from jobs.queue.heartbeat import is_executing
from jobs.queue.job import (
    BaseWorker,
    Job,
    Queue,
    enqueue,
    fetch_job,
    hold_turn,
    job_state,
    record_of_job,
    task_of_job,
    turn_key,
)
from jobs.queue.places import (
    QueueView,
    drop_popped,
    end_job,
    forget_expired,
    give_turns,
    return_popped,
    view_queue,
)
from jobs.queue.records import close_run, close_unstarted, find_task, read_record, show_record, was_moved
from jobs.run.record import RunRecord
from jobs.run.state import JobState
from jobs.run.verdict import MOVED, STOPPED, WORKER_DIED
from jobs.worker.batches import BatchRecovery
from jobs.worker.execute import close_dead
from jobs.worker.sweep import Sweeps
from runner.cli.machine import machine_id
from runner.cli.process import end_processes
from runner.errors import OwnershipLost, RecordUnreadable
from runner.files import Identity, file_identity
from runner.ids import RunId, TaskId, parse_run_id
from runner.log import log_event
from runner.project.removal import remove
from runner.project.run_files import RunFiles
from runner.project.run_folder import RunFolder, unfinished_folders
from runner.settings import Settings

ROUND_SECONDS = 5.0  # from the end of one round to the next
LEAD_SECONDS = 2 * ROUND_SECONDS  # after which another worker leads if the present leader says nothing
CLEANING_ROUNDS = 60  # between two times that everything which is over is cleaned away
NO_TURN_LIMIT = 1000  # turns of a task that are given where RUNS_PER_TASK sets no limit (any more)


class Recovery:
    """Looks after the runs of one queue."""

    def __init__(self, settings: Settings, worker: BaseWorker, files: RunFiles) -> None:
        """`worker` ends jobs as RQ would; its connection must be one that does not wait."""
        self._settings, self._worker, self._files = settings, worker, files
        self._queue: Queue = worker.queues[0]
        self._redis = worker.connection
        key = f"bugninja-runner:recovery:{self._queue.name}"
        self._lead = Lock(self._redis, key, timeout=LEAD_SECONDS, blocking=False, thread_local=False)
        self._sweeps = Sweeps(self._redis)
        self._batches = BatchRecovery(settings, self._redis, files)
        self._over: dict[TaskId, set[RunId]] = {}
        self._unstarted: dict[tuple[TaskId, RunId], Identity | None] = {}
        self._seen: set[tuple[str, str]] = set()  # what was out of place, and how, in the last round
        self._now: set[tuple[str, str]] = set()  # and in this one
        self._unfinished: set[str] = set()
        self._rounds = 0

    def round(self) -> Iterator[None]:
        """Look at everything once, step by step, if this worker leads. Raises redis's errors; a fault in one run is
        logged, and the next is looked at."""
        if not self._leads():
            return
        view = view_queue(self._queue)
        open_runs: set[str] = set()
        for task_id in list(self._files.task_ids()):
            for run_id in self._open_runs(task_id):
                is_open = True
                if not self._waits(task_id, run_id, view):
                    with self._guard(run_id):
                        is_open = self._recover(self._files.folder(task_id, run_id), view)
                    yield
                if is_open:
                    open_runs.add(run_id)
        for job_id in sorted(view.popped - open_runs):
            with self._guard(job_id):
                self._drop_stray(job_id)
        for job_id in sorted((view.turns.keys() | view.started) - open_runs):
            with self._guard(job_id):
                self._end_job(job_id, view.turns.get(job_id))
            yield
        for file in self._batches.unfinished():
            with self._guard(file.batch_id):
                self._batches.look_after(file, self._over)
            yield
        with self._guard(None):
            give_turns(self._queue, self._free_limits(view), self._limit)
        if self._rounds % CLEANING_ROUNDS == 0:
            with self._guard(None):
                self._clean(view)
        self._rounds += 1
        self._seen, self._now = self._now, set()

    def leave(self) -> None:
        """Let another worker lead at once. Raises redis's errors."""
        if self._lead.owned():
            self._lead.release()

    @property
    def _limit(self) -> int:
        return self._settings.runs_per_task or NO_TURN_LIMIT

    def _leads(self) -> bool:
        try:
            return bool(self._lead.reacquire())
        except LockError:
            self._seen, self._now, self._unstarted = set(), set(), {}  # which were true when it last led
            return bool(self._lead.acquire())

    @contextmanager
    def _guard(self, run_id: str | None) -> Iterator[None]:
        """Inside it a fault is logged, of whatever type, unless it says that Redis is away; not again as long as it
        stays."""
        try:
            yield
        except (RedisConnectionError, RedisTimeoutError):
            raise
        except (OwnershipLost, RecordUnreadable) as error:
            if not self._is_due(f"{run_id}", f"{error}"):  # or it was said in the last round
                log_event("not_recovered", run=run_id, error=error)
        except Exception as error:  # noqa: BLE001 (whatever it is, it must not hide the next run)
            if self._is_due(f"{run_id}", f"{error}"):
                return
            log_event("recovery_failed", level=logging.ERROR, run=run_id, error=f"{type(error).__name__}: {error}")

    def _is_due(self, run_id: str, what: str) -> bool:
        """Whether this was so in the last round, too."""
        self._now.add((run_id, what))
        return (run_id, what) in self._seen

    def _open_runs(self, task_id: TaskId) -> list[RunId]:
        ids = self._files.run_ids(task_id)
        over = self._over.setdefault(task_id, set())
        over &= ids
        return sorted(ids - over)

    def _waits(self, task_id: TaskId, run_id: RunId, view: QueueView) -> bool:
        """Whether the run is known not to be started, and is in its place. Of thousands that wait behind others
        nothing is looked at; of one that also has a turn, or is in a second place, its record."""
        if run_id not in view.waiting or (task_id, run_id) not in self._unstarted:
            return False
        if run_id not in view.turns and run_id not in view.popped and run_id not in view.started:
            return True
        return self._unstarted[task_id, run_id] == file_identity(self._files.folder(task_id, run_id).record)

    def _recover(self, folder: RunFolder, view: QueueView) -> bool:
        """Look after this run; whether anything can still become of it."""
        self._unstarted.pop((folder.task_id, folder.run_id), None)
        identity = file_identity(folder.record)
        try:
            record = read_record(folder)
        except RecordUnreadable as error:
            if not self._is_due(folder.run_id, "unreadable"):
                log_event("record_unreadable", level=logging.ERROR, run=folder.run_id, error=error)
            return False
        if record is None:
            return False  # it was just deleted
        if record.outcome is not None:
            self._over[folder.task_id].add(folder.run_id)
            return False
        if was_moved(folder):
            close_dead(self._files, folder, record, MOVED)
        elif record.epoch:
            if self._settings.runs_per_task and record.run_id not in view.turns:  # Redis was emptied, say
                hold_turn(self._redis, turn_key(self._queue, record.turn_of), record.run_id, self._limit)
            self._recover_started(folder, record)
        else:
            self._unstarted[folder.task_id, folder.run_id] = identity
            self._recover_unstarted(folder, record, view)
        return True

    def _recover_unstarted(self, folder: RunFolder, record: RunRecord, view: QueueView) -> None:
        if record.run_id in view.waiting:
            return
        if record.run_id in view.popped:  # and if its worker died then, it stays there
            if self._is_due(record.run_id, "popped"):
                if fetch_job(self._redis, record.run_id) is None:  # to be returned for ever
                    drop_popped(self._queue, record.run_id)
                    return
                return_popped(self._queue, record.run_id)
                log_event("job_returned", run=record.run_id)
            return
        job = fetch_job(self._redis, record.run_id)
        if self._has_ended(folder, record, job):
            return
        if job is not None and job_state(job) is JobState.CANCELED:
            close_unstarted(folder, record, STOPPED, job)
        elif self._is_due(record.run_id, "not enqueued"):
            enqueue(self._queue, [record], self._settings, again=True)
            log_event("enqueued_again", run=record.run_id, task=record.task_id)

    def _recover_started(self, folder: RunFolder, record: RunRecord) -> None:
        if is_executing(self._redis, record.worker, record.run_id):
            return
        job = fetch_job(self._redis, record.run_id)
        if self._has_ended(folder, record, job) or not self._is_due(record.run_id, "not executed"):
            return
        close_dead(self._files, folder, record, WORKER_DIED, job)
        if record.machine in (None, machine_id()) and not end_processes(folder.path):
            end_job(self._worker, record.run_id, WORKER_DIED.message, None)

    def _has_ended(self, folder: RunFolder, record: RunRecord, job: Job | None) -> bool:
        """Whether Redis alone knows how the run ended, since the disk was full: now the disk does."""
        kept = None if job is None else record_of_job(job)
        if kept is None or kept.outcome is None:
            return False
        close_run(folder, msgspec.structs.replace(kept, epoch=record.epoch), kept.outcome, None)
        return True

    def _drop_stray(self, job_id: str) -> None:
        if self._is_due(job_id, "popped"):
            drop_popped(self._queue, job_id)
            log_event("job_dropped", run=job_id)

    def _end_job(self, job_id: str, turn: str | None) -> None:
        """End a job whose run is over: its worker could not, and the next run of the task waits for it. Not before all
        processes of the run are gone, which only a worker on their machine can see."""
        job = fetch_job(self._redis, job_id)
        task_id = task_of_job(job) if job is not None else self._task_of(job_id)
        run_id = parse_run_id(job_id)
        folder = self._files.folder(task_id, run_id) if run_id is not None and task_id is not None else None
        record = None if folder is None else show_record(folder)
        workers = (record.worker if record else None, job.worker_name if job else None)
        if any(is_executing(self._redis, worker, job_id) for worker in workers):
            return
        if not self._is_due(job_id, "over"):
            self._sweeps.note(job_id, record.machine if record else None)
            return
        if folder is None or record is None or record.machine is None:
            is_clean = True
        elif record.machine == machine_id():
            is_clean = end_processes(folder.path) == 0
        else:
            is_clean = self._sweeps.since_noted(job_id, record.machine)
        if is_clean:
            end_job(self._worker, job_id, "The run is over; its worker could not end the job.", turn)
            log_event("job_ended", run=job_id)

    def _task_of(self, job_id: str) -> TaskId | None:
        run_id = parse_run_id(job_id)
        return None if run_id is None else find_task(self._files, run_id)

    def _free_limits(self, view: QueueView) -> list[str]:
        """The keys of rate limits where runs wait although a turn is free."""
        taken = Counter(view.turns.values())
        return [key for key, waits in view.limits.items() if waits and taken[key] < self._limit]

    def _clean(self, view: QueueView) -> None:
        """Forget what is over, and delete what a process left that died while it accepted or deleted a run."""
        forget_expired(self._queue, [key for key, waits in view.limits.items() if not waits], self._settings.run_ttl)
        found = {
            str(path): path
            for task in list(self._files.task_ids())
            for path in unfinished_folders(self._files.tasks_root, task)
        }
        found |= {str(path): path for path in self._files.batches.unfinished()}
        for name in found.keys() & self._unfinished:
            with self._guard(name):
                remove(found[name])
        self._unfinished = {*found}
