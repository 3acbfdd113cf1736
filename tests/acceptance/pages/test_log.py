"""The log of a run: its end at first, what is new as it comes, the rest on demand."""

from playwright.sync_api import Page, expect

from tests.acceptance.pages.browser import Tabs, is_untouched, mark
from tests.stack import Stack

LINES = 2_500  # of some 800 bytes: 2 MB
FILL = "x" * 800


def search(page: Page, text: str) -> None:
    """Search the log for the text."""
    page.get_by_label("Search the log").fill(text)
    page.keyboard.press("Enter")


def test_the_log_of_a_running_run_is_followed(site: Stack, tabs: Tabs) -> None:
    folder = site.project.add_task("talk", "print:first_line wait:go print:second_line wait:end print:last_line pass")
    page = tabs.open(f"/ui/runs/{site.post('talk')}")
    mark(page)
    log = page.locator("#log")
    expect(log).to_contain_text("first line")
    (folder / "go").touch()
    expect(log).to_contain_text("second line")
    page.get_by_label("follow").uncheck()
    (folder / "end").touch()
    expect(page.locator("#head .state")).to_contain_text("passed")
    expect(log).not_to_contain_text("last line")
    page.get_by_label("follow").check()
    expect(log).to_contain_text("last line")
    texts = log.locator("li > span").all_text_contents()
    assert [text for text in texts if text] == ["first line", "second line", "last line"]
    assert is_untouched(page)


def test_a_log_of_megabytes_is_searched_and_each_line_has_a_link(site: Stack, tabs: Tabs) -> None:
    words = " ".join(f"print:line-{n}-{FILL}" for n in range(LINES))
    site.project.add_task("flood", f"{words} pass")
    run = site.post("flood")
    site.wait_final(run)
    page = tabs.open(f"/ui/runs/{run}")
    lines = page.locator("#log li")
    expect(lines.nth(50)).to_be_attached()
    assert lines.count() <= 200
    below = "log => log.scrollHeight - log.scrollTop - log.clientHeight"
    assert page.locator("#log").evaluate(below) < 2, "it shows its end"
    expect(lines.last).to_contain_text(f"line-{LINES - 1}-")
    search(page, f"LINE-{LINES - 50}-")
    expect(page.locator("#log .found")).to_contain_text(f"line-{LINES - 50}-")
    expect(page.locator("#log .found")).to_be_in_viewport()
    page.get_by_role("button", name="Earlier lines").click()
    expect(lines.nth(300)).to_be_attached()
    search(page, "line-1234-")
    expect(page.locator("#log .found")).to_contain_text("line-1234-")
    expect(page.locator("#log .found")).to_be_in_viewport()
    search(page, "no such text")
    expect(page.locator("#log-tools [role=status]")).to_have_text("not found")
    texts = page.locator("#log li > span").all_text_contents()
    assert [text for text in texts if text] == [f"line-{n}-{FILL}" for n in range(LINES)], "none twice, none missing"
    whole = site.text(f"/test-runs/{run}/log").encode()
    offset = whole.index(b"line-1234-")
    page.locator(f"#log-{offset} a").click()
    assert page.evaluate("location.hash") == f"#log-{offset}"
    expect(page.locator("#log .here")).to_contain_text("line-1234-")
    early = whole.index(b"line-7-")
    other = tabs.open(f"/ui/runs/{run}#log-{early}")
    expect(other.locator("#log .here")).to_contain_text("line-7-")
    expect(other.locator("#log .here")).to_be_in_viewport()
