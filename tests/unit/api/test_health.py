"""Readiness."""

from jobs.api.health import readiness
from jobs.queue.heartbeat import send_heartbeat
from tests.unit.fake_stack import FakeStack


def test_ready_wants_redis_and_a_living_worker(stack: FakeStack) -> None:
    response = stack.client.get("/ready")
    assert (response.status_code, response.json()["redis"], response.json()["workers"]) == (503, True, 0)
    assert "No worker is alive" in response.json()["detail"]
    for name in ("dead", "living"):
        stack.redis.sadd("rq:workers:bugninja", f"rq:worker:{name}")
    assert stack.client.get("/ready").status_code == 503
    send_heartbeat(stack.redis, "living", None)
    response = stack.client.get("/ready")
    assert (response.status_code, response.json()) == (200, {"status": "ready", "redis": True, "workers": 1})


def test_ready_warns_of_a_redis_that_may_delete_jobs() -> None:
    assert readiness(1, "allkeys-lru").warning == "Redis must have maxmemory-policy noeviction, got allkeys-lru."
    assert readiness(1, "noeviction").warning is None
    assert readiness(1, None).warning is None, "a Redis that does not say"
