"""Runs, replays and reruns are accepted, or refused with a sentence."""

import json

import pytest

from tests.project import PASSED, VISIT, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    ORDER_TOML,
    OTHER,
    full_disk,
    jobs_as_text,
    run_folder,
)


def test_a_redis_that_takes_no_writes_is_named(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    from redis.exceptions import OutOfMemoryError

    def full(*_: object, **__: object) -> None:
        raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

    stack.project.add_task("buy")
    monkeypatch.setattr(stack.redis, "set", full)
    response = stack.post("buy")
    assert response.status_code == 503
    assert "Redis does not take it (command not allowed when used memory > 'maxmemory'.)" in response.json()["detail"]
    assert stack.client.get("/test-runs").json()["total_count"] == 0


def test_a_full_disk_refuses_a_run_before_it_is_accepted(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stack.project.add_task("buy")
    monkeypatch.setattr("runner.project.run_folder.write_new", full_disk)
    response = stack.post("buy")
    assert response.status_code == 507
    assert "No space left on device" in response.json()["detail"]
    assert stack.redis.keys("rq:job:*") == []
    assert list((folder / "runs").iterdir()) == []


def test_without_redis_no_run_is_accepted_and_known_ones_are_read_from_the_disk(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    stack.server.connected = False
    refused = stack.post("buy")
    assert refused.status_code == 503
    assert "Redis does not answer" in refused.json()["detail"]
    runs = stack.project.root / "tasks" / "buy" / "runs"
    assert [path.name for path in runs.iterdir()] == [run_id]
    assert stack.get(run_id)["current_state"] == "PENDING"
    ready = {"status": "not ready", "redis": False, "workers": 0, "detail": "Redis does not answer."}
    assert stack.client.get("/ready").json() == ready
    assert stack.client.get("/health").status_code == 200
    stack.server.connected = True
    stack.work()
    assert stack.get(run_id)["current_state"] == "FINISHED"


def test_a_folder_that_cannot_be_written_to_refuses_the_run(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "runs").write_text("a file where the folder should be")
    response = stack.post("buy")
    assert response.status_code == 507
    assert "tasks/buy/runs cannot be written to" in response.json()["detail"]
    assert stack.redis.llen("rq:queue:bugninja") == 0


def test_a_run_can_be_started_by_the_cuid_of_its_task(stack: FakeStack) -> None:
    stack.project.add_task("order", toml=ORDER_TOML)
    cuid = "c2v4m8k1r7q0x5w9t3z6b1n8"
    for config in ("order_default", f"{cuid}_default"):
        response = stack.post(cuid, config)
        assert (response.status_code, response.json()["test_case"]["id"]) == (202, "order")
    assert stack.post(cuid, "other_default").status_code == 404


def test_the_newest_passed_run_by_the_agent_is_replayed(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "visit pass", replay="argv visit visit pass panel:Replay_Success")
    assert "no run that passed" in stack.send("/test-runs/replay/buy/buy_default", 404)["detail"]
    original = stack.run("buy")
    (folder / "behaviour").write_text("visit fail")
    stack.run("buy")
    accepted = stack.send("/test-runs/replay/buy/buy_default")
    assert (accepted["run_type"], accepted["original_run_id"]) == ("REPLAY", original["id"])
    stack.work()
    replay = stack.get(accepted["id"])
    assert (replay["current_state"], replay["traversal_id"]) == ("FINISHED", replay["id"])
    assert [len(step["history_elements"]) for step in replay["brain_states"]] == [1, 1, 1]
    assert json.loads(run_folder(stack, replay["id"]).log.read_text().split("\n")[0]) == [
        "buy",
        "replay",
        original["id"],
    ]
    again = stack.send("/test-runs/replay/buy/buy_default")
    assert again["original_run_id"] == original["id"], "a replay is not replayed in its place"


def test_a_replay_with_healing_says_so_to_the_cli_and_in_the_document(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass", replay="argv pass")
    original = stack.run("buy")
    accepted = stack.send(f"/test-runs/replay-run/{original['id']}?healing=true")
    assert accepted["run_type"] == "REPLAY_WITH_HEALING"
    stack.work()
    assert json.loads(run_folder(stack, accepted["id"]).log.read_text())[-1] == "--healing"
    assert (
        "must be true or false, got 'maybe'"
        in stack.send(f"/test-runs/replay-run/{original['id']}?healing=maybe", 422)["detail"]
    )


def test_only_what_passed_can_be_replayed(stack: FakeStack) -> None:
    stack.project.add_task("buy", "visit fail")
    failed = stack.run("buy")
    assert "has not passed" in stack.send(f"/test-runs/replay-run/{failed['id']}", 409)["detail"]
    queued = stack.post("buy").json()["id"]
    assert "has not passed" in stack.send(f"/test-runs/replay-run/{queued}", 409)["detail"]
    assert "There is no run" in stack.send(f"/test-runs/replay-run/{OTHER}", 404)["detail"]
    assert "There is no run" in stack.send("/test-runs/replay-run/nonsense", 404)["detail"]


def test_a_run_made_by_hand_can_be_replayed_and_done_again(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "pass")
    (folder / "traversals").mkdir()
    path = folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json"
    path.write_bytes(traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    assert stack.send("/test-runs/replay/buy/buy_default")["original_run_id"] == OTHER
    assert stack.send(f"/test-runs/{OTHER}/rerun")["run_type"] == "AGENTIC"
    path.write_bytes(traversal_bytes([VISIT], "SUCCESSFUL", run_type="REPLAY"))
    assert "made by hand" in stack.send(f"/test-runs/{OTHER}/rerun", 409)["detail"]


def test_a_rerun_does_the_same_again(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass", replay="pass")
    original = stack.run("buy")
    again = stack.send(f"/test-runs/{original['id']}/rerun")
    assert (again["run_type"], again["original_run_id"]) == ("AGENTIC", None)
    replay = stack.send(f"/test-runs/replay-run/{original['id']}?healing=1")
    again = stack.send(f"/test-runs/{replay['id']}/rerun")
    assert (again["run_type"], again["original_run_id"]) == ("REPLAY_WITH_HEALING", original["id"])
    assert "There is no run" in stack.send(f"/test-runs/{OTHER}/rerun", 404)["detail"]


def test_an_adopted_file_is_replayed_under_its_own_id(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{OTHER} pass", replay="argv pass")
    original = stack.run("buy")
    accepted = stack.send(f"/test-runs/replay-run/{original['id']}")
    assert accepted["original_run_id"] == original["id"]
    stack.work()
    assert json.loads(run_folder(stack, accepted["id"]).log.read_text()) == ["buy", "replay", OTHER]


START = "/test-runs/execute-configuration/buy/buy_default"


def test_each_call_that_starts_a_run_takes_labels_and_says_what_started_it(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass", replay="pass")
    started = stack.send(START, labels={"branch": "main"})
    stack.work()
    for path, trigger in (
        ("replay/buy/buy_default", "api"),
        (f"replay-run/{started['id']}", "api"),
        (f"{started['id']}/rerun", "rerun"),
    ):
        run = stack.send(f"/test-runs/{path}", labels={"path": path})
        assert (run["trigger"], run["labels"]) == (trigger, {"path": path})
        assert stack.send(f"/test-runs/{path}")["labels"] == ({"branch": "main"} if trigger == "rerun" else {})
    for run in (stack.get(started["id"]), stack.client.get("/test-runs?sort_order=asc").json()["items"][0]):
        assert (run["id"], run["trigger"], run["labels"]) == (started["id"], "api", {"branch": "main"})


def test_a_rerun_has_the_labels_of_what_it_repeats_unless_others_are_given(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    original = stack.send(START, labels={"branch": "main"})
    again = stack.send(f"/test-runs/{original['id']}/rerun")
    assert again["labels"] == {"branch": "main"}
    assert stack.send(f"/test-runs/{again['id']}/rerun")["labels"] == {"branch": "main"}
    assert stack.send(f"/test-runs/{again['id']}/rerun", labels={"pr": "7"})["labels"] == {"pr": "7"}
    assert stack.send(f"/test-runs/{again['id']}/rerun", labels={})["labels"] == {}


def test_secrets_are_taken_out_of_labels_before_they_are_kept(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", toml='[task]\nname = "n"\n[secrets]\nPASSWORD = "hunter2-secret"\n')
    labels = {"hunter2-secret": "of hunter2-secret"}
    run = stack.send(START, labels=labels, key="one")
    clean = {"hunter2-secret": "of <secret>PASSWORD</secret>"}
    assert run["labels"] == json.loads(run_folder(stack, run["id"]).record.read_bytes())["labels"] == clean
    (kept,) = (stack.redis.get(key) for key in stack.redis.keys("bugninja-runner:idempotency:*"))
    everything = jobs_as_text(stack.redis) + repr(kept)
    assert "of hunter2-secret" not in everything
    assert stack.send(START, 200, labels=labels, key="one")["id"] == run["id"]
    plain = stack.send(START, labels={"k": "later-secret"})
    folder.joinpath("task_buy.toml").write_text('[task]\nname = "n"\n[secrets]\nLATER = "later-secret"\n')
    assert stack.send(f"/test-runs/{plain['id']}/rerun")["labels"] == {"k": "<secret>LATER</secret>"}


def test_a_refused_label_starts_nothing_and_is_named(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    assert "The label 'branch' must be" in stack.send(START, 422, labels={"branch": 1})["detail"]
    assert stack.client.get("/test-runs").json()["total_count"] == 0
