"""A batch is followed by its events, and otherwise by asking."""

import json
import threading

from tests.unit.client.conftest import Command
from tests.unit.client.scripted import BATCH, DROP, ScriptedRunner, a_batch, a_run
from tests.waiting import wait_for

EVENTS, DOCUMENT = f"GET /batches/{BATCH}/events", f"GET /batches/{BATCH}"
RUNNING, PASSED = a_batch(a_run("login", "RUNNING")), a_batch(a_run("login", "FINISHED"))


def event(document: object) -> tuple[int, bytes]:
    return 200, b": hello\n\nid: 1\ndata: " + json.dumps(document).encode() + b"\n\n"


def test_events_are_enough(runner: ScriptedRunner, command: Command) -> None:
    threading.Timer(0.1, runner.become, [PASSED]).start()
    assert command("run", "login").code == 0
    assert len(runner.requests(EVENTS)) == 1
    assert not runner.requests(f"{DOCUMENT}?")
    assert len(runner.requests(DOCUMENT)) == 1


def test_a_stream_that_breaks_is_begun_again_after_a_look(runner: ScriptedRunner, command: Command) -> None:
    runner.next[EVENTS] = [event(RUNNING), event(RUNNING), event(PASSED)]
    assert command("run", "login").code == 0
    asked = [asked.path.removeprefix(f"/batches/{BATCH}") for asked in runner.requests(DOCUMENT)]
    assert asked == ["/events", "", "/events", "", "/events"]


def test_without_a_stream_changes_are_waited_for(runner: ScriptedRunner, command: Command) -> None:
    runner.always[EVENTS] = DROP

    running = f'"{hash(json.dumps(RUNNING).encode())}"'  # its ETag

    def play() -> None:
        wait_for(lambda: runner.requests(DOCUMENT))
        runner.become(RUNNING)
        wait_for(
            lambda: [asked for asked in runner.requests(DOCUMENT) if asked.headers.get("If-None-Match") == running]
        )
        runner.become(PASSED)

    threading.Thread(target=play).start()
    assert "login running" in command("run", "login").err
    first, *later = runner.requests(DOCUMENT)[1:]
    assert first.path == f"/batches/{BATCH}"
    assert "If-None-Match" not in first.headers
    assert later
    assert {asked.path for asked in later} == {f"/batches/{BATCH}?wait=20"}
    assert all(asked.headers["If-None-Match"] for asked in later)
    assert len(runner.requests(EVENTS)) == 1


def test_a_wait_may_end_without_a_change_or_a_tag(runner: ScriptedRunner, command: Command) -> None:
    runner.always[EVENTS] = DROP
    good = (200, json.dumps(RUNNING).encode())
    runner.next[DOCUMENT] = [good, (304, b""), good, (200, json.dumps(PASSED).encode())]
    assert command("run", "login").code == 0
    runner.tag = False
    runner.next[DOCUMENT] = [good, good, (200, json.dumps(PASSED).encode())]
    assert command("run", "login").code == 0
    asked = runner.requests(DOCUMENT)[-1]
    assert asked.path.endswith("?wait=20")
    assert "If-None-Match" not in asked.headers


def test_a_stream_that_only_ever_breaks_is_left_alone(runner: ScriptedRunner, command: Command) -> None:
    runner.always[EVENTS] = event(RUNNING)
    runner.become(RUNNING)
    threading.Timer(0.7, runner.become, [PASSED]).start()
    assert command("run", "login").code == 0
    assert len(runner.requests(EVENTS)) <= 20


def test_a_wait_that_fails_is_followed_by_a_look(runner: ScriptedRunner, command: Command) -> None:
    runner.always[EVENTS] = DROP
    runner.next[DOCUMENT] = [(200, json.dumps(RUNNING).encode()), DROP, (200, json.dumps(PASSED).encode())]
    ended = command("run", "login")
    assert (ended.code, "Trying again" in ended.err) == (0, False)
    paths = [asked.path.removeprefix(f"/batches/{BATCH}") for asked in runner.requests(DOCUMENT)]
    assert paths == ["/events", "", "?wait=20", ""]


def test_what_is_no_json_in_a_stream_ends_it(runner: ScriptedRunner, command: Command) -> None:
    runner.always[EVENTS] = (200, b"data: {\n\n")
    runner.become(RUNNING)
    threading.Timer(0.1, runner.become, [PASSED]).start()
    assert command("run", "login").code == 0
