"""Answer for lists of runs. Does not block the event loop: what has to be read is read in a thread."""

import asyncio
import logging
from collections.abc import Sequence
from typing import NamedTuple
from weakref import ReferenceType, ref

import msgspec
from anyio import to_thread

from jobs.status.cache import Answer, Answers, Kept, make_answer
from jobs.status.entry import Entry
from jobs.status.history import RunHistory
from jobs.status.index import Index
from jobs.status.query import RunListQuery
from runner.errors import ProjectGone
from runner.log import log_event, log_fault

FEW_ENTRIES = 10  # runs whose files may be looked at on the event loop


class Listed(NamedTuple):
    """What a list was made of: an index (which it must not keep alive), and those of its runs that may still change."""

    made_of: ReferenceType[Index]
    unsettled: Sequence[Entry]


class RunLists:
    """The lists of one project's runs."""

    def __init__(self, history: RunHistory, answers: Answers[Listed]) -> None:
        self._history = history
        self._answers = answers

    async def index(self) -> Index:
        """All runs, as the disk knows them. Raises `ProjectGone`."""
        current = self._history.current()
        return current if current is not None else await to_thread.run_sync(self._history.index)

    async def fill(self) -> None:
        """Read all runs, which takes a while for many, before somebody asks for them. May be cancelled."""
        try:
            await to_thread.run_sync(self._history.index, abandon_on_cancel=True)
        except asyncio.CancelledError:
            self._history.give_up()
        except ProjectGone as gone:
            log_event("no_project", level=logging.WARNING, because=gone)
        except Exception:  # noqa: BLE001
            log_fault("the runs could not be read")

    def known(self) -> Index | None:
        """The index as it was the last time, if there is one."""
        return self._history.known

    def touch(self) -> None:
        """Look at everything again before the next answer: something has changed."""
        self._history.touch()

    async def page(self, query: RunListQuery) -> Answer:
        """The page (of run items) that was asked for. Raises `NotFound` for a task that never was.

        The runs on it are as they are now. Those that came since the last look at all folders may be missing, and those
        that went may be counted.
        """
        kept = await self._page(query)
        if not await self._is_same(kept.seen.unsettled):
            self._history.touch()
            kept = await self._page(query)
        return kept.answer

    async def _is_same(self, entries: Sequence[Entry]) -> bool:
        if len(entries) <= FEW_ENTRIES:
            return self._history.is_same(entries)
        return await to_thread.run_sync(self._history.is_same, entries)

    async def _page(self, query: RunListQuery) -> Kept[Listed]:
        index = await self.index()
        kept = self._answers.find(query)
        if kept is None or kept.seen.made_of() is not index:
            kept = self._answers.keep(query, await to_thread.run_sync(self._make, index, query))
        return kept

    def _make(self, index: Index, query: RunListQuery) -> Kept[Listed]:
        task_id = None if query.test_case_id is None else self._history.task_id(query.test_case_id)
        page = index.page(query, task_id)
        shown = {**msgspec.structs.asdict(page), "items": [index.item(entry) for entry in page.items]}
        return Kept(Listed(ref(index), [entry for entry in page.items if not entry.settled]), make_answer(shown))
