"""Answer for runs: what Redis and the disk say about them, merged. Nothing here blocks the event loop."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from anyio import to_thread
from msgspec import Struct
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry
from rq.serializers import JSONSerializer
from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from jobs.beat import beat_key
from jobs.document import QueuePlace, RunDocument, State
from jobs.history import task_of_today
from jobs.merge import FileRun, JobState, file_document, newest, run_document, state_of
from jobs.meta import RunMeta, meta_from_job, meta_from_json
from runner.catalog import TaskCatalog
from runner.errors import NotFound
from runner.files import read_tail
from runner.ids import RunId, TaskId, check_run_id
from runner.project import check_project
from runner.run_folder import RunFolder
from runner.settings import Settings
from runner.traversal_file import RunFiles, is_abandoned, started_at

LOG_LINES = 20  # of the failure card
LOG_BYTES = 16 * 1024  # that hold them

JOB_STATES: Mapping[JobStatus, JobState] = {
    JobStatus.CREATED: JobState.ABSENT,  # an enqueued job never has it: Redis has lost all but a late word of a worker
    JobStatus.QUEUED: JobState.WAITING,
    JobStatus.DEFERRED: JobState.WAITING,
    JobStatus.SCHEDULED: JobState.WAITING,
    JobStatus.RATE_LIMITED: JobState.WAITING,
    JobStatus.READY_TO_ENQUEUE: JobState.WAITING,
    JobStatus.STARTED: JobState.ACTIVE,
    JobStatus.FINISHED: JobState.ENDED,
    JobStatus.FAILED: JobState.FAILED,
    JobStatus.STOPPED: JobState.STOPPED,
    JobStatus.CANCELED: JobState.STOPPED,
}


class JobView(NamedTuple):
    """What Redis says about a run."""

    state: JobState
    meta: RunMeta | None
    place: QueuePlace | None = None


class Health(Struct, frozen=True):
    """The process lives."""

    status: str


class Ready(Struct, frozen=True, omit_defaults=True):
    """Whether runs would be carried out now. `workers` counts the living ones of our queue, `detail` says what is
    missing."""

    status: str
    redis: bool
    workers: int
    detail: str | None = None


class RunReader:
    """Reads the runs of one project and one queue."""

    def __init__(self, settings: Settings, redis: AsyncRedis, files: RunFiles, catalog: TaskCatalog) -> None:
        self._settings = settings
        self._catalog = catalog
        self._redis = redis
        self._files = files
        self._no_redis = Redis()  # RQ's Job wants one to exist; it is never used

    async def get(self, run_id: str) -> RunDocument:
        """The run as it stands now. Raises `NotFound`. Answers from the disk while Redis is away."""
        known = check_run_id(run_id)
        job = await self._job(known)
        return await to_thread.run_sync(self._document, known, job)

    async def log(self, run_id: str) -> Path:
        """Where the run's log is (it may not be there yet). Raises `NotFound`."""
        known = check_run_id(run_id)
        task_id = await to_thread.run_sync(self._files.task_of, known)
        return RunFolder(self._settings.tasks_root, task_id, known).log

    async def readiness(self) -> Ready:
        """Whether Redis answers, and how many workers of our queue have given a sign of life lately."""
        try:
            keys = await self._redis.smembers(WORKERS_BY_QUEUE_KEY % self._settings.queue_name)
            names = [as_text(key).rpartition(":")[2] for key in keys]
            alive = await self._redis.exists(*map(beat_key, names)) if names else 0
        except RedisError:
            return Ready("not ready", False, 0, "Redis does not answer.")
        if not alive:
            return Ready("not ready", True, 0, "No worker is alive: start one with `honcho start worker`.")
        return Ready("ready", True, alive)

    async def _job(self, run_id: RunId) -> JobView:
        try:
            fields = await self._redis.hgetall(Job.key_for(run_id))
            if not fields:
                return JobView(JobState.ABSENT, None)
            job = Job(run_id, connection=self._no_redis, serializer=JSONSerializer)
            job.restore(fields)
            state = JOB_STATES[job.get_status(refresh=False)]
            place = await self._place(job) if state is JobState.WAITING else None
        except RedisError:
            return JobView(JobState.UNKNOWN, None)
        except NoSuchJobError:
            return JobView(JobState.ABSENT, None)
        return JobView(state, meta_from_job(job.meta), place)

    async def _place(self, job: Job) -> QueuePlace | None:
        """Where the job waits; None if it has just left its place."""
        if job.get_status(refresh=False) is not JobStatus.RATE_LIMITED:
            place = await self._redis.lpos(f"{Queue.redis_queue_namespace_prefix}{job.origin}", job.id)
            return QueuePlace(place + 1, waiting_for=None) if isinstance(place, int) else None
        registry = RateLimitRegistry(job.rate_limit_key or "", connection=self._no_redis)
        rank = await self._redis.zrank(registry.rate_limited_key, job.id)
        ahead = [as_text(run) for run in await self._redis.zrange(registry.allowed_key, 0, 0) if isinstance(run, bytes)]
        return QueuePlace(rank + 1, waiting_for=ahead[0] if ahead else None) if isinstance(rank, int) else None

    def _document(self, run_id: RunId, job: JobView) -> RunDocument:
        task_id = job.meta.task_id if job.meta else self._files.find_task(run_id)
        if task_id is None:
            check_project(self._settings.tasks_root)
            raise NotFound(f"There is no run '{run_id}'.")
        folder = RunFolder(self._settings.tasks_root, task_id, run_id)
        meta = job.meta
        if meta is None or meta.outcome is None:
            record = folder.read_record()
            meta = newest(meta, meta_from_json(record) if record is not None else None)
        if meta is None:
            return self._file_document(run_id, task_id)
        reading = self._files.read(task_id, meta.traversal_id or run_id)
        failed = state_of(meta, job.state).state in (State.FAILED, State.ERROR)
        stop = meta.outcome is None and folder.stop_requested()
        tail = _log_tail(folder) if failed else []
        return run_document(meta, job.state, reading, tail, job.place, stop_requested=stop)

    def _file_document(self, run_id: RunId, task_id: TaskId) -> RunDocument:
        path = self._files.traversal_path(task_id, run_id)
        reading = self._files.read(task_id, run_id)
        if path is None or reading.modified is None:
            raise NotFound(f"There is no run '{run_id}'.")
        modified_at = datetime.fromtimestamp(reading.modified, UTC)
        case, config = task_of_today(self._files, self._catalog, task_id)
        run = FileRun(
            run_id=run_id,
            task_id=task_id,
            test_case=case,
            browser_config=config,
            started_at=started_at(path.name) or modified_at,
            modified_at=modified_at,
            abandoned=is_abandoned(reading.modified),
        )
        return file_document(run, reading)


def _log_tail(folder: RunFolder) -> list[str]:
    text = read_tail(folder.log, LOG_BYTES).decode("utf-8", errors="replace")
    return [line for line in text.split("\n") if line.strip()][-LOG_LINES:]
