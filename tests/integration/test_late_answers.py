"""Answers of Redis that come late or say no: a run is accepted and executed once, or refused and never executed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.project import Project
from tests.proxy import Proxy
from tests.stack import Answer, Stack
from tests.waiting import wait_for
from tests.watching import check_it_stays, notes

BUY = "/test-runs/execute-configuration/buy/buy_default"


@pytest.fixture
def far(new_stack: Callable[..., Stack], base: Stack, proxy: Proxy) -> Stack:
    """A web process that reaches Redis through the proxy, and one worker that needs none."""
    base.line("worker")
    base.wait_ready()
    far = new_stack()
    far.environ["REDIS_URL"] = f"redis://127.0.0.1:{proxy.port}/0"
    far.line("web")
    far.wait_ready()
    return far


def post(stack: Stack, key: str) -> Answer:
    return stack.call("POST", BUY, **{"Idempotency-Key": key})


@pytest.mark.parametrize("stopped", [False, True])
def test_a_run_whose_enqueuing_is_answered_late_runs_once(
    project: Project, base: Stack, far: Stack, proxy: Proxy, stopped: bool
) -> None:
    folder = project.add_task("buy", "note:began visit wait:go note:ended pass")
    proxy.block_answers_to(b"EXEC")
    answer = post(far, "one")
    assert (answer.status, proxy.has_met_word()) == (202, True)
    run_id = answer.body["id"]
    wait_for(lambda: base.run(run_id)["brain_states"], what="the run")
    proxy.heal()
    wait_for(lambda: far.call("GET", "/ready").status == 200, 20)
    again = post(far, "one")
    assert (again.status, again.body["id"]) == (200, run_id)
    if stopped:
        assert far.call("POST", f"/test-runs/{run_id}/stop").status == 202
    else:
        (folder / "go").touch()
    document = base.wait_final(run_id)
    assert document["reason"] == ("stopped" if stopped else None)
    again = post(far, "one")
    assert (again.status, again.body["id"]) == (200, run_id)
    check_it_stays(base, run_id, document)
    assert notes(project, "buy") == [f"{run_id} began", *([] if stopped else [f"{run_id} ended"])]
    assert base.call("GET", "/test-runs").body["total_count"] == 1


def test_a_run_whose_reservation_is_answered_late_is_refused(
    project: Project, base: Stack, far: Stack, proxy: Proxy
) -> None:
    """The same request with the same key is then taken: it was never accepted."""
    project.add_task("buy", "note:ran pass")
    proxy.block_answers_to(b"NX")
    assert (post(far, "one").status, proxy.has_met_word()) == (503, True)
    check_nothing_was_accepted(project, base)
    proxy.heal()
    wait_for(lambda: far.call("GET", "/ready").status == 200, 20)
    answer = post(far, "one")
    assert answer.status == 202
    assert base.wait_final(answer.body["id"])["current_state"] == "FINISHED"
    again = post(far, "one")
    assert (again.status, again.body["id"]) == (200, answer.body["id"])
    assert notes(project, "buy") == [f"{answer.body['id']} ran"]


def check_nothing_was_accepted(project: Project, base: Stack) -> None:
    assert not list(project.root.glob("tasks/buy/runs/*"))
    assert base.call("GET", "/test-runs").body["total_count"] == 0
    assert not base.redis.keys("rq:job:*")


@contextmanager
def unreachable(base: Stack, proxy: Proxy) -> Iterator[None]:
    proxy.cut()
    yield
    proxy.heal()


@contextmanager
def silent(base: Stack, proxy: Proxy) -> Iterator[None]:
    proxy.block()
    yield
    proxy.heal()


@contextmanager
def full(base: Stack, proxy: Proxy) -> Iterator[None]:
    base.redis.config_set("maxmemory", "1")
    yield
    base.redis.config_set("maxmemory", "0")


@contextmanager
def replica(base: Stack, proxy: Proxy) -> Iterator[None]:
    base.redis.replicaof("127.0.0.1", "1")
    yield
    base.redis.replicaof("NO", "ONE")


@contextmanager
def without_replicas(base: Stack, proxy: Proxy) -> Iterator[None]:
    base.redis.config_set("min-replicas-to-write", "1")
    yield
    base.redis.config_set("min-replicas-to-write", "0")


def test_a_run_that_redis_does_not_take_is_refused(project: Project, base: Stack, far: Stack, proxy: Proxy) -> None:
    project.add_task("buy", "note:ran pass")
    for refusal in (unreachable, silent, full, replica, without_replicas):
        with refusal(base, proxy):
            assert post(far, refusal.__name__).status == 503, refusal
            assert far.call("POST", BUY).status == 503, refusal
            check_nothing_was_accepted(project, base)
            if refusal in (unreachable, silent):
                assert far.call("GET", "/ready").body["redis"] is False
        wait_for(lambda: far.call("GET", "/ready").status == 200, 30)
    check_nothing_was_accepted(project, base)
    answer = post(far, "full")
    assert base.wait_final(answer.body["id"])["current_state"] == "FINISHED"
    assert notes(project, "buy") == [f"{answer.body['id']} ran"]
    assert "Traceback" not in base.log("worker")
