"""The function that RQ calls, and jobs that are delivered again."""

import shutil
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer

from jobs.queue.heartbeat import heartbeat_key, send_heartbeat
from jobs.queue.job import enqueue
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import change_record, full_disk, run_folder


def test_a_second_delivery_leaves_a_run_to_the_worker_that_has_it(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    change_record(stack, run_id, started_at="2026-11-23T08:00:00Z", worker="living")
    send_heartbeat(stack.redis, "living", run_id)
    stack.work()
    assert stack.get(run_id)["current_state"] == "RUNNING"
    assert stack.redis.zrange("rq:rl:bugninja:buy:allowed", 0, -1) == [run_id.encode()], "it keeps its turn"
    stack.redis.rpush("rq:queue:bugninja", run_id)
    stack.redis.delete(heartbeat_key("living"))
    stack.work()
    assert stack.get(run_id)["current_state"] == "RUNNING", "whether its worker is dead is not for a delivery to say"
    assert not run_folder(stack, run_id).log.exists()


def test_a_run_whose_start_cannot_be_recorded_is_not_started_and_says_why(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    with monkeypatch.context() as patch:
        patch.setattr("runner.project.run_folder.replace_file", full_disk)
        stack.work()
        run = stack.get(run_id)
        assert (run["current_state"], run["reason"]) == ("ERROR", "cli_error")
        assert "its record cannot be written (No space left on device)" in run["error_message"]
        stack.recovery().run_once()
    assert not run_folder(stack, run_id).log.exists()
    stack.recovery().run_once()
    stack.redis.flushall()
    assert stack.get(run_id) == run, "the record says it as soon as the disk takes it"


def test_a_failed_test_is_a_finished_job(stack: FakeStack) -> None:
    stack.project.add_task("buy", "visit fail")
    run_id = stack.post("buy").json()["id"]
    stack.work()
    run = stack.get(run_id)
    assert (run["current_state"], run["reason"], run["error_message"]) == ("FAILED", "test_failed", "The cart is empty")
    assert Job.fetch(run_id, connection=stack.redis, serializer="json").get_status() == "finished"


def test_a_run_whose_enqueueing_is_not_answered_is_accepted_and_runs_once(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy", "note:began pass")

    def enqueue_and_lose_the_answer(*arguments: Any) -> None:
        enqueue(*arguments)
        raise RedisConnectionError("the answer was lost")

    monkeypatch.setattr("jobs.queue.new_runs.enqueue", enqueue_and_lose_the_answer)
    answer = stack.post("buy")
    assert answer.status_code == 202
    run_id = answer.json()["id"]
    recovery = stack.recovery()
    for _ in range(2):
        recovery.run_once()
        recovery.run_once()
        stack.work()
    assert stack.get(run_id)["current_state"] == "FINISHED"
    assert (stack.settings.tasks_root / "buy" / "notes").read_text() == f"{run_id} began\n"


def test_a_job_without_a_record_is_never_executed(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    shutil.rmtree(folder / "runs" / run_id)
    stack.work()
    assert stack.project.traversals("buy") == []
    assert stack.client.get(f"/test-runs/{run_id}").status_code == 404
    job = Job.fetch(run_id, stack.redis, JSONSerializer)
    assert job.get_status() == "failed"
    result = job.latest_result()
    assert result is not None
    assert "no record of the run" in (result.exc_string or "")


def test_a_job_given_to_a_worker_twice_starts_one_cli(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:again pass")
    run_id = stack.post("buy").json()["id"]
    stack.work()
    stack.redis.rpush("rq:queue:bugninja", run_id)
    before = stack.get(run_id)
    stack.work()
    assert stack.get(run_id) == before
    log = stack.project.root / "tasks" / "buy" / "runs" / run_id / "cli.log"
    assert log.read_text() == "again\n"


def test_a_run_that_waited_through_an_upgrade_is_executed(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    job = Job.fetch(run_id, stack.redis, JSONSerializer)
    assert job.func_name == "jobs.worker.execute.execute_run"
    job.func_name = "jobs.execute.execute_run"  # the name that it had
    job.save()
    stack.work()
    assert stack.get(run_id)["current_state"] == "FINISHED"


def test_a_job_cannot_lead_a_worker_out_of_the_tasks(stack: FakeStack) -> None:
    queue = Queue("bugninja", connection=stack.redis, serializer="json")
    job = queue.enqueue_call("jobs.worker.execute.execute_run", kwargs={"task_id": "../x"}, job_id="x" * 24)
    stack.work()
    assert job.get_status() == "failed"
