"""The pages of batches: they change, stop and repeat what they show."""

from playwright.sync_api import expect

from tests.acceptance.pages.browser import Tabs, is_untouched, mark, start_batch
from tests.stack import Stack


def test_a_batch_changes_is_stopped_and_repeated(site: Stack, tabs: Tabs) -> None:
    folder = site.project.add_task("alight", "visit wait:go fail")
    site.project.add_task("burn", "visit wait:never")
    batch, (first, second) = start_batch(tabs, "alight", "burn")
    page, listed = tabs.open(f"/ui/batches/{batch}"), tabs.open("/ui/batches")
    mark(page)
    expect(page.locator(f"#run-{first}")).to_contain_text("step 1 · goal 0")
    expect(listed.locator(f"#batch-{batch}")).to_contain_text("1 running · 1 pending")
    (folder / "go").touch()
    expect(page.locator(f"#run-{first}")).to_contain_text("The cart is empty")
    expect(page.locator(f"#run-{second}")).to_contain_text("running")
    expect(listed.locator(f"#batch-{batch}")).to_contain_text("1 failed · 1 running")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#head")).to_contain_text("1 failed · 1 stopped")
    assert is_untouched(page)
    expect(listed.locator(f"#batch-{batch} .state")).to_contain_text("failed")
    (folder / "behaviour").write_text("visit pass")
    page.get_by_role("button", name="Rerun those that did not pass").click()
    page.wait_for_url(lambda url: "/ui/batches/" in url and batch not in url)
    expect(listed.locator("#new")).to_have_text("1 new")
    expect(page.locator("#head")).to_contain_text(f"rerun of {batch}")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Rerun", exact=True)).to_be_visible()
    page.goto(f"{tabs.base}/ui/batches/{batch}")
    page.get_by_role("link", name="Report").click()
    page.wait_for_url("**/report.html")
    expect(page.get_by_role("heading", name="The cart is empty")).to_be_visible()
