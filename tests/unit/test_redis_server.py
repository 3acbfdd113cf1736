"""The embedded Redis."""

import pytest

from jobs.redis_server import Address, NotEmbeddable, embedded_address, server_config


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://127.0.0.1:6400/0", Address("127.0.0.1", 6400, "")),
        ("redis://localhost", Address("localhost", 6379, "")),
        ("redis://:p%40ss@[::1]:6400/0", Address("::1", 6400, "p@ss")),
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
    ],
)
def test_it_does_not_stand_in_for_a_redis_elsewhere(url: str) -> None:
    with pytest.raises(NotEmbeddable):
        embedded_address(url)


def test_a_password_and_a_folder_cannot_break_out_of_the_configuration(tmp_path: object) -> None:
    from pathlib import Path

    config = server_config(Address("127.0.0.1", 1, 'p"w\\d'), Path('/a "b"'))
    assert 'requirepass "p\\"w\\\\d"' in config
    assert 'dir "/a \\"b\\""' in config
    assert "appendonly yes" in config
