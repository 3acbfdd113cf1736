"""Who listens on a port of this machine."""

import os
import socket
from types import SimpleNamespace

import psutil
import pytest

from runner.cli.machine import listener_on
from tests.stack import free_port


def test_a_listener_is_named_with_its_command() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        found = listener_on(port)
        with socket.create_connection(("127.0.0.1", port)) as client:
            assert listener_on(client.getsockname()[1]) is None, "who is only connected does not listen"
    assert found is not None
    assert found.startswith(f"process {os.getpid()} (")
    assert psutil.Process().cmdline()[0][:20] in found
    assert listener_on(free_port()) is None


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), psutil.NoSuchProcess(1), PermissionError()])
def test_where_that_may_not_be_known_it_is_nobody(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(kind: str) -> None:
        raise error

    monkeypatch.setattr(psutil, "net_connections", refuse)
    assert listener_on(80) is None


def test_a_listener_of_another_user_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    other = SimpleNamespace(status=psutil.CONN_LISTEN, laddr=("127.0.0.1", 80), pid=None)
    monkeypatch.setattr(psutil, "net_connections", lambda kind: [other])
    assert listener_on(80) is None


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["python", "app.py", "--password=hunter2"], "python app.py"),
        (["python", "-c", "hunter2"], "python"),
        (["server", "key=hunter2"], "server"),
        (["server", "redis://:hunter2@h"], "server"),
        (["server"], "server"),
        ([], ""),
    ],
)
def test_no_argument_of_a_listener_is_repeated(monkeypatch: pytest.MonkeyPatch, words: list[str], named: str) -> None:
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _: words)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert listener_on(listener.getsockname()[1]) == f"process {os.getpid()} ({named})"
