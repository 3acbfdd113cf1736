"""Who waits for changes is woken."""

import asyncio
import time
from typing import Any

import fakeredis
import pytest

from jobs.services import Services
from jobs.status.cache import RenderedJSON, render_json
from jobs.status.changes import EVERY_RUN, Changes, Intervals, Watch
from runner.ids import RunId
from runner.project.watch import watch
from tests.project import VISIT, Project, traversal_bytes
from tests.unit.runs import (
    STAMP,
    by_hand,
    write_run,
)


def changes_on(project: Project, watch: Watch = watch, *, connected: bool = True, **intervals: float) -> Changes:
    server = fakeredis.FakeServer()
    server.connected = connected
    writing, reading = fakeredis.FakeRedis(server=server), fakeredis.FakeAsyncRedis(server=server)
    return Services.build(project.settings(), writing, reading, intervals=Intervals(**intervals), watch=watch).changes


@pytest.mark.anyio
async def test_a_listener_gets_a_none_when_nothing_has_changed(project: Project) -> None:
    changes, answer = changes_on(project, keep_alive=0.01), render_json("one")

    async def ask() -> Any:
        return answer

    found: list[RenderedJSON | None] = []
    async for rendered in changes.follow(EVERY_RUN, ask):
        found.append(rendered)
        if len(found) == 3:
            answer = render_json("two", is_final=True)
            changes.notify(by_hand("a"))
    assert found[0] is not None
    assert found[1:3] == [None, None]
    assert found[-1] == answer


@pytest.mark.anyio
async def test_without_events_of_the_file_system_the_disk_is_polled(project: Project) -> None:
    async def deaf(folders: Any, *, quick: bool) -> Any:
        raise OSError("this file system cannot be watched")
        yield

    folder = project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT]))
    changes = changes_on(project, deaf, connected=False, sweep=0.02)
    running = asyncio.create_task(changes.run())
    with changes.listen(None) as of_list, changes.listen(RunId(by_hand("a"))) as of_run:
        await asyncio.wait_for(of_list.wait(), 10)  # the first look is behind us
        for event in (of_list, of_run):
            event.clear()
        write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT, VISIT]))
        for event in (of_list, of_run):
            await asyncio.wait_for(event.wait(), 10)
    changes.end()
    running.cancel()
    await running


@pytest.mark.anyio
async def test_the_first_listener_misses_nothing(project: Project) -> None:
    folder, asked = project.add_task("buy"), 0
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT]))
    changes = changes_on(project)
    running = asyncio.create_task(changes.run())

    async def ask() -> Any:
        nonlocal asked
        asked += 1
        return render_json(asked, is_final=asked == 2)  # it changes before anybody has begun to watch

    async with asyncio.timeout(10):
        found = [rendered async for rendered in changes.follow(RunId(by_hand("a")), ask)]
    assert [answer.body for answer in found if answer] == [b"1", b"2"]
    changes.end()
    running.cancel()
    await running


@pytest.mark.anyio
async def test_a_fault_in_watching_is_logged_and_watching_goes_on(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    async def broken(folders: Any, *, quick: bool) -> Any:
        tried.append(folders)
        raise ZeroDivisionError
        yield

    changes = changes_on(project, broken, retry=0.01)
    running = asyncio.create_task(changes.run())
    with changes.listen(EVERY_RUN):
        async with asyncio.timeout(10):
            while len(tried) < 3:
                await asyncio.sleep(0.01)
    changes.end()
    running.cancel()
    await running
    assert "failed, and is started again" in caplog.text


class SlowProjection:
    """One whose sweeps take longer than there is between them."""

    def __init__(self) -> None:
        self.database = self
        self.version = 0
        self.is_read = False
        self.sweeps: list[float] = []

    def sweep(self) -> bool:
        time.sleep(0.1)
        self.sweeps.append(time.monotonic())
        return True

    def indexing(self) -> bool | None:
        return None if self.is_read else True

    def end(self) -> None:
        pass


@pytest.mark.anyio
async def test_only_sweeps_without_a_rebuild_wait_for_their_share_of_the_time(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, slow = changes_on(project, sweep=0.01), SlowProjection()
    monkeypatch.setattr(changes, "_projection", slow)
    sweeping = asyncio.create_task(changes._sweep())
    while len(slow.sweeps) < 3:
        await asyncio.sleep(0.01)
    assert slow.sweeps[2] - slow.sweeps[0] < 2, "a rebuild goes on at once"
    slow.is_read = True
    count = len(slow.sweeps)
    while len(slow.sweeps) < count + 2:  # the first of them may have begun before
        await asyncio.sleep(0.01)
    count, began = len(slow.sweeps), slow.sweeps[-1]
    await asyncio.sleep(0.2)
    assert len(slow.sweeps) == count
    slow.is_read = False  # the file was deleted
    while len(slow.sweeps) < count + 1:
        await asyncio.sleep(0.01)
    assert slow.sweeps[-1] - began < 1.5
    changes.end()
    await sweeping
