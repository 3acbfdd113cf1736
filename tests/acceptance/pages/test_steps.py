"""The steps of a run: list, filmstrip, picture and hash go together, however many steps there are."""

import json

from playwright.sync_api import Page, expect

from runner.files import replace_file
from tests.acceptance.pages.browser import Tabs, is_seen, is_untouched, mark
from tests.acceptance.pages.history import Step, add_run
from tests.stack import Stack

MANY = 5000


def check_step(page: Page, number: int, picture: str) -> None:
    """List, filmstrip, picture and hash are at this step."""
    expect(page.locator("#steps [aria-current]")).to_have_id(f"step-{number}")
    expect(page.locator("#steps [aria-current]")).to_be_in_viewport()
    expect(page.locator("#film [aria-current]")).to_have_attribute("href", f"#step-{number}")
    expect(page.locator("#picture")).to_have_attribute("src", picture)
    assert is_seen(page.locator("#picture"))
    expect(page.locator("#caption")).to_have_text(f"Step {number}")
    assert page.evaluate("location.hash") == f"#step-{number}"


def test_keys_and_clicks_go_from_step_to_step(site: Stack, tabs: Tabs) -> None:
    site.project.add_task("strip")
    steps = [Step(f"Do {n}", colour=(40 * n, 100, 200 - 30 * n), evaluation=f"Saw {n - 1}") for n in range(1, 7)]
    run = add_run(site.project, "strip", [*steps, Step("End", "done", {"text": "Well", "success": True})])
    page = tabs.open(f"/ui/runs/{run}")
    pictures = [f"/tasks/strip/screenshots/{run}/{n:03d}_click_element_by_index.png" for n in range(1, 7)]
    expect(page.locator("#film li")).to_have_count(6)
    for key, number in (
        ("j", 1),
        ("j", 2),
        ("ArrowRight", 3),
        ("ArrowDown", 4),
        ("k", 3),
        ("ArrowLeft", 2),
        ("ArrowUp", 1),
    ):
        page.keyboard.press(key)
        check_step(page, number, pictures[number - 1])
    page.keyboard.press("k")
    check_step(page, 1, pictures[0])
    page.locator("#frame-5 a").click()
    check_step(page, 5, pictures[4])
    page.locator("#step-2 .number").click()
    check_step(page, 2, pictures[1])
    page.go_back()
    check_step(page, 5, pictures[4])
    expect(page.locator("#step-1")).to_contain_text("Saw 1")
    page.goto(f"{page.url.partition('#')[0]}#step-7")
    expect(page.locator("#caption")).to_have_text("Step 7 has no picture")
    other = tabs.open(f"/ui/runs/{run}#step-4")
    check_step(other, 4, pictures[3])


def test_of_thousands_of_steps_the_first_are_shown_and_the_others_on_demand(site: Stack, tabs: Tabs) -> None:
    site.project.add_task("long")
    steps = [Step(f"Do {n}") for n in range(1, MANY)]
    run = add_run(site.project, "long", [*steps, Step("End", "done", {"text": "Well", "success": True})])
    page = tabs.open(f"/ui/runs/{run}")
    mark(page)
    expect(page.locator(".step")).to_have_count(200)
    page.get_by_role("link", name="4800 more steps").click()
    expect(page.locator(".step")).to_have_count(400)
    expect(page.locator("#step-400")).to_contain_text("Do 400")
    expect(page.get_by_role("link", name="4600 more steps")).to_be_visible()
    expect(page.get_by_role("link", name="Steps before")).to_have_count(0)
    page.locator("#step-399 .number").click()
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator("#step-401")).to_have_attribute("aria-current", "step")
    expect(page.locator(".step")).to_have_count(600)
    page.keyboard.press("j")
    expect(page.locator("#step-402")).to_have_attribute("aria-current", "step")
    assert is_untouched(page)
    other = tabs.open()
    for number in (150, 450, MANY):
        other.goto("about:blank")
        other.goto(f"{tabs.base}/ui/runs/{run}#step-{number}")
        expect(other.locator(f"#step-{number}")).to_have_attribute("aria-current", "step")
        expect(other.locator(f"#step-{number}")).to_be_in_viewport()
    other.get_by_role("link", name="Steps before 4801").click()
    expect(other.locator("#step-4601")).to_be_visible()
    expect(other.locator(".step")).to_have_count(200)
    other.wait_for_load_state()  # without its script, the link leads to another page
    other.get_by_role("link", name="200 more steps").focus()
    other.keyboard.press("Enter")
    expect(other.locator(".step")).to_have_count(400)
    assert other.evaluate("document.activeElement !== document.body"), "although the link is gone"
    other.goto(f"{tabs.base}/ui/runs/{run}#step-{MANY + 1}")
    expect(other.locator("#steps [aria-current]")).to_have_count(0)


def test_what_comes_live_does_not_hide_what_was_asked_for(site: Stack, tabs: Tabs) -> None:
    folder = site.project.add_task("growing")
    run = add_run(site.project, "growing", [Step(f"Do {n}") for n in range(1, 251)], "PENDING", age=0)
    page = tabs.open(f"/ui/runs/{run}")
    page.get_by_role("link", name="50 more steps").click()
    expect(page.locator(".step")).to_have_count(250)
    (path,) = (folder / "traversals").glob(f"*_{run}.json")
    document = json.loads(path.read_bytes())
    document["brain_states"]["t250"] = {**document["brain_states"]["t249"], "next_goal": "One more"}
    replace_file(path, json.dumps(document).encode())
    page.get_by_role("link", name="1 more steps").focus()  # a click may miss it while steps come into view, and grow
    page.keyboard.press("Enter")
    expect(page.locator("#step-251")).to_contain_text("One more")
    expect(page.locator(".step")).to_have_count(251)
    expect(page.locator("#more a")).to_have_count(0)
    replace_file(path, json.dumps({**document, "status": "SUCCESSFUL"}).encode())
    expect(page.locator("#head")).to_contain_text("passed")
