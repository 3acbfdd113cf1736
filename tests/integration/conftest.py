"""Fixtures of the tests with real processes."""

from collections.abc import Callable, Iterator

import pytest

from tests.proxy import Proxy
from tests.stack import Stack
from tests.waiting import wait_for


@pytest.fixture
def base(new_stack: Callable[..., Stack]) -> Stack:
    """Redis and web; the test starts the workers."""
    stack = new_stack()
    for name in ("redis", "web"):
        stack.line(name)
    wait_for(lambda: (stack.call("GET", "/ready").body or {}).get("redis"), what="Redis and web")
    return stack


@pytest.fixture
def proxy(base: Stack) -> Iterator[Proxy]:
    """A proxy in front of that Redis."""
    proxy = Proxy(base.redis_port)
    yield proxy
    proxy.close()
