"""Lists of runs."""

import shutil
from pathlib import Path

import pytest

from tests.project import FAULT, PASSED, VISIT, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import (
    DAY,
    STAMP,
    by_hand,
    change_record,
    ids,
    listed,
    write_run,
)


def test_a_run_made_by_hand_is_listed_again_when_its_file_changed_after_its_end(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    for age in (0, 1, 0.5):
        write_run(folder, STAMP, by_hand("a"), traversal_bytes([VISIT, PASSED], "SUCCESSFUL"), age=age)
        (item,) = listed(stack)["items"]
        assert item["finished_at"] == stack.get(by_hand("a"))["finished_at"]


def test_a_record_that_cannot_be_read_hides_no_other_run(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    write_run(folder, STAMP, by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    (folder / "runs" / by_hand("b") / "run.json").mkdir(parents=True)
    assert sorted(ids(listed(stack))) == [by_hand("a"), by_hand("b")]
    assert "it cannot be read (it is no regular file)" in stack.get(by_hand("b"))["error_message"]


def test_a_record_that_could_not_be_read_for_a_moment_is_read_again(
    stack: FakeStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.project.add_task("buy")
    run = stack.run("buy")
    stack.redis.flushall()

    def fail(*_: object) -> int:
        raise OSError(24, "Too many open files")

    fresh = FakeStack(stack.project, stack.server)
    with fresh.client:
        with monkeypatch.context() as patch:
            patch.setattr("runner.files._open", fail)
            stack.settings.history_file.unlink()
            shown, (item,) = fresh.get(run["id"]), listed(fresh)["items"]
        assert (shown["current_state"], shown["reason"], item["reason"]) == ("ERROR", "lost", "lost")
        assert "Too many open files" in shown["error_message"]
        assert fresh.get(run["id"])["current_state"] == "FINISHED"
        assert listed(fresh)["items"][0]["current_state"] == "FINISHED"


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


def test_an_incomplete_recording_is_lost_and_comes_back_when_it_is_completed(stack: FakeStack) -> None:
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
    change_record(stack, run_id, started_at=stack.get(run_id)["queued_at"])
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT]), age=-1)
    assert ids(listed(stack)) == [run_id]
    change_record(stack, run_id, traversal_id=run_id)
    write_run(folder, "20260101_080001", run_id, traversal_bytes([VISIT]))
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
        "r" * 24: ("ERROR", "lost"),
    }
    assert listed(stack, "?test_case_id=broken")["items"][0]["test_case"]["test_name"] == "broken"


def test_a_task_that_is_a_link_out_of_the_project_has_no_runs_here(stack: FakeStack, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    write_run(outside, "20260101_080000", by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"))
    (stack.project.root / "tasks" / "outside").symlink_to(outside)
    assert ids(listed(stack)) == []
    assert stack.client.get(f"/test-runs/{by_hand('a')}").status_code == 404


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


def test_a_run_that_waits_hides_no_run_made_by_hand(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    waiting = stack.post("buy").json()["id"]
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([PASSED], "SUCCESSFUL"), age=-1)
    assert sorted(ids(listed(stack))) == sorted([waiting, by_hand("a")])


def test_the_steps_of_an_adopted_file_are_counted_as_they_come(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    change_record(stack, run_id, started_at=stack.get(run_id)["queued_at"], traversal_id=by_hand("a"))
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


def test_a_run_whose_folder_was_deleted_is_one_made_by_hand(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "visit pass")
    run_id = stack.run("buy")["id"]
    assert listed(stack)["items"][0]["origin"] == "WEB_UI"
    shutil.rmtree(folder / "runs" / run_id)
    assert listed(stack)["items"][0]["origin"] == "CLI"


def test_a_secret_that_is_a_word_of_bugninja_changes_no_result(stack: FakeStack) -> None:
    toml = '[task]\n[secrets]\nA = "success"\nB = "done"\nC = "text"\nD = "action"\n'
    folder = stack.project.add_task("buy", toml=toml)
    write_run(folder, "20260101_080000", by_hand("a"), traversal_bytes([VISIT, FAULT], None))
    assert listed(stack)["items"][0]["current_state"] == "FAILED"
    assert stack.get(by_hand("a"))["current_state"] == "FAILED"
    assert stack.client.post("/test-runs/replay/buy/buy_default").status_code == 404


def test_runs_are_found_by_their_labels_and_times(buy: FakeStack) -> None:
    main = buy.send("/test-runs/execute-configuration/buy/buy_default", labels={"branch": "main", "job": "7"})["id"]
    other = buy.send("/test-runs/execute-configuration/buy/buy_default", labels={"branch": "next"})["id"]
    again = buy.send(f"/test-runs/{main}/rerun")["id"]
    assert ids(listed(buy, "?label.branch=main")) == [again, main]
    assert ids(listed(buy, "?label.branch=main&label.job=7&trigger=api")) == [main]
    assert ids(listed(buy, "?label.branch=main&label.job=8")) == []
    assert ids(buy.client.get("/test-runs/test-case/buy?label.branch=next").json()) == [other]
    assert ids(listed(buy, "?trigger=rerun")) == [again]
    assert ids(listed(buy, f"?since={buy.get(other)['queued_at']}")) == [again, other]
    assert ids(listed(buy, f"?until={buy.get(other)['queued_at']}")) == [main]
    for query, expected in {
        "label.UPPER=x": "label",
        "since=yesterday": "since must be a time as in RFC 3339",
        "until=2026-01-01T00:00:00": "until must be",
        "until=0.5": "until must be",
        "trigger=cron": "trigger must be api, ui, batch, rerun or cli",
    }.items():
        answer = buy.client.get(f"/test-runs?{query}")
        assert (answer.status_code, expected in answer.json()["detail"]) == (422, True), answer.text
