"""Answer for lists of runs. Does not block the event loop: what has to be read is read in a thread."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
from anyio import to_thread

from jobs.answer import Answer, Answers, Kept, make_answer
from jobs.entry import Entry
from jobs.history import RunHistory
from jobs.index import Index
from jobs.page import RunListQuery
from runner.errors import ProjectGone
from runner.log import log_fault


class Listed(NamedTuple):
    """What a list was made of: an index, and those of its runs that may still change."""

    made_of: Index
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
        with suppress(asyncio.CancelledError, ProjectGone):  # the latter is said to everybody who asks
            try:
                await to_thread.run_sync(self._history.index, abandon_on_cancel=True)
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

        The runs on it are as they are now; those that came or went within LISTED_SECONDS may be missing or counted.
        """
        kept = await self._page(query)
        if not self._history.is_same(kept.seen.unsettled):
            self._history.touch()
            kept = await self._page(query)
        return kept.answer

    async def _page(self, query: RunListQuery) -> Kept[Listed]:
        index = await self.index()
        kept = self._answers.find(query)
        if kept is None or kept.seen.made_of is not index:
            kept = self._answers.keep(query, await to_thread.run_sync(self._make, index, query))
        return kept

    def _make(self, index: Index, query: RunListQuery) -> Kept[Listed]:
        task_id = None if query.test_case_id is None else self._history.task_id(query.test_case_id)
        page = index.page(query, task_id)
        shown = {**msgspec.structs.asdict(page), "items": [index.item(entry) for entry in page.items]}
        return Kept(Listed(index, [entry for entry in page.items if not entry.settled]), make_answer(shown))
