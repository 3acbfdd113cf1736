"""Tasks and the project."""

import json
import os

import pytest

from tests.project import PASSED, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    ORDER_TOML,
    by_hand,
    ids,
    listed,
    write_run,
)

ODD_TASKS = {
    "digits": "[task]\n[run_config]\nviewport_width = " + "9" * 5000,
    "early": "[task]\n[metadata]\ncreated_date = 0001-01-01T00:00:00+05:00\n",
    "late": "[task]\n[metadata]\ncreated_date = 9999-12-31T23:59:59-05:00\n",
    "wide": "[task]\n[run_config]\nviewport_width = 99999999999999999999\n",
    "far": "[task]\n[run_config.geolocation]\nlatitude = 1" + "0" * 400 + "\nlongitude = 1\n",
    "nan": "[task]\n[run_config.geolocation]\nlatitude = nan\nlongitude = inf\n",
    "hex": "[task]\nname = 0x" + "f" * 5000,
    "nested": "[task]\nx = " + "[" * 2000 + "]" * 2000,
}


def test_a_task_is_shown_with_all_that_the_front_end_reads(stack: FakeStack) -> None:
    stack.project.add_task("order", toml=ORDER_TOML)
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
        "broken": "tasks/broken/task_broken.toml, line 2: name must be a text, got 3.",
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
    stack.project.add_task("order", toml=ORDER_TOML)
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
    answer = json.loads(stack.client.get("/tasks").content, parse_constant=pytest.fail)
    listed_tasks = {task["id"]: task["error"] for task in answer["items"]}
    assert set(listed_tasks) == {*ODD_TASKS, "folder", "good"}, "a link is none"
    assert {name for name, error in listed_tasks.items() if error} == {"digits", "wide", "hex", "nested", "folder"}
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


def test_a_cuid_that_two_tasks_have_is_no_name_for_either(stack: FakeStack) -> None:
    for name in ("one", "two"):
        stack.project.add_task(name, toml=ORDER_TOML)
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


def test_a_task_that_is_deleted_during_a_listing_hides_no_other(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "good"):
        stack.project.add_task(name, toml="[task" if name == "bad" else None)
    assert {task["id"] for task in stack.client.get("/tasks").json()["items"]} == {"bad", "good"}
    monkeypatch.setattr("runner.project.catalog.TaskCatalog._broken", lambda self, *_: self._get("nothing"))
    assert [task["id"] for task in stack.client.get("/tasks").json()["items"]] == ["good"]


def test_the_project_is_read_however_it_was_written(stack: FakeStack) -> None:
    path = stack.project.root / "bugninja.toml"
    path.write_bytes(b'\xef\xbb\xbf[project]\r\nname = "shop"\r\n')
    os.utime(path, (1_000_000_000, 1_000_000_000))
    project = stack.client.get("/project").json()
    assert (project["name"], project["updated_at"]) == ("shop", "2001-09-09T01:46:40Z")
    path.write_text("name =")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    project = stack.client.get("/project").json()
    assert (project["name"], project["updated_at"]) == ("project", "2001-09-09T01:46:40Z")
    stack.project.root.rename(stack.project.root.with_name("moved"))
    assert stack.client.get("/project").json()["updated_at"] == "1970-01-01T00:00:00Z"
