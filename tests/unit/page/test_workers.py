"""The page of the workers and of the queue."""

from jobs.queue.heartbeat import send_heartbeat
from tests.unit.fake_stack import FakeStack
from tests.unit.page.pages import get_page


def add_worker(stack: FakeStack, name: str, run_id: str | None, **fields: str) -> None:
    """A worker as RQ knows it; it is alive if it executes a run, or None."""
    stack.redis.sadd("rq:workers:bugninja", f"rq:worker:{name}")
    known = {"birth": "2026-11-26T08:00:00.5Z", "hostname": "machine", "pid": "4711", "successful_job_count": "3"}
    for field, value in (known | fields).items():
        stack.redis.hset(f"rq:worker:{name}", field, value)
    if run_id != "dead":
        send_heartbeat(stack.redis, name, run_id)


def test_who_lives_what_each_does_and_what_waits_for_what(buy: FakeStack) -> None:
    first, second = (buy.post("buy").json()["id"] for _ in range(2))
    add_worker(buy, "dies", "dead", failed_job_count="2")
    add_worker(buy, "works", first)
    add_worker(buy, "waits", None)
    page = get_page(buy, "/ui/workers")
    assert page.text.index("waits") < page.text.index("works") < page.text.index("dies")
    for text in ("● alive", "✕ dead", "machine 4711", "2026-11-26 08:00:00 UTC", "3 done, 2 failed"):
        assert text in page.text
    for run_id in (first, second):
        assert page.all("a", href=f"/ui/runs/{run_id}")
    assert "a free worker, place 1" in page.text
    assert "a run of the same task , place 1" in page.text
    assert "queued 1" in page.text
    assert "rate limited 1" in page.text
    assert "No worker is alive" not in page.text


def test_redis_away_is_said_and_what_the_disk_knows_is_shown(buy: FakeStack) -> None:
    run_id = buy.post("buy").json()["id"]
    buy.server.connected = False
    page = get_page(buy, "/ui/workers")
    assert "Redis does not answer." in page.text
    assert page.all("a", href=f"/ui/runs/{run_id}")
    assert "Redis does not say how many jobs it has." in page.text


def test_without_a_worker_and_a_run_the_page_says_so(stack: FakeStack) -> None:
    page = get_page(stack, "/ui/workers")
    assert "RQ knows no worker of this queue." in page.text
    assert "Runs that are not over None." in page.text


def test_what_redis_has_of_a_worker_may_be_anything(buy: FakeStack) -> None:
    bad = {"birth": "yesterday", "successful_job_count": "9" * 50, "hostname": "<b>\x00" + "h" * 5000, "state": "\xff"}
    add_worker(buy, "<script>alert(1)</script>", "no-run", **bad)
    page = get_page(buy, "/ui/workers")
    assert "<b>?hhh" in page.text
    assert "<script>alert(1)" in page.text
    assert "0 done" in page.text
    assert len(page.html) < 10_000
    assert len(page.all("script")) == 1


def test_a_time_of_a_worker_that_is_none_in_utc_is_not_shown(buy: FakeStack) -> None:
    add_worker(buy, "waits", None, birth="0001-01-01T00:00:00+14:00")
    assert "– 3 done" in get_page(buy, "/ui/workers").text
