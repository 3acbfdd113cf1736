"""Adoption, turns, replays, failure cards, logs, secrets: POST to GET in one process."""

import itertools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rq.job import Job

from jobs.queue.heartbeat import heartbeat_key, send_heartbeat
from jobs.run.record import RunRecord, record_from_json, record_to_json
from jobs.worker.adopt import adoption_key
from runner.ids import RunId, TaskId
from runner.project.run_folder import RunFolder
from tests.project import FAULT, PASSED, VISIT, Project, make_action, make_traversal, traversal_bytes
from tests.unit.conftest import FakeStack

OTHER, THIRD = "o" * 24, "t" * 24


def folder_of(stack: FakeStack, task: str, run_id: str) -> RunFolder:
    return RunFolder(stack.settings.tasks_root, TaskId(task), RunId(run_id))


def change(stack: FakeStack, task: str, run_id: str, **changes: Any) -> RunRecord:
    """Rewrite the run's record on disk."""
    folder = folder_of(stack, task, run_id)
    meta = record_from_json(folder.read_record() or b"")
    assert meta is not None
    changed = msgspec.structs.replace(meta, **changes)
    folder.write_record(record_to_json(changed))
    return changed


# Adoption


def test_the_only_file_that_appeared_is_adopted_and_said_to_be(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{OTHER} visit pass")
    run = stack.run("buy")
    assert (run["current_state"], run["traversal_id"], run["adopted"]) == ("FINISHED", OTHER, True)
    assert run["id"] != OTHER
    assert len(run["brain_states"]) == 2
    assert stack.redis.get(adoption_key(RunId(OTHER))) == run["id"].encode()


def test_the_file_that_the_cli_names_is_adopted_while_it_runs_and_among_others(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{THIRD} visit other-id:{OTHER} name-file visit sleep:0.6 pass")
    run = stack.run("buy")
    assert (run["current_state"], run["traversal_id"]) == ("FINISHED", OTHER)


def test_of_two_files_that_nobody_names_none_is_adopted(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{THIRD} pass other-id:{OTHER} pass")
    run = stack.run("buy")
    assert (run["current_state"], run["reason"], run["adopted"]) == ("ERROR", "cli_error", False)


def test_a_file_that_was_there_before_or_is_another_runs_is_not_adopted(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "")
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_bytes(traversal_bytes([PASSED]))
    assert stack.run("buy")["traversal_id"] is None
    (folder / "behaviour").write_text(f"other-id:{THIRD} pass")
    stack.redis.set(adoption_key(RunId(THIRD)), "another run")
    assert stack.run("buy")["traversal_id"] is None


def test_an_own_file_needs_no_adoption(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    run = stack.run("buy")
    assert (run["traversal_id"], run["adopted"]) == (run["id"], False)


# Turns


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


# Runs that nobody carries out any more


def started(stack: FakeStack, worker: str) -> str:
    """A run in the hands of a worker of this name, which then does nothing."""
    run_id: str = stack.post("buy").json()["id"]
    change(stack, "buy", run_id, started_at=datetime.now(UTC), worker=worker)
    job = Job.fetch(run_id, connection=stack.redis, serializer="json")
    job.worker_name = worker
    job.save()
    job.set_status("started")  # type: ignore[arg-type]
    stack.redis.lrem("rq:queue:bugninja", 0, run_id)
    return run_id


def test_the_run_of_a_dead_worker_is_interrupted_and_the_next_gets_its_turn(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    dead = started(stack, "dead")
    waiting = stack.post("buy").json()["id"]
    recovery = stack.recovery()
    for _ in range(3):
        send_heartbeat(stack.redis, "dead", dead)
        recovery.run_once()
        assert stack.get(dead)["current_state"] == "RUNNING"
    stack.redis.delete(heartbeat_key("dead"))
    recovery.run_once()
    assert stack.get(dead)["current_state"] == "RUNNING", "one missing sign of life is not enough"
    recovery.run_once()
    assert (stack.get(dead)["current_state"], stack.get(dead)["reason"]) == ("ERROR", "interrupted")
    stack.work()
    assert stack.get(waiting)["current_state"] == "FINISHED"


def test_an_accepted_run_that_redis_forgot_is_enqueued_again_once(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:ran pass")
    run_id = stack.post("buy").json()["id"]
    stack.redis.flushall()
    now = [0.0]
    recovery = stack.recovery(lambda: now[0])
    for now[0] in (0.0, 14.0):
        recovery.run_once()
        assert not stack.redis.exists(f"rq:job:{run_id}"), "a run that was accepted just now may be on its way"
    for now[0] in (16.0, 17.0, 40.0):
        recovery.run_once()
    stack.work()
    assert stack.get(run_id)["current_state"] == "FINISHED"
    assert folder_of(stack, "buy", run_id).log.read_text() == "ran\n"


def test_a_started_run_that_redis_forgot_goes_on_as_long_as_its_worker_lives(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = started(stack, "living")
    recovery = stack.recovery()
    for _ in range(3):
        stack.redis.flushall()
        recovery.run_once()
        send_heartbeat(stack.redis, "living", run_id)
        recovery.run_once()
        assert stack.get(run_id)["current_state"] == "RUNNING"
    send_heartbeat(stack.redis, "living", None)
    recovery.run_once()
    recovery.run_once()
    assert (stack.get(run_id)["current_state"], stack.get(run_id)["reason"]) == ("ERROR", "interrupted")


def test_a_job_that_was_popped_by_a_worker_that_died_goes_back_to_the_front(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    stack.project.add_task("sell")
    popped, next_one = stack.post("buy").json()["id"], stack.post("sell").json()["id"]
    stack.redis.lmove("rq:queue:bugninja", "rq:queue:bugninja:intermediate", "LEFT", "RIGHT")
    recovery = stack.recovery()
    recovery.run_once()
    assert stack.redis.lrange("rq:queue:bugninja", 0, -1) == [next_one.encode()]
    recovery.run_once()
    assert stack.redis.lrange("rq:queue:bugninja", 0, -1) == [popped.encode(), next_one.encode()]
    assert stack.redis.llen("rq:queue:bugninja:intermediate") == 0


def test_one_worker_reconciles_at_a_time(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    dead = started(stack, "dead")
    stack.redis.set("bugninja-runner:recovery", "taken")
    recovery = stack.recovery()
    for _ in range(3):
        recovery.run_once()
    assert stack.get(dead)["current_state"] == "RUNNING"


def test_a_final_state_never_changes(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run = stack.run("buy")
    stack.redis.flushall()
    for _ in range(2):
        stack.recovery().run_once()
    assert stack.get(run["id"]) == run


# Replays


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
    assert json.loads(folder_of(stack, "buy", replay["id"]).log.read_text().split("\n")[0]) == [
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
    assert json.loads(folder_of(stack, "buy", accepted["id"]).log.read_text())[-1] == "--healing"
    assert (
        "expected is true or false"
        in stack.send(f"/test-runs/replay-run/{original['id']}?healing=maybe", 422)["detail"]
    )


@pytest.mark.parametrize(
    ("behaviour", "state", "reason"),
    [
        ("visit failed-status panel:Replay_Success", "FINISHED", None),
        ("visit pass panel:Replay_Failed", "FAILED", "test_failed"),  # Bugninja writes SUCCESSFUL all the same
        ("panel:Replay_Failed", "ERROR", "cli_error"),
        ("visit pass panel:Replay_Error", "ERROR", "cli_error"),
        ("panel:Traversal_Not_Found", "ERROR", "cli_error"),
        ("visit pass", "FINISHED", None),
        ("visit fail", "FAILED", "test_failed"),
    ],
)
def test_a_replay_ends_as_its_cli_says(stack: FakeStack, behaviour: str, state: str, reason: str | None) -> None:
    stack.project.add_task("buy", "pass", replay=behaviour)
    stack.run("buy")
    run_id = stack.send("/test-runs/replay/buy/buy_default")["id"]
    stack.work()
    run = stack.get(run_id)
    assert (run["current_state"], run["reason"]) == (state, reason)
    if reason is not None and "panel" in behaviour:
        assert "it broke here" in run["error_message"]


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
    assert json.loads(folder_of(stack, "buy", accepted["id"]).log.read_text()) == ["buy", "replay", OTHER]


# What a person sees of it


def test_a_failed_run_has_a_card_that_says_what_broke(stack: FakeStack) -> None:
    noise = " ".join(f"print:line_{number}" for number in range(30))
    stack.project.add_task("buy", f"{noise} visit think:look fail")
    run = stack.run("buy")
    assert run["failure"] == {
        "step": 3,
        "action": "done",
        "goal": "goal 2",
        "message": "The cart is empty",
        "url": "http://127.0.0.1:1/",
        "screenshot": None,
        "log_tail": [f"line {number}" for number in range(10, 30)],
        "exit_code": 0,
        "signal": None,
    }
    assert run["duration"] == pytest.approx(
        (datetime.fromisoformat(run["finished_at"]) - datetime.fromisoformat(run["started_at"])).total_seconds()
    )
    assert (run["progress"]["steps"], run["progress"]["last_goal"]) == (3, "goal 2")
    assert datetime.fromisoformat(run["progress"]["updated_at"]) <= datetime.now(UTC)


def test_a_run_that_never_got_anywhere_has_a_card_too(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:no_model kill")
    failure = stack.run("buy")["failure"]
    assert failure["message"] == "The CLI was ended by SIGKILL. It said: no model"
    assert (failure["step"], failure["action"], failure["url"]) == (None, None, None)
    assert (failure["exit_code"], failure["signal"], failure["log_tail"]) == (None, "SIGKILL", ["no model"])


def test_the_card_shows_the_action_that_broke_and_not_the_one_that_said_so(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "traversals").mkdir()
    document = make_traversal([VISIT, ("click_element_by_index", {"index": 1}), FAULT], "FAILED")
    document["brain_states"]["thought2"]["evaluation_previous_goal"] = "❌ Failed - nothing happened"
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_text(json.dumps(document))
    failure = stack.get(OTHER)["failure"]
    assert (failure["step"], failure["action"], failure["goal"]) == (2, "click_element_by_index", "goal 1")
    assert failure["screenshot"] == "tasks/buy/screenshots/run/002_click_element_by_index.png"


def test_a_run_that_passed_has_none(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    assert stack.run("buy")["failure"] is None


NONE_OF_THEM = '{"detail":"The file has 14 bytes, and none of those that Range asks for."}'


def test_the_log_is_plain_text_in_parts(stack: FakeStack) -> None:
    stack.project.add_task("buy", "print:one print:\x1b[31mtwo\x1b[0m print:three pass")
    path = f"/test-runs/{stack.run('buy')['id']}/log"
    whole = stack.client.get(path)
    assert whole.text == "one\ntwo\nthree\n"
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert whole.headers["x-next-offset"] == "14"
    assert stack.client.get(path, params={"tail": 2}).text == "two\nthree\n"
    assert stack.client.get(path, params={"tail": 0}).text == ""
    assert stack.client.get(path, params={"offset": 8}).text == "three\n"
    beyond = stack.client.get(path, params={"offset": 999})
    assert (beyond.text, beyond.headers["x-next-offset"]) == ("", "14")
    for header, status, text, shown in [
        ("bytes=4-6", 206, "two", "bytes 4-6/14"),
        ("bytes=8-", 206, "three\n", "bytes 8-13/14"),
        ("bytes=-6", 206, "three\n", "bytes 8-13/14"),
        ("bytes=99-", 416, NONE_OF_THEM, "bytes */14"),
        ("bytes=6-4", 416, NONE_OF_THEM, "bytes */14"),
        ("bytes=x-y", 200, "one\ntwo\nthree\n", None),
        ("bytes=0-1,3-4", 200, "one\ntwo\nthree\n", None),
    ]:
        part = stack.client.get(path, headers={"Range": header})
        assert (part.status_code, part.text, part.headers.get("content-range")) == (status, text, shown), header
    for query in ("tail=-1", "tail=x", "offset=1.5", "offset=" + "9" * 30):
        assert stack.client.get(f"{path}?{query}").status_code == 422


def test_a_run_that_printed_nothing_yet_has_an_empty_log_and_an_unknown_one_none(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    queued = stack.post("buy").json()["id"]
    assert (
        stack.client.get(f"/test-runs/{queued}/log").status_code,
        stack.client.get(f"/test-runs/{queued}/log").text,
    ) == (200, "")
    assert stack.client.get(f"/test-runs/{OTHER}/log").status_code == 404
    assert stack.client.get("/test-runs/nonsense/log").status_code == 404


def test_a_step_that_the_next_one_calls_a_failure_is_shown_as_failed(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "traversals").mkdir()
    document = make_traversal([VISIT, VISIT, PASSED], "SUCCESSFUL")
    document["brain_states"]["thought1"]["evaluation_previous_goal"] = "Failed - the page was empty"
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_text(json.dumps(document))
    states = [step["history_elements"][0]["history_element_state"] for step in stack.get(OTHER)["brain_states"]]
    assert states == ["FAILED", "SUCCESS", "SUCCESS"]


# Secrets

SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<>│┃║|_"), min_size=5, max_size=16
)


def planted(secret: str) -> bytes:
    """A traversal with the secret in every field that there is."""
    action = make_action(
        0, "input_text", {"index": 0, "text": secret, "xpath": secret, secret: secret, "odd": [secret]}
    )
    action |= {
        "dom_element_data": {"xpath": secret, "tag_name": secret, "attributes": {"value": secret}},
        "screenshot_filename": f"screenshots/{secret}.png",
        "brain_state_id": secret,
        "timestamps": {secret: secret},
    }
    lost = {**action, "brain_state_id": f"x{secret}", "action": {secret: {"text": secret}, "done": None}}
    thought = {key: f"{key} {secret}" for key in ("evaluation_previous_goal", "memory", "next_goal")}
    fault = make_action(2, "done", {"text": f"Wrong: {secret}", "success": False}, secret)
    document = {
        "test_case": secret,
        "start_url": secret,
        "extra_instructions": [secret],
        "browser_config": {"user_data_dir": secret, "extra_http_headers": {"X": secret}, "user_agent": secret},
        "secrets": {"PLANTED": secret},
        "http_auth": {"username": secret, "password": secret},
        "brain_states": {secret: thought},
        "actions": {"action_0": action, "action_1": lost, "action_2": fault},
        "status": "FAILED",
        "extracted_data": {secret: secret},
    }
    return json.dumps(document).encode()


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(secret=SECRETS.map("§{}".format))  # a sign that no word of ours has
def test_a_planted_secret_is_in_no_response_of_any_endpoint(stack: FakeStack, secret: str) -> None:
    task = f"task_{len(list(stack.settings.tasks_root.iterdir()))}"
    quoted = json.dumps(secret, ensure_ascii=False)
    texts = "".join(f"{name} = {quoted}\n" for name in ("name", "description", "start_url", "category"))
    texts += f"extra_instructions = [{quoted}]\nallowed_domains = [{quoted}]\n"
    toml = f"[task]\n{texts}[run_config]\nuser_agent = {quoted}\n[secrets]\nPLANTED = {quoted}\n"
    folder = stack.project.add_task(task, f"print:{secret} panel:{secret}_Error think:{secret} exit:3", toml=toml)
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_bytes(planted(secret))
    run_id = stack.run(task)["id"]
    responses = [stack.post(task), stack.client.get(f"/test-runs/{run_id}"), stack.client.get(f"/test-runs/{OTHER}")]
    responses += [stack.client.get(f"/test-runs/{run_id}/log"), stack.client.get(f"/test-runs/{OTHER}/log")]
    responses += [stack.client.post(f"/test-runs/{OTHER}/rerun")]
    lists = ("/test-runs?page_size=200", f"/test-runs/test-case/{task}", "/tasks?page_size=200", f"/tasks/{task}")
    of_project = ("/project", "/browser-types", "/browser-configs/project/project", "/secret-values/project/project")
    responses += [stack.client.get(path) for path in (*lists, *of_project)]
    for response in responses:
        assert response.status_code in (200, 202), response.text
        text = (
            json.dumps(response.json(), ensure_ascii=False)
            if "json" in response.headers["content-type"]
            else response.text
        )
        shown = text.replace("<secret>PLANTED</secret>", "\0")
        for spelling in (secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
            assert spelling not in shown
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").unlink()


def test_secrets_and_local_paths_stay_out_of_document_log_record_and_redis(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment-key")
    secret = "hunter2-secret"
    toml = f'[task]\nname = "n"\ndescription = "use {secret}"\n[secrets]\nPASSWORD = "{secret}"\n'
    folder = stack.project.add_task("buy", f"print:{secret} print:sk-environment-key think:{secret} exit:3", toml=toml)
    with StackInThisEnvironment(stack) as fresh:
        run = fresh.run("buy")
        log = fresh.client.get(f"/test-runs/{run['id']}/log").text
    assert log == "<secret>PASSWORD</secret>\n<secret>OPENAI_API_KEY</secret>\n"
    assert "sk-" not in json.dumps(run)
    assert secret not in json.dumps(run)
    assert run["error_message"].endswith("It said: <secret>OPENAI_API_KEY</secret>")
    assert secret.encode() not in b"".join(path.read_bytes() for path in (folder / "runs").rglob("*") if path.is_file())
    assert all(secret.encode() not in str(stack.redis.hgetall(key)).encode() for key in stack.redis.keys("rq:job:*"))
    assert secret not in "".join(capfd.readouterr())


class StackInThisEnvironment:
    """The same stack, whose web process was started in the environment as it is now."""

    def __init__(self, stack: FakeStack) -> None:
        self.fresh = FakeStack(stack.project, stack.server)

    def __enter__(self) -> FakeStack:
        self.fresh.client.__enter__()
        return self.fresh

    def __exit__(self, *_: object) -> None:
        self.fresh.client.__exit__(None, None, None)


def test_an_unchanged_fault_is_still_told(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    (folder / "traversals").mkdir()
    path = folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json"
    path.write_bytes(traversal_bytes([VISIT, FAULT], "FAILED"))
    run = stack.get(OTHER)
    assert (run["error_message"], run["failure"]["message"], run["failure"]["log_tail"]) == (
        "The cart is empty",
        "The cart is empty",
        [],
    )
