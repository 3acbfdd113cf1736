"""The page with the list of runs."""

import asyncio
import re
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.datastructures import QueryParams

from jobs.page.report import STATIC_FOLDER
from jobs.page.runs import Shown, count_new, parse_filters
from jobs.page.templates import CONTENT_POLICY
from runner.errors import NoSuchRun
from tests.project import PASSED, traversal_bytes
from tests.unit.fake_stack import FakeStack
from tests.unit.page.pages import Page, get_page
from tests.unit.runs import by_hand, write_run


def test_a_first_visit_says_what_to_do(buy: FakeStack) -> None:
    page = get_page(buy, "/")
    assert "No test has run yet" in page.text
    assert page.posts == ["/test-runs/execute-configuration/buy/buy_default"]


def test_a_project_without_tasks_says_how_to_make_one(stack: FakeStack) -> None:
    page = get_page(stack, "/")
    assert "This project has no task" in page.text
    assert page.posts == []


def test_a_row_says_how_a_run_stands_and_what_can_be_done(buy: FakeStack) -> None:
    buy.project.add_task("broken", "fail")
    passed = buy.run("buy")["id"]
    failed = buy.run("broken")["id"]
    waiting = buy.send("/test-runs/execute-configuration/buy/buy_default", labels={"branch": "main"})["id"]
    page = get_page(buy, "/")
    assert page.ids("run-") == [f"run-{run_id}" for run_id in (waiting, failed, passed)]
    assert page.posts == [
        f"/test-runs/{waiting}/stop",
        f"/test-runs/{failed}/rerun",
        f"/test-runs/{passed}/rerun",
        f"/test-runs/replay-run/{passed}",
    ]
    for text in ("○ pending", "✕ failed", "✓ passed", "branch=main", "test failed", "REST", "place 1 in the queue"):
        assert text in page.text
    assert page.all("rect")[0]["width"] == "50.0%"


def test_a_run_made_by_hand_cannot_be_stopped_here(history: FakeStack) -> None:
    page = get_page(history, "/?status=RUNNING")
    assert page.ids("run-") == [f"run-{by_hand(number)}" for number in ("23", "19", "15", "11", "07", "03")]
    assert page.posts == []
    assert "by hand" in page.text
    assert "step 1 · goal 0" in page.text


def test_the_filters_of_the_url_stand_in_the_form(history: FakeStack) -> None:
    page = get_page(history, "/?status=FINISHED&test_case_id=alpha&trigger=&label=&search=name+of")
    assert page.ids("run-") == [f"run-{by_hand(number)}" for number in ("12", "08", "04", "00")]
    assert [found["value"] for found in page.all("option") if "selected" in found and "value" in found] == ["FINISHED"]
    assert page.all("input", name="search")[0]["value"] == "name of"
    assert "4 runs" in page.text


def test_a_label_is_a_key_and_its_value(buy: FakeStack) -> None:
    run = buy.send("/test-runs/execute-configuration/buy/buy_default", labels={"branch": "a=b"})["id"]
    assert get_page(buy, "/?label=branch%3Da%3Db").ids("run-") == [f"run-{run}"]
    assert "No run passes these filters" in get_page(buy, "/?label=branch%3Dmain").text
    assert "label must be key=value, got 'branch'." in get_page(buy, "/?label=branch", 422).text


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("page=x", 422, "page must be an integer from 1 to 1000000, got 'x'."),
        ("status=BROKEN", 422, "status must be FINISHED or PASSED"),
        ("test_case_id=nothing", 404, "nothing"),
    ],
)
def test_a_bad_address_is_a_page_that_says_why(history: FakeStack, query: str, status: int, sentence: str) -> None:
    assert sentence in get_page(history, f"/?{query}", status).text


def test_pages_do_not_shift_while_new_runs_come(history: FakeStack) -> None:
    history.post("alpha")
    first = get_page(history, "/")
    for _ in range(4):
        history.post("alpha")
    (older,) = [found["href"] for found in first.all("a", rel="next")]
    second = get_page(history, older)
    assert second.ids("run-") == [f"run-{by_hand('00')}"]
    assert "4 new" in second.text
    assert "4 new" not in get_page(history, "/").text


def test_a_run_that_comes_into_an_old_place_is_new_too(history: FakeStack) -> None:
    page = get_page(history, "/")
    ((_, body),) = [found for found in page.elements if found[0] == "body"]
    shown = {name: values[0] for name, values in parse_qs(urlsplit(body["data-live"]).query).items()}
    assert shown["total"] == "25"
    folder = history.project.root / "tasks" / "alpha"
    write_run(folder, "20250101_080000", by_hand("old"), traversal_bytes([PASSED], "SUCCESSFUL"))
    write_run(folder, "99991231_080000", by_hand("far"), traversal_bytes([PASSED], "SUCCESSFUL"))
    history.client.read_all()
    filters, services = parse_filters(QueryParams()), history.services
    was = Shown(datetime.fromisoformat(shown["until"]), 25, [])
    assert asyncio.run(count_new(services, filters, was)) == 2
    ahead = parse_qs(urlsplit(get_page(history, "/").all("body")[0]["data-live"]).query)
    assert datetime.fromisoformat(ahead["until"][0]) <= datetime.now(UTC)


def test_what_is_not_over_is_followed_and_nothing_else(history: FakeStack) -> None:
    page = get_page(history, "/?test_case_id=beta")
    ((_, body),) = [(tag, found) for tag, found in page.elements if tag == "body"]
    address = urlsplit(body["data-live"])
    fields = parse_qs(address.query)
    assert address.path == "/ui/events/runs"
    assert fields["test_case_id"] == ["beta"]
    assert fields["runs"] == [",".join(by_hand(number) for number in ("23", "19", "15"))]
    assert re.fullmatch("[0-9a-f]{24}", body["data-version"])


def test_without_scripts_a_page_that_moves_is_loaded_again(history: FakeStack) -> None:
    assert page_refreshes(get_page(history, "/"))
    assert not page_refreshes(get_page(history, "/?status=FINISHED"))


def page_refreshes(page: Page) -> bool:
    return page.all("meta", http_equiv="refresh") == [{"http-equiv": "refresh", "content": "5"}]


def test_redis_away_or_no_worker_is_said_above_all(buy: FakeStack) -> None:
    assert "No worker is alive." in get_page(buy, "/").text
    buy.server.connected = False
    assert "Redis does not answer." in get_page(buy, "/").text


def test_many_tasks_are_not_all_in_the_form(stack: FakeStack) -> None:
    for number in range(101):
        stack.project.add_task(f"t{number}")
    page = get_page(stack, "/")
    assert page.all("input", name="test_case_id")
    assert len(page.html) < 10_000


def test_nothing_in_a_page_is_inline_and_all_of_it_comes_from_here(buy: FakeStack) -> None:
    response = buy.client.get("/")
    assert response.headers["content-security-policy"] == CONTENT_POLICY
    assert response.headers["cache-control"] == "private, no-cache"
    assert not re.findall(r"<script[^>]*>[^<]|<style", response.text)
    files = re.findall(r'(?:src|href)="(/ui/static/[^"]+)"', response.text)
    assert len(files) == 3
    for path in files:
        answer = buy.client.get(path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_scripts_make_no_html_of_text() -> None:
    scripts = [*STATIC_FOLDER.glob("*.js")]
    assert len(scripts) == 8
    for script in scripts:
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|https?:", script.read_text()
        )


def test_an_address_of_no_page_says_so(stack: FakeStack) -> None:
    assert "There is no page '/ui/nothing'." in get_page(stack, "/ui/nothing", 404).text


def test_a_row_is_as_new_as_its_run(buy: FakeStack) -> None:
    buy.run("buy")
    buy.post("buy")
    page = get_page(buy, "/")
    assert [word in page.text for word in ("○ pending", "✓ passed")] == [True, True]
    buy.work()
    page = get_page(buy, "/")
    assert [word in page.text for word in ("○ pending", "✓ passed")] == [False, True]
    assert len(page.ids("run-")) == 2


def test_pages_are_sent_compressed_to_who_can_read_that(history: FakeStack) -> None:
    with history.client.stream("GET", "/") as answer:
        assert answer.headers["content-encoding"] == "gzip"
        assert int(answer.headers["content-length"]) < 5000
    assert "content-encoding" not in history.client.get("/", headers={"Accept-Encoding": "identity"}).headers


def test_a_run_that_was_deleted_meanwhile_is_hidden(buy: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = buy.post("buy").json()["id"]

    async def get(run_id: str) -> None:
        raise NoSuchRun(run_id)

    monkeypatch.setattr(buy.services.reader, "get", get)
    (row,) = get_page(buy, "/").all("tr", id=f"run-{run_id}")
    assert "hidden" in row
