"""The same key and request give the same run."""

from concurrent.futures import ThreadPoolExecutor

from jobs.queue.idempotency import IdempotencyKeys, Reservation
from runner.ids import RunId, TaskId
from tests.project import Project
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import start_buy


def check_that_waiting_for_keys_delays_no_get(buy: FakeStack) -> None:
    keys = [f"key{number}" for number in range(45)]
    run_id = start_buy(buy).json()["id"]
    for key in keys:
        reservation = Reservation("start buy buy_default", RunId("n" * 24), TaskId("buy"))
        IdempotencyKeys(buy.redis, buy.settings.run_ttl).reserve(key, reservation)
    with ThreadPoolExecutor(45) as pool:
        waiting = [pool.submit(start_buy, buy, **{"Idempotency-Key": key}) for key in keys]
        assert buy.client.get(f"/test-runs/{run_id}").status_code == 200
        assert not all(answer.done() for answer in waiting)
        assert {answer.result().status_code for answer in waiting} == {409}


def test_the_same_key_and_request_give_the_same_run(buy: FakeStack) -> None:
    first = start_buy(buy, **{"Idempotency-Key": "one"})
    again = start_buy(buy, **{"Idempotency-Key": "one"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == first.headers["location"]
    buy.work()
    over = start_buy(buy, **{"Idempotency-Key": "one"})
    assert (over.status_code, over.json()["current_state"]) == (200, "FINISHED")
    other = start_buy(buy, **{"Idempotency-Key": "two"})
    assert (other.status_code, other.json()["id"] != first.json()["id"]) == (202, True)
    prefixed = buy.client.post(
        "/api/v1/test-runs/execute-configuration/buy/buy_default", headers={"Idempotency-Key": "one"}
    )
    assert (prefixed.status_code, prefixed.json()["id"]) == (200, first.json()["id"])
    ttl = max(buy.redis.ttl(name) for name in buy.redis.scan_iter("bugninja-runner:idempotency:*"))
    assert buy.settings.run_ttl - 60 < ttl <= buy.settings.run_ttl


def test_the_same_key_for_another_request_is_refused(buy: FakeStack) -> None:
    buy.project.add_task("sell")
    key = {"Idempotency-Key": "one"}
    run_id = start_buy(buy, **key).json()["id"]
    for path in (
        "/test-runs/execute-configuration/sell/sell_default",
        f"/test-runs/{run_id}/rerun",
        "/test-runs/replay/buy/buy_default",
    ):
        response = buy.client.post(path, headers=key)
        assert response.status_code == 409
        assert "used for another request" in response.json()["detail"]
    assert buy.client.get("/test-runs").json()["total_count"] == 1


def test_a_request_that_was_refused_leaves_its_key_free(buy: FakeStack) -> None:
    key = {"Idempotency-Key": "one"}
    blocked = buy.project.root / "tasks" / "buy" / "runs"
    blocked.write_text("a file where the folder should be")
    assert start_buy(buy, **key).status_code == 507
    blocked.unlink()
    buy.server.connected = False
    assert start_buy(buy, **key).status_code == 503
    buy.server.connected = True
    assert start_buy(buy, **key).status_code == 202
    assert start_buy(buy, **key).status_code == 200


def test_a_key_whose_run_was_never_accepted_is_free_again(buy: FakeStack) -> None:
    key = {"Idempotency-Key": "one"}
    first = start_buy(buy, **key).json()["id"]
    (buy.project.root / "tasks" / "buy" / "runs" / first / "run.json").unlink()
    early = start_buy(buy, **key)
    assert early.status_code == 409
    assert "just being accepted" in early.json()["detail"]
    (name,) = buy.redis.keys("bugninja-runner:idempotency:*")
    buy.redis.expire(name, buy.settings.run_ttl - 31)
    second = start_buy(buy, **key)
    assert second.status_code == 202
    assert second.json()["id"] != first


def test_waiting_for_keys_delays_no_get(project: Project) -> None:
    project.add_task("buy", "visit pass")
    stack = FakeStack(project, wait_seconds=3.0)
    with stack.client:
        check_that_waiting_for_keys_delays_no_get(stack)
