"""Lists of runs and tasks, on a fake Redis and real files."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from rq.job import Job
from rq.serializers import JSONSerializer

from tests.project import FAULT, PASSED, VISIT, traversal_bytes
from tests.unit.conftest import FakeStack

DAY = 24 * 3600


def write_run(folder: Path, stamp: str, run_id: str, content: bytes, age: float = 0) -> Path:
    """A traversal as a person's own CLI leaves it; `age` is how many seconds ago it last changed."""
    path = folder / "traversals" / f"traverse_{stamp}_{run_id}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def by_hand(name: str) -> str:
    return f"h{name}".ljust(24, "0")


def listed(stack: FakeStack, query: str = "") -> Any:
    response = stack.client.get(f"/test-runs{query}")
    assert response.status_code == 200, response.text
    return response.json()


def ids(page: Any) -> list[str]:
    return [item["id"] for item in page["items"]]


def test_all_runs_are_listed_newest_first_each_once(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "visit pass")
    write_run(folder, "20250101_080000", by_hand("old"), traversal_bytes([VISIT, FAULT], "FAILED"))
    write_run(folder, "20260101_080000", by_hand("new"), traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    first = stack.run("buy")
    waiting = stack.post("buy").json()
    page = listed(stack)
    assert ids(page) == [waiting["id"], first["id"], by_hand("new"), by_hand("old")]
    assert [item["current_state"] for item in page["items"]] == ["PENDING", "FINISHED", "FINISHED", "FAILED"]
    assert [item["origin"] for item in page["items"]] == ["WEB_UI", "WEB_UI", "CLI", "CLI"]
    assert (page["total_count"], page["page"], page["total_pages"]) == (4, 1, 1)
    assert (page["has_next"], page["has_previous"]) == (False, False)
    stack.redis.flushall()
    assert listed(stack) == page
    assert ids(listed(stack, "?sort_order=asc")) == ids(page)[::-1]


def test_an_item_says_what_the_run_says(stack: FakeStack) -> None:
    stack.project.add_task("buy", "visit fail")
    run = stack.run("buy")
    (item,) = listed(stack)["items"]
    for field in ("id", "test_case", "current_state", "reason", "queued_at", "started_at", "finished_at", "duration",
                  "run_type", "origin", "run_gif", "browser_config"):  # fmt: skip
        assert item[field] == run[field], field
    assert (item["passed_steps"], item["failed_steps"], item["total_steps"]) == (1, 1, 2)


def test_a_run_made_by_hand_is_the_same_in_the_list_and_alone(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT, FAULT], "FAILED"))
    (item,) = listed(stack)["items"]
    run = stack.get(by_hand("a"))
    for field in ("test_case", "current_state", "reason", "started_at", "finished_at", "duration", "run_type"):
        assert item[field] == run[field], field


def test_a_running_run_is_listed_with_its_steps_as_they_come(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    path = write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT]))
    (item,) = listed(stack)["items"]
    assert (item["current_state"], item["total_steps"], item["finished_at"]) == ("RUNNING", 1, None)
    path.write_bytes(traversal_bytes([VISIT, VISIT]))
    assert listed(stack)["items"][0]["total_steps"] == 2
    path.write_bytes(traversal_bytes([VISIT, VISIT, PASSED], "SUCCESSFUL"))
    (item,) = listed(stack)["items"]
    assert (item["current_state"], item["total_steps"]) == ("FINISHED", 3)


def test_a_recording_that_nobody_completes_is_lost_and_comes_back_when_somebody_does(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT]), age=DAY)
    (item,) = listed(stack)["items"]
    assert (item["current_state"], item["reason"]) == ("ERROR", "lost")
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT, PASSED], "SUCCESSFUL"))
    assert listed(stack)["items"][0]["current_state"] == "FINISHED"


def test_new_and_deleted_runs_are_noticed(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    assert ids(listed(stack)) == []
    path = write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    write_run(folder, "20260101_080001", by_hand("b"), traversal_bytes([PASSED], "SUCCESSFUL"))
    assert ids(listed(stack)) == [by_hand("b"), by_hand("a")]
    path.unlink()
    assert ids(listed(stack)) == [by_hand("b")]


def test_a_file_that_a_run_has_adopted_is_no_run_of_its_own(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{'z' * 24} visit pass")
    run = stack.run("buy")
    assert (run["adopted"], run["traversal_id"]) == (True, "z" * 24)
    assert ids(listed(stack)) == [run["id"]]
    assert listed(stack)["items"][0]["total_steps"] == 2


def test_a_file_that_a_running_run_is_about_to_adopt_is_not_listed_meanwhile(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    record = folder / "runs" / run_id / "run.json"
    meta = json.loads(record.read_bytes())
    record.write_text(json.dumps({**meta, "started_at": meta["queued_at"]}))
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT]), age=-1)
    assert ids(listed(stack)) == [run_id]
    record.write_text(json.dumps({**meta, "started_at": meta["queued_at"], "traversal_id": run_id}))
    assert sorted(ids(listed(stack))) == sorted([run_id, by_hand("a")])


def test_what_cannot_be_read_hides_nothing(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    write_run(folder, "20260101_080001", by_hand("half"), b'{"actions": {', age=DAY)
    write_run(folder, "20260101_080002", by_hand("list"), b"[]", age=DAY)
    (folder / "traversals" / "notes.txt").write_text("x")
    (folder / "runs" / ("r" * 24)).mkdir(parents=True)
    (folder / "runs" / ("r" * 24) / "run.json").write_text("{")
    stack.project.add_task("broken", toml="[task")
    write_run(stack.project.root / "tasks" / "broken", "20250101_080000", by_hand("b"), traversal_bytes([PASSED]))
    states = {item["id"]: (item["current_state"], item["reason"]) for item in listed(stack)["items"]}
    assert states == {
        by_hand("a"): ("FINISHED", None),
        by_hand("half"): ("ERROR", "lost"),
        by_hand("list"): ("ERROR", "lost"),
        by_hand("b"): ("FINISHED", None),
    }
    assert listed(stack, "?test_case_id=broken")["items"][0]["test_case"]["test_name"] == "broken"


def test_a_task_that_is_a_link_out_of_the_project_has_no_runs_here(stack: FakeStack, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    write_run(outside, "20260101_080000", by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    (stack.project.root / "tasks" / "outside").symlink_to(outside)
    assert ids(listed(stack)) == []
    assert stack.client.get(f"/test-runs/{by_hand('a')}").status_code == 404


@pytest.fixture
def history(stack: FakeStack) -> FakeStack:
    """25 runs of two tasks, newest `b24`: passed, failed, error, running in turn; every fifth is a replay."""
    for task in ("alpha", "beta"):
        stack.project.add_task(task, toml=f'[task]\nname = "Name of {task}"\n[metadata]\ntask_id = "{task:c<24}"\n')
    kinds: tuple[tuple[list[Any], str], ...] = (
        ([PASSED], "SUCCESSFUL"),
        ([VISIT, FAULT], "FAILED"),
        ([], "FAILED"),
        ([VISIT], "PENDING"),
    )
    for number in range(25):
        task = "alpha" if number < 15 else "beta"
        actions, status = kinds[number % 4]
        more = {"run_type": "REPLAY"} if number % 5 == 0 else {}
        content = traversal_bytes(actions, status, **more)
        write_run(stack.project.root / "tasks" / task, f"20260101_0800{number:02}", by_hand(f"{number:02}"), content)
    return stack


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("page_size=3", [24, 23, 22]),
        ("page_size=3&page=2", [21, 20, 19]),
        ("page_size=10&page=3", [4, 3, 2, 1, 0]),
        ("page_size=10&page=4", []),
        ("page_size=200&status=FINISHED", [24, 20, 16, 12, 8, 4, 0]),
        ("page_size=200&status=PASSED", [24, 20, 16, 12, 8, 4, 0]),
        ("page_size=2&page=2&status=FINISHED&sort_order=asc", [8, 12]),
        ("page_size=4&status=FAILED", [22, 21, 18, 17]),  # as the front end shows them: ERROR is failed, too
        ("page_size=3&status=ERROR", [22, 18, 14]),
        ("page_size=3&status=PENDING", [23, 19, 15]),
        ("page_size=3&status=RUNNING", [23, 19, 15]),
        ("test_case_id=alpha&page_size=2", [14, 13]),
        (f"test_case_id={'alpha':c<24}&page_size=2", [14, 13]),
        ("run_type=REPLAY", [20, 15, 10, 5, 0]),
        ("run_type=AGENTIC&page_size=2", [24, 23]),
        ("run_type=REPLAY_WITH_HEALING", []),
        ("run_type=REPLAY&status=FINISHED&test_case_id=beta", [20]),
        ("search=name%20OF%20beta&page_size=3", [24, 23, 22]),
        ("search=h07", [7]),
        ("search=nowhere", []),
        ("search=", list(range(24, 14, -1))),
        ("project_id=project&page_size=1", [24]),
        ("something=else&page_size=1", [24]),
    ],
)
def test_filters_act_before_paging(history: FakeStack, query: str, numbers: list[int]) -> None:
    assert ids(listed(history, f"?{query}")) == [by_hand(f"{number:02}") for number in numbers]


def test_counts_are_of_what_the_filters_let_through(history: FakeStack) -> None:
    page = listed(history, "?status=FINISHED&page_size=3&page=2")
    assert (page["total_count"], page["page"], page["page_size"], page["total_pages"]) == (7, 2, 3, 3)
    assert (page["has_next"], page["has_previous"]) == (True, True)
    last = listed(history, "?status=FINISHED&page_size=3&page=3")
    assert (last["has_next"], len(last["items"])) == (False, 1)
    beyond = listed(history, "?page=1000")
    assert (beyond["items"], beyond["total_count"], beyond["has_next"]) == ([], 25, False)


def test_the_runs_of_a_task_have_a_list_of_their_own(history: FakeStack) -> None:
    response = history.client.get("/api/v1/test-runs/test-case/beta?page=1&page_size=3&sort_order=desc")
    assert ids(response.json()) == [by_hand(n) for n in ("24", "23", "22")]
    assert response.json()["total_count"] == 10
    assert ids(history.client.get("/test-runs/test-case/beta?status=ERROR").json()) == [by_hand("22"), by_hand("18")]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("page=0", "page is '0'; expected is a whole number from 1 to 1000000."),
        ("page=-1", "page is '-1'; expected is a whole number from 1"),
        ("page=abc", "page is 'abc'; expected is a whole number from 1"),
        ("page=", "page is ''; expected is a whole number from 1"),
        ("page=1000000000", "page is '1000000000'; expected is"),
        ("page_size=0", "page_size is '0'; expected is a whole number from 1 to 200."),
        ("page_size=-1", "page_size is '-1'; expected"),
        ("page_size=201", "page_size is '201'; expected"),
        ("page_size=1000000000", "page_size is '1000000000'; expected"),
        ("page_size=abc", "page_size is 'abc'; expected"),
        ("sort_order=up", "sort_order is 'up'; expected is asc or desc."),
        ("status=done", "status is 'done'; expected is FINISHED or PASSED;"),
        ("run_type=x", "run_type is 'x'; expected is AGENTIC"),
        ("test_case_id=../x", "test_case_id is '../x'; expected is the name"),
        (f"search={'x' * 201}", "search is 'xxxx"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named(stack: FakeStack, query: str, sentence: str) -> None:
    for path in ("/test-runs", "/api/v1/test-runs"):
        response = stack.client.get(f"{path}?{query}")
        assert response.status_code == 422
        assert response.json()["detail"].startswith(sentence)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/test-runs?test_case_id=nothing", "Task 'nothing' was not found"),
        ("/test-runs/test-case/nothing", "Task 'nothing' was not found"),
        ("/test-runs/test-case/..%2fx", "not found"),
        ("/test-runs?project_id=other", "Project 'other' was not found"),
        ("/tasks?project_id=other", "Project 'other' was not found"),
        ("/browser-configs/project/other", "Project 'other' was not found"),
        ("/secret-values/project/other", "Project 'other' was not found"),
        ("/tasks/nothing", "Task 'nothing' was not found"),
        ("/tasks/nosuchcuidnosuchcuidnosu", "Task 'nosuchcuidnosuchcuidnosu' was not found"),
    ],
)
def test_the_front_end_finds_its_words_when_something_is_gone(stack: FakeStack, path: str, words: str) -> None:
    response = stack.client.get(path)
    assert response.status_code == 404
    assert words.lower() in response.json()["detail"].lower()


TASK = """
[task]
name = "Order form"
description = "Fill in hunter2-secret"
start_url = "https://someone:url-secret@shop.example/"
extra_instructions = ["Be quick", "Type hunter2-secret", 3]
allowed_domains = ["shop.example"]
priority = "high"
category = "payments"
[secrets]
PASSWORD = "hunter2-secret"
OTHER = "other-secret"
[run_config]
viewport_width = 800
viewport_height = 600
user_agent = "me"
[run_config.geolocation]
latitude = 47.5
longitude = 19
[metadata]
task_id = "c2v4m8k1r7q0x5w9t3z6b1n8"
created_date = "2026-11-23T03:07:37.606113+00:00Z"
"""


def test_a_task_is_shown_with_all_that_the_front_end_reads(stack: FakeStack) -> None:
    stack.project.add_task("order", toml=TASK)
    task = stack.client.get("/tasks/order").json()
    assert stack.client.get("/api/v1/tasks/c2v4m8k1r7q0x5w9t3z6b1n8").json() == task
    assert stack.client.get("/tasks").json()["items"] == [task]
    project_id = stack.client.get("/project").json()["id"]
    assert {key: task[key] for key in ("id", "cuid", "project_id", "test_name", "test_description", "test_goal")} == {
        "id": "order",
        "cuid": "c2v4m8k1r7q0x5w9t3z6b1n8",
        "project_id": project_id,
        "test_name": "Order form",
        "test_description": "Fill in <secret>PASSWORD</secret>",
        "test_goal": "Fill in <secret>PASSWORD</secret>",
    }
    assert task["extra_rules"] == ["Be quick", "Type <secret>PASSWORD</secret>"]
    assert task["url_route"] == task["url_routes"]
    assert task["url_route"].endswith("@shop.example/")
    assert (task["allowed_domains"], task["priority"], task["category"]) == (["shop.example"], "high", "payments")
    assert task["created_at"] == "2026-11-23T03:07:37.606113Z"
    assert task["updated_at"].endswith("Z")
    assert (task["document"], task["error"], task["last_run_at"]) == (None, None, None)
    assert [(secret["secret_name"], secret["secret_value"]) for secret in task["secrets"]] == [
        ("PASSWORD", ""),
        ("OTHER", ""),
    ]
    (config,) = task["browser_configs"]
    assert config["id"] == "order_default"
    assert config["browser_config"] == {
        "browser_channel": "chromium",
        "user_agent": "me",
        "viewport": {"width": 800, "height": 600},
        "geolocation": {"latitude": 47.5, "longitude": 19.0, "accuracy": 0.0},
    }
    for text in ("hunter2", "url-secret", "other-secret"):
        assert text not in json.dumps(task)


def test_the_numbers_of_a_task_are_true(history: FakeStack) -> None:
    history.project.add_task("gamma", "pass")
    numbers = ("total_runs", "passed_runs", "failed_runs", "pending_runs", "success_rate")
    alpha = history.client.get("/tasks/alpha").json()
    assert [alpha[name] for name in numbers] == [15, 4, 8, 3, 33.33]
    assert alpha["last_run_at"] is not None
    gamma = history.client.get("/tasks/gamma").json()
    assert [gamma[name] for name in numbers] == [0, 0, 0, 0, 0.0]
    history.post("gamma")
    assert [history.client.get("/tasks/gamma").json()[name] for name in numbers] == [1, 0, 0, 1, 0.0]
    history.work()
    assert [history.client.get("/tasks/gamma").json()[name] for name in numbers] == [1, 1, 0, 0, 100.0]


def test_a_broken_task_is_listed_with_its_error_and_hides_no_other(stack: FakeStack) -> None:
    stack.project.add_task("good")
    stack.project.add_task("broken", toml="[task]\nname = 3\n")
    stack.project.add_task("worse").joinpath("task_worse.toml").write_bytes(b"\xff")
    (stack.project.root / "tasks" / "empty").mkdir()
    (stack.project.root / "tasks" / "NoTask").mkdir()
    page = stack.client.get("/tasks").json()
    errors = {task["id"]: task["error"] for task in page["items"]}
    assert errors == {
        "good": None,
        "broken": "tasks/broken/task_broken.toml, line 2: name is 3; expected is a text.",
        "worse": "tasks/worse/task_worse.toml, line 1: the file is not UTF-8 text.",
    }
    broken = stack.client.get("/tasks/broken").json()
    assert broken["error"] == errors["broken"]
    assert broken["allowed_domains"] == broken["extra_rules"] == broken["secrets"] == []
    assert broken["browser_configs"][0]["browser_config"]["viewport"] == {"width": 1920, "height": 1080}
    assert stack.post("broken").status_code == 422


def test_a_task_is_read_again_when_its_file_changed(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    assert stack.client.get("/tasks/buy").json()["test_name"] == "buy"
    (folder / "task_buy.toml").write_text('[task]\nname = "New name"\n')
    assert stack.client.get("/tasks/buy").json()["test_name"] == "New name"
    assert stack.post("buy").json()["test_case"]["test_name"] == "New name"


def test_tasks_are_found_sorted_and_paged(stack: FakeStack) -> None:
    for number in range(5):
        toml = f'[task]\nname = "Number {number}"\n[metadata]\ncreated_date = "2026-0{number + 1}-01T00:00:00+00:00Z"\n'
        stack.project.add_task(f"t{number}", toml=toml)

    def found(query: str) -> list[str]:
        return [task["id"] for task in stack.client.get(f"/tasks?{query}").json()["items"]]

    assert found("") == ["t4", "t3", "t2", "t1", "t0"]
    assert found("sort_order=asc&page_size=2&page=2") == ["t2", "t3"]
    assert found("search=NUMBER%203") == ["t3"]
    assert found("search=t1") == ["t1"]
    assert stack.client.get("/tasks?page_size=2").json()["total_pages"] == 3
    assert stack.client.get("/tasks?page_size=201").status_code == 422


def test_a_run_can_be_started_by_the_cuid_of_its_task(stack: FakeStack) -> None:
    stack.project.add_task("order", toml=TASK)
    cuid = "c2v4m8k1r7q0x5w9t3z6b1n8"
    for config in ("order_default", f"{cuid}_default"):
        response = stack.post(cuid, config)
        assert (response.status_code, response.json()["test_case"]["id"]) == (202, "order")
    assert stack.post(cuid, "other_default").status_code == 404


def test_the_project_says_its_name_and_its_times(stack: FakeStack) -> None:
    assert stack.client.get("/project").json()["name"] == "project"
    (stack.project.root / "bugninja.toml").write_text(
        '[project]\nname = "My Shop, tests!"\ndefault_start_url = "http://x/"'
    )
    project = stack.client.get("/api/v1/project").json()
    assert (project["id"], project["name"], project["default_start_url"]) == (
        "my-shop-tests",
        "My Shop, tests!",
        "http://x/",
    )
    assert project["created_at"].endswith("Z")
    assert project["updated_at"].endswith("Z")
    (stack.project.root / "bugninja.toml").write_text("[project")
    assert stack.client.get("/project").json()["name"] == "project"


def test_settings_of_browsers_and_names_of_secrets_are_bare_lists(stack: FakeStack) -> None:
    stack.project.add_task("order", toml=TASK)
    stack.project.add_task("plain")
    stack.project.add_task("broken", toml="[")
    types = stack.client.get("/browser-types").json()
    assert types["browser_channels"] == ["chromium"]
    assert types["user_agents"] == ["me", "tester"]
    assert {"width": 800, "height": 600} in types["viewport_sizes"]
    project_id = stack.client.get("/project").json()["id"]
    configs = stack.client.get(f"/browser-configs/project/{project_id}").json()
    assert [config["id"] for config in configs] == ["order_default", "plain_default"]
    secrets = stack.client.get(f"/secret-values/project/{project_id}").json()
    assert [(secret["secret_name"], secret["secret_value"]) for secret in secrets] == [("PASSWORD", ""), ("OTHER", "")]
    assert len(stack.client.get(f"/secret-values/project/{project_id}?page_size=1&page=2").json()) == 1


ODD_TASKS = {
    "digits": "[task]\n[run_config]\nviewport_width = " + "9" * 5000,
    "early": "[task]\n[metadata]\ncreated_date = 0001-01-01T00:00:00+05:00\n",
    "late": "[task]\n[metadata]\ncreated_date = 9999-12-31T23:59:59-05:00\n",
    "wide": "[task]\n[run_config]\nviewport_width = 99999999999999999999\n",
    "far": "[task]\n[run_config.geolocation]\nlatitude = 1" + "0" * 400 + "\nlongitude = 1\n",
    "nan": "[task]\n[run_config.geolocation]\nlatitude = nan\nlongitude = inf\n",
    "nested": "[task]\nx = " + "[" * 2000 + "]" * 2000,
}


def test_odd_task_files_spoil_nothing_for_the_others(stack: FakeStack) -> None:
    for name, toml in ODD_TASKS.items():
        stack.project.add_task(name, toml=toml)
    tasks = stack.settings.tasks_root
    for name in ("folder", "loop", "good"):
        stack.project.add_task(name)
    (tasks / "folder" / "task_folder.toml").unlink()
    (tasks / "folder" / "task_folder.toml").mkdir()
    (tasks / "loop" / "task_loop.toml").unlink()
    (tasks / "loop" / "task_loop.toml").symlink_to("task_loop.toml")
    (tasks / "round").symlink_to("round")
    (tasks / "alias").symlink_to("good")
    write_run(tasks / "good", "20260101_080000", by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    (stack.project.root / "bugninja.toml").write_text("x = " + "9" * 5000)
    listed_tasks = {task["id"]: task["error"] for task in stack.client.get("/tasks").json()["items"]}
    assert set(listed_tasks) == {*ODD_TASKS, "folder", "good"}, "a link is none"
    assert {name for name, error in listed_tasks.items() if error} == {"digits", "wide", "nested", "folder"}
    assert ids(listed(stack)) == [by_hand("a")]
    project_id = stack.client.get("/project").json()["id"]
    for path in ("/browser-types", f"/browser-configs/project/{project_id}", f"/secret-values/project/{project_id}"):
        assert stack.client.get(path).status_code == 200
    for name in (*listed_tasks, "round", "alias"):
        status = stack.client.get(f"/tasks/{name}").status_code
        assert status == (200 if name in listed_tasks else 404), name
        posted = stack.post(name)
        assert posted.status_code in (202, 404, 422), name
        if posted.status_code == 202:
            assert stack.get(posted.json()["id"])["current_state"] == "PENDING"
    assert listed(stack)["total_count"] == 1 + len([name for name, error in listed_tasks.items() if not error])


def test_a_run_that_waits_hides_no_run_made_by_hand(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    waiting = stack.post("buy").json()["id"]
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"), age=-1)
    assert sorted(ids(listed(stack))) == sorted([waiting, by_hand("a")])


def test_the_steps_of_an_adopted_file_are_counted_as_they_come(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    record = folder / "runs" / run_id / "run.json"
    meta = json.loads(record.read_bytes())
    record.write_text(json.dumps({**meta, "started_at": meta["queued_at"], "traversal_id": by_hand("a")}))
    for steps in (1, 3, 7):
        write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT] * steps))
        assert listed(stack)["items"][0]["total_steps"] == steps
        assert stack.get(run_id)["progress"]["steps"] == steps


def test_a_recording_with_its_done_is_looked_at_again_until_its_status_is_written(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([PASSED], "PENDING"))
    assert listed(stack)["items"][0]["current_state"] == "FINISHED"
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([PASSED, FAULT], "FAILED"))
    assert listed(stack)["items"][0]["current_state"] == "FAILED"


def test_a_job_that_was_cancelled_behind_our_back_is_over_when_a_worker_has_said_so(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    Job.fetch(run_id, stack.redis, JSONSerializer).cancel()
    assert (stack.get(run_id)["current_state"], listed(stack)["items"][0]["current_state"]) == ("PENDING", "PENDING")
    stack.recovery().run_once()
    run = stack.get(run_id)
    assert (run["current_state"], run["reason"], run["finished_at"] is None) == ("ERROR", "stopped", False)
    assert listed(stack)["items"][0]["finished_at"] == run["finished_at"]


def test_a_run_whose_folder_was_deleted_is_one_made_by_hand(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "visit pass")
    run_id = stack.run("buy")["id"]
    assert listed(stack)["items"][0]["origin"] == "WEB_UI"
    shutil.rmtree(folder / "runs" / run_id)
    assert listed(stack)["items"][0]["origin"] == "CLI"


def test_a_cuid_that_two_tasks_have_is_no_name_for_either(stack: FakeStack) -> None:
    for name in ("one", "two"):
        stack.project.add_task(name, toml=TASK)
    cuid = "c2v4m8k1r7q0x5w9t3z6b1n8"
    assert stack.client.get(f"/tasks/{cuid}").status_code == 409
    assert "(one, two); name the folder" in stack.post(cuid).json()["detail"]


def test_the_project_and_what_is_said_of_it_have_no_secrets(stack: FakeStack) -> None:
    url = "https://bob:hunter2secret@stage.example/"
    (stack.project.root / "bugninja.toml").write_text(f'[project]\nname = "shop"\ndefault_start_url = "{url}"\n')
    project = stack.client.get("/project").json()
    assert "hunter2secret" not in json.dumps(project)
    assert project["default_start_url"].endswith("stage.example/")


def test_secrets_of_two_tasks_never_have_one_id(stack: FakeStack) -> None:
    stack.project.add_task("a", toml='[task]\n[secrets]\nb_c = "first-secret"\n')
    stack.project.add_task("a_b", toml='[task]\n[secrets]\nc = "second-secret"\n')
    secrets = stack.client.get("/secret-values/project/project").json()
    assert len({secret["id"] for secret in secrets}) == 2


def test_a_secret_that_is_a_word_of_bugninja_changes_no_result(stack: FakeStack) -> None:
    toml = '[task]\n[secrets]\nA = "success"\nB = "done"\nC = "text"\nD = "action"\n'
    folder = stack.project.add_task("buy", toml=toml)
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT, FAULT], None))
    assert listed(stack)["items"][0]["current_state"] == "FAILED"
    assert stack.get(by_hand("a"))["current_state"] == "FAILED"
    assert stack.client.post("/test-runs/replay/buy/buy_default").status_code == 404
