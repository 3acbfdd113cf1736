"""Answer for runs: what Redis and the disk say about them, merged.

Nothing here holds the event loop up: what has to be read and parsed is, once per change, in a thread. What has not
changed is answered from memory, after a look at the times of its files.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from anyio import to_thread
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import RedisError
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.rate_limit import RateLimitRegistry
from rq.serializers import JSONSerializer
from rq.utils import as_text

from jobs.run.document import FINAL, QueuePlace, RunDocument, State
from jobs.run.merge import FileRun, JobState, file_document, newest, run_document, state_of
from jobs.run.record import RunRecord, record_from_job_meta, record_from_json
from jobs.status.cache import Answer, Answers, Kept, make_answer
from jobs.status.entry import is_settled
from jobs.status.history import RunHistory, task_of_today
from runner.errors import NotFound, ProjectGone
from runner.files import Identity, file_identity, read_tail
from runner.ids import RunId, TaskId, check_run_id
from runner.project.catalog import TaskCatalog
from runner.project.run_files import Reading, RunFiles, is_abandoned, started_at
from runner.project.run_folder import RunFolder
from runner.project.task import check_project
from runner.project.traversal import Traversal
from runner.settings import Settings

LOG_LINES = 20  # of the failure card
LOG_BYTES = 16 * 1024  # that hold them
PARSED = 4  # times the size of its answer that a parsed traversal takes

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
    """What Redis says about a run, and the fields of its job that say so."""

    state: JobState
    meta: RunRecord | None
    place: QueuePlace | None = None
    fields: Mapping[Any, Any] | None = None


NO_JOB = JobView(JobState.ABSENT, None)


class Paths(NamedTuple):
    """The files that say how a run stands; None for one that does not matter, or is not there yet."""

    task_id: TaskId
    traversal_id: RunId
    record: Path
    traversal: Path | None
    task_file: Path
    stop: Path | None
    log: Path | None


class Files(NamedTuple):
    """What changes whenever something about a run does on the disk: the identities of its files, whether its end was
    asked for, and whether nobody seems to work any more on one that was made by hand."""

    record: Identity | None
    traversal_path: Path | None
    traversal: Identity | None
    task_file: Identity | None
    log: Identity | None
    stop: bool
    abandoned: bool

    @property
    def is_there(self) -> bool:
        """Whether there is anything of the run."""
        return self.record is not None or self.traversal is not None


class Seen(NamedTuple):
    """What an answer was made of: the identities of its files, and what Redis said.

    The end of a run that is `settled` is on the disk, so Redis is not asked. `last_good` is the last whole traversal of
    one that is not.
    """

    paths: Paths
    files: Files
    job: JobView
    settled: bool
    last_good: Traversal | None


class Making(NamedTuple):
    """An answer that is being made, and of what."""

    of: tuple[object, ...]
    answer: asyncio.Task[Answer]


class RunReader:
    """Reads the runs of one project and one queue."""

    def __init__(
        self,
        settings: Settings,
        redis: AsyncRedis,
        files: RunFiles,
        catalog: TaskCatalog,
        history: RunHistory,
        answers: Answers[Seen],
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._redis = redis
        self._files = files
        self._history = history
        self._answers = answers
        self._making: dict[RunId, Making] = {}
        self._no_redis = Redis()  # RQ's Job wants one to exist; it is never used

    async def get(self, run_id: str) -> Answer:
        """The document of the run as it stands now. Raises `NotFound`. Answers from the disk while Redis is away."""
        known = check_run_id(run_id)
        kept = self._answers.find(known)
        paths = await self._find(known) if kept is None else kept.seen.paths
        files = self._look_at(paths)
        if kept is not None and kept.seen.files != files and not files.is_there:
            self._answers.drop(known)  # it was deleted, and may be there again in another task
            return await self.get(run_id)
        if kept is not None and kept.seen.settled and kept.seen.files == files:
            return kept.answer
        made_by_hand = files.record is None and files.traversal is not None
        job = NO_JOB if made_by_hand else await self._job(known, None if kept is None else kept.seen.job)
        if self._answers.find(known) is not kept:  # somebody else has made it meanwhile
            return await self.get(run_id)
        if kept is not None and kept.seen.job == job and kept.seen.files == files:
            return kept.answer
        return await self._make_once(known, paths.task_id, files, job)

    async def _find(self, run_id: RunId) -> Paths:
        """Where the run's files are, as far as that is known without reading them. Raises `NotFound`."""
        index = self._history.current()
        if index is None or not self._history.is_quick:
            task_id = await to_thread.run_sync(self._find_by_reading, run_id)
        else:
            task_id = index.task_of(run_id) or self._files.find_task(run_id)
        if task_id is None:
            task_id = await self._find_in_redis(run_id)
        return self._paths(RunFolder(self._settings.tasks_root, task_id, run_id), run_id)

    def _find_by_reading(self, run_id: RunId) -> TaskId | None:
        """The task of the run; brings the index up to date for the next who asks, if there is one by now."""
        with suppress(ProjectGone):
            if self._history.known is not None:
                self._history.index()
        return self._files.find_task(run_id)

    async def _find_in_redis(self, run_id: RunId) -> TaskId:
        """The task of a run that is not on the disk: only Redis can know it, when the project's folder is gone."""
        try:
            check_project(self._settings.tasks_root)
        except ProjectGone:
            meta = (await self._job(run_id)).meta
            if meta is None:
                raise
            return meta.task_id
        raise NotFound(f"There is no run '{run_id}'.")

    def _paths(self, folder: RunFolder, traversal_id: RunId) -> Paths:
        task_id, traversal = folder.task_id, self._files.traversal_path(folder.task_id, traversal_id)
        return Paths(task_id, traversal_id, folder.record, traversal, self._files.task_file(task_id), folder.stop, None)

    def _look_at(self, paths: Paths) -> Files:
        record = file_identity(paths.record)
        path = paths.traversal or self._files.traversal_path(paths.task_id, paths.traversal_id)
        traversal = None if path is None else file_identity(path)
        return Files(
            record,
            path,
            traversal,
            file_identity(paths.task_file),
            None if paths.log is None else file_identity(paths.log),
            stop=paths.stop is not None and record is not None and file_identity(paths.stop) is not None,
            abandoned=record is None and traversal is not None and is_abandoned(traversal[1] / 1e9),
        )

    async def _make_once(self, run_id: RunId, task_id: TaskId, files: Files, job: JobView) -> Answer:
        """Make the answer, or wait for it if it is just being made of the same."""
        making = self._making.get(run_id)
        if making is None or making.of != (files, job):
            making = Making((files, job), asyncio.create_task(self._make(run_id, task_id, job)))
            self._making[run_id] = making
            making.answer.add_done_callback(partial(self._forget, run_id))
        return await asyncio.shield(making.answer)

    def _forget(self, run_id: RunId, task: asyncio.Task[Answer]) -> None:
        if run_id in self._making and self._making[run_id].answer is task:
            del self._making[run_id]
        if not task.cancelled():
            task.exception()  # those who wait have it; if all of them have left, nobody needs to know

    async def _make(self, run_id: RunId, task_id: TaskId, job: JobView) -> Answer:
        kept = self._answers.find(run_id)
        last_good = None if kept is None else kept.seen.last_good
        folder = RunFolder(self._settings.tasks_root, task_id, run_id)
        return self._answers.keep(run_id, await to_thread.run_sync(self._read, folder, job, last_good)).answer

    async def log(self, run_id: str) -> Path:
        """Where the run's log is (it may not be there yet). Raises `NotFound`."""
        known = check_run_id(run_id)
        task_id = await to_thread.run_sync(self._files.task_of, known)
        return RunFolder(self._settings.tasks_root, task_id, known).log

    async def _job(self, run_id: RunId, before: JobView | None = None) -> JobView:
        """What Redis says now: `before` itself, if that is the same."""
        try:
            fields = await self._redis.hgetall(Job.key_for(run_id))
            if not fields:
                return NO_JOB
            if before is not None and before.state is not JobState.WAITING and before.fields == fields:
                return before
            job = Job(run_id, connection=self._no_redis, serializer=JSONSerializer)
            job.restore(fields)
            state = JOB_STATES[job.get_status(refresh=False)]
            place = await self._place(job) if state is JobState.WAITING else None
        except RedisError:
            return JobView(JobState.UNKNOWN, None)
        except NoSuchJobError:
            return NO_JOB
        return JobView(state, record_from_job_meta(job.meta), place, fields)

    async def _place(self, job: Job) -> QueuePlace | None:
        """Where the job waits; None if it has just left its place."""
        if job.get_status(refresh=False) is not JobStatus.RATE_LIMITED:
            place = await self._redis.lpos(f"{Queue.redis_queue_namespace_prefix}{job.origin}", job.id)
            return QueuePlace(place + 1, waiting_for=None) if isinstance(place, int) else None
        registry = RateLimitRegistry(job.rate_limit_key or "", connection=self._no_redis)
        rank = await self._redis.zrank(registry.rate_limited_key, job.id)
        ahead = [as_text(run) for run in await self._redis.zrange(registry.allowed_key, 0, 0) if isinstance(run, bytes)]
        return QueuePlace(rank + 1, waiting_for=ahead[0] if ahead else None) if isinstance(rank, int) else None

    def _read(self, folder: RunFolder, job: JobView, last_good: Traversal | None) -> Kept[Seen]:
        """Make the answer of what is there now. Raises `NotFound`."""
        record_is = file_identity(folder.record)
        record = folder.read_record()
        meta = newest(job.meta, record_from_json(record) if record is not None else None)
        paths = self._paths(folder, meta.traversal_id or folder.run_id if meta else folder.run_id)
        failed = meta is not None and state_of(meta, job.state).state in (State.FAILED, State.ERROR)
        on_disk = record is not None and meta is not None and meta.outcome is not None
        paths = paths._replace(stop=None if on_disk else paths.stop, log=folder.log if failed else None)
        # Before the rest is read: what changes while it is, is seen the next time.
        files = self._look_at(paths)._replace(record=record_is)
        reading = self._files.read(paths.task_id, paths.traversal_id, last_good)
        if meta is not None:
            tail = _log_tail(folder) if failed else []
            stop = meta.outcome is None and folder.stop_requested()
            document = run_document(meta, job.state, reading, tail, job.place, stop_requested=stop)
            settled = on_disk
        else:
            document = self._file_document(folder, paths.traversal, reading)
            settled = is_settled(document.current_state, reading.traversal)
        answer = make_answer(document, is_final=document.current_state in FINAL)
        if settled:
            return Kept(Seen(paths, files, job, settled, None), answer)
        size = 0 if reading.traversal is None else len(answer.body)
        return Kept(Seen(paths, files, job, settled, reading.traversal), answer, weight=PARSED * size)

    def _file_document(self, folder: RunFolder, path: Path | None, reading: Reading) -> RunDocument:
        if path is None or reading.modified is None:
            raise NotFound(f"There is no run '{folder.run_id}'.")
        modified_at = datetime.fromtimestamp(reading.modified, UTC)
        case, config = task_of_today(self._files, self._catalog, folder.task_id)
        run = FileRun(
            run_id=folder.run_id,
            task_id=folder.task_id,
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
