"""What a page does that is open while a part of the stack is away; and while nobody sees it."""

import os
import signal
import subprocess
from collections.abc import Callable

from playwright.sync_api import Page, expect

from tests.acceptance.pages.browser import Tabs, is_untouched, mark
from tests.project import Project
from tests.stack import Stack
from tests.waiting import wait_for

BANNER = "Redis does not answer."


def end(process: subprocess.Popen[bytes], number: int) -> None:
    """Send the signal to a line of the Procfile, and wait until it is gone."""
    os.killpg(process.pid, number)
    process.wait(10)


def test_pages_go_on_while_redis_and_the_web_process_are_away(
    browser: object, new_stack: Callable[..., Stack], project: Project, new_tabs: Callable[[Stack], Tabs]
) -> None:
    stack = new_stack()
    lines = {name: stack.line(name) for name in ("redis", "web", "worker")}
    folder = project.add_task("survive", "visit wait:go visit wait:end pass")
    stack.wait_ready()
    tabs = new_tabs(stack)
    tabs.expected.append("net::ERR_")  # while the web process is away
    run = stack.post("survive")
    page, listing = tabs.open(f"/ui/runs/{run}"), tabs.open("/")
    for one in (page, listing):
        mark(one)
    expect(page.locator("#step-1")).to_be_visible()

    end(lines["redis"], signal.SIGTERM)
    expect(page.get_by_text(BANNER)).to_be_visible()
    expect(listing.get_by_text(BANNER)).to_be_visible()
    lines["redis"] = stack.line("redis")
    expect(page.get_by_text(BANNER)).to_have_count(0)
    expect(listing.get_by_text(BANNER)).to_have_count(0)

    with page.expect_event("requestfailed", lambda request: "/ui/events" in request.url):
        end(lines["web"], signal.SIGKILL)
    with page.expect_event("requestfailed", lambda request: "/ui/events" in request.url):  # and it tries again
        (folder / "go").touch()
    stack.line("web")
    expect(page.locator("#step-2")).to_contain_text("goal 1")
    expect(listing.locator(f"#run-{run}")).to_contain_text("step 2 · goal 1")
    (folder / "end").touch()
    expect(page.locator("#head .state")).to_contain_text("passed")
    expect(listing.locator(f"#run-{run}")).to_contain_text("passed")
    assert is_untouched(page)
    assert is_untouched(listing)


def show(page: Page, *, hidden: bool) -> None:
    """Let the page believe that its tab is hidden, or shown."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
            Object.defineProperty(document, "visibilityState",
                { configurable: true, get: () => (hidden ? "hidden" : "visible") });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def test_a_hidden_tab_has_no_stream_and_gets_one_when_it_is_shown(site: Stack, tabs: Tabs) -> None:
    folder = site.project.add_task("hide", "visit wait:end pass")
    run = site.post("hide")
    page, other, late = (tabs.open(f"/ui/runs/{run}"), tabs.open(f"/ui/runs/{run}"), tabs.contexts[0].new_page())
    late.add_init_script("Object.defineProperty(document, 'hidden', { configurable: true, get: () => true })")
    late.goto(page.url)  # a tab that is opened in the background
    mark(page)
    expect(page.locator("#step-1")).to_be_visible()
    wait_for(lambda: tabs.count(f"/ui/events/runs/{run}") == 2)
    show(page, hidden=True)
    (folder / "end").touch()
    expect(other.locator("#head .state")).to_contain_text("passed")
    for one in (page, late):
        expect(one.locator("#head .state")).to_contain_text("running")  # nobody told it
    assert tabs.count(f"/ui/events/runs/{run}") == 2
    for n, one in enumerate((page, late), 3):
        show(one, hidden=False)
        expect(one.locator("#head .state")).to_contain_text("passed")
        assert tabs.count(f"/ui/events/runs/{run}") == n
    assert is_untouched(page)
