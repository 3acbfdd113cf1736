"""The pages of the tasks."""

from tests.project import FAULT, PASSED, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.page.pages import get_page
from tests.unit.runs import by_hand, write_run


def write_verdicts(stack: FakeStack, task: str, verdicts: str) -> None:
    """Runs of the task made by hand, the oldest first: `p` passed, `f` failed."""
    for number, verdict in enumerate(verdicts):
        content = traversal_bytes(*(([PASSED], "SUCCESSFUL") if verdict == "p" else ([FAULT], "FAILED")))
        folder = stack.project.root / "tasks" / task
        write_run(folder, f"20260101_08{number:02}00", by_hand(f"{task}{number:02}"), content)


def test_the_worst_task_comes_first(stack: FakeStack) -> None:
    for task, verdicts in (("good", "pppppp"), ("bad", "pppfff"), ("odd", "pfpfpp"), ("young", "p")):
        stack.project.add_task(task)
        write_verdicts(stack, task, verdicts)
    page = get_page(stack, "/ui/tasks")
    links = [found["href"] for found in page.all("a") if found["href"].startswith("/ui/tasks/")]
    assert links == [f"/ui/tasks/{task}" for task in ("bad", "odd", "young", "good")]
    for word in ("broken", "flaky", "new", "stable", "50 %", "100 %"):
        assert word in page.text
    by_name = get_page(stack, "/ui/tasks?sort=task&sort_order=desc&search=Oo")
    links = [found["href"] for found in by_name.all("a") if found["href"].startswith("/ui/tasks/")]
    assert links == ["/ui/tasks/good"]
    assert "No task has this text" in get_page(stack, "/ui/tasks?search=nothing").text
    assert "sort must be" in get_page(stack, "/ui/tasks?sort=size", 422).text


def test_the_rows_of_a_page_are_followed_in_their_places(stack: FakeStack) -> None:
    for task in ("good", "bad"):
        stack.project.add_task(task, "pass")
        write_verdicts(stack, task, "p" if task == "good" else "pfff")
    page = get_page(stack, "/ui/tasks?sort=task")
    ((_, body),) = [found for found in page.elements if found[0] == "body"]
    assert body["data-live"] == "/ui/events/tasks?tasks=bad%2Cgood"
    assert page.ids("task-") == ["task-bad", "task-good"]
    stack.post("good")
    waiting = get_page(stack, "/ui/tasks/good")
    assert waiting.all("meta", http_equiv="refresh")
    assert not get_page(stack, "/ui/tasks/bad").all("meta", http_equiv="refresh")
    assert "1 waiting" in get_page(stack, "/ui/tasks").text


def test_tasks_come_in_pages(stack: FakeStack) -> None:
    for number in range(51):
        stack.project.add_task(f"t{number:02}")
    page = get_page(stack, "/ui/tasks?sort=task&search=t")
    (older,) = [found["href"] for found in page.all("a", rel="next")]
    assert "Page 1 of 2" in page.text
    assert [f["href"] for f in get_page(stack, older).all("a", **{"class": "text"})] == ["/ui/tasks/t50"]


def test_a_task_shows_its_last_runs_and_how_long_they_took(stack: FakeStack) -> None:
    stack.project.add_task("buy", "visit pass")
    write_verdicts(stack, "buy", "ppfff")
    page = get_page(stack, "/ui/tasks/buy")
    squares = [found for found in page.all("a") if found.get("class", "").startswith("square")]
    assert [found["class"] for found in squares] == ["square passed"] * 2 + ["square failed"] * 3
    assert squares[-1]["href"] == f"/ui/runs/{by_hand('buy04')}"
    assert "Failing since" in page.text
    assert "3 in a row" in page.text
    assert page.all("a", href=f"/ui/runs/{by_hand('buy02')}")
    assert page.all("a", href=f"/ui/runs/{by_hand('buy01')}")
    for text in ("broken", "40 %"):
        assert text in page.text
    assert len(page.all("circle")) == 2
    assert len(page.all("svg", role="img")) == 1
    assert page.posts == [f"/test-runs/{way}/buy/buy_default" for way in ("execute-configuration", "replay")]


def test_a_task_that_never_ran_says_so_and_a_broken_one_why(stack: FakeStack) -> None:
    stack.project.add_task("buy")
    stack.project.add_task("broken", toml="[task\n")
    assert "It has not run yet." in get_page(stack, "/ui/tasks/buy").text
    assert "task_broken.toml" in get_page(stack, "/ui/tasks/broken").text
    assert get_page(stack, "/ui/tasks/nothing", 404)
    assert stack.client.get("/ui/events/tasks/nothing").status_code == 404
    assert "This project has no task" not in get_page(stack, "/ui/tasks").text
