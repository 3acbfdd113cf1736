"""One run: what Redis and the disk say about it, merged.

Nothing here delays the event loop: reading and parsing is done, once per change, in a thread. An unchanged run is
answered from the cache, after a look at the times of its files.
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
from anyio import to_thread
from redis.asyncio import Redis as AsyncRedis

from jobs.queue.job import NO_JOB, JobView, view_job
from jobs.queue.records import check_kept, find_folder, find_task, show_record
from jobs.run.document import RunDocument, newest, run_document, state_of
from jobs.run.record import RunRecord, has_final_word, record_of_file
from jobs.run.state import JobState
from jobs.status.cache import CacheEntry, RenderedJSON, ResponseCache, render_json
from jobs.status.projection import Projection
from jobs.status.row import current_task
from runner.errors import NoSuchRun, NotFound, ProjectGone
from runner.files import Identity, file_identity, is_there, read_tail
from runner.ids import RunId, TaskId, check_run_id
from runner.project.catalog import TaskCatalog
from runner.project.run_files import RunFiles, is_abandoned
from runner.project.run_folder import RunFolder
from runner.project.traversal import Reading, Traversal

LOG_BYTES = 16 * 1024  # of the end of the log, which hold the lines of a failure card
PARSED = 4  # times the size of its JSON that a parsed traversal takes


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
    """Differs whenever anything about a run has changed on the disk."""

    record: Identity | None
    traversal_path: Path | None
    traversal: Identity | None
    task_file: Identity | None
    log: Identity | None
    stop: bool
    """Whether a stop was requested."""
    abandoned: bool
    """Whether a run made by hand has not changed for so long that its CLI cannot be running."""

    @property
    def exist(self) -> bool:
        return self.record is not None or self.traversal is not None

    @property
    def made_by_hand(self) -> bool:
        return self.record is None and self.traversal is not None


class Fingerprint(NamedTuple):
    """The sources of a run's document."""

    paths: Paths
    files: Files
    job: JobView
    settled: bool
    """Whether the end of the run is on the disk, so that Redis need not be asked."""
    last_good: Traversal | None
    """The last whole traversal of a run that is not settled."""


class InFlight(NamedTuple):
    """A document that is being made, and of what."""

    sources: tuple[Files, JobView]
    task: asyncio.Task[RenderedJSON]


class RunReader:
    """Reads the runs of one project and one queue."""

    def __init__(
        self,
        redis: AsyncRedis,
        files: RunFiles,
        catalog: TaskCatalog,
        projection: Projection,
        cache: ResponseCache,
    ) -> None:
        self._redis = redis
        self._files = files
        self._catalog = catalog
        self._projection = projection
        self._cache = cache
        self._in_flight: dict[RunId, InFlight] = {}
        self._turn = asyncio.Lock()

    async def get(self, run_id: str) -> RenderedJSON:
        """The document of the run as it stands now. Raises `NotFound`. Reads the disk alone while Redis is away."""
        checked = check_run_id(run_id)
        entry = self._cache.get(checked)
        known: Fingerprint | None = None if entry is None else entry.fingerprint
        paths = await self._find(checked) if known is None else known.paths
        files = self._stat(paths)
        if known is not None and known.files != files and not files.exist:
            self._cache.pop(checked, None)  # it was deleted, and may be there again in another task
            return await self.get(run_id)
        if entry is not None and known is not None and known.settled and known.files == files:
            return entry.rendered
        before = None if known is None else known.job
        job = NO_JOB if files.made_by_hand else await view_job(self._redis, checked, before)
        if self._cache.get(checked) is not entry:  # it was made again meanwhile
            return await self.get(run_id)
        if entry is not None and known is not None and known.job == job and known.files == files:
            return entry.rendered
        return await self._make_once(checked, paths, files, job)

    async def document(self, run_id: str) -> RunDocument:
        """The same, to be looked into. One at a time is decoded: a large one takes memory, and time of all others."""
        rendered = await self.get(run_id)
        async with self._turn:
            return await to_thread.run_sync(partial(msgspec.json.decode, rendered.body, type=RunDocument))

    async def find(self, run_id: str) -> RunDocument | None:
        """The same; None if there is no such run, such as one that was deleted."""
        try:
            return await self.document(run_id)
        except NotFound:
            return None

    def open_log(self, run_id: str) -> BinaryIO:
        """The run's log, open; empty if it is not there yet. Reads the disk. Raises `NotFound`, and `Gone` if
        it was pruned."""
        folder = find_folder(self._files, run_id)
        if not is_there(folder.log):
            check_kept(folder)
        return folder.open_log()

    async def _find(self, run_id: RunId) -> Paths:
        """Where the run's files are, as far as that is known without reading them. Raises `NotFound`."""
        places = self._projection.places(run_id)
        if len(places) == 1:
            paths = self._paths(self._files.folder(places[0].task_id, run_id), run_id, places[0].file)
            if self._stat(paths).exist:
                return paths
        task_id = await to_thread.run_sync(self._search, run_id) or await self._find_in_redis(run_id)
        return self._paths(self._files.folder(task_id, run_id), run_id)

    def _search(self, run_id: RunId) -> TaskId | None:
        """The task of a run that is in no row yet, or in several."""
        if self._files.tasks_with_record(run_id) or self._projection.indexing() is not None:
            return find_task(self._files, run_id)
        return self._projection.find_new(run_id)

    async def _find_in_redis(self, run_id: RunId) -> TaskId:
        """The task of a run that this machine does not find on the disk: the project's folder is gone, or is on a
        network disk, where another machine has accepted the run in this moment."""
        state, record, *_ = await view_job(self._redis, run_id)
        try:
            self._files.check_project()
        except ProjectGone:
            if record is None:
                raise
            return record.task_id
        if record is None or state not in (JobState.WAITING, JobState.STARTED):
            raise NoSuchRun(run_id)
        return record.task_id

    def _paths(self, folder: RunFolder, traversal_id: RunId, file: str | None = None) -> Paths:
        task_id = folder.task_id
        known = self._files.traversal_file(task_id, file) if file else None
        traversal = known or self._files.traversal_path(task_id, traversal_id)
        return Paths(task_id, traversal_id, folder.record, traversal, self._files.task_file(task_id), folder.stop, None)

    def _stat(self, paths: Paths) -> Files:
        """The files as they are now; nothing is read."""
        record = file_identity(paths.record)
        path = paths.traversal or self._files.traversal_path(paths.task_id, paths.traversal_id)
        traversal = None if path is None else file_identity(path)
        return Files(
            record,
            path,
            traversal,
            file_identity(paths.task_file),
            None if paths.log is None else file_identity(paths.log),
            stop=paths.stop is not None and record is not None and is_there(paths.stop),
            abandoned=record is None and traversal is not None and is_abandoned(traversal[1] / 1e9),
        )

    async def _make_once(self, run_id: RunId, paths: Paths, files: Files, job: JobView) -> RenderedJSON:
        """Make the document, or wait for it if it is just being made of the same."""
        current = self._in_flight.get(run_id)
        if current is None or current.sources != (files, job):
            current = InFlight((files, job), asyncio.create_task(self._make(run_id, paths, job)))
            self._in_flight[run_id] = current
            current.task.add_done_callback(partial(self._landed, run_id))
        return await asyncio.shield(current.task)

    def _landed(self, run_id: RunId, task: asyncio.Task[RenderedJSON]) -> None:
        if run_id in self._in_flight and self._in_flight[run_id].task is task:
            del self._in_flight[run_id]
        if not task.cancelled():
            task.exception()  # the waiting requests get it; marked as retrieved in case there are none

    async def _make(self, run_id: RunId, paths: Paths, job: JobView) -> RenderedJSON:
        entry = self._cache.get(run_id)
        last_good = None if entry is None else entry.fingerprint.last_good
        folder = self._files.folder(paths.task_id, run_id)
        made = await to_thread.run_sync(self._read, folder, paths, job, last_good)
        return self._cache.put(run_id, made).rendered

    def _read(self, folder: RunFolder, paths: Paths, job: JobView, last_good: Traversal | None) -> CacheEntry:
        """Make the document from the present files. Raises `NotFound`."""
        record_identity = file_identity(folder.record)
        on_disk = show_record(folder)
        accepted = newest(job.record, on_disk)
        traversal_id = folder.run_id if accepted is None else accepted.file_id
        if paths.traversal is None or paths.traversal_id != traversal_id:
            paths = self._paths(folder, traversal_id)
        failed = accepted is not None and state_of(accepted, job.state).state.is_failure
        over = on_disk is not None and on_disk.is_readable and accepted is not None and accepted.outcome is not None
        paths = paths._replace(stop=None if over else paths.stop, log=folder.log if failed else None)
        # Before the rest is read, so that a change meanwhile is noticed the next time.
        is_unread = on_disk is not None and on_disk.is_unread
        files = self._stat(paths)._replace(record=None if is_unread else record_identity)
        kept = self._files.read_kept(folder, accepted.epoch) if over and accepted is not None else None
        reading = kept or self._files.read(paths.task_id, paths.traversal_id, last_good, paths.traversal)
        record = accepted or self._made_by_hand(folder, reading)
        state = NO_JOB.state if accepted is None else job.state
        stop = accepted is not None and accepted.outcome is None and folder.stop_requested()
        log = _last_log_lines(folder) if failed else []
        document = run_document(record, state, reading, log, job.place, stop_requested=stop)
        rendered = render_json(document, is_final=document.current_state.is_final)
        settled = over if accepted is not None else has_final_word(record, reading)
        good = None if settled else reading.traversal
        size = 0 if good is None else PARSED * len(rendered.body)
        return CacheEntry(Fingerprint(paths, files, job, settled, good), rendered, size)

    def _made_by_hand(self, folder: RunFolder, reading: Reading) -> RunRecord:
        """The record of a run of which there is only a traversal. Raises `NotFound` if there is none."""
        abandoned = reading.modified is not None and is_abandoned(reading.modified)
        record = record_of_file(folder.task_id, folder.run_id, reading, abandoned=abandoned)
        if record is None:
            raise NoSuchRun(folder.run_id)
        case, config = current_task(self._files, self._catalog, folder.task_id)
        return msgspec.structs.replace(record, test_case=case, browser_config=config)


def _last_log_lines(folder: RunFolder) -> list[str]:
    text = read_tail(folder.log, folder.tasks_root, LOG_BYTES).decode("utf-8", errors="replace")
    return [line for line in text.split("\n") if line.strip()]
