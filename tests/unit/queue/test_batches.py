"""Batches of runs, from the request to the record of how all of them ended."""

import re
import shutil
import time
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.api.responses import CHUNK_BYTES
from jobs.queue.batches import BatchAcceptor, needed_by
from jobs.queue.new_runs import NewRuns
from jobs.retention import Pruner
from jobs.run.record import RunRecord
from runner.errors import StorageUnavailable
from runner.files import utc_time
from runner.ids import TaskId
from runner.project.batch_files import Mark
from runner.project.catalog import Dependencies
from runner.project.task import parse_task
from runner.settings import DAY
from tests.unit.fake_stack import FakeStack

TOML = '[task]\nname = "The {0}"\ntags = [{1}]\ndependencies = [{2}]\n'


def add(stack: FakeStack, name: str, behaviour: str = "pass", tags: str = "", needs: str = "") -> None:
    """A task with these tags, which needs these tasks (both separated by blanks)."""
    quoted = [", ".join(f'"{word}"' for word in words.split()) for words in (tags, needs)]
    stack.project.add_task(name, behaviour, TOML.format(name, *quoted))


def task(name: str, needs: set[str]) -> Any:
    quoted = ", ".join(f'"{one}"' for one in sorted(needs))
    return parse_task(TaskId(name), TOML.format(name, "", quoted), utc_time(0))


@pytest.fixture
def shop(stack: FakeStack) -> FakeStack:
    """A project with three tasks."""
    add(stack, "buy", tags="smoke shop")
    add(stack, "login", "fail", tags="login")
    add(stack, "search", "nothing", tags="smoke")
    return stack


def start(stack: FakeStack, status: int = 202, key: str | None = None, **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    response = stack.client.post("/batches", json=body, headers=headers)
    assert response.status_code == status, response.text
    return response.json()


def show(stack: FakeStack, batch: Any) -> Any:
    response = stack.client.get(f"/batches/{batch['id']}")
    assert response.status_code == 200, response.text
    return response.json()


def tasks(batch: Any) -> list[str]:
    return [run["task_id"] for run in batch["runs"]]


def states(batch: Any) -> dict[str, str]:
    return {run["task_id"]: run["current_state"] for run in batch["runs"]}


def recover(stack: FakeStack, rounds: int = 2) -> None:
    for _ in range(rounds):
        stack.recovery().run_once()


def test_a_batch_has_a_run_of_each_task_and_ends_with_the_worst_state(shop: FakeStack) -> None:
    response = shop.client.post("/batches", json={"tasks": ["login", "buy", "search"], "name": "nightly"})
    batch = response.json()
    assert (response.status_code, response.headers["location"]) == (202, f"/batches/{batch['id']}")
    assert (batch["current_state"], batch["name"], tasks(batch)) == ("PENDING", "nightly", ["login", "buy", "search"])
    shop.work()
    over = show(shop, batch)
    assert states(over) == {"login": "FAILED", "buy": "FINISHED", "search": "ERROR"}
    assert over["current_state"] == "FAILED"
    assert over["counts"] == {
        "total": 3,
        "pending": 0,
        "running": 0,
        "passed": 1,
        "failed": 1,
        "error": 1,
        "stopped": 0,
    }
    login = over["runs"][0]
    run = shop.get(login["id"])
    assert (run["trigger"], run["batch_id"], run["current_state"]) == ("batch", batch["id"], "FAILED")
    assert login["message"] == run["error_message"]
    assert login["file"] == "tasks/login/task_login.toml"
    assert login["steps"] == run["progress"]["steps"]
    assert over["finished_at"] == max(line["finished_at"] for line in over["runs"])
    assert over["duration"] > 0


def test_a_batch_in_which_nothing_failed_is_an_error_if_something_could_not_be_run(shop: FakeStack) -> None:
    batch = start(shop, tasks=["buy", "search"])
    passed = start(shop, tasks=["buy"])
    shop.work()
    assert show(shop, batch)["current_state"] == "ERROR"
    assert show(shop, passed)["current_state"] == "FINISHED"


def test_the_runs_of_a_batch_are_found_in_the_list_and_keep_its_order(shop: FakeStack) -> None:
    batch = start(shop, tasks=["search", "buy", "login"], labels={"branch": "main"})
    shop.post("buy")
    found = shop.client.get(f"/test-runs?batch_id={batch['id']}&sort_order=asc").json()
    assert [run["id"] for run in found["items"]] == [run["id"] for run in batch["runs"]]
    assert {run["batch_id"] for run in found["items"]} == {batch["id"]}
    assert found["items"][0]["labels"] == {"branch": "main"}
    labelled = shop.client.get(f"/test-runs?label.branch=main&batch_id={batch['id']}").json()
    assert labelled["total_count"] == 3
    assert shop.client.get("/test-runs?trigger=batch").json()["total_count"] == 3
    assert shop.client.get(f"/test-runs?batch_id={'x' * 24}").json()["total_count"] == 0


@pytest.mark.parametrize(
    ("tags", "chosen"),
    [
        ([["smoke"]], ["buy", "search"]),
        ([["smoke", "shop"]], ["buy"]),
        ([["smoke", "shop"], ["login"]], ["buy", "login"]),
    ],
)
def test_tags_choose_tasks_that_have_all_of_one_group(shop: FakeStack, tags: Any, chosen: list[str]) -> None:
    assert tasks(start(shop, tags=tags)) == chosen


def test_all_chooses_all_tasks_and_a_task_that_is_named_twice_runs_once(shop: FakeStack) -> None:
    assert tasks(start(shop, all=True)) == ["buy", "login", "search"]
    assert tasks(start(shop, tasks=["buy", "buy"])) == ["buy"]


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ({"tasks": ["buy", "no", "NO!"]}, 404, "The project has no task 'no', 'NO!'."),
        ({"tags": [["no"], ["smoke", "none"]]}, 422, "must have a task with no or smoke+none, got none"),
        ({}, 422, 'exactly one of "tasks", "tags" and "all"'),
        ({"tasks": ["buy"], "all": True}, 422, "exactly one of"),
        ({"tasks": []}, 422, "tasks must be a list of names of tasks, one at least, got []."),
        ({"tasks": "buy"}, 422, 'tasks must be a list of names of tasks, one at least, got "buy".'),
        ({"tags": ["smoke"]}, 422, "tags must be a list of at most 100 lists of tags"),
        ({"tasks": ["buy"], "mode": "fast"}, 422, 'mode must be agentic, replay or heal, got "fast".'),
        ({"tasks": ["buy"], "fail_fast": 0}, 422, "fail_fast must be an integer from 1, or null, got 0."),
        ({"tasks": ["buy"], "name": "x" * 201}, 422, "name must be a text of at most 200 characters"),
        ({"tasks": ["buy"], "labels": {"B": "x"}}, 422, "The key of a label must be"),
        ({"tasks": ["buy"], "label": {}}, 422, "no other fields than tasks, tags, all, name"),
        ({"tasks": ["buy"], "mode": "replay"}, 409, "These tasks have no run that passed"),
        ([], 422, "The body must be a JSON object"),
    ],
)
def test_what_cannot_be_a_batch_is_refused_with_all_that_is_wrong(
    shop: FakeStack, body: Any, status: int, detail: str
) -> None:
    response = shop.client.post("/batches", json=body)
    assert response.status_code == status, response.text
    assert detail in response.json()["detail"]
    assert shop.client.get("/batches").json()["total_count"] == 0


def test_a_broken_task_is_not_left_out_in_silence(shop: FakeStack) -> None:
    (shop.project.root / "tasks" / "login" / "task_login.toml").write_text("[task\n")
    for body in ({"all": True}, {"tags": [["smoke"]]}, {"tasks": ["buy", "login"]}):
        assert "tasks/login/task_login.toml, line" in start(shop, 422, **body)["detail"]
    assert tasks(start(shop, tasks=["buy"])) == ["buy"]


def test_a_batch_has_at_most_500_runs(shop: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.queue.batches.MAX_RUNS", 2)
    assert start(shop, 413, all=True)["detail"] == "A batch must have at most 2 runs, got 3."
    assert start(shop, 202, tasks=["buy", "login"])


def test_a_repeated_request_is_answered_with_the_same_batch(shop: FakeStack) -> None:
    first = start(shop, key="k", tasks=["buy"])
    assert start(shop, 200, key="k", tasks=["buy"])["id"] == first["id"]
    assert "another request" in start(shop, 409, key="k", tasks=["login"])["detail"]
    assert shop.client.get("/batches").json()["total_count"] == 1
    shop.work()
    assert start(shop, 200, key="k", tasks=["buy"])["current_state"] == "FINISHED"


def test_a_request_that_was_cut_off_before_the_record_is_accepted_under_the_same_id(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("os.link", raise_full)
        assert "The batch was not accepted" in start(shop, 507, key="k", tasks=["buy"])["detail"]
    assert not [*(shop.project.root / "batches").glob(".*")]
    batch = start(shop, key="k", tasks=["buy"])
    assert start(shop, 200, key="k", tasks=["buy"])["id"] == batch["id"]


def raise_full(*arguments: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_batch_that_was_cut_off_is_completed_and_nothing_runs_twice(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    create, died = NewRuns.create, []

    def die_at_second(self: NewRuns, record: RunRecord) -> None:
        if record.task_id != "buy":
            died.append(record.run_id)
            raise StorageUnavailable("the process is gone")
        create(self, record)

    with monkeypatch.context() as cut_off:
        cut_off.setattr(NewRuns, "create", die_at_second)
        batch = start(shop, all=True)
    assert len(died) == 2
    shop.work()
    halfway = show(shop, batch)
    assert (halfway["current_state"], states(halfway)["login"]) == ("RUNNING", "PENDING")
    recover(shop, 1)
    assert states(show(shop, batch)) == {"buy": "FINISHED", "login": "PENDING", "search": "PENDING"}
    shop.work()
    recover(shop)
    assert states(show(shop, batch)) == {"buy": "FINISHED", "login": "FAILED", "search": "ERROR"}
    found = shop.client.get("/test-runs").json()
    assert sorted(run["id"] for run in found["items"]) == sorted(run["id"] for run in batch["runs"])


def test_a_task_that_goes_while_a_batch_is_accepted_does_not_hold_up_its_end(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.run.batch.UNSEEN", timedelta(0))
    with monkeypatch.context() as cut_off:
        cut_off.setattr(BatchAcceptor, "complete", lambda *_: [])
        batch = start(shop, tasks=["buy", "login"])
    shutil.rmtree(shop.project.root / "tasks" / "login")
    recover(shop, 1)
    shop.work()
    over = show(shop, batch)
    assert (over["current_state"], over["runs"][1]["reason"]) == ("ERROR", "lost")


def test_the_end_of_a_batch_stays_when_its_runs_are_deleted(shop: FakeStack) -> None:
    batch = start(shop, tasks=["buy", "login"])
    shop.work()
    before = show(shop, batch)
    recover(shop)
    assert [*shop.services.batches._files.batches.marked(*Mark)] == []
    shutil.rmtree(shop.project.root / "tasks" / "login" / "runs")
    assert show(shop, batch) == before
    assert shop.client.get("/batches").json()["items"][0]["current_state"] == "FAILED"


def test_a_run_that_is_deleted_before_the_end_is_an_error_and_is_not_started_again(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.run.batch.UNSEEN", timedelta(0))
    batch = start(shop, tasks=["buy", "login"])
    shutil.rmtree(shop.project.root / "tasks" / "login" / "runs" / batch["runs"][1]["id"])
    shop.work()
    recover(shop)
    over = show(shop, batch)
    assert (over["current_state"], over["runs"][1]["reason"]) == ("ERROR", "lost")


def test_no_run_starts_when_enough_have_failed(shop: FakeStack) -> None:
    batch = start(shop, tasks=["buy", "login", "search"], fail_fast=1)
    shop.work()
    over = show(shop, batch)
    assert states(over) == {"buy": "FINISHED", "login": "FAILED", "search": "ERROR"}
    search = over["runs"][2]
    assert (search["reason"], search["started_at"]) == ("stopped", None)
    assert "fail_fast" in search["message"]
    assert (over["counts"]["stopped"], over["counts"]["error"]) == (1, 0)
    assert not shop.project.traversals("search")


def test_recovery_holds_a_batch_whose_worker_died_before_it_could(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.worker.execute.hold_if_failed", lambda *_: None)
    batch = start(shop, tasks=["search", "login", "buy"], fail_fast=1)
    later = [run["id"] for run in batch["runs"][1:]]
    for run_id in later:  # they are not taken for now
        shop.redis.lrem("rq:queue:bugninja", 1, run_id)
    shop.work()
    assert show(shop, batch)["counts"]["pending"] == 2
    recover(shop)
    assert [run["reason"] for run in show(shop, batch)["runs"]] == ["cli_error", "stopped", "stopped"]


def test_a_batch_is_stopped_with_all_its_runs(shop: FakeStack) -> None:
    batch = start(shop, tasks=["buy", "login"])
    response = shop.client.post(f"/batches/{batch['id']}/stop")
    assert response.status_code == 200, response.text
    over = response.json()
    assert (over["current_state"], over["counts"]["stopped"]) == ("ERROR", 2)
    shop.work()
    assert show(shop, batch)["counts"] == over["counts"]
    again = shop.client.post(f"/batches/{batch['id']}/stop")
    assert (again.status_code, again.json()["detail"]) == (
        409,
        f"Batch '{batch['id']}' is over already: it is ERROR.",
    )


def test_a_batch_that_was_stopped_while_it_was_cut_off_starts_nothing_more(
    shop: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as cut_off:
        cut_off.setattr(BatchAcceptor, "complete", lambda *_: [])
        batch = start(shop, tasks=["buy", "login"])
    assert shop.client.post(f"/batches/{batch['id']}/stop").status_code == 202
    assert show(shop, batch)["stopping"]
    recover(shop, 1)
    shop.work()
    assert show(shop, batch)["counts"]["stopped"] == 2
    recover(shop)
    assert not show(shop, batch)["stopping"]


def test_a_batch_is_rerun_whole_or_in_part(shop: FakeStack) -> None:
    batch = start(shop, all=True, name="nightly", labels={"branch": "main"}, fail_fast=3)
    path = f"/batches/{batch['id']}/rerun"
    assert "is not over" in shop.send(path, 409)["detail"]
    shop.work()
    assert tasks(shop.send(path)) == ["buy", "login", "search"]
    assert tasks(shop.send(f"{path}?only=errored")) == ["search"]
    again = shop.send(f"{path}?only=failed", key="k")
    assert tasks(again) == ["login", "search"]
    assert (again["rerun_of"], again["name"], again["labels"], again["fail_fast"]) == (
        batch["id"],
        "nightly",
        {"branch": "main"},
        3,
    )
    assert shop.send(f"{path}?only=failed", 200, key="k")["id"] == again["id"]
    assert shop.send(path, labels={"branch": "next"})["labels"] == {"branch": "next"}
    assert "only must be failed" in shop.send(f"{path}?only=passed", 422)["detail"]
    passed = start(shop, tasks=["buy"])
    shop.work()
    assert "has no run that did not pass" in shop.send(f"/batches/{passed['id']}/rerun?only=failed", 409)["detail"]


def test_a_batch_replays_the_newest_run_of_each_task_that_passed(shop: FakeStack) -> None:
    original = shop.run("buy")
    for mode, run_type in (("replay", "REPLAY"), ("heal", "REPLAY_WITH_HEALING")):
        batch = start(shop, tasks=["buy"], mode=mode)
        run = shop.get(batch["runs"][0]["id"])
        assert (run["run_type"], run["original_run_id"]) == (run_type, original["id"])
    shop.work()
    again = shop.send(f"/batches/{batch['id']}/rerun")
    assert shop.get(again["runs"][0]["id"])["original_run_id"] == original["id"]
    for file in shop.project.traversals("buy"):
        file.unlink()
    shop.work()
    assert "are gone" in shop.send(f"/batches/{again['id']}/rerun", 409)["detail"]


def test_a_task_that_another_one_needs_runs_in_the_run_of_that_one(stack: FakeStack) -> None:
    add(stack, "base")
    add(stack, "login", needs="base")
    add(stack, "buy", needs="login gone")
    add(stack, "other")
    batch = start(stack, all=True)
    assert tasks(batch) == ["buy", "other"]
    assert batch["dropped"] == [{"task_id": "base", "needed_by": "buy"}, {"task_id": "login", "needed_by": "buy"}]
    assert tasks(start(stack, tasks=["login", "other"])) == ["login", "other"]
    stack.work()
    assert tasks(start(stack, tasks=["login", "buy"])) == ["buy"]


def test_runs_of_tasks_that_need_the_same_one_take_turns(stack: FakeStack) -> None:
    add(stack, "login")
    add(stack, "buy", needs="login")
    add(stack, "pay", needs="login")
    add(stack, "other")
    batch = start(stack, tasks=["buy", "pay", "other"])
    first = stack.post("login").json()["id"]
    waiting = {stack.get(run["id"])["test_case"]["id"]: stack.get(run["id"])["queue"] for run in batch["runs"]}
    assert waiting["buy"]["waiting_for"] is None
    assert waiting["pay"]["waiting_for"] == batch["runs"][0]["id"]
    assert waiting["other"]["waiting_for"] is None
    assert stack.get(first)["queue"] == {"position": 2, "waiting_for": batch["runs"][0]["id"]}
    stack.work()
    assert show(stack, batch)["counts"]["passed"] == 3


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdef"))),
    st.lists(st.sampled_from("abcdef"), unique=True),
)
def test_every_chosen_task_is_run_by_itself_or_by_one_that_needs_it(
    needs: dict[str, set[str]], chosen: list[str]
) -> None:
    tasks = [task(name, needs.get(name, set())) for name in "abcdef"]
    dependencies = Dependencies(tasks)
    dropped = needed_by([TaskId(name) for name in chosen], dependencies)
    kept = {*chosen} - dropped.keys()
    assert all(needed in dependencies.of(TaskId(other)) for needed, other in dropped.items())
    assert all(any(name == one or name in dependencies.of(TaskId(one)) for one in kept) for name in chosen)
    for name in "abcdef":
        assert {dependencies.turn(TaskId(other)) for other in dependencies.of(TaskId(name))} <= {
            dependencies.turn(TaskId(name))
        }


def test_secrets_of_all_its_tasks_are_taken_out_of_what_a_batch_is_called(stack: FakeStack) -> None:
    stack.project.add_task("buy", toml='[task]\nname = "Buy"\n[secrets]\nPASSWORD = "hunter2-secret"\n')
    add(stack, "login")
    batch = start(stack, all=True, name="with hunter2-secret", labels={"why": "hunter2-secret"})
    shown = "<secret>PASSWORD</secret>"
    assert (batch["name"], batch["labels"]) == (f"with {shown}", {"why": shown})
    files = [*(stack.project.root / "batches").iterdir(), *stack.project.root.glob("tasks/login/runs/*/run.json")]
    assert files
    assert not [file for file in files if b"hunter2" in file.read_bytes()]


def test_batches_are_listed_newest_first_in_pages(shop: FakeStack) -> None:
    ids = [start(shop, tasks=["buy"])["id"] for _ in range(3)]
    page = shop.client.get("/batches?page_size=2").json()
    assert [item["id"] for item in page["items"]] == ids[:0:-1]
    assert (page["total_count"], page["total_pages"]) == (3, 2)
    assert "runs" not in page["items"][0]
    assert [item["id"] for item in shop.client.get("/batches?page_size=2&page=2").json()["items"]] == ids[:1]


def test_a_batch_that_is_not_there_or_cannot_be_read_is_named(shop: FakeStack) -> None:
    for name in ("x" * 24, "nobody"):
        for path in ("", "/events", "/stop", "/rerun"):
            call = shop.client.post if path in ("/stop", "/rerun") else shop.client.get
            assert call(f"/batches/{name}{path}").status_code == 404, path
    batch = start(shop, tasks=["buy"])
    (file,) = (shop.project.root / "batches").glob("*.json")
    file.write_text("{}")
    shop.post("buy")
    shown = show(shop, batch)
    assert (shown["current_state"], shown["queued_at"]) == ("ERROR", batch["queued_at"])
    assert "cannot be used" in shown["error_message"]
    recover(shop)
    assert file.read_text() == "{}"


def test_an_unchanged_batch_is_a_304_and_a_change_answers_who_waits(shop: FakeStack) -> None:
    batch = start(shop, tasks=["buy"])
    response = shop.client.get(f"/batches/{batch['id']}")
    etag = response.headers["etag"]
    assert shop.client.get(f"/batches/{batch['id']}", headers={"If-None-Match": etag}).status_code == 304
    shop.work()
    over = shop.client.get(f"/batches/{batch['id']}?wait=30", headers={"If-None-Match": etag})
    assert over.json()["current_state"] == "FINISHED"
    with shop.client.stream("GET", f"/batches/{batch['id']}/events") as stream:
        lines = [line for line in stream.iter_lines() if line.startswith(("id: ", "data: "))]
    assert len(lines) == 2
    seen = {"Last-Event-ID": lines[0].removeprefix("id: ")}
    assert shop.client.get(f"/batches/{batch['id']}/events", headers=seen).status_code == 204


def test_an_old_batch_is_deleted_when_records_are(shop: FakeStack) -> None:
    old, young = (start(shop, tasks=["buy"]) for _ in range(2))
    shop.work()
    recover(shop)
    folder = shop.project.root / "batches"
    (file,) = folder.glob(f"*{old['id']}.json")
    file.write_text(re.sub(r'finished_at":"\d{4}', 'finished_at":"2020', file.read_text()))
    file.rename(folder / f"batch_20200101_080000_000000_{old['id']}.json")
    (folder / f"batch_20200101_080000_000000_{'o' * 24}.json").write_text("{}")  # one that cannot be read stays
    now = time.time()
    assert not Pruner(shop.project.settings(RUNS_KEEP_DAYS="1")).old_batches(now)
    (found,) = Pruner(shop.project.settings(RECORDS_KEEP_DAYS="30")).old_batches(now)
    assert found.batch_id == old["id"]
    found.remove()
    listed = [item["id"] for item in shop.client.get("/batches").json()["items"]]
    assert listed == [young["id"], "o" * 24]


def test_a_run_keeps_its_record_as_long_as_its_batch_is_not_over(shop: FakeStack) -> None:
    batch = start(shop, tasks=["buy", "login"])
    shop.redis.lrem("rq:queue:bugninja", 1, batch["runs"][1]["id"])  # it is not taken for now
    shop.work()
    pruner = Pruner(shop.project.settings(RECORDS_KEEP_DAYS="1"))
    later = time.time() + 2 * DAY
    assert not pruner.plans(later)
    shop.send(f"/test-runs/{batch['runs'][1]['id']}/stop", 200)
    recover(shop)
    assert len(pruner.plans(later)) == 2


def test_the_jobs_of_a_large_batch_that_is_stopped_are_cancelled_behind_the_answer(shop: FakeStack) -> None:
    for number in range(220):
        add(shop, f"t{number:03}")
    batch = start(shop, all=True)
    response = shop.client.post(f"/batches/{batch['id']}/stop")
    assert (response.status_code, response.json()["counts"]["stopped"]) == (200, 223)
    assert len(response.content) > CHUNK_BYTES  # which is sent in parts
    assert not shop.redis.llen("rq:queue:bugninja")
    assert not shop.redis.keys("rq:rl:*:allowed")
