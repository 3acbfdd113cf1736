"""The report: one file, opened from a disk by a browser that has no network."""

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.acceptance.pages.browser import Tabs, find_barriers, is_seen, look
from tests.acceptance.pages.history import Step, add_run, shopping
from tests.stack import Stack
from tests.waiting import wait_for

MANY = [Step(f"Look at page {n}", "scroll_down", {}, (20 * n % 250, 90, 120)) for n in range(1, 13)]


@pytest.fixture
def open_report(site: Stack, browser: Browser, tmp_path: Path) -> Callable[[str], tuple[Page, Tabs]]:
    """Loads the report of a run down, and opens the file."""

    def open_file(run: str) -> tuple[Page, Tabs]:
        path = tmp_path / "a report.html"
        path.write_text(site.text(f"/test-runs/{run}/report.html"))
        tabs = Tabs(browser, path.as_uri())
        context = tabs.context(viewport={"width": 1000, "height": 700})
        context.set_offline(True)
        return tabs.open(""), tabs

    return open_file


def check_report(page: Page, tabs: Tabs, last: int) -> None:
    """Pictures are loaded when they are scrolled to, steps can be reached, and nothing was fetched."""
    image = page.get_by_alt_text(f"Step {last}", exact=True)
    assert image.get_attribute("src") is None
    page.keyboard.press("k")
    expect(page.locator(f"#step-{last + 1}")).to_be_in_viewport()  # the last step, which has no picture
    page.keyboard.press("k")
    expect(page.locator(f"#step-{last}")).to_be_in_viewport()
    assert page.evaluate("location.hash") == f"#step-{last}"
    image.scroll_into_view_if_needed()
    assert is_seen(image)
    page.keyboard.press("j")
    expect(page.locator(f"#step-{last + 1}")).to_be_in_viewport()
    assert {url.partition("#")[0] for url in tabs.requests} == {tabs.base}


def test_the_report_of_a_failure_begins_with_it_and_needs_nothing_else(
    site: Stack, open_report: Callable[[str], tuple[Page, Tabs]], pictures: Path
) -> None:
    site.project.add_task("mailed")
    add_run(site.project, "mailed", [*MANY, *shopping(passes=True)], age=120)
    end = Step("Say how it ended", "done", {"text": "The cart is empty", "success": False})
    failed = add_run(site.project, "mailed", [*MANY, *shopping(passes=False)[:-1], end], "FAILED")
    wait_for(lambda: site.call("GET", "/tasks/mailed/stats").body["last_passed"])
    page, tabs = open_report(failed)
    expect(page).to_have_title("✕ mailed")
    headings = page.get_by_role("heading").all_text_contents()
    assert headings == ["mailed", "The cart is empty", "Steps", "About the run"]
    assert is_seen(page.get_by_alt_text("This run, at the failure"))
    assert is_seen(page.get_by_alt_text("The last run that passed, step 16"))
    check_report(page, tabs, last=15)
    page.get_by_role("link", name="step 16", exact=True).click()
    expect(page.locator("#step-16")).to_be_in_viewport()
    assert find_barriers(page) == []
    look(page, "report", pictures)
    tabs.check()


def test_the_report_of_a_run_of_the_stack_has_its_log(
    site: Stack, open_report: Callable[[str], tuple[Page, Tabs]]
) -> None:
    site.project.add_task("told", "visit print:the_page_is_blank fail")
    run = site.post("told")
    site.wait_final(run)
    page, tabs = open_report(run)
    expect(page.get_by_role("heading", name="The cart is empty")).to_be_visible()
    expect(page.locator(".log")).to_contain_text("the page is blank")
    expect(page.locator("#step-2")).to_contain_text("success: False")
    tabs.check()


def test_the_report_is_a_link_of_the_run_that_shows_it_in_place(site: Stack, tabs: Tabs) -> None:
    site.project.add_task("inplace")
    run = add_run(site.project, "inplace", shopping(passes=False), "FAILED")
    page = tabs.open(f"/ui/runs/{run}")
    page.get_by_role("link", name="Report").click()
    page.wait_for_url("**/report.html")
    assert is_seen(page.get_by_alt_text("This run, at the failure"))
    assert tabs.count("/screenshots/") > 0  # of the page before
    before = tabs.count("")
    page.get_by_alt_text("Step 3", exact=True).scroll_into_view_if_needed()
    assert is_seen(page.get_by_alt_text("Step 3", exact=True))
    assert tabs.count("") == before
