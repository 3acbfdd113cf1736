"""Accept runs and answer for them: enqueue, fetch, and see whether anybody is there to work."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Self

from anyio import to_thread
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.utils import as_text
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from jobs.connection import connect, connect_async
from jobs.document import BrowserConfig, Origin, RunDocument, RunType, TestCase
from jobs.execute import EXECUTE_RUN
from jobs.merge import FileRun, JobState, file_document, newest, run_document
from jobs.meta import RunMeta, meta_from_job, meta_from_json, meta_to_job, meta_to_json
from jobs.worker import beat_key
from runner.errors import NotFound, QueueUnavailable, RunnerError, StorageUnavailable
from runner.ids import RUN_ID_RULE, RunId, TaskId, new_run_id, parse_run_id, shown
from runner.log import log_event
from runner.project import Task, read_task
from runner.run_folder import RunFolder
from runner.settings import Settings
from runner.traversal_file import NOTHING_YET, RunFiles, started_at

JOB_MARGIN = 60  # seconds that RQ's own deadline comes after ours, which is the one that cleans up
WRITING_SECONDS = 600  # a recording that nobody touched for so long, and that no job answers for, is abandoned

JOB_STATES: Mapping[JobStatus, JobState] = {
    JobStatus.CREATED: JobState.WAITING,
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


class Readiness(NamedTuple):
    """Whether runs would be carried out now. `workers` counts the living ones of our queue."""

    redis: bool
    workers: int


class Runs:
    """The runs of one project and one queue. One of these per process: it holds the connections and the caches."""

    def __init__(self, settings: Settings, writer: Redis, reader: AsyncRedis) -> None:
        self._settings = settings
        self._files = RunFiles(settings.tasks_root)
        self._redis = writer
        self._reader = reader
        self._queue = Queue(settings.queue_name, connection=writer, serializer=JSONSerializer)

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """The runs behind REDIS_URL; nothing is sent to Redis yet."""
        return cls(settings, connect(settings.redis_url), connect_async(settings.redis_url))

    async def close(self) -> None:
        """Give the connections back."""
        self._redis.close()
        await self._reader.aclose()

    def start(self, task_name: str, browser_config: str) -> RunDocument:
        """Accept a run of the task and enqueue it; blocks for a few milliseconds.

        Raises `NotFound` and `TaskBroken` for what was asked for, `QueueUnavailable` and `StorageUnavailable` when no
        run can be accepted now. The record on disk comes before the job, and a worker starts nothing without it: a job
        that slipped into Redis although we have to answer with an error is never carried out.
        """
        task = read_task(self._settings.tasks_root, task_name)
        if browser_config != task.browser_config_id:
            raise NotFound(
                f"Task '{task.id}' has no browser configuration '{shown(browser_config)}'; "
                f"it has one, '{task.browser_config_id}'."
            )
        meta = _accepted(task, new_run_id(), datetime.now(UTC))
        folder = RunFolder(self._settings.tasks_root, task.id, meta.run_id)
        try:
            folder.create(meta_to_json(meta))
        except OSError as error:
            raise StorageUnavailable(
                f"The run was not accepted: the folder tasks/{task.id}/runs cannot be written to ({error.strerror})."
            ) from None
        try:
            self._enqueue(meta)
        except RedisError as error:
            folder.remove()
            log_event("not_accepted", run=meta.run_id, task=task.id, because=error)
            raise QueueUnavailable("The run was not accepted: Redis does not answer. Try again in a moment.") from None
        log_event("accepted", run=meta.run_id, task=task.id)
        return run_document(meta, JobState.WAITING, None)

    async def get(self, run_id: str) -> RunDocument:
        """The run as it stands now. Raises `NotFound`. Answers from the disk while Redis is away."""
        known = parse_run_id(run_id)
        if known is None:
            raise NotFound(f"There is no run '{shown(run_id)}': the ID of a run is {RUN_ID_RULE}.")
        job = await self._job(known)
        return await to_thread.run_sync(self._document, known, job)

    async def readiness(self) -> Readiness:
        """Whether Redis answers, and how many workers of our queue have given a sign of life lately."""
        try:
            keys = await self._reader.smembers(WORKERS_BY_QUEUE_KEY % self._settings.queue_name)
            names = [as_text(key).rpartition(":")[2] for key in keys]
            alive = await self._reader.exists(*map(beat_key, names)) if names else 0
        except RedisError:
            return Readiness(redis=False, workers=0)
        return Readiness(redis=True, workers=alive)

    def _enqueue(self, meta: RunMeta) -> None:
        self._queue.enqueue_call(
            EXECUTE_RUN,
            kwargs={"task_id": meta.task_id},
            job_id=meta.run_id,
            timeout=self._settings.run_timeout + JOB_MARGIN,
            result_ttl=self._settings.run_ttl,
            failure_ttl=self._settings.run_ttl,
            description=f"run {meta.run_id} of task {meta.task_id}",
            meta=meta_to_job(meta),
            unique=True,
        )

    async def _job(self, run_id: RunId) -> JobView:
        try:
            fields = await self._reader.hgetall(Job.key_for(run_id))
        except RedisError:
            return JobView(JobState.UNKNOWN, None)
        if not fields:
            return JobView(JobState.ABSENT, None)
        job = Job(run_id, connection=self._redis, serializer=JSONSerializer)
        try:
            job.restore(fields)
        except NoSuchJobError:
            return JobView(JobState.ABSENT, None)
        return JobView(JOB_STATES[job.get_status(refresh=False)], meta_from_job(job.meta))

    def _document(self, run_id: RunId, job: JobView) -> RunDocument:
        task_id = job.meta.task_id if job.meta else self._files.find_task(run_id)
        if task_id is None:
            raise NotFound(f"There is no run '{run_id}'.")
        path = self._files.traversal_path(task_id, run_id)
        reading = NOTHING_YET if path is None else self._files.read(path)
        meta = job.meta
        if meta is None or meta.outcome is None:
            record = RunFolder(self._settings.tasks_root, task_id, run_id).read_record()
            meta = newest(meta, meta_from_json(record) if record is not None else None)
        if meta is not None:
            return run_document(meta, job.state, reading.traversal)
        if path is None or reading.modified is None:
            raise NotFound(f"There is no run '{run_id}'.")
        return file_document(self._file_run(run_id, task_id, path, reading.modified), reading)

    def _file_run(self, run_id: RunId, task_id: TaskId, path: Path, modified: float) -> FileRun:
        modified_at = datetime.fromtimestamp(modified, UTC)
        try:
            task = read_task(self._settings.tasks_root, task_id)
        except RunnerError:  # the task was deleted or damaged since; its runs are still there
            task = None
        return FileRun(
            run_id=run_id,
            task_id=task_id,
            test_case=_test_case(task) if task else None,
            browser_config=_browser_config(task) if task else None,
            started_at=started_at(path.name) or modified_at,
            modified_at=modified_at,
            abandoned=(datetime.now(UTC) - modified_at).total_seconds() > WRITING_SECONDS,
        )


def _accepted(task: Task, run_id: RunId, now: datetime) -> RunMeta:
    return RunMeta(
        run_id=run_id,
        task_id=task.id,
        test_case=_test_case(task),
        browser_config=_browser_config(task),
        run_type=RunType.AGENTIC,
        origin=Origin.WEB_UI,
        queued_at=now,
    )


def _test_case(task: Task) -> TestCase:
    return TestCase(id=task.id, test_name=task.name, test_description=task.description, test_goal=task.goal)


def _browser_config(task: Task) -> BrowserConfig:
    return BrowserConfig(id=task.browser_config_id, browser_config=task.browser)
