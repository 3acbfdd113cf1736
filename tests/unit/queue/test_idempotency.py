"""The same key and request give the same run."""

from concurrent.futures import ThreadPoolExecutor

from tests.unit.fake_stack import FakeStack
from tests.unit.runs import run_folder, start_buy


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


def test_the_same_key_with_other_labels_is_another_request(buy: FakeStack) -> None:
    start = "/test-runs/execute-configuration/buy/buy_default"
    first = buy.send(start, labels={"a": "1", "b": "2"}, key="one")
    assert buy.send(start, 200, labels={"b": "2", "a": "1"}, key="one")["id"] == first["id"]
    for other in (None, {}, {"a": "1"}, {"a": "1", "b": "3"}):
        assert "used for another request" in buy.send(start, 409, labels=other, key="one")["detail"]


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


def test_a_key_whose_run_was_never_accepted_stands_for_the_same_id(buy: FakeStack) -> None:
    """A web process died between the reservation of the key and the record of the run."""
    key = {"Idempotency-Key": "one"}
    first = start_buy(buy, **key).json()["id"]
    run_folder(buy, first).record.unlink()
    again = start_buy(buy, **key)
    assert (again.status_code, again.json()["id"]) == (202, first)
    buy.work()
    assert buy.get(first)["current_state"] == "FINISHED"


def test_many_equal_requests_at_once_accept_one_run(buy: FakeStack) -> None:
    key = {"Idempotency-Key": "one"}
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda _: start_buy(buy, **key), range(24))]
    assert sorted(answer.status_code for answer in answers) == [200] * 23 + [202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert buy.client.get("/test-runs").json()["total_count"] == 1
