"""Pages of runs, out of the rows. The filters choose groups of runs that are alike, whose sizes are known."""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Set
from functools import partial
from sqlite3 import Connection
from typing import Any, NamedTuple

import msgspec
from anyio import to_thread

from jobs.run.document import RunItem, duration
from jobs.run.state import Origin, Reason, RunType, State, Trigger
from jobs.run.test_case import BrowserConfig, TestCase
from jobs.status.cache import CacheEntry, RenderedJSON, ResponseCache, render_json
from jobs.status.projection import Indexing, Projection, encode
from jobs.status.query import STATES_OF, Labels, Page, RunListQuery, paging
from jobs.status.table import to_microseconds, to_time
from runner.ids import TaskId, parse_task_id
from runner.project.catalog import TaskCatalog

PREFIX_CHARACTERS = 2  # of an ID, that a search needs at least to find it
SORTING = 4  # times as long as to pass over a run

WITH_CASES = """groups JOIN tasks ON tasks.id = groups.task
    JOIN cases ON cases.id = CASE groups.case_id WHEN 0 THEN tasks.case_id ELSE groups.case_id END"""
GROUPS = "SELECT groups.id, n, {} FROM {} WHERE n > 0 AND {}"
IS_NAMED = "instr(search, :search) OR instr(name, :search)"
BY_ID = "SELECT id, group_id FROM runs WHERE run_id >= :search AND run_id < :search || '~'"
LISTED = "group_id IS NOT NULL"  # all runs
CHOSEN = f"{LISTED} AND (substr(:mask, group_id, 1) = x'01' OR runs.id IN (SELECT value FROM json_each(:single)))"
PASSING = "SELECT runs.id FROM {} ORDER BY {} LIMIT :size OFFSET :offset"
SORTED = """SELECT id FROM (
        SELECT best.id, best.queued_at, best.group_id FROM json_each(:groups) JOIN runs AS best ON best.id IN (
            SELECT id FROM runs WHERE group_id = value AND {where} ORDER BY queued_at {way}, id {way} LIMIT :reach)
        UNION ALL
        SELECT id, queued_at, group_id FROM runs WHERE id IN (SELECT value FROM json_each(:single)) AND {where})
    ORDER BY {order} LIMIT :size OFFSET :offset"""
ORDERS = {
    "runs": "queued_at {0}, group_id {0}, id {0}",
    "batch": "queued_at {0}, id {0}",
    "labels": "labels.queued_at {0}, run {0}",
}
TABLES = {
    "runs": "runs INDEXED BY runs_by_time",
    "batch": "runs INDEXED BY runs_by_batch",
    "labels": "labels JOIN runs ON runs.id = run",
}
ITEMS = f"""SELECT runs.id, run_id, state, reason, queued_at, started_at, finished_at, passed_steps, failed_steps,
        run_type, origin, trigger, batch_id, labels, test_case, browser_config
    FROM {WITH_CASES} JOIN runs ON groups.id = group_id
    WHERE runs.id IN (SELECT value FROM json_each(:ids))"""


class RunPage(Page[RunItem], frozen=True):
    """A page of runs."""

    indexing: Indexing | None = None


class Conditions(NamedTuple):
    """What a list is filtered by, as SQL."""

    groups: str
    runs: str
    """Of single runs; 1 without any."""
    source: str
    """The table that has the order."""
    values: dict[str, Any]

    @property
    def table(self) -> str:
        """That table with all columns of the runs."""
        return TABLES[self.source]


def conditions(query: RunListQuery, task_id: TaskId | None, labels: Labels) -> Conditions:
    """The filters of the query."""
    times = {"since": query.since, "until": query.until}
    values: dict[str, Any] = {name: to_microseconds(time) for name, time in times.items() if time is not None}
    values |= {"task": task_id, "run_type": query.run_type, "trigger": query.trigger, "batch": query.batch_id}
    values |= {"search": query.search.casefold(), "states": encode(list(STATES_OF.get(query.status or "", ())))}
    of_groups: dict[str, object] = {
        "groups.task = (SELECT id FROM tasks WHERE name = :task)": task_id,
        "run_type = :run_type": query.run_type,
        "trigger = :trigger": query.trigger,
        "state IN (SELECT value FROM json_each(:states))": query.status,
    }
    source = "labels" if labels else "batch" if query.batch_id else "runs"
    table = "labels" if labels else "runs"
    of_runs: dict[str, object] = {
        f"{table}.queued_at >= :since": query.since,
        f"{table}.queued_at < :until": query.until,
        "batch_id = :batch": query.batch_id,
    }
    for n, (key, value) in enumerate(labels):
        values |= {f"key{n}": key, f"value{n}": value}
        is_labelled = f"key = :key{n} AND value = :value{n}"
        of_runs[is_labelled if n == 0 else f"runs.id IN (SELECT run FROM labels WHERE {is_labelled})"] = key
    return Conditions(_all(of_groups), _all(of_runs), source, values)


def _all(chosen: dict[str, object]) -> str:
    return " AND ".join([condition for condition, value in chosen.items() if value is not None] or ["1"])


def find_page(connection: Connection, query: RunListQuery, task_id: TaskId | None, labels: Labels) -> RunPage:
    """The page of runs that match the query, newest first. Walks from the end that is nearer."""
    wanted = conditions(query, task_id, labels)
    named = (IS_NAMED, WITH_CASES) if query.search else ("1", "groups")
    groups = connection.execute(GROUPS.format(*named, wanted.groups), wanted.values).fetchall()
    sizes = {group: size for group, size, is_named in groups if is_named}
    single = _found_by_id(connection, query.search, {group for group, *_ in groups} - sizes.keys())
    chosen = LISTED if len(sizes) == len(groups) and wanted.groups == "1" else CHOSEN
    source = f"{wanted.table} WHERE {chosen} AND {wanted.runs}"
    values = {**wanted.values, "groups": encode([*sizes]), "mask": _mask(sizes), "single": encode(single)}
    total = sum(sizes.values()) + len(single)
    if wanted.runs != "1":
        (total,) = connection.execute(f"SELECT count(*) FROM {source}", values).fetchone()
    offset = (query.page - 1) * query.page_size
    size = max(0, min(query.page_size, total - offset))
    is_turned = total - offset - size < offset
    skipped = total - offset - size if is_turned else offset
    values |= {"size": size, "offset": skipped, "reach": skipped + size}
    way = "DESC" if (query.sort_order == "desc") != is_turned else "ASC"
    statement = _statement(
        wanted, source, way, total, len(sizes) * values["reach"], _count(connection) * values["reach"]
    )
    ids = [run for (run,) in connection.execute(statement, values)] if size else []
    items = {row[0]: _item(*row[1:]) for row in connection.execute(ITEMS, {"ids": encode(ids)})}
    in_order = [items[run] for run in (reversed(ids) if is_turned else ids)]
    return RunPage(**paging(total, query.page, query.page_size), items=in_order)


def _found_by_id(connection: Connection, search: str, groups: Set[int]) -> list[int]:
    """The runs of these groups whose ID begins with the text."""
    if len(search) < PREFIX_CHARACTERS:
        return []
    return [run for run, group in connection.execute(BY_ID, {"search": search.casefold()}) if group in groups]


def _mask(groups: Iterable[int]) -> bytes:
    """A 1 in the place of each of these groups, counted from 1: quicker to look at for each run than a list."""
    mask = bytearray(max(groups, default=0))
    for group in groups:
        mask[group - 1] = 1
    return bytes(mask)


def _statement(wanted: Conditions, source: str, way: str, total: int, sorted_runs: int, passed_runs: int) -> str:
    """How the runs of the page are found quickest: pass over all that come before it, or sort the first ones of each
    group."""
    order = ORDERS[wanted.source].format(way)
    if wanted.source != "runs" or passed_runs / max(total, 1) < SORTING * min(total, sorted_runs):
        return PASSING.format(source, order)
    return SORTED.format(where=wanted.runs, way=way, order=order)


def _count(connection: Connection) -> int:
    """How many runs there are in all."""
    return int(connection.execute("SELECT total(n) FROM groups").fetchone()[0])


def _item(*row: Any) -> RunItem:
    run_id, state, reason, queued, started, finished, passed, failed, run_type, origin, trigger, *more = row
    batch_id, labels, *case = more
    started_at, finished_at = to_time(started), None if finished is None else to_time(finished)
    return RunItem(
        id=run_id,
        test_case=msgspec.json.decode(case[0], type=TestCase),
        current_state=State(state),
        reason=Reason(reason) if reason else None,
        queued_at=to_time(queued),
        started_at=started_at,
        finished_at=finished_at,
        duration=duration(started_at, finished_at),
        passed_steps=passed,
        failed_steps=failed,
        total_steps=passed + failed,
        run_type=RunType(run_type),
        origin=Origin(origin),
        trigger=Trigger(trigger),
        batch_id=batch_id,
        labels=msgspec.json.decode(labels or "{}"),
        run_gif=None,
        browser_config=msgspec.json.decode(case[1], type=BrowserConfig | None),
    )


class RunLists:
    """Nothing here blocks the event loop."""

    def __init__(self, projection: Projection, catalog: TaskCatalog, cache: ResponseCache) -> None:
        self.projection = projection
        self._catalog = catalog
        self._cache = cache
        self._turn = asyncio.Lock()

    async def page(self, query: RunListQuery, labels: Labels = ()) -> RenderedJSON:
        """The page of run items that the query asks for. Raises `NotFound` for a task that never was, and
        `ProjectGone`."""
        return await self.render((query, labels), partial(self.make_page, query, labels))

    async def render(self, key: Hashable, make: Callable[[], object]) -> RenderedJSON:
        """What `make` returns, in JSON; called again only when a row has changed. Raises `ProjectGone`."""
        self.projection.check_project()
        if self.projection.is_behind:
            await to_thread.run_sync(self.projection.catch_up)
        return self._known(key) or await self._rendered(key, make)

    def _known(self, key: Hashable) -> RenderedJSON | None:
        known = self._cache.get(key)
        return None if known is None or known.fingerprint != self.projection.database.version else known.rendered

    async def _rendered(self, key: Hashable, make: Callable[[], object]) -> RenderedJSON:
        async with self._turn:  # more at once would be no quicker, and delay all others
            if known := self._known(key):
                return known
            version = self.projection.database.version
            rendered = await to_thread.run_sync(lambda: render_json(make()))
        return self._cache.put(key, CacheEntry(version, rendered)).rendered

    def make_page(self, query: RunListQuery, labels: Labels) -> RunPage:
        """The page as it is now, read from the file. Raises `NotFound`."""
        task_id = None if query.test_case_id is None else self.task_id(query.test_case_id)
        page = self.projection.database.read(lambda it: find_page(it, query, task_id, labels))
        return msgspec.structs.replace(page, indexing=self.projection.indexing())

    def task_id(self, name: str) -> TaskId:
        """The task of this name; one that was deleted and has left runs behind is known, too. Raises `NotFound`."""
        task_id = parse_task_id(name)
        if task_id is not None and self.projection.has_runs(task_id):
            return task_id
        return self._catalog.find_or_broken(name).id
