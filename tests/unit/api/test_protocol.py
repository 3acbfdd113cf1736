"""Connections: what clients may send, how long they may take, and that they may leave."""

import logging
import re
import select
import socket
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from jobs.server.protocol import HEAD_BYTES, HEADERS
from tests.project import VISIT, Project, traversal_bytes
from tests.raw_http import Talk, ask, get
from tests.unit.api.served import Served, serving
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import by_hand, write_run
from tests.waiting import wait_for

HEALTH = get("/health")
RUNNING = by_hand("00")
"""For a log whose client has left: its file is closed when Python collects it."""
POST = b"POST /test-runs/execute-configuration/buy/buy_default HTTP/1.1\r\nHost: localhost\r\n"


def name_of(value: object) -> str:
    """The ID of a test with this value: other IDs cannot be written in a command line."""
    return re.sub("[^A-Za-z0-9]+", "-", repr(value))[:70]


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that all requests of a table go to."""
    project = Project(tmp_path_factory.mktemp("edge"))
    project.add_task("buy")
    with serving(FakeStack(project).client.app) as served:
        yield served


@pytest.fixture
def app(project: Project) -> object:
    """An application with a run that goes on, and one with a large log."""
    folder = project.add_task("buy")
    write_run(folder, "20260101_080000", RUNNING, traversal_bytes([VISIT]))
    return FakeStack(project).client.app


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever clients do, it is no reason for a warning, and even less for a trace."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.WARNING] == []


def connected(served: Served, number: int) -> bool:
    """Whether so many clients are connected."""
    return served.connections == number


def large_log(project: Project) -> bytes:
    """Put a log of 16 MB on the disk; returns a request for it."""
    folder = project.root / "tasks" / "buy" / "runs" / RUNNING
    folder.mkdir(parents=True)
    (folder / "cli.log").write_bytes(b"x" * 16_000_000)
    return get(f"/test-runs/{RUNNING}/log")


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (HEALTH, {200}),
        (b"GET http://localhost/health HTTP/1.1\r\nHost: localhost\r\n\r\n", {200}),
        (b"GET /health HTTP/1.0\r\n\r\n", {400}),
        (b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n", {200}),
        (b"GET /health HTTP/1.1\r\n\r\n", {400}),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", {400}),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", {400}),
        (b"GET /health HTTP/1.1\r\nHost: [::1]:8000\r\n\r\n", {200}),
        (POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
        (POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", {400}),
        (POST + b"Content-Length: -1\r\n\r\n", {400}),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", {400}),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", {400}),
        (POST + b"Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n[1]", {422}),
        (POST + b"Content-Length: 70000\r\n\r\n" + b"x" * 70000, {413}),
        (POST + b"Content-Length: 2\r\n\r\nhi", {415}),
        (get("/health", "X-Folded: a", " b"), {400}),
        (get("/health", "X-Bad\x00: a"), {400}),
        (get("/health", "X-Bad: a\x00b"), {400}),
        (get("/health", "X y: a"), {400}),
        (get("/health", "X: \u00fc"), {200}),
        (get("/heal\x00th"), {400}),
        (get("/heal%00th"), {404}),
        (get("/test-runs/%00"), {404}),
        (get("/tasks/buy/screenshots/%00.png"), {404}),
        (get("/tasks%2fbuy"), {200}),
        (get("/tasks/buy/screenshots/..%2f..%2fbuy%2ftask_buy.toml"), {404}),
        (get("/heal\u00fcth"), {400}),
        (get("/heal%ffth"), {404}),
        (get("/test-runs?page=%ff%00"), {422}),
        (get("//health"), {404}),
        (get("/health#x"), {200}),
        (b"GET  /health HTTP/1.1\r\nHost: localhost\r\n\r\n", {200}),
        (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", {404}),
        (b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
        (b"get /health HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
        (b"TRACE /health HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (b"PURGE /health HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (b"PUT /tasks/buy HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", {400}),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        (b"\r\n\r\n" + HEALTH, {200}),
        (get("/health", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"), {200}),
        (get("/health", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"), {200}),
        (get("/health", "Content-Length: 3") + b"abc", {200}),
        (get("/docs/assets/nothing.js"), {404}),
        (get("/docs/assets/..%2f..%2f__init__.py"), {404}),
        (get("/docs/assets"), {307, 404}),
        (b"POST /docs/assets/swagger-ui.css HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
        (get("/health", *(f"X-{number}: a" for number in range(HEADERS - 1))), {200}),
        (get("/health", *(f"X-{number}: a" for number in range(HEADERS))), {431}),
        (get("/health", *[f"X: {'a' * 400}"] * 90), {431}),
        (get("/health", f"X: {'a' * (HEAD_BYTES - 100)}"), {200}),
        (get("/health", f"X: {'a' * HEAD_BYTES}"), {431}),
        (get(f"/health?{'a' * HEAD_BYTES}"), {431}),
        (b"GET /" + b"a" * HEAD_BYTES * 2, {431}),
    ],
    ids=name_of,
)
def test_whatever_is_sent_is_answered_sanely(lasting: Served, sent: bytes, statuses: set[int]) -> None:
    answer = ask(lasting.port, sent)
    assert answer is not None
    assert answer.status in statuses, answer
    if answer.status >= 400:
        assert str(answer.detail).endswith((".", "Not Found", "Method Not Allowed")), answer
    healthy = ask(lasting.port, HEALTH)
    assert healthy is not None
    assert healthy.status == 200


def test_head_is_answered_without_a_body_even_if_it_has_one(lasting: Served) -> None:
    with Talk(
        lasting.port, b"HEAD /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}" + HEALTH
    ) as talk:
        head, answer = talk.answer("HEAD"), talk.answer()
        assert head is not None
        assert (head.status, head.body) == (200, b"")
        assert answer is not None
        assert answer.body == b'{"status":"ok"}'


def test_requests_may_be_sent_before_the_answers_are_read(lasting: Served) -> None:
    with Talk(lasting.port, b"".join(get(f"/n{number}") for number in range(50)) + HEALTH) as talk:
        for number in range(50):
            answer = talk.answer()
            assert answer is not None
            assert f"/n{number}:" in answer.detail
        answer = talk.answer()
        assert answer is not None
        assert answer.status == 200


def test_another_protocol_is_not_offered_and_what_follows_is_not_read(lasting: Served) -> None:
    with Talk(lasting.port, get("/health", "Connection: Upgrade", "Upgrade: h2c") + b"PRI * HTTP/2.0\r\n") as talk:
        answer = talk.answer()
        assert answer is not None
        assert answer.headers["connection"] == "close"
        assert talk.is_closed()


def test_a_header_without_an_end_is_not_kept_in_memory(lasting: Served) -> None:
    with Talk(lasting.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ") as talk:
        for _ in range(32):
            talk.send(b"a" * HEAD_BYTES)
        answer = talk.answer()
        assert answer is not None
        assert answer.status == 431
        assert "32768 bytes" in answer.detail


def test_a_body_is_not_counted_as_a_header(lasting: Served) -> None:
    body = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60000
    with Talk(lasting.port, body + HEALTH[:20]) as talk:
        talk.send(HEALTH[20:])
        for status in (404, 200):
            answer = talk.answer()
            assert answer is not None
            assert answer.status == status


def test_headers_that_come_after_the_body_are_not_believed(lasting: Served) -> None:
    trailers = b"Transfer-Encoding: chunked\r\n\r\n0\r\nHost: evil.example\r\nX: y\r\n\r\n"
    with Talk(lasting.port, b"POST /nothing HTTP/1.1\r\nHost: localhost\r\n" + trailers + HEALTH) as talk:
        for status in (404, 200):
            answer = talk.answer()
            assert answer is not None
            assert answer.status == status


@pytest.mark.parametrize(
    "sent",
    [b"G", HEALTH[:-10], HEALTH[:-2], POST + b"Content-Length: 5\r\n\r\n", POST + b"Content-Length: 5\r\n\r\nab"],
    ids=name_of,
)
def test_a_request_that_does_not_arrive_in_time_is_given_up(app: object, sent: bytes) -> None:
    with serving(app, seconds=0.3) as served:
        for before in (b"", HEALTH):  # also on a connection that was used before
            began = time.monotonic()
            with Talk(served.port, before + sent) as talk:
                if before:
                    assert talk.answer()
                answer = talk.answer()
                assert answer is not None
                assert answer.status == 408
                assert "within 0.3 seconds" in answer.detail
                assert answer.headers["connection"] == "close"
                assert talk.is_closed()
            assert 0.2 < time.monotonic() - began < 5
        wait_for(lambda: not served.connections, 5, "the end of all connections")


def test_a_byte_now_and_then_does_not_prolong_the_time(app: object) -> None:
    with serving(app, seconds=0.5) as served, Talk(served.port) as talk:
        began = time.monotonic()
        for byte in HEALTH * 10:
            talk.send(bytes([byte]))
            if select.select([talk.socket], [], [], 0.02)[0]:
                break
        answer = talk.answer()
        assert answer is not None
        assert answer.status == 408
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("sent", [b"", b"\r\n"])
def test_a_connection_on_which_nothing_is_asked_is_closed_without_a_word(app: object, sent: bytes) -> None:
    with serving(app, seconds=0.3) as served, Talk(served.port, sent) as talk:
        assert talk.is_closed()


def test_a_request_that_is_given_up_is_over_for_the_application_too(
    app: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", "bugninja_runner"), serving(app, seconds=0.2) as served:
        with Talk(served.port, POST + b"Content-Length: 5\r\n\r\nab") as talk:
            assert talk.answer()
            assert talk.is_closed()
        wait_for(lambda: not (served.connections or served.server.server_state.tasks), 5, "the end of the request")
    assert caplog.text.count("event=connection_refused status=408") == 1
    assert "client_left" not in caplog.text


def test_the_end_of_the_server_does_not_disturb_who_reads_why_it_was_refused(app: object) -> None:
    with serving(app) as served, Talk(served.port, b"\x00") as talk:
        answer = talk.answer()
        assert answer is not None
        assert answer.detail == "The request must be HTTP/1.1 that can be read, got something else."
        served.end()
        assert talk.is_closed()


def test_who_is_answered_before_all_is_sent_gets_no_second_answer(app: object) -> None:
    half = b"POST /nothing HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nab"
    with serving(app, seconds=0.3) as served, Talk(served.port, half) as talk:
        answer = talk.answer()
        assert answer is not None
        assert answer.status == 404
        assert talk.is_closed()


def test_who_waits_for_an_answer_may_take_long(app: object) -> None:
    """Also with a half or a broken request behind the one that waits."""
    with serving(app, seconds=0.2) as served:
        waiting = get(f"/test-runs/{RUNNING}?wait=1")
        for then in (b"", HEALTH[:9]):
            with Talk(served.port, waiting + then) as talk:
                answer = talk.answer()
                assert answer is not None
                assert answer.status == 200
        with Talk(served.port, waiting + b"\x00") as talk:
            assert talk.answer() is None, "an answer to the second request would be taken for one to the first"


def test_the_events_of_a_run_are_not_a_request_that_takes_too_long(app: object) -> None:
    with serving(app, seconds=0.2) as served, Talk(served.port, get(f"/test-runs/{RUNNING}/events")) as talk:
        wait_for(lambda: b"data: " in talk.socket.recv(65536), 5)
        talk.socket.settimeout(0.8)
        with pytest.raises(TimeoutError):
            talk.socket.recv(1)


def test_with_all_connections_taken_the_oldest_that_asks_nothing_has_to_go(app: object) -> None:
    with serving(app, connections=3) as served:
        talks = []
        for number in range(1, 4):
            talks.append(Talk(served.port, HEALTH[:9]))
            wait_for(partial(connected, served, number))
            time.sleep(0.01)  # the event loop counts milliseconds
        answer = ask(served.port, HEALTH)
        assert answer is not None
        assert answer.status == 200
        refused = talks[0].answer()
        assert refused is not None
        assert refused.status == 503
        assert refused.detail == "The server has too many connections; try again in a moment."
        for talk in talks[1:]:
            talk.send(HEALTH[9:])
            late = talk.answer()
            assert late is not None
            assert late.status == 200
        for talk in talks:
            talk.socket.close()


def test_with_all_connections_in_use_one_more_is_refused(app: object) -> None:
    with serving(app, connections=2) as served:
        talks = [Talk(served.port, get(f"/test-runs/{RUNNING}/events")) for _ in range(2)]
        for talk in talks:
            assert talk.socket.recv(1)
        with Talk(served.port) as more:
            answer = more.answer()
            assert answer is not None
            assert answer.status == 503
        talks[0].socket.close()
        wait_for(lambda: served.connections == 1)
        answer = ask(served.port, HEALTH)
        assert answer is not None
        assert answer.status == 200
        talks[1].socket.close()


@pytest.mark.parametrize("what", ["body", "wait", "events", "log"])
def test_a_client_that_leaves_is_one_line_for_debugging(
    app: object, project: Project, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    requests = {
        "body": POST + b"Content-Length: 5\r\n\r\nab",
        "wait": get(f"/test-runs/{RUNNING}?wait=1"),
        "events": get(f"/test-runs/{RUNNING}/events"),
        "log": large_log(project),
    }
    with serving(app) as served, caplog.at_level("DEBUG", "bugninja_runner"):
        talk = Talk(served.port, requests[what])
        if what in ("events", "log"):
            assert talk.reader.read(500), "the body has begun"
        else:
            wait_for(lambda: served.server.server_state.tasks, 5, "the request in the application")
        talk.socket.close()
        wait_for(lambda: not (served.connections or served.server.server_state.tasks), 5, "the end of the request")
    left = [record for record in caplog.records if record.levelname == "DEBUG" and "client_left" in record.message]
    assert len(left) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="others have no TCP_USER_TIMEOUT")
def test_who_takes_nothing_of_what_is_sent_is_given_up(
    app: object, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.server.server.UNTAKEN_SECONDS", 1)
    wanted = large_log(project)
    with serving(app) as served, Talk(served.port, wanted, seconds=30) as stuck, Talk(served.port, wanted) as slow:
        slow.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wait_for(lambda: slow.socket.recv(200_000) and served.connections < 2, 20, "its end", step=0.1)
        assert stuck.socket.recv(1)
        assert slow.socket.recv(1), "who takes a little now and then is not given up"


def test_the_end_of_the_server_waits_for_no_request_that_is_still_arriving(app: object) -> None:
    with serving(app) as served, Talk(served.port, POST + b"Content-Length: 5\r\n\r\nab") as talk:
        wait_for(lambda: served.server.server_state.tasks, 5, "the request in the application")
        began = time.monotonic()
        served.end()
        assert time.monotonic() - began < 1.5
        answer = talk.answer()
        assert answer is not None
        assert answer.status == 503
        assert answer.detail == "The server is being stopped."


def test_the_end_of_the_server_waits_only_so_long_for_a_client_that_takes_nothing(
    app: object, project: Project
) -> None:
    with serving(app) as served, Talk(served.port, large_log(project)) as talk:
        assert talk.socket.recv(1)
        began = time.monotonic()
        served.end()
        assert time.monotonic() - began < 4
