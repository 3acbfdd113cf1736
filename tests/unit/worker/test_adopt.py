"""Which traversal file a run adopts."""

import pytest

from runner.ids import RunId, TaskId
from runner.project.adoption import adopt, adopter
from tests.project import PASSED, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import OTHER, THIRD, change_record, full_disk, run_folder


def test_the_only_new_file_is_adopted_and_marked_as_adopted(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{OTHER} visit pass")
    run = stack.run("buy")
    assert (run["current_state"], run["traversal_id"], run["adopted"]) == ("FINISHED", OTHER, True)
    assert run["id"] != OTHER
    assert len(run["brain_states"]) == 2
    assert adopter(stack.settings.tasks_root, TaskId("buy"), RunId(OTHER)) == run["id"]


def test_the_file_that_the_cli_names_is_adopted_while_it_runs_and_among_others(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{THIRD} visit other-id:{OTHER} name-file visit sleep:0.6 pass")
    run = stack.run("buy")
    assert (run["current_state"], run["traversal_id"]) == ("FINISHED", OTHER)


def test_of_two_files_that_the_log_does_not_name_none_is_adopted(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{THIRD} pass other-id:{OTHER} pass")
    run = stack.run("buy")
    assert (run["current_state"], run["reason"], run["adopted"]) == ("ERROR", "cli_error", False)


def test_a_file_that_was_there_before_or_is_another_runs_is_not_adopted(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", "")
    (folder / "traversals").mkdir()
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_bytes(traversal_bytes([PASSED]))
    assert stack.run("buy")["traversal_id"] is None
    (folder / "behaviour").write_text(f"other-id:{THIRD} pass")
    assert adopt(stack.settings.tasks_root, TaskId("buy"), RunId(THIRD), RunId("n" * 24))
    assert stack.run("buy")["traversal_id"] is None


def test_a_file_that_was_adopted_just_before_the_worker_died_is_the_runs(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy")
    run_id = stack.post("buy").json()["id"]
    stack.redis.delete("rq:queue:bugninja")
    change_record(stack, run_id, started_at="2026-11-23T08:00:00Z", worker="dead")
    (folder / "traversals").mkdir()
    passed = traversal_bytes([PASSED], "SUCCESSFUL")
    (folder / "traversals" / f"traverse_20261123_080000_{OTHER}.json").write_bytes(passed)
    assert adopt(stack.settings.tasks_root, TaskId("buy"), RunId(OTHER), RunId(run_id))
    recovery = stack.recovery()
    for _ in range(2):
        recovery.run_once()
    run = stack.get(run_id)
    assert (run["current_state"], run["traversal_id"], run["adopted"]) == ("FINISHED", OTHER, True)


def test_an_own_file_needs_no_adoption(stack: FakeStack) -> None:
    stack.project.add_task("buy", "pass")
    run = stack.run("buy")
    assert (run["traversal_id"], run["adopted"]) == (run["id"], False)


def test_a_file_with_the_id_of_another_accepted_run_is_not_adopted(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", f"other-id:{OTHER} pass")
    (folder / "runs" / OTHER).mkdir(parents=True)
    assert stack.run("buy")["traversal_id"] is None


def test_a_failed_cli_adopts_only_what_its_log_names(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", f"other-id:{OTHER} pass exit:3")
    run = stack.run("buy")
    assert (run["current_state"], run["reason"], run["traversal_id"]) == ("ERROR", "cli_error", None)
    (folder / "behaviour").write_text(f"other-id:{THIRD} name-file pass exit:3")
    run = stack.run("buy")
    assert (run["current_state"], run["traversal_id"]) == ("FINISHED", THIRD)


def test_a_cli_that_had_our_id_adopts_only_what_its_log_names(stack: FakeStack) -> None:
    folder = stack.project.add_task("buy", f"keep-id other-id:{OTHER} pass")
    run = stack.run("buy")
    assert (run["current_state"], run["reason"], run["traversal_id"]) == ("ERROR", "cli_error", None)
    assert run_folder(stack, run["id"]).kept_id.exists()
    (folder / "behaviour").write_text(f"keep-id other-id:{THIRD} name-file pass")
    assert stack.run("buy")["traversal_id"] == THIRD


def test_a_run_that_was_stopped_adopts_nothing_by_chance(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{OTHER} pass touch-stop sleep:20")
    run = stack.run("buy")
    assert (run["reason"], run["traversal_id"]) == ("stopped", None)


def test_a_file_named_as_a_run_of_another_task_is_not_adopted(stack: FakeStack) -> None:
    stack.project.add_task("sell", "pass")
    other = stack.run("sell")
    stack.project.add_task("buy", f"other-id:{other['id']} name-file fail")
    run = stack.run("buy")
    assert (run["current_state"], run["traversal_id"]) == ("ERROR", None)
    assert stack.get(other["id"]) == other


def test_no_file_is_adopted_twice_even_without_redis(stack: FakeStack) -> None:
    stack.project.add_task("buy", f"other-id:{OTHER} name-file pass")
    first = stack.run("buy")
    stack.redis.flushall()
    second = stack.run("buy")
    assert (first["traversal_id"], second["traversal_id"]) == (OTHER, None)


def test_a_disk_that_takes_no_adoption_loses_no_outcome(stack: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.project.add_task("buy", f"other-id:{OTHER} pass")
    monkeypatch.setattr("jobs.worker.adopt.adopt", full_disk)
    run = stack.run("buy")
    assert (run["current_state"], run["reason"], run["traversal_id"]) == ("ERROR", "cli_error", None)
