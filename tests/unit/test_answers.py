"""What is kept, for how long it is true, and what a client need not be sent again."""

import asyncio
import gc
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fakeredis
import pytest

from jobs.api.responses import CHUNK_BYTES, Pacer
from jobs.services import Services
from jobs.status.cache import CacheEntry, ResponseCache, render_json
from jobs.status.changes import EVERY_RUN, Changes, Intervals, Watch
from jobs.status.index import Index
from runner.ids import RunId
from runner.project.traversal import Traversal, parse_traversal
from runner.project.watch import watch
from runner.redaction import Secret
from tests.project import FAULT, PASSED, VISIT, Project, traversal_bytes
from tests.unit.conftest import FakeStack
from tests.unit.test_lists import by_hand, ids, listed, write_run

STAMP = "20260101_080000"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The content of every traversal that was parsed to be shown."""
    contents: list[bytes] = []

    def counting(content: bytes, secrets: Iterable[Secret] | None) -> Traversal:
        if secrets is not None:
            contents.append(content)
        return parse_traversal(content, secrets)

    monkeypatch.setattr("runner.project.run_files.parse_traversal", counting)
    return contents


def test_a_traversal_is_parsed_once_per_change_whoever_asks(stack: FakeStack, parsed: list[bytes]) -> None:
    folder = stack.project.add_task("buy")
    for actions, status in (([VISIT], "PENDING"), ([VISIT, VISIT], "PENDING"), ([VISIT, PASSED], "SUCCESSFUL")):
        parsed.clear()
        write_run(folder, STAMP, by_hand("a"), traversal_bytes(actions, status))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(stack.get, [by_hand("a")] * 24))
        assert len(parsed) == 1
        assert all(answer == answers[0] for answer in answers)
        assert answers[0]["progress"]["steps"] == len(actions)


def test_a_run_is_answered_as_its_files_are_now(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "visit fail")
    run = stack.run("buy")
    assert stack.get(run["id"]) == run
    (folder / "runs" / run["id"] / "cli.log").write_text("another end\n")
    assert stack.get(run["id"])["failure"]["log_tail"] == ["another end"]
    (path,) = stack.project.traversals("buy")
    path.write_bytes(traversal_bytes([VISIT, VISIT, FAULT], "FAILED"))
    assert len(stack.get(run["id"])["brain_states"]) == 3
    (folder / "task_buy.toml").write_text('[task]\nname = "buy"\n[secrets]\nCART = "The cart is empty"\n')
    assert "The cart is empty" not in str(stack.get(run["id"])["brain_states"])
    path.unlink()
    assert stack.get(run["id"])["brain_states"] == []
    shutil.rmtree(folder / "runs" / run["id"])
    assert stack.client.get(f"/test-runs/{run['id']}").status_code == 404


def test_a_file_that_is_half_written_leaves_the_last_good_steps(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    path = write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT, VISIT]))
    assert stack.get(by_hand("a"))["progress"]["steps"] == 2
    path.write_bytes(traversal_bytes([VISIT, VISIT, VISIT])[:100])
    run = stack.get(by_hand("a"))
    assert (run["current_state"], run["progress"]["steps"]) == ("RUNNING", 2)
    path.write_bytes(traversal_bytes([VISIT, VISIT, VISIT]))
    assert stack.get(by_hand("a"))["progress"]["steps"] == 3


@pytest.mark.parametrize("path", ["/test-runs/{run}", "/test-runs", "/test-runs/test-case/buy", "/tasks", "/tasks/buy"])
def test_what_a_client_has_it_is_not_sent_again(stack: FakeStack, path: str) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT]))
    path = path.format(run=by_hand("a"))
    first = stack.client.get(path)
    assert (first.status_code, first.headers["cache-control"]) == (200, "private, no-cache")
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = stack.client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    changed = stack.client.get(path, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.headers["etag"] != etag) == (200, True)


def test_that_is_documented(stack: FakeStack) -> None:
    paths = stack.client.get("/openapi.json").json()["paths"]
    for path in ("/test-runs/{run_id}", "/test-runs", "/test-runs/test-case/{test_case_id}", "/tasks", "/project"):
        answers = paths[path]["get"]["responses"]
        assert "ETag" in answers["200"]["headers"]
        assert "ETag" in answers["304"]["headers"]


def test_a_run_on_a_page_is_never_older_than_itself(project: Project) -> None:
    folder = project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT]))
    stack = FakeStack(project, fresh_seconds=3600.0)
    with stack.client:
        check_a_page_whose_index_stays_fresh(stack, folder)


def check_a_page_whose_index_stays_fresh(stack: FakeStack, folder: Path) -> None:
    assert ids(listed(stack)) == [by_hand("a")]
    assert [item["current_state"] for item in listed(stack)["items"]] == ["RUNNING"]
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    assert [item["current_state"] for item in listed(stack)["items"]] == ["FINISHED"]
    write_run(folder, "20260101_090000", by_hand("b"), traversal_bytes([PASSED], "SUCCESSFUL"))
    assert ids(listed(stack)) == [by_hand("a")], "one more is not looked for each time"
    run_id = stack.post("buy").json()["id"]
    assert ids(listed(stack)) == [run_id, by_hand("b"), by_hand("a")], "but after a start it is"


def test_answers_are_bounded_in_bytes_and_the_oldest_go_first() -> None:
    answers: ResponseCache[int] = ResponseCache(limit=5_000)
    for number in range(10):
        answers.put(number, CacheEntry(number, render_json("x" * 1_000)))
        answers.find(0)
    kept = [number for number in range(10) if answers.find(number)]
    assert kept == [0, 8, 9]
    assert answers.size <= 5_000
    answers.put(0, CacheEntry(0, render_json("")))
    answers.put("large", CacheEntry(1, render_json("x" * 10_000)))
    assert answers.find("large") is not None, "one that is larger than the bound is kept alone"
    assert answers.find(0) is None


def test_a_large_run_arrives_whole(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT] * 2000 + [PASSED], "SUCCESSFUL"))
    response = stack.client.get(f"/test-runs/{by_hand('a')}")
    assert len(response.content) > 3 * CHUNK_BYTES
    assert len(response.json()["brain_states"]) == 2001
    assert int(response.headers["content-length"]) == len(response.content)
    assert stack.client.head(f"/test-runs/{by_hand('a')}").content == b""


@pytest.mark.anyio
async def test_of_all_that_is_ready_one_goes_per_turn_of_the_loop() -> None:
    pacer, order = Pacer(), []

    async def send(name: str) -> None:
        await pacer.wait()
        order.append(name)

    sending = [asyncio.create_task(send(name)) for name in "abc"]
    while not sending[-1].done():
        before = len(order)
        await asyncio.sleep(0)
        assert len(order) - before <= 1
    assert order == ["a", "b", "c"]


@pytest.mark.parametrize("wait", ["-1", "61", "x", "1.5"])
def test_a_wait_that_does_not_fit_is_named(stack: FakeStack, wait: str) -> None:
    response = stack.client.get(f"/test-runs/{by_hand('a')}?wait={wait}")
    assert response.status_code == 422
    assert f"wait is '{wait}'; expected is a whole number of seconds from 0 to 60." in response.json()["detail"]


def changes_on(project: Project, watch: Watch = watch, *, connected: bool = True, **intervals: float) -> Changes:
    server = fakeredis.FakeServer()
    server.connected = connected
    writing, reading = fakeredis.FakeRedis(server=server), fakeredis.FakeAsyncRedis(server=server)
    return Services.build(project.settings(), writing, reading, intervals=Intervals(**intervals), watch=watch).changes


@pytest.mark.anyio
async def test_a_listener_gets_a_none_when_nothing_has_changed(project: Project) -> None:
    changes, answer = changes_on(project, silence=0.01), render_json("one")

    async def ask() -> Any:
        return answer

    told = []
    async for found in changes.follow(EVERY_RUN, ask):
        told.append(found)
        if len(told) == 3:
            answer = render_json("two", is_final=True)
            changes.notify(EVERY_RUN)
    assert told[0] is not None
    assert told[1:3] == [None, None]
    assert told[-1] == answer


@pytest.mark.anyio
async def test_without_events_of_the_file_system_the_disk_is_polled(project: Project) -> None:
    async def deaf(folders: Any) -> Any:
        raise OSError("this file system cannot be watched")
        yield

    folder = project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT]))
    changes = changes_on(project, deaf, connected=False, poll=0.02)
    running = asyncio.create_task(changes.run())
    with (
        changes.listen(None) as of_list,
        changes.listen(RunId(by_hand("a"))) as of_run,
        changes.listen(RunId(by_hand("b"))) as other,
    ):
        await asyncio.wait_for(of_list.wait(), 10)  # the first look is behind us
        for event in (of_list, of_run, other):
            event.clear()
        write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT, VISIT]))
        for event in (of_list, of_run):
            await asyncio.wait_for(event.wait(), 10)
        assert not other.is_set()
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
        told = [found async for found in changes.follow(RunId(by_hand("a")), ask)]
    assert [answer.body for answer in told if answer] == [b"1", b"2"]
    changes.end()
    running.cancel()
    await running


def test_kept_lists_keep_no_old_index(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    for number in range(5):
        write_run(folder, STAMP, by_hand(f"{number}"), traversal_bytes([PASSED], "SUCCESSFUL"))
        listed(stack, f"?search={number}")
    gc.collect()
    assert sum(isinstance(thing, Index) for thing in gc.get_objects()) <= 2, "this one, and perhaps one of another test"


def test_a_record_that_cannot_be_read_hides_no_other_run(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    (folder / "runs" / by_hand("b") / "run.json").mkdir(parents=True)
    assert ids(listed(stack)) == [by_hand("a")]


@pytest.mark.anyio
async def test_a_fault_in_watching_is_logged_and_watching_goes_on(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []

    async def broken(folders: Any) -> Any:
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


def test_filling_the_index_holds_up_nobody_who_asks_for_a_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.status.entry import EntryReader

    folder = project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    go_on, read = threading.Event(), EntryReader.read

    def slow(*arguments: Any) -> Any:
        go_on.wait(20)
        return read(*arguments)

    monkeypatch.setattr(EntryReader, "read", slow)
    stack = FakeStack(project)
    with stack.client:
        assert stack.get(by_hand("a"))["current_state"] == "FINISHED"
        go_on.set()
        assert ids(listed(stack)) == [by_hand("a")]
