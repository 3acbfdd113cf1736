"""Watching runs with real processes: server-sent events and long polling, with and without Redis."""

import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.project import PASSED, VISIT, Project, traversal_bytes
from tests.stack import Event, Stack
from tests.waiting import wait_for

HAND = "h" * 24


def put(folder: Path, content: bytes, run_id: str = HAND) -> None:
    """A traversal, as the CLI writes it: by a rename."""
    (folder / "traversals").mkdir(exist_ok=True)
    temporary = folder / "traversals" / ".temporary"
    temporary.write_bytes(content)
    temporary.replace(folder / "traversals" / f"traverse_20261123_080000_{run_id}.json")


def states(events: list[Event]) -> list[tuple[str, int]]:
    return [(event.data["current_state"], event.data["progress"]["steps"]) for event in events]


def test_a_run_is_watched_from_its_start_to_its_end(stack: Stack, project: Project) -> None:
    folder = project.add_task("buy", "visit wait:go-on visit wait:end pass")
    run_id = stack.post("buy")
    seen: list[Event] = []
    for event in stack.listen(f"/test-runs/{run_id}/events"):
        seen.append(event)
        if event.data["progress"]["steps"] == 1:
            (folder / "go-on").touch()
        if event.data["progress"]["steps"] == 2:
            (folder / "end").touch()
    assert states(seen)[-1] == ("FINISHED", 3)
    for step in (1, 2):
        assert ("RUNNING", step) in states(seen)
    assert len({event.id for event in seen}) == len(seen), "each event is another document"
    assert stack.run(run_id) == seen[-1].data


def test_who_has_seen_the_end_is_told_to_stay_away(stack: Stack, project: Project) -> None:
    project.add_task("buy", "visit pass")
    run_id = stack.post("buy")
    path = f"/test-runs/{run_id}/events"
    *_, last = stack.listen(path)
    request = urllib.request.Request(f"http://127.0.0.1:{stack.port}{path}", headers={"Last-Event-ID": last.id})
    with urllib.request.urlopen(request, timeout=10) as response:
        assert (response.status, response.read()) == (204, b"")
    assert [event.data for event in stack.listen(path, **{"Last-Event-ID": "other"})] == [last.data]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        next(stack.listen(f"/test-runs/{HAND}/events"))


def test_a_client_that_comes_back_is_told_only_what_is_new(stack: Stack, project: Project) -> None:
    folder = project.add_task("buy")
    put(folder, traversal_bytes([VISIT]))
    first = next(stack.listen(f"/test-runs/{HAND}/events"))
    again = stack.listen(f"/test-runs/{HAND}/events", **{"Last-Event-ID": first.id})
    with ThreadPoolExecutor() as pool:
        following = pool.submit(lambda: next(again))
        put(folder, traversal_bytes([VISIT, VISIT]))
        assert following.result(20).data["progress"]["steps"] == 2


def test_the_list_is_watched(stack: Stack, project: Project) -> None:
    folder = project.add_task("buy", "visit pass")
    project.add_task("other", "visit pass")
    events = stack.listen("/test-runs/events?test_case_id=buy")
    assert next(events).data["items"] == []
    stack.post("other")
    run_id = stack.post("buy")
    seen: list[list[tuple[str, str]]] = []
    while ("FINISHED" not in str(seen[-1:])) and len(seen) < 20:
        seen.append([(item["id"], item["current_state"]) for item in next(events).data["items"]])
    assert seen[-1] == [(run_id, "FINISHED")]
    put(folder, traversal_bytes([PASSED], "SUCCESSFUL"))
    assert {item["id"] for item in next(events).data["items"]} == {run_id, HAND}


def test_what_redis_does_not_tell_the_disk_does(new_stack: Callable[..., Stack], project: Project) -> None:
    stack = new_stack()
    stack.line("web")
    folder = project.add_task("buy")
    put(folder, traversal_bytes([VISIT]))
    wait_for(lambda: stack.call("GET", "/health").status == 200)
    events = stack.listen(f"/test-runs/{HAND}/events")
    assert states([next(events)]) == [("RUNNING", 1)]
    put(folder, traversal_bytes([VISIT, VISIT]))
    assert states([next(events)]) == [("RUNNING", 2)]
    put(folder, traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    assert states(list(events)) == [("FINISHED", 2)]


def test_a_simple_client_waits_for_the_next_change(stack: Stack, project: Project) -> None:
    folder = project.add_task("buy")
    put(folder, traversal_bytes([VISIT]))
    path = f"/test-runs/{HAND}?wait=20"
    etag = stack.call("GET", f"/test-runs/{HAND}").headers["etag"]
    with ThreadPoolExecutor() as pool:
        plain = pool.submit(stack.call, "GET", path)
        knowing = pool.submit(stack.call, "GET", path, **{"If-None-Match": etag})
        assert not plain.done()
        put(folder, traversal_bytes([VISIT, VISIT]))
        for answer in (plain.result(25), knowing.result(25)):
            assert (answer.status, answer.body["progress"]["steps"]) == (200, 2)
    began = time.monotonic()
    assert stack.call("GET", path, **{"If-None-Match": etag}).body["progress"]["steps"] == 2, "that is over already"
    put(folder, traversal_bytes([PASSED], "SUCCESSFUL"))
    assert stack.call("GET", path).body["current_state"] == "FINISHED", "what is over does not change"
    assert time.monotonic() - began < 15


def test_a_wait_without_a_change_ends_in_time(stack: Stack, project: Project) -> None:
    folder = project.add_task("buy")
    put(folder, traversal_bytes([VISIT]))
    answer = stack.call("GET", f"/test-runs/{HAND}?wait=1")
    assert (answer.status, answer.body["current_state"]) == (200, "RUNNING")
    again = stack.call("GET", f"/test-runs/{HAND}?wait=1", **{"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, None)


def test_new_runs_are_listed_within_a_second(stack: Stack, project: Project) -> None:
    folder = project.add_task("buy", "visit pass")

    def listed() -> set[str]:
        return {item["id"] for item in stack.call("GET", "/test-runs").body["items"]}

    assert listed() == set()
    run_id = stack.post("buy")
    assert listed() == {run_id}, "what was started here is there at once"
    put(folder, traversal_bytes([PASSED], "SUCCESSFUL"))
    wait_for(lambda: listed() == {run_id, HAND}, 1, "a run made by hand in the list")
    stack.wait_final(run_id)
    assert {item["current_state"] for item in stack.call("GET", "/test-runs").body["items"]} == {"FINISHED"}


def test_listeners_hold_up_neither_the_end_nor_each_other(new_stack: Callable[..., Stack], project: Project) -> None:
    stack = new_stack()
    stack.line("redis")
    web = stack.line("web")
    folder = project.add_task("buy")
    put(folder, traversal_bytes([VISIT]))
    wait_for(lambda: stack.call("GET", "/health").status == 200)
    streams: list[Any] = [stack.listen(f"/test-runs/{HAND}/events") for _ in range(20)]
    for stream in streams:
        next(stream)
    for stream in streams[10:]:
        stream.close()  # these leave
    put(folder, traversal_bytes([VISIT, VISIT]))
    for stream in streams[:9]:
        assert next(stream).data["progress"]["steps"] == 2
    ended: list[int] = []
    waiting = threading.Thread(target=lambda: ended.append(len(list(streams[0]))))
    waiting.start()
    began = time.monotonic()
    os.kill(web.pid, signal.SIGTERM)
    web.wait(10)
    waiting.join(10)
    assert ended == [0], "the stream was ended, and not broken off"
    assert time.monotonic() - began < 2
    for sign in ("Traceback", "Cancel", "ERROR"):
        assert sign not in stack.log("web")
