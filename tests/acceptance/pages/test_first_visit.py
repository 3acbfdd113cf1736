"""What somebody sees who opens the pages for the first time: from nothing to a run that one watches."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.acceptance.pages.browser import Tabs, find_barriers, is_seen, is_untouched, look, mark, png
from tests.project import Project
from tests.stack import Stack


def test_a_first_visit_says_what_to_do_and_one_click_starts_a_run_that_one_watches(
    browser: object, stack: Stack, project: Project, new_tabs: Callable[[Stack], Tabs], pictures: Path
) -> None:
    page = new_tabs(stack).open()
    expect(page.get_by_text("This project has no task. Make one with bugninja add")).to_be_visible()
    folder = project.add_task("buy", "visit wait:go see:seen.png wait:end pass")
    (folder / "screenshots").mkdir()
    (folder / "screenshots" / "seen.png").write_bytes(png(70, 110, 180))
    page.reload()
    expect(page.get_by_role("heading", name="No test has run yet")).to_be_visible()
    assert find_barriers(page) == []
    look(page, "empty", pictures)

    page.get_by_role("button", name="Start buy").click()
    page.wait_for_url("**/ui/runs/*")
    mark(page)
    expect(page.locator("#head .state")).to_contain_text("running")
    expect(page.locator("#step-1")).to_contain_text("goal 0")
    expect(page.locator("#caption")).to_have_text("No picture yet")
    (folder / "go").touch()
    expect(page.locator("#head")).to_contain_text("step 2 · goal 1")
    expect(page.locator("#step-2")).to_contain_text("scroll_down")
    expect(page.locator("#caption")).to_have_text("Step 2")
    assert is_seen(page.locator("#picture"))
    assert is_seen(page.locator("#frame-2 img"))
    (folder / "end").touch()
    expect(page.locator("#head .state")).to_contain_text("passed")
    expect(page.locator("#step-3")).to_contain_text("All is well")
    expect(page.get_by_role("button", name="Rerun")).to_be_visible()
    expect(page.locator("#timing")).to_contain_text("Finished")
    expect(page).to_have_title("✓ buy · Bugninja Runner")
    assert is_untouched(page)

    project.add_task("lose", "visit wait:go fail")
    page.goto(f"http://127.0.0.1:{stack.port}/ui/tasks/lose")
    expect(page.get_by_text("It has not run yet.")).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/ui/runs/*")
    mark(page)
    expect(page.locator("#step-1")).to_contain_text("goal 0")
    expect(page.locator("#result")).to_be_hidden()
    (project.root / "tasks" / "lose" / "go").touch()
    expect(page.locator("#head .state")).to_contain_text("failed")
    expect(page.locator("#result .card")).to_contain_text("The cart is empty")
    assert is_untouched(page)
