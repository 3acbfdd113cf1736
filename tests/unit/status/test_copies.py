"""Folders of tasks that were renamed or copied, and files that are named as runs of other tasks: one run, one place."""

import shutil

from tests.project import FAULT, PASSED, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import STAMP, listed, run_folder, write_run
from tests.waiting import wait_for


def copy_task(stack: FakeStack, name: str, *, keep: bool = True) -> None:
    """The folder of the task `buy` under another name, as `cp -r` or `mv` make it."""
    tasks = stack.settings.tasks_root
    shutil.copytree(tasks / "buy", tasks / name)
    (tasks / name / "task_buy.toml").rename(tasks / name / f"task_{name}.toml")
    if not keep:
        shutil.rmtree(tasks / "buy")


def places(stack: FakeStack) -> set[tuple[str, str, str]]:
    """What the lists of the tasks say of each run: task, ID, state."""
    tasks = [path.name for path in stack.settings.tasks_root.iterdir()]
    pages = {task: listed(stack, f"?test_case_id={task}") for task in tasks}
    return {(task, item["id"], item["current_state"]) for task, page in pages.items() for item in page["items"]}


def test_the_runs_of_a_renamed_task_are_those_of_its_new_name(buy: FakeStack) -> None:
    over = buy.run("buy")["id"]
    copy_task(buy, "purchase", keep=False)
    assert places(buy) == {("purchase", over, "FINISHED")}
    assert buy.get(over)["current_state"] == "FINISHED"
    assert [item["test_case"]["id"] for item in listed(buy)["items"]] == ["buy"], "as it was when it ran"


def test_the_runs_of_a_copy_belong_to_the_copy(buy: FakeStack) -> None:
    over = buy.run("buy")["id"]
    for name in ("aaa", "zzz"):
        copy_task(buy, name)
    assert places(buy) == {(task, over, "FINISHED") for task in ("aaa", "buy", "zzz")}
    assert buy.get(over)["failure"] is None
    shutil.rmtree(buy.settings.tasks_root / "buy")
    assert places(buy) == {(task, over, "FINISHED") for task in ("aaa", "zzz")}


def test_an_open_run_of_a_renamed_task_ends_with_a_sentence(buy: FakeStack) -> None:
    waiting = buy.post("buy").json()["id"]
    copy_task(buy, "purchase", keep=False)
    buy.work()
    buy.recovery().run_once()
    run = buy.get(waiting)
    assert (run["current_state"], run["reason"]) == ("ERROR", "lost")
    assert "renamed or copied" in run["error_message"]
    assert not run_folder(buy, waiting, "purchase").log.exists()
    assert buy.run("purchase")["current_state"] == "FINISHED"


def test_an_open_run_goes_on_beside_a_copy_of_its_task(buy: FakeStack) -> None:
    waiting = buy.post("buy").json()["id"]
    copy_task(buy, "aaa")
    buy.recovery().run_once()
    assert places(buy) == {("aaa", waiting, "ERROR"), ("buy", waiting, "PENDING")}
    assert buy.get(waiting)["current_state"] == "PENDING"
    buy.work()
    assert places(buy) == {("aaa", waiting, "ERROR"), ("buy", waiting, "FINISHED")}
    assert buy.get(waiting)["current_state"] == "FINISHED"
    assert "is over already: it is FINISHED" in buy.send(f"/test-runs/{waiting}/stop", 409)["detail"]


def test_a_file_that_is_named_as_a_run_of_another_task_is_no_run(buy: FakeStack) -> None:
    over = buy.run("buy")["id"]
    before = buy.get(over)
    for name in ("aaa", "zzz"):
        write_run(buy.project.add_task(name), STAMP, over, traversal_bytes([FAULT], "FAILED"))
    assert listed(buy)["total_count"] == 1
    assert places(buy) == {("buy", over, "FINISHED")}
    assert buy.get(over) == before


def test_a_file_that_was_named_as_a_run_is_one_when_that_is_deleted(buy: FakeStack) -> None:
    over = buy.run("buy")["id"]
    write_run(buy.project.add_task("aaa"), STAMP, over, traversal_bytes([PASSED], "SUCCESSFUL"))
    assert places(buy) == {("buy", over, "FINISHED")}
    shutil.rmtree(buy.settings.tasks_root / "buy")
    wait_for(lambda: places(buy) == {("aaa", over, "FINISHED")})
