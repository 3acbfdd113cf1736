"""The pages in a browser without JavaScript."""

from playwright.sync_api import expect

from tests.acceptance.pages.browser import Tabs, is_seen
from tests.acceptance.pages.history import add_run, shopping
from tests.stack import Stack


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
