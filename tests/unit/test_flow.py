"""POST -> queue -> worker -> CLI -> GET, in one process: a fake Redis and RQ's burst worker, but a real CLI process."""

import json
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from rq.job import Job
from rq.queue import Queue
from rq.serializers import JSONSerializer
from rq.utils import as_text

from jobs.queue.heartbeat import send_heartbeat
from jobs.queue.job import enqueue
from tests.project import PASSED, VISIT, traversal_bytes
from tests.unit.conftest import FakeStack


def test_a_run_is_accepted_carried_out_and_told_under_one_id(stack: FakeStack) -> None:
    stack.project.add_task("buy", "visit visit pass")
    response = stack.post("buy")
    assert response.status_code == 202
    run_id = response.json()["id"]
    assert response.headers["location"] == f"/test-runs/{run_id}"
    assert stack.get(run_id) == {**response.json(), "queue": {"position": 1, "waiting_for": None}}
    assert response.json() == {
        "id": run_id,
        "test_traversal_id": run_id,
        "traversal_id": None,
        "adopted": False,
        "original_run_id": None,
        "test_case": {"id": "buy", "test_name": "buy", "test_description": "What buy is about", "test_goal": "What buy is about"},
        "current_state": "PENDING",
        "reason": None,
        "error_message": None,
        "queued_at": response.json()["queued_at"],
        "started_at": response.json()["queued_at"],
        "finished_at": None,
        "duration": None,
        "run_type": "AGENTIC",
        "origin": "WEB_UI",
        "run_gif": None,
        "browser_config": {
            "id": "buy_default",
            "browser_config": {
                "browser_channel": "chromium",
                "user_agent": "tester",
                "viewport": {"width": 1280, "height": 720},
                "geolocation": None,
            },
        },
        "queue": None,
        "stopping": False,
        "stale": False,
        "progress": {"steps": 0, "last_goal": None, "updated_at": None},
        "failure": None,
        "brain_states": [],
    }  # fmt: skip
    stack.work()
    run = stack.get(run_id)
    assert (run["current_state"], run["reason"], run["error_message"]) == ("FINISHED", None, None)
    assert [step["next_goal"] for step in run["brain_states"]] == ["goal 0", "goal 1", "goal 2"]
    assert [path.name.endswith(f"_{run_id}.json") for path in stack.project.traversals("buy")] == [True]
    assert Job.fetch(run_id, connection=stack.redis, serializer="json").get_status() == "finished"


def test_a_failed_test_is_a_finished_job(stack: FakeStack) -> None:
    stack.project.add_task("buy", "visit fail")
    run_id = stack.post("buy").json()["id"]
    stack.work()
    run = stack.get(run_id)
    assert (run["current_state"], run["reason"], run["error_message"]) == ("FAILED", "test_failed", "The cart is empty")
    assert Job.fetch(run_id, connection=stack.redis, serializer="json").get_status() == "finished"


def test_the_cli_gets_both_ids_and_prints_into_the_runs_log_only(
    stack: FakeStack, capfd: pytest.CaptureFixture[str]
) -> None:
    stack.project.add_task("buy", "environ pass")
    run_id = stack.post("buy").json()["id"]
    stack.work()
    log = stack.project.root / "tasks" / "buy" / "runs" / run_id / "cli.log"
    printed = json.loads(log.read_text())
    assert (printed["BUGNINJA_RUN_ID"], printed["BUGNINJA_TASK_ID"]) == (run_id, "buy")
    assert log.stat().st_mode & 0o777 == 0o600
    assert "BUGNINJA_RUN_ID" not in "".join(capfd.readouterr())
    assert all("BUGNINJA_RUN_ID" not in str(stack.redis.hgetall(key)) for key in stack.redis.keys("rq:job:*"))


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_both_paths_exist_with_and_without_the_prefix(stack: FakeStack, prefix: str) -> None:
    stack.project.add_task("buy")
    response = stack.post("buy", prefix=prefix)
    assert response.status_code == 202
    assert stack.client.get(response.headers["location"]).status_code == 200
    assert response.headers["location"].startswith(f"{prefix}/test-runs/")


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("nothing/nothing_default", 404, "Task 'nothing' was not found"),
        (
            "buy/other_default",
            404,
            "Task 'buy' has no browser configuration 'other_default'; it has one, 'buy_default'.",
        ),
        ("broken/broken_default", 422, "tasks/broken/task_broken.toml, line 1: this is not TOML"),
        ("outside/outside_default", 404, "is a link, which is not followed"),
        ("%2e%2e/x", 404, "Task '..' was not found"),
        ("..%2Fbuy/x", 404, "Not Found"),
        ("-rf/x", 404, "Task '-rf' was not found"),
        ("a%00b/x", 404, "Task 'a?b' was not found"),
        ("BUY/x", 404, "Task 'BUY' was not found"),
        ("%C3%BC/x", 404, "Task 'ü' was not found"),
        ("a" * 10_000 + "/x", 404, "Task 'aaa"),
        ("buy/" + "a" * 10_000, 404, "has no browser configuration 'aaa"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_started_is_refused_with_a_sentence(
    stack: FakeStack, tmp_path: Path, path: str, status: int, words: str
) -> None:
    stack.project.add_task("buy")
    stack.project.add_task("broken", toml="[task")
    (stack.project.root / "tasks" / "outside").symlink_to(tmp_path)
    response = stack.client.post(f"/test-runs/execute-configuration/{path}")
    assert response.status_code == status
    assert words in response.json()["detail"]
    assert len(response.text) < 600
    assert stack.redis.llen("rq:queue:bugninja") == 0
    assert not (stack.project.root / "tasks" / "buy" / "runs").exists()


@pytest.mark.parametrize(
    "run_id", ["x", "%2e%2e", "-rf", "a%00b", "A" * 24, "%C3%BC", "a" * 10_000, "nosuchrunnosuchrunnosuch"]
)
def test_an_unknown_run_is_404_at_once(stack: FakeStack, run_id: str) -> None:
    response = stack.client.get(f"/test-runs/{run_id}")
    assert response.status_code == 404
    assert response.json()["detail"].startswith("There is no run '")
    assert len(response.text) < 300


def test_without_redis_no_run_is_accepted_and_known_ones_are_told_from_the_disk(
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


def test_a_job_that_slipped_in_behind_an_error_is_never_carried_out(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy")

    def enqueue_and_lose_the_answer(*arguments: Any) -> None:
        enqueue(*arguments)
        raise RedisConnectionError("the answer was lost")

    monkeypatch.setattr("jobs.queue.accept.enqueue", enqueue_and_lose_the_answer)
    assert stack.post("buy").status_code == 503
    assert stack.redis.llen("rq:queue:bugninja") == 1
    (run_id,) = map(as_text, stack.redis.lrange("rq:queue:bugninja", 0, -1))
    stack.work()
    assert stack.project.traversals("buy") == []
    assert stack.client.get(f"/test-runs/{run_id}").status_code == 404
    outcome = Job.fetch(run_id, stack.redis, JSONSerializer).get_meta()["outcome"]
    assert (outcome["state"], outcome["reason"]) == ("ERROR", "lost")
    assert "no record of this run" in outcome["error_message"]


def test_a_folder_that_cannot_be_written_to_refuses_the_run(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "runs").write_text("a file where the folder should be")
    response = stack.post("buy")
    assert response.status_code == 507
    assert "tasks/buy/runs cannot be written to" in response.json()["detail"]
    assert stack.redis.llen("rq:queue:bugninja") == 0


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


def test_redis_cannot_make_a_worker_call_another_function(stack: FakeStack, tmp_path: Path) -> None:
    target = tmp_path / "made-by-redis"
    queue = Queue("bugninja", connection=stack.redis, serializer="json")
    job = queue.enqueue_call("os.mkdir", args=[str(target)])
    stack.work()
    assert not target.exists()
    assert job.get_status() == "failed"
    result = job.latest_result()
    assert result is not None
    assert "only calls jobs.worker.execute.execute_run" in (result.exc_string or "")


def test_a_job_cannot_lead_a_worker_out_of_the_tasks(stack: FakeStack) -> None:
    queue = Queue("bugninja", connection=stack.redis, serializer="json")
    job = queue.enqueue_call("jobs.worker.execute.execute_run", kwargs={"task_id": "../x"}, job_id="x" * 24)
    stack.work()
    assert job.get_status() == "failed"


def test_a_run_made_by_hand_is_known(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{'h' * 24}.json").write_bytes(
        traversal_bytes([VISIT, PASSED], "SUCCESSFUL")
    )
    run = stack.get("h" * 24)
    assert (run["current_state"], run["origin"], run["test_case"]["test_name"]) == ("FINISHED", "CLI", "buy")


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


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/health", 405), ("DELETE", "/test-runs/x", 405)]
)
def test_errors_of_http_are_json_too(stack: FakeStack, method: str, path: str, status: int) -> None:
    response = stack.client.request(method, path)
    assert response.status_code == status
    assert response.json()["detail"].startswith(f"{method} {path}")


def test_a_fault_of_ours_shows_no_stack_trace(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.project.add_task("buy")
    monkeypatch.setattr("runner.project.catalog.read_task", lambda *_: 1 / 0)
    response = stack.post("buy")
    assert response.status_code == 500
    assert response.json() == {"detail": "The server made an error, which is in its log. Nothing was lost."}
    assert stack.client.get("/health").status_code == 200


def test_only_known_origins_may_read_the_answers(stack: FakeStack) -> None:
    def allowed(origin: str) -> str | None:
        return stack.client.get("/health", headers={"Origin": origin}).headers.get("access-control-allow-origin")

    assert allowed("http://localhost:5173") == "http://localhost:5173"
    assert allowed("http://evil.example") is None
