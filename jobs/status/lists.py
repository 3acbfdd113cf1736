"""Lists of runs. Nothing here blocks the event loop: the disk is read in a thread."""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple
from weakref import ReferenceType, ref

import msgspec
from anyio import to_thread

from jobs.status.cache import CacheEntry, RenderedJSON, ResponseCache, render_json
from jobs.status.entry import Entry
from jobs.status.history import RunHistory
from jobs.status.index import Index
from jobs.status.query import RunListQuery
from runner.errors import ProjectGone
from runner.log import log_event, log_fault

FEW_ENTRIES = 10  # runs whose files may be looked at on the event loop


class ListFingerprint(NamedTuple):
    """The sources of a page."""

    made_of: ReferenceType[Index]
    """Which must not be kept alive by a page."""
    unsettled: Sequence[Entry]
    """The runs on it that may still change."""


class RunLists:
    def __init__(self, history: RunHistory, cache: ResponseCache[ListFingerprint]) -> None:
        self.history = history
        self._cache = cache

    async def index(self) -> Index:
        """All runs, as the disk knows them. Raises `ProjectGone`."""
        current = self.history.current()
        return current if current is not None else await to_thread.run_sync(self.history.index)

    async def fill(self) -> None:
        """Read all runs before the first list is asked for: it takes a while for many. May be cancelled."""
        try:
            await to_thread.run_sync(self.history.index, abandon_on_cancel=True)
        except asyncio.CancelledError:
            self.history.give_up()
        except ProjectGone as gone:
            log_event("no_project", level=logging.WARNING, error=gone)
        except Exception:  # noqa: BLE001
            log_fault("the runs could not be read")

    async def page(self, query: RunListQuery) -> RenderedJSON:
        """The page of run items that the query asks for. Raises `NotFound` for a task that never was.

        The runs on it are as they are now. Runs that were accepted by other processes since the last look at all
        folders may be missing, and those that were deleted may be counted.
        """
        entry = await self._page(query)
        if not await self._is_same(entry.fingerprint.unsettled):
            self.history.touch()
            entry = await self._page(query)
        return entry.rendered

    async def _is_same(self, entries: Sequence[Entry]) -> bool:
        if len(entries) <= FEW_ENTRIES:
            return self.history.is_same(entries)
        return await to_thread.run_sync(self.history.is_same, entries)

    async def _page(self, query: RunListQuery) -> CacheEntry[ListFingerprint]:
        index = await self.index()
        entry = self._cache.find(query)
        if entry is None or entry.fingerprint.made_of() is not index:
            entry = self._cache.put(query, await to_thread.run_sync(self._make, index, query))
        return entry

    def _make(self, index: Index, query: RunListQuery) -> CacheEntry[ListFingerprint]:
        task_id = None if query.test_case_id is None else self.history.task_id(query.test_case_id)
        page = index.page(query, task_id)
        document = {**msgspec.structs.asdict(page), "items": [index.item(entry) for entry in page.items]}
        unsettled = [entry for entry in page.items if not entry.settled]
        return CacheEntry(ListFingerprint(ref(index), unsettled), render_json(document))
