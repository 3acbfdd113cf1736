"""Readiness and metrics."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import fakeredis
import pytest
from redis.asyncio import Redis as AsyncRedis
from starlette.testclient import TestClient

from app import create_app
from jobs.api.health import readiness
from jobs.queue.connection import connect_async
from jobs.queue.heartbeat import send_heartbeat
from jobs.services import Services
from jobs.status.metrics import NO_RUNS
from runner.settings import Settings
from tests.project import Project
from tests.unit.fake_stack import FakeStack

TOKEN = "a-token-of-20-chars!"
WITH_TOKEN = {"Authorization": f"Bearer {TOKEN}"}


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


@contextmanager
def client_of(project: Project, settings: dict[str, str], reading: AsyncRedis | None = None) -> Iterator[TestClient]:
    """A client of the application with these settings, in whose project one task has passed."""
    numbers = NO_RUNS._replace(verdicts={"buy": True})
    server = fakeredis.FakeServer()

    def connect(found: Settings) -> Services:
        reader = reading or fakeredis.FakeAsyncRedis(server=server)
        built = Services.build(found, fakeredis.FakeRedis(server=server), reader)
        statistics: Any = SimpleNamespace(numbers=lambda: numbers)
        return built._replace(statistics=statistics)

    with TestClient(create_app(project.settings(**settings), connect), "http://127.0.0.1:8000") as client:
        yield client


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/metrics"])
@pytest.mark.parametrize(
    ("settings", "without", "with_token"),
    [
        ({}, 200, 200),
        ({"API_TOKEN": TOKEN}, 401, 200),
        ({"METRICS": "token"}, 200, 200),
        ({"METRICS": "open"}, 200, 200),
        ({"METRICS": "OPEN", "API_TOKEN": TOKEN}, 200, 200),
        ({"METRICS": "off"}, 404, 404),
        ({"METRICS": "off", "API_TOKEN": TOKEN}, 401, 404),
    ],
)
def test_the_settings_say_who_may_read_the_metrics(
    project: Project, path: str, settings: dict[str, str], without: int, with_token: int
) -> None:
    with client_of(project, settings) as client:
        assert client.get(path).status_code == without
        answer = client.get(path, headers=WITH_TOKEN)
        assert answer.status_code == with_token
        if with_token == 404:
            assert answer.json() == {"detail": "There are no metrics: METRICS is off."}
        assert client.get("/ready").status_code == (401 if "API_TOKEN" in settings else 503)


@pytest.mark.parametrize(("setting", "security"), [("open", []), ("token", None)])
def test_the_documentation_says_whether_metrics_need_the_token(
    project: Project, setting: str, security: list[object] | None
) -> None:
    with client_of(project, {"METRICS": setting, "API_TOKEN": TOKEN}) as client:
        paths = client.get("/openapi.json", headers=WITH_TOKEN).json()["paths"]
    assert paths["/metrics"]["get"].get("security") == security
    assert paths["/health"]["get"]["security"] == []
    assert "security" not in paths["/ready"]["get"]
    assert [*paths["/metrics"]["get"]["responses"]["200"]["content"]] == ["text/plain; version=0.0.4; charset=utf-8"]


def test_metrics_are_the_numbers_of_this_moment(buy: FakeStack) -> None:
    def shown() -> list[str]:
        answer = buy.client.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        return [line for line in answer.text.splitlines() if line.startswith("rq_jobs") and not line.endswith(" 0.0")]

    assert shown() == []
    buy.post("buy")
    buy.post("buy")
    assert shown() == [
        'rq_jobs{queue="bugninja",status="queued"} 1.0',
        'rq_jobs{queue="bugninja",status="rate_limited"} 1.0',
    ]
    buy.work()
    assert shown() == ['rq_jobs{queue="bugninja",status="finished"} 2.0']


@pytest.mark.parametrize("accepts", [True, False])
def test_metrics_are_there_within_a_second_when_redis_is_not(project: Project, *, accepts: bool) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if accepts:
            silent.listen()
        reading = connect_async(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        with client_of(project, {}, reading) as client:
            began = time.monotonic()
            answer = client.get("/metrics")
            assert time.monotonic() - began < 1.5, "on a machine that also does other things"
    assert answer.status_code == 200
    assert 'bugninja_runner_last_verdict{task="buy"} 1.0' in answer.text
    assert "bugninja_runner_redis_up 0.0" in answer.text
    assert "rq_" not in answer.text
