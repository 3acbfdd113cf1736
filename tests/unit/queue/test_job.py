"""The RQ job of a run, and the turns of a task."""

import itertools

import pytest

from jobs.queue.job import changes_channel
from tests.project import Project
from tests.unit.fake_stack import FakeStack


def test_a_second_run_of_a_task_waits_for_the_first_and_says_so(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    stack.project.add_task("sell")
    first, second, third = (stack.post("buy").json()["id"] for _ in range(3))
    other = stack.post("sell").json()["id"]
    assert stack.get(first)["queue"] == {"position": 1, "waiting_for": None}
    assert stack.get(second)["queue"] == {"position": 1, "waiting_for": first}
    assert stack.get(third)["queue"] == {"position": 2, "waiting_for": first}
    assert stack.get(other)["queue"] == {"position": 2, "waiting_for": None}
    stack.work()
    runs = [stack.get(run_id) for run_id in (first, second, third)]
    assert [run["current_state"] for run in runs] == ["FINISHED"] * 3
    assert [run["queue"] for run in runs] == [None] * 3
    for before, after in itertools.pairwise(runs):
        assert before["finished_at"] <= after["started_at"]


def test_any_number_of_runs_per_task_is_0(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "environ", lambda self, **more: {"PROJECT_ROOT": str(self.root), "RUNS_PER_TASK": "0"})
    stack = FakeStack(project)
    project.add_task("buy")
    with stack.client:
        ids = [stack.post("buy").json()["id"] for _ in range(3)]
        assert [stack.get(run_id)["queue"]["position"] for run_id in ids] == [1, 2, 3]


def test_every_change_of_a_run_is_published(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    listener = stack.redis.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    listener.subscribe(changes_channel("bugninja"))
    listener.get_message(timeout=1)

    def published() -> list[str]:
        messages = iter(lambda: listener.get_message(timeout=0.1), None)
        return [message["data"].decode() for message in messages]

    first, second = (stack.post("buy").json()["id"] for _ in range(2))
    assert published() == [f"{first} buy", f"{second} buy"], "a run that is accepted, with its task"
    stack.send(f"/test-runs/{second}/stop", 200)
    assert published() == [second, second], "a stop is requested, and the run is closed"
    stack.work()
    assert set(published()) == {first}, "a run that is executed"


def test_redis_keeps_the_job_of_a_run_and_no_result_beside_it(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.run("buy")["id"]
    assert [key for key in stack.redis.keys("rq:*") if run_id.encode() in key] == [f"rq:job:{run_id}".encode()]
