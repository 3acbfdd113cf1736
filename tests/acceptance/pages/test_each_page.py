"""Each page: who cannot see it well, who has no mouse, no JavaScript or a small screen can use it, too."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.pages.browser import Tabs, find_barriers, is_seen, look, start_batch
from tests.acceptance.pages.history import add_run, shopping
from tests.project import Project
from tests.stack import Stack
from tests.waiting import wait_for

ROWS = """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")]
    .filter((one) => one.checkVisibility({ visibilityProperty: true }))"""


@pytest.fixture
def shop(site: Stack) -> Project:
    """A task with a history, of which most tests of this module look at some page."""
    if not (site.project.root / "tasks" / "shop").exists():
        folder = site.project.add_task("shop", "visit wait:end pass")
        for n in range(12):
            passes = n % 4 != 3
            add_run(site.project, "shop", shopping(passes=passes), "SUCCESSFUL" if passes else "FAILED", 4000 - 300 * n)
        (folder / "screenshots" / "x.png").touch()
    wait_for(lambda: site.call("GET", "/test-runs?test_case_id=shop").body["total_count"] >= 12)
    return site.project


def newest(site: Stack, status: str) -> str:
    """The ID of the newest run of the shop with this state."""
    items = site.call("GET", f"/test-runs?test_case_id=shop&status={status}").body["items"]
    return str(next(run["id"] for run in items if run["current_state"] == status))


def test_each_page_keeps_nobody_out_and_fits(site: Stack, tabs: Tabs, shop: Project, pictures: Path) -> None:
    tabs.expected.append("status of 404")
    for task, behaviour in (("shelf", "visit print:gone fail"), ("till", "visit pass")):
        site.project.add_task(task, behaviour)
    batch, runs = start_batch(tabs, "shelf", "till")
    for run in runs:
        site.wait_final(run)
    page = tabs.open()
    for name, path in (
        ("runs", "/?test_case_id=shop"),
        ("no-runs", "/?search=nowhere"),
        ("run-failed", f"/ui/runs/{newest(site, 'FAILED')}"),
        ("run-passed", f"/ui/runs/{newest(site, 'FINISHED')}#step-2"),
        ("batches", "/ui/batches"),
        ("batch", f"/ui/batches/{batch}"),
        ("batch-report", f"/batches/{batch}/report.html"),
        ("tasks", "/ui/tasks"),
        ("task", "/ui/tasks/shop"),
        ("workers", "/ui/workers"),
        ("error", "/ui/nowhere"),
    ):
        page.goto(tabs.base + path)
        assert find_barriers(page) == [], name
        look(page, name, pictures)


def test_pages_of_what_runs_keep_nobody_out_and_fit(site: Stack, tabs: Tabs, shop: Project, pictures: Path) -> None:
    folder = shop.root / "tasks" / "shop"
    (folder / "end").unlink(missing_ok=True)
    run, waiting = site.post("shop"), site.post("shop")
    page = tabs.open(f"/ui/runs/{run}")
    expect(page.locator("#step-1")).to_be_visible()
    assert find_barriers(page) == []
    look(page, "run-running", pictures)
    for name, path in (("run-pending", f"/ui/runs/{waiting}"), ("workers-busy", "/ui/workers")):
        page.goto(tabs.base + path)
        expect(page.get_by_text("place 1")).to_be_visible()
        assert find_barriers(page) == []
        look(page, name, pictures)
    (folder / "end").touch()
    site.wait_final(waiting)


def tab_through(page: Page) -> list[int]:
    """The places, in the document's order, of all that the Tab key reaches, in the order in which it does."""
    count = page.evaluate(f"({ROWS})().length")
    reached = []
    for _ in range(count):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(f"({ROWS})().indexOf(document.activeElement)"))
    return reached


def test_the_tab_key_reaches_all_in_order_and_the_first_link_skips_to_the_content(
    site: Stack, tabs: Tabs, shop: Project
) -> None:
    page = tabs.open()
    for path in ("/?test_case_id=shop", "/ui/tasks/shop", f"/ui/runs/{newest(site, 'FAILED')}"):
        page.goto(tabs.base + path)
        reached = tab_through(page)
        assert reached == [*range(len(reached))]
        assert len(reached) > 10
    page.reload()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_the_focus_stays_at_a_step_that_changes(site: Stack, tabs: Tabs) -> None:
    folder = site.project.add_task("focus", "visit think:more wait:end failed-status")
    page = tabs.open(f"/ui/runs/{site.post('focus')}")
    page.locator("#step-2 .number").focus()
    (folder / "end").touch()
    expect(page.locator("#step-2.bad")).to_be_visible()
    expect(page.locator("#step-2 .number")).to_be_focused()


def test_without_javascript_all_can_be_read_and_a_page_of_what_runs_loads_itself_again(site: Stack, tabs: Tabs) -> None:
    folder = site.project.add_task("plain", "visit wait:end pass")
    failed = add_run(site.project, "plain", shopping(passes=False), "FAILED")
    run = site.post("plain")
    tabs.context(java_script_enabled=False)
    site.wait_state(run, "RUNNING")
    page, workers = tabs.open(f"/ui/runs/{run}"), tabs.open("/ui/workers")
    expect(page.locator("#head .state")).to_contain_text("running")
    expect(workers.locator("#workers")).to_contain_text("alive")
    expect(workers.locator("#workers")).to_contain_text("plain")
    (folder / "end").touch()  # now the two load themselves, while the others are read

    other = tabs.open("/?test_case_id=plain")
    expect(other.locator(f"#run-{failed}")).to_contain_text("failed")
    expect(other.get_by_role("button", name="Rerun")).to_have_count(0)  # it would do nothing
    other.locator(f"#run-{failed} a").click()
    expect(other.locator("#result")).to_contain_text("The cart is empty")
    expect(other.locator("#step-2")).to_contain_text("Put the thing into the cart")
    assert is_seen(other.get_by_alt_text("This run, at the failure"))
    assert other.locator("noscript").count() == 0, "nothing changes any more"
    other.get_by_role("link", name="Tasks").click()
    other.get_by_role("link", name="plain").click()
    expect(other.locator("#task")).to_contain_text("Health")
    other.get_by_role("link", name="REST").wait_for()

    expect(page.locator("#head .state")).to_contain_text("passed")
    expect(page.locator("#step-2")).to_contain_text("All is well")
    expect(workers.locator("#workers")).not_to_contain_text("plain")
