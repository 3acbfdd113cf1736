"""The list of runs: filters in its URL, rows that change, and new runs that wait to be asked for."""

import re

from playwright.sync_api import Page, expect

from tests.acceptance.pages.browser import Tabs, is_untouched, mark
from tests.acceptance.pages.history import add_run, shopping
from tests.stack import Stack
from tests.waiting import wait_for


def post_with_labels(page: Page, tabs: Tabs, task: str, **labels: str) -> str:
    """Start a run of the task with these labels; returns its ID."""
    url = f"{tabs.base}/test-runs/execute-configuration/{task}/{task}_default"
    answer = page.request.post(url, data={"labels": labels})
    assert answer.status == 202, answer.text()
    return str(answer.json()["id"])


def test_filters_are_in_the_url_and_the_back_button_brings_them_back(site: Stack, tabs: Tabs) -> None:
    site.project.add_task("sieve", "visit pass")
    site.project.add_task("other")
    failed = add_run(site.project, "sieve", shopping(passes=False), "FAILED")
    elsewhere = add_run(site.project, "other", shopping(passes=True))
    page = tabs.context().new_page()
    labelled = post_with_labels(page, tabs, "sieve", branch="main")
    site.wait_final(labelled)
    wait_for(lambda: site.call("GET", "/test-runs?test_case_id=sieve").body["total_count"] == 2)
    wait_for(lambda: site.call("GET", "/test-runs?test_case_id=other").body["total_count"] == 1)

    def sees(*runs: str) -> None:
        for run in (failed, elsewhere, labelled):
            expect(page.locator(f"#run-{run}")).to_have_count(int(run in runs))

    page.goto(tabs.base)
    sees(failed, elsewhere, labelled)
    page.locator("[name=test_case_id]").select_option("sieve")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url(re.compile("[?&]test_case_id=sieve"))
    sees(failed, labelled)
    page.locator("[name=status]").select_option("failed or error")
    page.get_by_role("button", name="Filter").click()
    page.wait_for_url(re.compile("status=FAILED&test_case_id=sieve"))
    sees(failed)
    page.go_back()
    page.wait_for_url(re.compile("status=&"))
    sees(failed, labelled)
    expect(page.locator("[name=status]")).to_have_value("")
    expect(page.locator("[name=test_case_id]")).to_have_value("sieve")
    page.locator("[name=label]").fill("branch=main")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("label=branch%3Dmain"))
    sees(labelled)
    expect(page.locator(f"#run-{labelled} .tag")).to_have_text("branch=main")
    page.get_by_role("link", name="Clear").click()
    sees(failed, elsewhere, labelled)
    page.locator("[name=search]").fill(elsewhere[:12])
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("search="))
    page.locator("[name=search]").fill("other")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("search=other"))
    sees(elsewhere)
    page.locator("[name=search]").fill("no such text")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No run passes these filters.")).to_be_visible()


def test_a_row_changes_in_two_tabs_and_new_runs_wait_to_be_asked_for(site: Stack, tabs: Tabs) -> None:
    folder = site.project.add_task("rows", "visit wait:go see:x.png wait:end pass")
    blocking = site.project.add_task("block", "visit wait:free pass")
    first, run = site.post("block"), site.post("rows")
    site.wait_state(first, "RUNNING")
    pages = [tabs.open("/?test_case_id=rows") for _ in range(2)]

    def says(*texts: str) -> None:
        for page in pages:
            for text in texts:
                expect(page.locator(f"#run-{run}")).to_contain_text(text)

    for page in pages:
        mark(page)
    says("pending", "Stop")
    pages[0].locator(f"#run-{run} a").focus()
    (blocking / "free").touch()
    says("running", "step 1 · goal 0")
    (folder / "go").touch()
    says("step 2 · goal 1")
    (folder / "end").touch()
    says("passed", "Replay")
    expect(pages[0].locator(f"#run-{run} a")).to_be_focused()  # although its row was replaced
    for page in pages:
        expect(page.locator("#new")).to_be_empty()
    newer = site.post("rows")
    for page in pages:
        expect(page.locator("#new")).to_have_text("1 new")
        expect(page.locator(f"#run-{newer}")).to_have_count(0)
        assert is_untouched(page)
    second = site.post("rows")
    expect(pages[0].locator("#new")).to_have_text("2 new")
    pages[0].get_by_role("link", name="2 new").click()
    expect(pages[0].locator("tbody tr")).to_have_count(3)
    expect(pages[0].locator("#new")).to_be_empty()
    expect(pages[0].locator("[name=test_case_id]")).to_have_value("rows")
    expect(pages[0].locator("tbody tr").first).to_have_id(f"run-{second}")
    site.wait_final(second)
    expect(pages[0].locator(f"#run-{second}")).to_contain_text("passed")


def test_a_row_stops_and_repeats_its_run(site: Stack, tabs: Tabs) -> None:
    site.project.add_task("buttons", "visit wait:never")
    run = site.post("buttons")
    page = tabs.open("/?test_case_id=buttons")
    page.locator(f"#run-{run}").get_by_role("button", name="Stop").click()
    expect(page.locator(f"#run-{run}")).to_contain_text("error")
    page.locator(f"#run-{run}").get_by_role("button", name="Rerun").click()
    page.wait_for_url("**/ui/runs/*")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#head .state")).to_contain_text("error")
