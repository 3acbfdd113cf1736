"""Batches: what their records, the rows of their runs, and those of their runs that are under way say, merged."""

import asyncio
from datetime import UTC, datetime
from functools import partial

import msgspec
from anyio import to_thread
from cachetools import LRUCache

from jobs.queue.batches import read_batch
from jobs.queue.records import show_record
from jobs.run.batch import (
    BatchDocument,
    BatchItem,
    BatchRecord,
    RunLine,
    batch_document,
    missing_line,
    pending_line,
    run_line,
    unreadable_batch,
)
from jobs.run.state import State
from jobs.status.cache import RenderedJSON, render_json
from jobs.status.lists import RunLists
from jobs.status.query import Page, PageQuery, paging, part_of
from jobs.status.reader import RunReader
from runner.errors import Busy, NotFound, RecordUnreadable, printable
from runner.files import file_identity
from runner.ids import RunId
from runner.project.batch_files import BatchFile, Mark
from runner.project.run_files import RunFiles

REMEMBERED = 100  # batches, whose runs that are over are not read again
OF_BATCH = """SELECT run_id, state, passed_steps + failed_steps FROM runs JOIN groups ON groups.id = group_id
    WHERE batch_id = ?"""


class Batches:
    """Nothing here blocks the event loop."""

    def __init__(self, files: RunFiles, lists: RunLists, reader: RunReader) -> None:
        self._files = files
        self._lists = lists
        self._reader = reader
        self._over: LRUCache[RunId, dict[str, RunLine]] = LRUCache(REMEMBERED)

    async def get(self, batch_id: str) -> RenderedJSON:
        """The document of the batch as it stands now. Raises `NotFound`."""
        document = await self.document(batch_id)
        return render_json(document, is_final=document.current_state.is_final)

    async def document(self, batch_id: str) -> BatchDocument:
        """The same, to be looked into."""
        file = await to_thread.run_sync(self.find, batch_id)
        marks = file.has(Mark.ACCEPTING), file.has(Mark.STOP) or file.has(Mark.HOLD)
        key = (BatchDocument, file.batch_id, file_identity(file.path), *marks)
        rendered = await self._lists.render(key, partial(self.make, file))
        document = msgspec.json.decode(rendered.body, type=BatchDocument)
        running = [line for line in document.runs if line.current_state is State.RUNNING]
        found = {line.id: line for line in await asyncio.gather(*map(self._with_progress, running))}
        return msgspec.structs.replace(document, runs=[found.get(line.id, line) for line in document.runs])

    async def page(self, query: PageQuery) -> RenderedJSON:
        """A page of batches, the newest first, without their runs."""
        key = (BatchItem, query, file_identity(self._files.batches.folder))
        return await self._lists.render(key, partial(self._make_page, query))

    def find(self, batch_id: str) -> BatchFile:
        """The record's file of the batch with this ID (text from outside). Raises `NotFound`."""
        return self._files.batches.find(RunId(printable(batch_id)))

    def record(self, file: BatchFile) -> BatchRecord:
        """What the file says; one that cannot be used is an ERROR that says why. Raises `NotFound`, and `Busy` if it
        cannot be read: that may pass, and whoever waits for its end must not take it for over."""
        try:
            record = read_batch(file)
        except RecordUnreadable as error:
            return unreadable_batch(file.batch_id, file.queued_at, str(error))
        except OSError as error:
            raise Busy(f"The record of batch '{file.batch_id}' cannot be read now ({error.strerror}).") from None
        if record is None:
            raise NotFound(f"There is no batch '{file.batch_id}'.")
        return record

    def make(self, file: BatchFile) -> BatchDocument:
        """The document, without the goals of runs that are under way."""
        record = self.record(file)
        lines = self._lines(file, record) if record.lines is None else record.lines
        return batch_document(record, lines, stopping=file.has(Mark.STOP) or file.has(Mark.HOLD))

    def _lines(self, file: BatchFile, batch: BatchRecord) -> list[RunLine]:
        found = self._lists.projection.database.read(lambda it: it.execute(OF_BATCH, (batch.batch_id,)).fetchall())
        rows = {run_id: (State(state), steps) for run_id, state, steps in found}
        over, lines = self._over.setdefault(batch.batch_id, {}), []
        missing = partial(missing_line, batch, now=datetime.now(UTC), accepting=file.has(Mark.ACCEPTING))
        for run in batch.runs:
            state, steps = rows.get(run.run_id, (State.PENDING, 0))
            if run.run_id in over or (state is State.PENDING and run.run_id in rows):
                lines.append(over.get(run.run_id) or pending_line(run))
                continue
            record = show_record(self._files.folder(run.task_id, run.run_id))
            if record is None:
                self._files.check_project()  # or it is all that is gone
                line = missing(run)
            else:
                line = run_line(run, record)
            if line.current_state.is_final:
                over[run.run_id] = line
            lines.append(msgspec.structs.replace(line, steps=line.steps or steps))
        return lines

    async def _with_progress(self, line: RunLine) -> RunLine:
        run = await self._reader.find(line.id)
        if run is None:
            return line
        return msgspec.structs.replace(line, steps=run.progress.steps, last_goal=run.progress.last_goal)

    def _make_page(self, query: PageQuery) -> Page[BatchItem]:
        files = [*self._files.batches.all().values()][::-1]
        items = [*map(self._item, part_of(files, query.page, query.page_size))]
        return Page(items=items, **paging(len(files), query.page, query.page_size))

    def _item(self, file: BatchFile) -> BatchItem:
        try:
            document = self.make(file)
        except Busy as error:  # which must not hide the others
            document = batch_document(unreadable_batch(file.batch_id, file.queued_at, str(error)), (), stopping=False)
        return BatchItem(**{name: getattr(document, name) for name in BatchItem.__struct_fields__})
