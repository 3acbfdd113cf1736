"""The parts of pages that change."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from jobs.page.live import as_document, only_changes
from jobs.status.cache import RenderedJSON
from tests.unit.fake_stack import FakeStack
from tests.unit.page.pages import get_page


def test_each_event_has_only_the_parts_that_changed() -> None:
    documents = [{"a": "1", "b": "1"}, {"a": "1", "b": "2"}, None, {"a": "1", "b": "2", "c": "1"}, {"b": "1"}]
    rendered = [None if document is None else as_document(document) for document in documents]

    async def following() -> AsyncIterator[RenderedJSON | None]:
        for one in rendered:
            yield one

    async def collect() -> list[RenderedJSON | None]:
        return [found async for found in only_changes(following())]

    found = asyncio.run(collect())
    assert [one and msgspec.json.decode(one.body) for one in found] == [
        {"a": "1", "b": "1"},
        {"b": "2"},
        None,
        {"c": "1"},
        {"b": "1"},
    ]
    assert [one and one.id for one in found] == [one and one.id for one in rendered]


def test_a_page_that_is_over_and_up_to_date_is_told_so(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    page = get_page(buy, f"/ui/runs/{run_id}")
    ((_, body),) = [found for found in page.elements if found[0] == "body"]
    address = f"/ui/events/runs/{run_id}"
    assert buy.client.get(f"{address}?version={body['data-version']}").status_code == 204
    assert buy.client.get(address, headers={"Last-Event-ID": body["data-version"]}).status_code == 204
    events = buy.client.get(address)
    assert events.headers["content-type"].startswith("text/event-stream")
    identity, data = events.text.split("\n")[:2]
    assert identity == f"id: {body['data-version']}"
    parts = msgspec.json.decode(data.removeprefix("data: "))
    assert [*parts] == [
        *("notice", "head", "buttons", "result", "recordings", "timing", "step-1", "step-2", "more"),
    ]
    for name, html in parts.items():
        assert html in page.html, name


@pytest.mark.parametrize("page", ["runs/{run_id}", "tasks/buy"])
def test_a_page_is_told_that_what_it_shows_was_deleted(buy: FakeStack, page: str) -> None:
    run_id = buy.run("buy")["id"]
    shutil.rmtree(buy.project.root / "tasks" / "buy")
    address = f"/ui/events/{page.format(run_id=run_id)}"
    assert buy.client.get(address).status_code == 404
    identity, data = buy.client.get(f"{address}?version=1").text.split("\n")[:2]
    assert "What this page shows was deleted." in msgspec.json.decode(data.removeprefix("data: "))["notice"]
    assert buy.client.get(f"{address}?version={identity.removeprefix('id: ')}").status_code == 204


def test_large_runs_are_decoded_one_at_a_time(buy: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    run_ids = [buy.run("buy")["id"] for _ in range(3)]
    at_once, most = 0, 0

    async def decode(*_: Any) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        at_once -= 1

    async def read_all() -> None:
        await asyncio.gather(*map(buy.services.reader.get, run_ids))
        monkeypatch.setattr("anyio.to_thread.run_sync", decode)
        await asyncio.gather(*map(buy.services.reader.document, run_ids))

    assert buy.client.portal is not None
    buy.client.portal.call(read_all)
    assert most == 1
