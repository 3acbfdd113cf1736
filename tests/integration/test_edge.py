"""The web process as a process: how it starts and ends, and how it bears clients that mean no good."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest

from tests.project import Project
from tests.raw_http import RawAnswer, Talk, ask, get
from tests.stack import Stack
from tests.waiting import wait_for

HEALTH = get("/health")
UVICORN = ("uvicorn", "app:create_app", "--factory")


@pytest.fixture
def place(new_stack: Callable[..., Stack], project: Project) -> Stack:
    """Where web processes can be started; there is no Redis."""
    project.add_task("buy")
    return new_stack()


def is_healthy(stack: Stack) -> bool:
    return stack.call("GET", "/health").status == 200


def started(stack: Stack, *command: str) -> subprocess.Popen[bytes]:
    """The web process, or whatever this command starts, once it answers."""
    web = stack.start(*command, log="web.log") if command else stack.line("web")
    wait_for(lambda: is_healthy(stack), what="the web process")
    return web


def ended(stack: Stack, *command: str) -> tuple[int, str]:
    """The exit code of this command, and what it printed."""
    web = stack.start(*command, log="web.log")
    return web.wait(30), stack.log("web")


def test_half_sent_requests_take_no_descriptor_from_others(place: Stack) -> None:
    web = started(place, "sh", "-c", "ulimit -n 256; exec python app.py")
    with contextlib.ExitStack() as talks:
        for number in range(300):
            talks.enter_context(Talk(place.port, HEALTH[: number % 40]))
            if number % 50 == 0:
                assert is_healthy(place)
        for _ in range(5):
            assert is_healthy(place), "with all of them there"
        assert place.call("POST", "/test-runs/execute-configuration/buy/buy_default").status == 503, "for want of Redis"
        busy = [talks.enter_context(Talk(place.port, get("/test-runs/events"))) for _ in range(100)]
        answers = [answer for talk in busy if (answer := first_line(talk))]
        assert {line.split()[1] for line in answers} == {b"200", b"503"}
        assert ask_status(place) == 503, "all are in use"
    wait_for(lambda: is_healthy(place), 10, "room for others")
    assert web.poll() is None
    assert "Traceback" not in place.log("web")


def first_line(talk: Talk) -> bytes:
    try:
        return talk.reader.readline()
    except ConnectionResetError:
        return b""


def ask_status(stack: Stack) -> int | None:
    answer: RawAnswer | None = ask(stack.port, HEALTH)
    return answer.status if answer else None


@pytest.mark.skipif(sys.platform != "linux", reason="psutil tells it of Linux only")
def test_as_many_descriptors_as_may_be_are_asked_for(place: Stack) -> None:
    web = started(place, "sh", "-c", "ulimit -Sn 100; exec python app.py")
    assert psutil.Process(web.pid).rlimit(psutil.RLIMIT_NOFILE)[0] > 256


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM])
def test_the_web_process_ends_in_order(place: Stack, number: signal.Signals) -> None:
    web = started(place)
    with Talk(place.port, get("/test-runs/events")) as listener:
        assert first_line(listener) == b"HTTP/1.1 200 OK\r\n"
        os.kill(web.pid, number)
        assert web.wait(10) == -signal.SIGTERM
        wait_for(lambda: not listener.reader.readline(), 5, "the end of the stream")
    assert "Application shutdown complete" in place.log("web")
    assert "Traceback" not in place.log("web")


def test_with_nohup_it_stays_when_its_terminal_goes(place: Stack) -> None:
    web = started(place, "sh", "-c", "trap '' HUP; exec python app.py")
    os.kill(web.pid, signal.SIGHUP)
    assert is_healthy(place)
    os.kill(web.pid, signal.SIGTERM)
    assert web.wait(10) == -signal.SIGTERM


def test_a_port_that_is_taken_is_named_with_its_holder(place: Stack) -> None:
    web = started(place)
    code, printed = ended(place, sys.executable, "app.py")
    assert code == 1
    sentence = f"PORT must be a free port, got {place.port}, which process {web.pid} (python app.py) listens on."
    assert sentence in printed
    assert printed.count("event=web_ready") == 1, "that of the first"
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("203.0.113.77", "HOST must be an address of this machine, got '203.0.113.77'."),
        ("a..b", "HOST must be a name or an address of this machine, got 'a..b'"),
    ],
)
def test_a_host_that_is_not_here_is_named(new_stack: Callable[..., Stack], host: str, problem: str) -> None:
    code, printed = ended(new_stack(HOST=host), sys.executable, "app.py")
    assert code == 1
    assert problem in printed
    for sign in ("Traceback", "web_ready"):
        assert sign not in printed


@pytest.mark.parametrize("host", ["::1", "[::1]"])
@pytest.mark.skipif(not socket.has_ipv6, reason="there is no IPv6 here")
def test_it_listens_on_the_loopback_of_ipv6(new_stack: Callable[..., Stack], host: str) -> None:
    stack = new_stack(HOST=host)
    stack.line("web")
    wait_for(lambda: f"event=web_ready url=http://[::1]:{stack.port} " in stack.log("web"))
    with socket.create_connection(("::1", stack.port), timeout=10) as client:
        client.sendall(f"GET /health HTTP/1.1\r\nHost: [::1]:{stack.port}\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert "event=no_token" not in stack.log("web")


@pytest.mark.parametrize(("token", "warns"), [("", True), ("a-token-of-20-chars!", False)])
def test_who_listens_for_others_without_a_token_is_warned(
    new_stack: Callable[..., Stack], token: str, warns: bool
) -> None:
    stack = new_stack(HOST="0.0.0.0", API_TOKEN=token)
    started(stack)
    assert ("WARNING event=no_token host=0.0.0.0" in stack.log("web")) is warns
    assert ("set API_TOKEN" in stack.log("web")) is warns
    assert f"url=http://127.0.0.1:{stack.port} " in stack.log("web")


@pytest.mark.parametrize("more", [(), ("--workers", "2")])
def test_uvicorn_itself_can_serve_the_application(place: Stack, more: tuple[str, ...]) -> None:
    web = started(place, *UVICORN, "--port", str(place.port), *more)
    assert place.call("GET", "/test-runs").status == 200
    os.kill(web.pid, signal.SIGTERM)
    assert web.wait(15) in (0, -signal.SIGTERM)
    assert "Traceback" not in place.log("web")


def test_uvicorn_itself_can_serve_the_application_on_a_socket_of_unix(place: Stack) -> None:
    path = place.folder / "web.sock"
    place.start(*UVICORN, "--uds", str(path), log="web.log")
    wait_for(path.exists)
    with socket.socket(socket.AF_UNIX) as client:
        wait_for(lambda: client.connect_ex(str(path)) == 0)
        client.sendall(HEALTH)
        assert client.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("command", [(sys.executable, "app.py"), UVICORN])
def test_settings_that_cannot_be_used_are_named_and_nothing_else_is_printed(
    new_stack: Callable[..., Stack], command: tuple[str, ...]
) -> None:
    code, printed = ended(new_stack(RUN_TIMEOUT="soon"), *command)
    assert code == 1
    assert "RUN_TIMEOUT must be an integer" in printed
    assert "Traceback" not in printed
