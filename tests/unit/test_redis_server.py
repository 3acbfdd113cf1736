"""The embedded Redis."""

import os
import signal
import threading
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from jobs.redis_server import (
    Address,
    NotEmbeddable,
    answers,
    embedded_address,
    prepare_folder,
    server_config,
    step_aside,
)
from runner.settings import read_settings


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://127.0.0.1:6400/0", Address("127.0.0.1", 6400, "")),
        ("redis://localhost", Address("localhost", 6379, "")),
        ("redis://:p%40ss@[::1]:6400/0", Address("::1", 6400, "p@ss")),
        ("redis://127.0.0.1/15?password=p%40ss", Address("127.0.0.1", 6379, "p@ss")),
    ],
)
def test_the_embedded_server_listens_where_the_url_points(url: str, address: Address) -> None:
    assert embedded_address(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis.example:6379/0",
        "redis://0.0.0.0/0",
        "rediss://127.0.0.1/0",
        "unix:///x",
        "redis://u:p@127.0.0.1/0",
        "redis://127.0.0.1/0?username=u",
        "redis://127.0.0.1/16",
        "redis://127.0.0.1/0?db=99",
    ],
)
def test_it_does_not_stand_in_for_a_redis_elsewhere(url: str) -> None:
    with pytest.raises(NotEmbeddable):
        embedded_address(url)


def test_a_password_and_a_folder_cannot_break_out_of_the_configuration() -> None:
    config = server_config(Address("127.0.0.1", 1, 'p"w\\d'), Path('/a "b"'))
    assert 'requirepass "p\\"w\\\\d"' in config
    assert 'dir "/a \\"b\\""' in config
    assert "appendonly yes" in config
    assert "databases 16" in config


def test_a_folder_for_the_data_is_made(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "file").touch()
    prepare_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotEmbeddable, match=r"REDIS_DATA must be a folder that can be made, got .*: Not a directory"):
        prepare_folder(tmp_path / "file" / "b")


@pytest.mark.parametrize("name", ["", "appendonlydir/1.aof"])
def test_a_folder_of_another_user_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "1.aof").touch()
    others = tmp_path / name
    monkeypatch.setattr("os.access", lambda path, mode: path != others or not mode & os.W_OK)
    with pytest.raises(NotEmbeddable, match="REDIS_DATA must be a folder that this user can write to") as caught:
        prepare_folder(tmp_path)
    assert str(others) in str(caught.value)


def test_a_redis_that_has_no_such_database_is_there_and_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def ping(self) -> None:
            raise ResponseError("DB index is out of range")

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr("jobs.redis_server.connect", lambda url: Refusing())
    assert answers("redis://h/99")
    assert "event=redis_refuses url=redis://h:6379/99 error='DB index is out of range'" in caplog.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_line_that_steps_aside_ends_with_each_signal(number: signal.Signals) -> None:
    before = {other: signal.getsignal(other) for other in signal.Signals if other not in (9, 19)}
    timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), number))
    signal.signal(number, lambda *_: None)  # until the line has its own
    timer.start()
    try:
        step_aside(read_settings({}))
    finally:
        timer.join()
        for other in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(other, before[other])
