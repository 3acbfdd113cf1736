"""Where jobs are in Redis, and how they are moved on."""

import time
from typing import Any

import fakeredis
import msgspec
import pytest
from rq.executions import Execution
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.utils import as_text, now
from rq.worker import SimpleWorker

from jobs.queue.heartbeat import send_heartbeat
from jobs.queue.job import enqueue, make_queue
from jobs.queue.places import (
    QueueNumbers,
    QueueView,
    count_queue,
    drop_popped,
    end_job,
    forget_expired,
    give_turns,
    return_popped,
    view_queue,
)
from runner.ids import RunId, TaskId
from tests.project import Project
from tests.unit.run.records import QUEUED

WAITING, POPPED, STARTED = "rq:queue:bugninja", "rq:queue:bugninja:intermediate", "rq:wip:bugninja"


@pytest.fixture
def redis() -> fakeredis.FakeRedis:
    return fakeredis.FakeRedis()


@pytest.fixture
def queue(redis: fakeredis.FakeRedis) -> Queue:
    return make_queue(redis, "bugninja")


def limit(task: str, what: str = "") -> str:
    return f"rq:rl:bugninja:{task}{what}"


def ids(queue: Queue, key: str) -> list[str]:
    redis: Any = queue.connection
    found = redis.lrange(key, 0, -1) if redis.type(key) == b"list" else redis.zrange(key, 0, -1)
    return [as_text(value) for value in found]


def enqueued(queue: Queue, project: Project, *names: str, task: str = "buy") -> list[str]:
    """The jobs of runs of the task, which has one turn."""
    runs = [name * 24 for name in names]
    for run in runs:
        record = msgspec.structs.replace(QUEUED, run_id=RunId(run), task_id=TaskId(task))
        enqueue(queue, [record], project.settings())
    return runs


def only_in_one_step(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on Redis is only given commands that are sent together."""

    def alone(*command: object, **_: object) -> None:
        raise AssertionError(f"{command} was sent alone")

    for name in ("execute_command", "evalsha"):
        monkeypatch.setattr(queue.connection, name, alone)


def test_all_places_are_seen(queue: Queue, redis: fakeredis.FakeRedis) -> None:
    redis.rpush(WAITING, "q1", "q2", "q3")
    redis.rpush(POPPED, "p1", "p2", b"\xff")
    redis.zadd(STARTED, {"s1:one:more": 1, "s2:two": 2, "s3:three": 3})
    redis.sadd("rq:rl-keys", "bugninja:buy", "bugninja:eat", "bugninja:sell", "bugninja2:buy", "x:bugninja:buy")
    redis.zadd(limit("buy", ":allowed"), {"b1": 1, "b2": 2, "b3": 3})
    redis.zadd(limit("buy", ":rate_limited"), {"b4": 1, "b5": 2, "b6": 3})
    redis.zadd(limit("sell", ":allowed"), {"c1": 1})
    redis.zadd(limit("sell", ":rate_limited"), {"c2": 1})
    redis.zadd("rq:rl:bugninja2:buy:allowed", {"other": 1})
    assert view_queue(queue) == QueueView(
        waiting={"q1", "q2", "q3", "b4", "b5", "b6", "c2"},
        popped={"p1", "p2", "\udcff"},
        started={"s1", "s2", "s3"},
        turns={"b1": "bugninja:buy", "b2": "bugninja:buy", "b3": "bugninja:buy", "c1": "bugninja:sell"},
        limits={"bugninja:buy": True, "bugninja:eat": False, "bugninja:sell": True},
    )


def test_a_connection_that_gives_texts_sees_the_same() -> None:
    redis = fakeredis.FakeRedis(decode_responses=True)
    redis.rpush(WAITING, "q1")
    assert view_queue(make_queue(redis, "bugninja")) == QueueView({"q1"}, set(), set(), {}, {})


@pytest.mark.parametrize(("more", "order"), [({}, ["p1", "q1"]), ({"at_front": False}, ["q1", "p1"])])
def test_a_popped_job_goes_back_in_one_step(
    queue: Queue, redis: fakeredis.FakeRedis, more: dict[str, bool], order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    redis.rpush(WAITING, "q1")
    redis.rpush(POPPED, "p1", "p2", "p1")
    with monkeypatch.context() as patch:
        only_in_one_step(queue, patch)
        return_popped(queue, "p1", **more)
    assert (ids(queue, WAITING), ids(queue, POPPED)) == (order, ["p2", "p1"]), "it was popped twice"
    drop_popped(queue, "p1")
    assert (ids(queue, WAITING), ids(queue, POPPED)) == (order, ["p2"])
    redis.rpush(POPPED, "p2")
    drop_popped(queue, "p2")
    assert ids(queue, POPPED) == ["p2"]


def test_a_job_that_nobody_executes_is_ended_wherever_it_stands(queue: Queue, project: Project) -> None:
    redis: Any = queue.connection
    job_id, waiting = enqueued(queue, project, "a", "b")
    job = Job.fetch(job_id, redis, JSONSerializer)
    job.set_status(JobStatus.STARTED)
    job.worker_name = "dead"
    job.save()
    with redis.pipeline() as pipeline:
        executions = [Execution.create(job, 90, pipeline, worker_name="dead") for _ in range(2)]
        pipeline.execute()
    redis.delete(executions[0].key)  # which RQ itself stumbles over
    redis.rpush(POPPED, job_id)
    end_job(SimpleWorker([queue], connection=redis, serializer=JSONSerializer), job_id, "Its worker died.", None)
    job.refresh()
    assert job.get_status() == "failed"
    assert job.ended_at is not None
    assert abs((now() - job.ended_at).total_seconds()) < 60
    result = job.latest_result()
    assert result is not None
    assert result.exc_string == "Its worker died."
    assert ids(queue, "rq:failed:bugninja") == [job_id]
    left = [as_text(key) for key in redis.keys("*") if b"execution" in key]
    assert (left, ids(queue, STARTED), ids(queue, POPPED)) == ([], [], [])
    assert ids(queue, limit("buy", ":allowed")) == [waiting]


def test_the_turn_of_a_job_that_is_gone_goes_to_the_next(queue: Queue, project: Project) -> None:
    redis: Any = queue.connection
    gone, waiting = enqueued(queue, project, "a", "b")
    redis.delete(f"rq:job:{gone}", WAITING)
    redis.rpush(POPPED, gone)
    worker = SimpleWorker([queue], connection=redis, serializer=JSONSerializer)
    end_job(worker, gone, "x", None)
    assert ids(queue, limit("buy", ":allowed")) == [gone], "where its turn is was not said"
    assert ids(queue, POPPED) == []
    end_job(worker, gone, "x", "bugninja:buy")
    assert (ids(queue, limit("buy", ":allowed")), ids(queue, WAITING)) == ([waiting], [waiting])


def test_free_turns_are_given_in_one_step_up_to_the_limit(
    queue: Queue, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis: Any = queue.connection
    runs = enqueued(queue, project, "a", "b", "c")
    (other, last) = enqueued(queue, project, "d", "e", task="sell")
    redis.delete(WAITING, limit("buy", ":allowed"), limit("sell", ":allowed"), "rq:rl-keys", limit("buy"))
    with monkeypatch.context() as patch:
        only_in_one_step(queue, patch)
        give_turns(queue, ["bugninja:buy", "bugninja:sell"], 1)
    assert (ids(queue, limit("buy", ":allowed")), ids(queue, limit("sell", ":allowed"))) == ([runs[1]], [last])
    assert other not in ids(queue, WAITING) == [runs[1], last]
    assert redis.smembers("rq:rl-keys") == {b"bugninja:buy", b"bugninja:sell"}
    assert redis.hgetall(limit("buy")) == {b"concurrency": b"1"}


def test_what_is_over_is_forgotten_and_nothing_else(queue: Queue, project: Project) -> None:
    redis: Any = queue.connection
    soon = time.time() + 500
    for name in ("finished", "failed"):
        redis.zadd(f"rq:{name}:bugninja", {"old": 1, "new": soon})
    redis.zadd("rq:canceled:bugninja", {"older": 0.5, "old": time.time() - 101, "new": time.time() - 50})
    redis.sadd("rq:workers:bugninja", "rq:worker:dead")
    redis.sadd("rq:workers", "rq:worker:dead")
    redis.sadd("rq:rl-keys", "bugninja:sell", "bugninja:buy", "bugninja:eat")
    for task in ("buy", "sell", "eat"):
        redis.hset(limit(task), "concurrency", 1)
    enqueued(queue, project, "a")
    forget_expired(queue, ["bugninja:buy", "bugninja:sell"], 100)
    assert [ids(queue, f"rq:{name}:bugninja") for name in ("finished", "failed", "canceled")] == [["new"]] * 3
    assert not redis.exists("rq:workers", "rq:workers:bugninja")
    assert redis.smembers("rq:rl-keys") == {b"bugninja:buy", b"bugninja:eat"}, "one has a turn, one was not asked for"
    assert (redis.exists(limit("sell")), redis.exists(limit("buy"))) == (0, 1)


@pytest.mark.anyio
async def test_jobs_and_workers_of_this_queue_are_counted() -> None:
    server = fakeredis.FakeServer()
    redis = fakeredis.FakeRedis(server=server)
    nothing = dict.fromkeys(["queued", "started", "finished", "failed", "deferred", "scheduled", "canceled"], 0)
    idle = dict.fromkeys(["started", "suspended", "busy", "idle"], 0)
    empty = QueueNumbers("bugninja", 0, idle, {**nothing, "rate_limited": 0})
    assert await count_queue(fakeredis.FakeAsyncRedis(server=server), "bugninja") == empty
    redis.rpush(WAITING, "q1", "q2", "q3")
    redis.rpush("rq:queue:other", "o1")
    for number, name in enumerate(["wip", "finished", "failed", "deferred", "scheduled", "canceled"], 4):
        redis.zadd(f"rq:{name}:bugninja", {f"{name}{n}": n for n in range(number)})
    redis.sadd("rq:rl-keys", "bugninja:buy", "bugninja:sell", "other:buy")
    for queue_name, task, count in (("bugninja", "buy", 20), ("bugninja", "sell", 1), ("other", "buy", 100)):
        redis.zadd(f"rq:rl:{queue_name}:{task}:rate_limited", {f"{task}{n}": n for n in range(count)})
        redis.zadd(f"rq:rl:{queue_name}:{task}:allowed", {f"turn{task}": 1})
    for worker, state in (("a", "busy"), ("b", "busy"), ("c", "idle"), ("dead", "busy"), ("odd", "?"), ("gone", "")):
        redis.sadd("rq:workers:bugninja", f"rq:worker:{worker}")
        if state:
            redis.hset(f"rq:worker:{worker}", "state", state)
    redis.sadd("rq:workers:other", "rq:worker:other")
    redis.hset("rq:worker:other", "state", "busy")
    for worker in ("a", "b", "c", "other"):
        send_heartbeat(redis, worker, None)
    assert await count_queue(fakeredis.FakeAsyncRedis(server=server), "bugninja") == QueueNumbers(
        name="bugninja",
        alive=3,
        workers={**idle, "busy": 3, "idle": 1},
        jobs={
            "queued": 3,
            "started": 4,
            "finished": 5,
            "failed": 6,
            "deferred": 7,
            "scheduled": 8,
            "canceled": 9,
            "rate_limited": 21,
        },
    )


@pytest.mark.anyio
async def test_nothing_is_counted_while_redis_is_away() -> None:
    server = fakeredis.FakeServer()
    server.connected = False
    assert await count_queue(fakeredis.FakeAsyncRedis(server=server), "bugninja") is None
