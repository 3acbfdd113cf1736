"""Stopping runs."""

from tests.project import VISIT, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import OTHER, change_record, run_folder


def test_a_run_that_has_not_started_is_stopped_at_once(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    run = stack.send(f"/test-runs/{run_id}/stop", 200)
    assert (run["current_state"], run["reason"]) == ("ERROR", "stopped")
    assert run["error_message"] == "The run was stopped by a user."
    assert stack.redis.llen("rq:queue:bugninja") == 0
    stack.work()
    assert stack.get(run_id) == run
    assert not run_folder(stack, run_id).log.exists()


def test_a_stopped_job_expires_like_any_other(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    stack.send(f"/test-runs/{run_id}/stop", 200)
    assert 0 < stack.redis.ttl(f"rq:job:{run_id}") <= stack.settings.run_ttl


def test_a_run_that_waits_for_its_task_is_stopped_and_the_one_behind_it_moves_up(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    first, second, third = (stack.post("buy").json()["id"] for _ in range(3))
    assert stack.send(f"/test-runs/{second}/stop", 200)["current_state"] == "ERROR"
    assert stack.get(third)["queue"] == {"position": 1, "waiting_for": first}
    stack.work()
    states = [stack.get(run_id)["current_state"] for run_id in (first, second, third)]
    assert states == ["FINISHED", "ERROR", "FINISHED"]


def test_stopping_the_one_in_front_lets_the_next_one_in(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    first, second = (stack.post("buy").json()["id"] for _ in range(2))
    stack.send(f"/test-runs/{first}/stop", 200)
    stack.work()
    assert [stack.get(run_id)["current_state"] for run_id in (first, second)] == ["ERROR", "FINISHED"]


def test_a_run_that_is_over_cannot_be_stopped(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    run = stack.run("buy")
    answer = stack.send(f"/test-runs/{run['id']}/stop", 409)
    assert answer["detail"] == f"Run '{run['id']}' is over already: it is FINISHED."
    stopped = stack.post("buy").json()["id"]
    stack.send(f"/test-runs/{stopped}/stop", 200)
    assert "it is ERROR" in stack.send(f"/test-runs/{stopped}/stop", 409)["detail"]


def test_what_is_not_ours_cannot_be_stopped(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_bytes(traversal_bytes([VISIT]))
    assert "made by hand" in stack.send(f"/test-runs/{OTHER}/stop", 409)["detail"]
    assert "There is no run" in stack.send(f"/test-runs/{'n' * 24}/stop", 404)["detail"]
    assert "There is no run" in stack.send("/test-runs/nonsense/stop", 404)["detail"]


def test_a_stop_needs_no_redis(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    stack.server.connected = False
    assert stack.send(f"/test-runs/{run_id}/stop", 200)["reason"] == "stopped"
    stack.server.connected = True
    stack.work()
    assert stack.get(run_id)["reason"] == "stopped"
    assert not run_folder(stack, run_id).log.exists()


def test_a_running_run_says_that_it_is_stopping_and_may_be_asked_again(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    change_record(stack, run_id, started_at="2026-11-23T08:00:00Z", worker="w")
    assert stack.get(run_id)["stopping"] is False
    for _ in range(2):
        run = stack.send(f"/test-runs/{run_id}/stop", 202)
        assert (run["current_state"], run["stopping"]) == ("RUNNING", True)
    assert stack.get(run_id)["stopping"] is True
