"""ETags, large bodies, turns."""

import asyncio

import pytest

from jobs.api.responses import CHUNK_BYTES, Pacer
from tests.project import PASSED, VISIT, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    STAMP,
    by_hand,
    write_run,
)


@pytest.mark.parametrize("path", ["/test-runs/{run}", "/test-runs", "/test-runs/test-case/buy", "/tasks", "/tasks/buy"])
def test_what_a_client_has_it_is_not_sent_again(stack: FakeStack, path: str) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT]))
    path = path.format(run=by_hand("a"))
    first = stack.client.get(path)
    assert (first.status_code, first.headers["cache-control"]) == (200, "private, no-cache")
    etag = first.headers["etag"]
    for known in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = stack.client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    changed = stack.client.get(path, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.headers["etag"] != etag) == (200, True)


def test_a_large_run_arrives_whole(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT] * 2000 + [PASSED], "SUCCESSFUL"))
    response = stack.client.get(f"/test-runs/{by_hand('a')}")
    assert len(response.content) > 3 * CHUNK_BYTES
    assert len(response.json()["brain_states"]) == 2001
    assert int(response.headers["content-length"]) == len(response.content)
    assert stack.client.head(f"/test-runs/{by_hand('a')}").content == b""


@pytest.mark.anyio
async def test_of_all_that_is_ready_one_goes_per_turn_of_the_loop() -> None:
    pacer, order = Pacer(), []

    async def send(name: str) -> None:
        await pacer.wait()
        order.append(name)

    sending = [asyncio.create_task(send(name)) for name in "abc"]
    while not sending[-1].done():
        before = len(order)
        await asyncio.sleep(0)
        assert len(order) - before <= 1
    assert order == ["a", "b", "c"]
