"""The pages of batches, and a batch as one file."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.page import batches
from jobs.page.batches import Card, in_order, in_order_of_need, read_list, word_of
from jobs.run.batch import BatchRecord, BatchRun, Dropped, Mode, RunLine, batch_to_json, pending_line
from jobs.run.failure import Failure
from jobs.run.state import Reason, State
from runner.errors import NoSuchRun
from runner.ids import RunId, TaskId, new_run_id
from runner.project.run_files import RunFiles
from tests.unit.fake_stack import FakeStack
from tests.unit.page.pages import Page, get_page, get_report
from tests.unit.page.test_report import PNG, pictures

NOW = datetime(2026, 11, 26, tzinfo=UTC)
MOST_BYTES = 300_000  # of a page with as many runs as a batch can have


@pytest.fixture
def shop(stack: FakeStack) -> FakeStack:
    """A stack with three tasks: one passes, one fails and one ends without a result."""
    for task, behaviour in (("buy", "visit pass"), ("fall", "visit visit fail"), ("odd", "print:gone exit:3")):
        stack.project.add_task(task, behaviour)
    return stack


def start(stack: FakeStack, *tasks: str, **body: Any) -> str:
    """The ID of a batch of these tasks that was accepted."""
    answer = stack.client.post("/batches", json={"tasks": tasks, **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def run_ids(stack: FakeStack, batch_id: str) -> list[str]:
    """The IDs of its runs."""
    return [run["id"] for run in stack.client.get(f"/batches/{batch_id}").json()["runs"]]


def get_batch_report(stack: FakeStack, batch_id: str, query: str = "") -> Page:
    """The batch as one file."""
    return get_page(stack, f"/batches/{batch_id}/report.html{query}")


def line_of(state: State = State.FINISHED, reason: Reason | None = None, **more: Any) -> RunLine:
    """The line of a run that stands so."""
    line = pending_line(BatchRun(new_run_id(), TaskId("buy"), "Buy a thing"))
    return msgspec.structs.replace(line, current_state=state, reason=reason, **more)


def write_batch(stack: FakeStack, *lines: RunLine, dropped: tuple[Dropped, ...] = ()) -> str:
    """A batch that is over, in the files of the project."""
    runs = tuple(BatchRun(RunId(line.id), TaskId(line.task_id), line.test_name) for line in lines)
    batch_id = new_run_id()
    record = BatchRecord(batch_id, "", {}, Mode.AGENTIC, None, NOW, runs, dropped, lines=lines)
    RunFiles(stack.settings.tasks_root).batches.new(batch_id, NOW).create(batch_to_json(record))
    return batch_id


def test_a_first_visit_says_how_to_start_a_batch(shop: FakeStack) -> None:
    page = get_page(shop, "/ui/batches")
    assert "No batch has run yet" in page.text
    assert "bugninja-runner run --all" in page.text
    assert """curl --json '{"all": true}' http://127.0.0.1:8000/batches""" in page.text
    assert page.all("a", href="/ui/batches", aria_current="page")
    assert "There are no more." in get_page(shop, "/ui/batches?page=2").text


def test_the_list_says_how_batches_stand(shop: FakeStack) -> None:
    over = start(shop, "buy", "fall", name="Night <b>", labels={"branch": "main"})
    shop.work()
    waiting = start(shop, "buy")
    page = get_page(shop, "/ui/batches")
    assert page.ids("batch-") == [f"batch-{waiting}", f"batch-{over}"]
    for text in ("✕ failed Night <b> branch=main 1 failed · 1 passed", f"○ pending {waiting} 1 pending"):
        assert text in page.text
    assert [bar["aria-label"] for bar in page.all("svg")] == ["0 of 1 over", "2 of 2 over"]
    assert page.all("meta", http_equiv="refresh")
    assert page.all("body")[0]["data-live"] == f"/ui/events/batches?batches={waiting}&total=2"


def test_the_list_is_followed_by_its_batches_that_are_not_over(shop: FakeStack) -> None:
    batch_id, gone = start(shop, "buy"), new_run_id()
    start(shop, "buy")
    portal = shop.client.portal
    assert portal is not None
    shop.work()
    shop.client.read_all()
    parts = portal.call(read_list, shop.services, [batch_id, gone], 1)
    assert [*parts] == ["notice", "new", f"batch-{batch_id}", f"batch-{gone}"]
    assert "passed" in parts[f"batch-{batch_id}"]
    assert "1 new" in parts["new"]
    assert parts[f"batch-{gone}"] == f'<tr id="batch-{gone}" hidden></tr>'
    assert "new</a>" not in portal.call(read_list, shop.services, [], 3)["new"]


def test_the_list_has_pages(shop: FakeStack) -> None:
    made = [write_batch(shop, line_of()) for _ in range(26)]
    page = get_page(shop, "/ui/batches")
    assert len(page.ids("batch-")) == 25
    assert "data-live" in page.all("body")[0]
    assert not page.all("meta", http_equiv="refresh")
    (older,) = page.all("a", rel="next")
    assert {*page.ids("batch-"), *get_page(shop, older["href"]).ids("batch-")} == {f"batch-{one}" for one in made}
    assert "page must be an integer" in get_page(shop, "/ui/batches?page=x", 422).text


def test_a_batch_that_waits_can_be_stopped_and_changes(shop: FakeStack) -> None:
    batch_id = start(shop, "buy", "odd", fail_fast=2)
    page = get_page(shop, f"/ui/batches/{batch_id}")
    assert page.posts == [f"/batches/{batch_id}/stop"]
    assert "stops after 2 failures" in page.text
    assert page.ids("run-") == [f"run-{run_id}" for run_id in run_ids(shop, batch_id)]
    assert page.all("body")[0]["data-live"] == f"/ui/events/batches/{batch_id}"
    assert page.all("meta", http_equiv="refresh")


def test_a_batch_that_is_over_shows_what_failed_first(shop: FakeStack) -> None:
    batch_id = start(shop, "buy", "odd", "fall")
    buy, odd, fall = run_ids(shop, batch_id)
    shop.work()
    page = get_page(shop, f"/ui/batches/{batch_id}")
    assert page.ids("run-") == [f"run-{run_id}" for run_id in (fall, odd, buy)]
    assert "✕ failed 1 failed · 1 error · 1 passed" in page.text
    assert "✕ failed fall The cart is empty done http://127.0.0.1:1/" in page.text
    assert "! error odd cli error The CLI ended with exit code 3." in page.text
    links = {found["href"] for found in page.all("a")}
    assert {f"/ui/runs/{buy}", f"/batches/{batch_id}", f"/batches/{batch_id}/report.html"} <= links
    assert page.posts == [f"/batches/{batch_id}/rerun", f"/batches/{batch_id}/rerun?only=failed"]
    assert {found["data-then"] for found in page.all("button")} == {"batch"}
    assert page.all("div", id="head", data_final="FAILED")
    assert [bar["width"] for bar in page.all("rect", **{"class": "error"})] == ["33.33%"]
    median = [found for found in page.all("svg") if "median" in found["aria-label"]]
    assert [found["aria-label"] for found in median] == ["1.0 times the median of the task"]
    assert not page.all("meta", http_equiv="refresh")


def test_what_passed_is_not_run_again_by_the_button_for_the_others(shop: FakeStack) -> None:
    batch_id = start(shop, "buy")
    shop.work()
    assert get_page(shop, f"/ui/batches/{batch_id}").posts == [f"/batches/{batch_id}/rerun"]
    again = shop.send(f"/batches/{batch_id}/rerun")["id"]
    assert get_page(shop, f"/ui/batches/{again}").all("a", href=f"/ui/batches/{batch_id}")


def test_events_have_the_parts_of_the_page(shop: FakeStack) -> None:
    batch_id = start(shop, "buy", "fall")
    shop.work()
    page, address = get_page(shop, f"/ui/batches/{batch_id}"), f"/ui/events/batches/{batch_id}"
    version = page.all("body")[0]["data-version"]
    assert shop.client.get(f"{address}?version={version}").status_code == 204
    parts = json.loads(shop.client.get(address).text.split("data: ")[1])
    assert [*parts] == ["notice", "head", "buttons", *(f"run-{run_id}" for run_id in run_ids(shop, batch_id))]
    for name, html in parts.items():
        assert html in page.html, name
    assert get_page(shop, f"/ui/batches/{new_run_id()}", 404)
    assert shop.client.get(f"/ui/events/batches/{new_run_id()}").status_code == 404


def test_a_run_that_runs_says_its_step(shop: FakeStack) -> None:
    (row,) = batches.render_rows(shop.services, [line_of(State.RUNNING, steps=7, last_goal="Look <up>")]).values()
    assert "step 7 · Look &lt;up&gt;" in row
    assert "step" not in str(batches.render_rows(shop.services, [line_of(steps=7)]))


@pytest.mark.parametrize("failed", [False, True])
def test_a_page_of_500_runs_is_small(shop: FakeStack, monkeypatch: pytest.MonkeyPatch, *, failed: bool) -> None:
    state = (State.FAILED, Reason.TEST_FAILED) if failed else (State.FINISHED, None)
    texts: Any = (
        {"message": "m" * 500, "failed_action": "click_element_by_index", "failed_url": "u" * 500} if failed else {}
    )
    lines = [
        line_of(*state, duration=12.5, finished_at=NOW, started_at=NOW - timedelta(seconds=12.5), **texts)
        for _ in range(500)
    ]
    task = SimpleNamespace(task_id="buy", duration=SimpleNamespace(p50=10.0))
    monkeypatch.setattr(shop.services.statistics, "of_tasks", lambda _: [task])
    html = get_page(shop, f"/ui/batches/{write_batch(shop, *lines)}").html
    assert len(html) < MOST_BYTES
    assert html.count("1.2 times the median") == 500
    assert ("m" * 50 in html) is failed
    assert "m" * 51 not in html
    few = get_page(shop, f"/ui/batches/{write_batch(shop, *lines[:2])}").html
    assert ("m" * 500 in few) is failed


def test_a_very_long_text_is_cut(shop: FakeStack) -> None:
    line = msgspec.structs.replace(line_of(State.ERROR, message="m"), test_name="x" * 100_000)
    batch_id = write_batch(shop, line)
    for path in (f"/ui/batches/{batch_id}", "/ui/batches"):
        assert len(get_page(shop, path).html) < 5000, path
    assert "x" * 201 not in get_batch_report(shop, batch_id).html


def test_a_task_that_runs_in_the_run_of_another_is_named(shop: FakeStack) -> None:
    batch_id = write_batch(shop, line_of(), dropped=(Dropped(TaskId("login"), TaskId("checkout")),))
    for path in (f"/ui/batches/{batch_id}", f"/batches/{batch_id}/report.html"):
        assert "login: run by the CLI in the run of checkout" in get_page(shop, path).text


def test_a_record_that_cannot_be_used_is_said(shop: FakeStack) -> None:
    batch_id = new_run_id()
    RunFiles(shop.settings.tasks_root).batches.new(batch_id, NOW).create(b"{")
    page = get_page(shop, f"/ui/batches/{batch_id}")
    assert page.posts == []
    problem = shop.client.get(f"/batches/{batch_id}").json()["error_message"]
    assert problem in page.text
    assert problem in get_batch_report(shop, batch_id).text
    assert "0 of 0 over" in get_page(shop, "/ui/batches").html


def test_a_run_of_a_batch_leads_to_it(shop: FakeStack) -> None:
    batch_id = start(shop, "buy")
    (run_id,) = run_ids(shop, batch_id)
    shop.work()
    for path in ("/", f"/ui/runs/{run_id}"):
        assert get_page(shop, path).all("a", href=f"/ui/batches/{batch_id}"), path
    assert not get_report(shop, run_id).all("a", href=f"/ui/batches/{batch_id}")


@given(st.lists(st.sampled_from([*State]), max_size=20), st.lists(st.booleans(), min_size=20, max_size=20))
def test_runs_to_be_looked_at_come_first_and_else_keep_their_order(states: list[State], stops: list[bool]) -> None:
    lines = [
        line_of(state, Reason.STOPPED if stopped and state is State.ERROR else None)
        for state, stopped in zip(states, stops, strict=False)
    ]
    words = [word_of(line) for line in in_order(lines)]
    wanted = ["failed", "error", "running", "stopped", "pending", "passed"]
    assert words == sorted(words, key=wanted.index)
    for word in wanted:
        of_word = [line for line in lines if word_of(line) == word]
        assert [line for line in in_order(lines) if word_of(line) == word] == of_word


@pytest.fixture
def failed(shop: FakeStack) -> str:
    """The ID of a batch with two runs that failed, each with two pictures, and one that passed."""
    for task in ("crash", "slip"):
        folder = shop.project.add_task(task, f"visit see:{task}1.png see:{task}2.png fail") / "screenshots"
        folder.mkdir()
        for name in (f"{task}1", f"{task}2"):
            (folder / f"{name}.png").write_bytes(PNG + name.encode())
    batch_id = start(shop, "crash", "buy", "slip")
    shop.work()
    return batch_id


def test_a_report_begins_with_what_failed_and_needs_nothing_else(shop: FakeStack, failed: str) -> None:
    crash, buy, slip = run_ids(shop, failed)
    page = get_batch_report(shop, failed)
    assert page.ids("card-") == [f"card-{crash}", f"card-{slip}"]
    assert page.ids("run-") == [f"run-{run_id}" for run_id in (crash, slip, buy)]
    assert "The cart is empty Tried goal 3 Action done Where http://127.0.0.1:1/ Step step 4" in page.text
    assert page.all("title")
    assert "✕ Batch" in page.text
    assert "not over then" not in page.text
    links = [found.get("href", "") + found.get("src", "") for _, found in page.elements]
    assert [link for link in links if link and not link.startswith("#")] == []
    assert page.posts == []
    head = shop.client.get(f"/batches/{failed}/report.html").headers
    assert head["content-disposition"] == f'inline; filename="batch-{failed}.html"'
    (inside,) = [found["content"] for found in page.all("meta", http_equiv="Content-Security-Policy")]
    assert head["content-security-policy"] == f"{inside}; frame-ancestors 'none'"


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", ["crash2", "slip2"]),
        ("?images=all", ["crash2", "slip2", "crash1", "slip1"]),
        ("?images=none", []),
    ],
)
def test_one_can_say_which_pictures_a_report_has(shop: FakeStack, failed: str, query: str, wanted: list[str]) -> None:
    page = get_batch_report(shop, failed, query)
    assert [*pictures(page.html).values()] == wanted
    assert {found["data-picture"] for found in page.all("img")} == {*pictures(page.html)}


def test_a_report_says_what_the_clients_of_other_calls_are_told_too(shop: FakeStack, failed: str) -> None:
    answer = shop.client.get(f"/batches/{failed}/report.html?images=some")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("images must be all (of the runs that did not pass)")
    assert shop.client.get(f"/batches/{new_run_id()}/report.html").status_code == 404
    assert shop.client.get(f"/api/v1/batches/{failed}/report.html").status_code == 200


def test_only_the_runs_that_did_not_pass_are_read_for_a_report_and_none_for_its_head(
    shop: FakeStack, failed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash, _, slip = run_ids(shop, failed)
    read: list[str] = []

    async def get(run_id: str) -> None:
        read.append(run_id)
        raise NoSuchRun(run_id)

    monkeypatch.setattr(shop.services.reader, "get", get)
    head = shop.client.head(f"/batches/{failed}/report.html")
    assert (head.status_code, head.content, read) == (200, b"", [])
    assert "The cart is empty done" in get_batch_report(shop, failed).text
    assert read == [crash, slip]


def test_a_run_that_was_deleted_is_told_of_by_its_line(shop: FakeStack, failed: str) -> None:
    crash, *_ = run_ids(shop, failed)
    shutil.rmtree(shop.project.root / "tasks" / "crash")
    page = get_batch_report(shop, failed)
    assert f"· {crash} The cart is empty Action done Where http://127.0.0.1:1/" in page.text
    assert page.text.count("Tried") == 1
    assert [*pictures(page.html).values()] == ["slip2"]


def test_a_report_has_so_many_cards_and_counts_the_others(
    shop: FakeStack, failed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "more run" not in get_batch_report(shop, failed).text
    monkeypatch.setattr(batches, "MOST_CARDS", 1)
    page = get_batch_report(shop, failed)
    assert len(page.ids("card-")) == 1
    assert "1 more run that did not pass stands in the table alone." in page.text


def test_a_report_has_the_end_of_the_log_open_where_there_is_no_picture(shop: FakeStack) -> None:
    batch_id = start(shop, "odd", "buy")
    assert "It was not over then." in get_batch_report(shop, batch_id).text
    shop.work()
    page = get_batch_report(shop, batch_id)
    assert "The end of the log gone" in page.text
    assert [found.get("open") for found in page.all("details")] == [""]


def test_pictures_of_failures_come_first_and_each_once() -> None:
    def card(picture: str | None, *more: tuple[int, str]) -> Card:
        return Card(line_of(), Failure(None, None, None, None, None, picture, [], None, None), more)

    cards = [card("b", (1, "a"), (2, "b")), card(None), card("c", (1, "a"), (2, "c"))]
    assert in_order_of_need(cards) == ["b", "c", "a"]
