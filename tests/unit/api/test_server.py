"""Where the web process listens, and that it starts whatever the tasks are like."""

import errno
import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from app import create_app
from jobs.server.server import DESCRIPTORS, OTHER_DESCRIPTORS, connection_limit, listen, warn_if_open
from runner.errors import SettingsError
from tests.project import Project
from tests.unit.fake_stack import FakeStack


@pytest.mark.parametrize("toml", [None, "[task"])
def test_the_first_task_is_named_without_reading_it(
    project: Project, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, toml: str | None
) -> None:
    project.add_task("buy", toml=toml)
    monkeypatch.setattr("runner.project.catalog.file_identity", lambda _: 1 / 0)
    with caplog.at_level("INFO"), FakeStack(project).client as client:
        assert client.get("/health").status_code == 200
    assert "execute-configuration/buy/buy_default" in caplog.text


def test_a_project_without_tasks_is_named(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    with FakeStack(project).client as client:
        assert client.get("/health").status_code == 200
    assert "event=no_tasks" in caplog.text


def listening(host: str, port: int = 0) -> list[tuple[str, int]]:
    """The addresses and ports at which one listens then."""
    sockets = listen(host, port, 10)
    try:
        return [listener.getsockname()[:2] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


def test_it_listens_where_the_host_says() -> None:
    for host in ("127.0.0.1", "0.0.0.0", "::1"):
        ((address, port),) = listening(host)
        assert address == host
        assert port
    assert "127.0.0.1" in dict(listening("localhost"))


def test_a_port_that_was_just_left_can_be_used_again() -> None:
    (listener,) = listen("127.0.0.1", 0, 10)
    port = listener.getsockname()[1]
    client = socket.create_connection(("127.0.0.1", port))
    server, _ = listener.accept()
    for one in (server, client, listener):  # the server's side is the first, and so it is the one that lingers
        one.close()
    assert listening("127.0.0.1", port) == [("127.0.0.1", port)]


def test_another_process_cannot_take_the_port_between_two_steps() -> None:
    (listener,) = listen("127.0.0.1", 0, 10)
    with closing(listener), pytest.raises(SettingsError) as caught:
        listen("127.0.0.1", listener.getsockname()[1], 10)
    (problem,) = caught.value.problems
    assert problem.startswith("PORT must be a free port, got ")
    assert f"which process {os.getpid()} (" in problem
    assert problem.endswith(") listens on.")


def test_a_holder_that_cannot_be_known_is_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.cli.machine.listener_on", lambda port: None)
    (listener,) = listen("127.0.0.1", 0, 10)
    with closing(listener), pytest.raises(SettingsError, match="which another process listens on"):
        listen("127.0.0.1", listener.getsockname()[1], 10)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, "PORT must be a port that this user may listen on, got 80; most may from 1024."),
        (errno.ENOBUFS, "HOST and PORT must be where this machine can listen, got port 80: No buffer space available."),
        (errno.EADDRNOTAVAIL, "HOST must be an address of this machine, got '127.0.0.1'."),
        (errno.EAFNOSUPPORT, "HOST must be an address of this machine, got '127.0.0.1'."),
    ],
)
def test_what_the_system_refuses_is_said_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, number: int, expected: str
) -> None:
    class Refusing(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr("jobs.server.server.socket.socket", Refusing)
    with pytest.raises(SettingsError) as caught:
        listen("127.0.0.1", 80, 10)
    assert caught.value.problems == [expected]


@pytest.mark.parametrize("host", ["a..b", "a" * 64 + ".b"])
def test_a_host_that_is_no_name_is_named(host: str) -> None:
    with pytest.raises(SettingsError, match=f"HOST must be a name or an address of this machine, got '{host}'"):
        listen(host, 0, 10)


@pytest.mark.skipif(sys.platform != "linux", reason="others have no TCP_USER_TIMEOUT")
def test_what_a_client_does_not_take_is_kept_for_a_minute() -> None:
    (listener,) = listen("127.0.0.1", 0, 10)
    with closing(listener):
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000


@pytest.mark.parametrize(
    ("host", "token", "warns"),
    [
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("localhost", "", False),
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("0.0.0.0", "a-token-of-20-chars!", False),
    ],
)
def test_who_can_be_reached_from_other_machines_needs_a_token(
    project: Project, caplog: pytest.LogCaptureFixture, host: str, token: str, warns: bool
) -> None:
    sockets = listen(host, 0, 10)
    warn_if_open(project.settings(HOST=host, API_TOKEN=token), sockets)
    for listener in sockets:
        listener.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * warns
    assert ("set API_TOKEN" in caplog.text) is warns


@pytest.fixture
def descriptors() -> Iterator[tuple[int, int]]:
    """The limits of this process, which are put back."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield limits
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_descriptors_are_raised_as_far_as_they_may_be(descriptors: tuple[int, int]) -> None:
    _, hard = descriptors
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    wanted = min(DESCRIPTORS, hard)
    assert connection_limit() == (wanted - OTHER_DESCRIPTORS) // 2
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (wanted, hard)
    assert connection_limit() == (wanted - OTHER_DESCRIPTORS) // 2


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "raised"),
    [
        (256, 256, 64, None),
        (128, 140, 8, 140),
        (256, 1024, 448, 1024),
        (1024, resource.RLIM_INFINITY, 8128, 16384),
        (65536, 65536, 8128, None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 8128, None),
    ],
)
def test_half_of_the_descriptors_that_are_left_are_for_clients(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, connections: int, raised: int | None
) -> None:
    changes: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: changes.append(limits))
    assert connection_limit() == connections
    assert changes == ([] if raised is None else [(raised, hard)])


def test_an_application_without_settings_takes_those_of_the_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in project.environ(API_TOKEN="a-token-of-20-chars!", QUEUE_NAME="q").items():
        monkeypatch.setenv(name, value)
    assert callable(create_app())
    monkeypatch.setenv("PORT", "x")
    with pytest.raises(SystemExit, match="PORT must be an integer from 1 to 65535, got 'x'"):
        create_app()


def test_a_thread_that_reads_files_delays_the_event_loop_for_a_moment_at_most(project: Project) -> None:
    sys.setswitchinterval(0.005)
    with FakeStack(project).client:
        assert sys.getswitchinterval() < 0.005
