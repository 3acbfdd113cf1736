"""Connections to Redis."""

import pytest

from jobs.queue.connection import printable_url


@pytest.mark.parametrize(
    ("url", "printable"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("rediss://user:hunter2@host/1", "rediss://host:6379/1"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, printable: str) -> None:
    assert printable_url(url) == printable
