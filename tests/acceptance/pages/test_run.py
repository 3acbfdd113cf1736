"""The page of one run: what broke, and what one can do."""

import re

from playwright.sync_api import Page, expect

from tests.acceptance.pages.browser import Tabs, is_seen, is_untouched, mark
from tests.acceptance.pages.history import URL, add_run, shopping
from tests.stack import Stack
from tests.waiting import wait_for


def test_the_card_of_a_failure_says_what_broke_beside_the_run_that_passed(site: Stack, tabs: Tabs) -> None:
    site.project.add_task("card")
    passed = add_run(site.project, "card", shopping(passes=True), age=120)
    failed = add_run(site.project, "card", shopping(passes=False), "FAILED")
    wait_for(lambda: site.call("GET", "/tasks/card/stats").body["last_passed"])
    page = tabs.open(f"/ui/runs/{failed}")
    card = page.locator("#result .card")
    expect(card.get_by_role("heading", name="The cart is empty")).to_be_visible()
    expect(card).to_contain_text("Say how it ended")
    expect(card).to_contain_text(URL)
    assert is_seen(card.get_by_alt_text("This run, at the failure"))
    other = card.get_by_alt_text("The last run that passed, step 4")
    assert is_seen(other)
    card.get_by_role("link", name="step 4", exact=True).click()
    expect(page.locator("#step-4")).to_have_attribute("aria-current", "step")
    other.click()
    page.wait_for_url(f"**/ui/runs/{passed}#step-4")
    expect(page.locator("#step-4")).to_have_attribute("aria-current", "step")


def started(page: Page, button: str) -> str:
    """Click on the button; the ID of the run whose page that opens."""
    before = page.url
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_url(lambda url: url != before)
    expect(page.locator("#head .state")).to_be_visible()
    return page.url.rpartition("/")[2]


def test_a_click_stops_a_run_and_starts_it_again(site: Stack, tabs: Tabs) -> None:
    folder = site.project.add_task("clicks", "visit wait:never")
    page = tabs.open(f"/ui/runs/{site.post('clicks')}")
    expect(page.locator("#step-1")).to_be_visible()
    mark(page)
    page.get_by_role("button", name="Stop").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#head .state")).to_contain_text("error")
    expect(page.locator("#head")).to_contain_text("stopped")
    assert page.evaluate("document.activeElement !== document.body"), "who stops by the keyboard stays in the page"
    assert is_untouched(page)
    (folder / "behaviour").write_text("visit pass")
    again = started(page, "Rerun")
    expect(page.locator("#head .state")).to_contain_text("passed")
    replayed = started(page, "Replay")
    expect(page.locator("#head .state")).to_contain_text("error")  # it visits, and does not say how it ended
    expect(page.get_by_text("replay, page")).to_be_visible()
    expect(page.get_by_role("link", name=again)).to_have_attribute("href", f"/ui/runs/{again}")
    assert site.run(replayed)["original_run_id"] == again
    page.goto(f"{tabs.base}/ui/runs/{again}")
    healed = started(page, "Replay with healing")
    assert site.run(healed)["run_type"] == "REPLAY_WITH_HEALING"
    site.wait_final(healed)


def test_a_refusal_is_told_and_the_call_can_be_copied(site: Stack, tabs: Tabs) -> None:
    site.project.add_task("copied")
    run = add_run(site.project, "copied", shopping(passes=True))
    context = tabs.context()
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = tabs.open(f"/ui/runs/{run}")
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("alert")).to_have_text("Copied.")
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == f"curl -X POST {tabs.base}/test-runs/{run}/rerun"
    tabs.expected.append("404|net::ERR_FAILED")
    site.project.root.joinpath("tasks", "copied", "task_copied.toml").unlink()
    page.get_by_role("button", name="Rerun").click()
    expect(page.get_by_role("alert")).to_have_text(re.compile("was not found"))
    page.route("**/rerun", lambda route: route.abort())
    page.get_by_role("button", name="Rerun").click()
    expect(page.get_by_role("alert")).to_contain_text("The server did not answer")


def test_a_recording_is_played_from_the_server(site: Stack, tabs: Tabs) -> None:
    folder = site.project.add_task("recorded")
    run = add_run(site.project, "recorded", shopping(passes=True))
    (folder / "videos").mkdir()
    (folder / "videos" / f"Buy a thing_{run}.webm").write_bytes(bytes.fromhex("1a45dfa3") + bytes(5000))
    page = tabs.context().new_page()
    with page.expect_response(re.compile(r"/videos/.*\.webm$")) as response:
        page.goto(f"{tabs.base}/ui/runs/{run}")
    assert response.value.status in (200, 206)
    assert response.value.headers["content-type"] == "video/webm"
    assert response.value.request.headers["range"].startswith("bytes=0-")
    expect(page.get_by_label("Recording of the run")).to_have_js_property("controls", value=True)
