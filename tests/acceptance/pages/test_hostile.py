"""Texts that try to be more than texts, in every place where a text can be; and secrets, which are nowhere."""

import json
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.acceptance.pages.browser import NARROW, Tabs, overflow
from tests.acceptance.pages.history import Step, add_run
from tests.project import TOML
from tests.stack import Stack

ATTACKS = [
    "</script><script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    "'\"><svg onload=window.pwned=1>",
    "</textarea></title></template><iframe srcdoc='<script>top.pwned=1</script>'>",
    "javascript:window.pwned=1",
    "{{7*7}} {% raw %} ${7*7}",
    "\u202egnp.live\u2066",
    "\x00\x01\x1b[31m\x07\x7f\x85",
    "&lt;b&gt; &amp;amp;",
]
SECRET = "planted-secret-4711"
HOSTILE = " ".join(ATTACKS)
LITERAL = ATTACKS[0]
TITLE = f"{LITERAL} {ATTACKS[1]} {ATTACKS[6]} {SECRET} {'W' * 1_000_000}"


def add_hostile_task(site: Stack, name: str, behaviour: str, title: str) -> Path:
    """A task whose texts are hostile, with a secret in them that it declares."""
    named = TOML.format(name="x").replace('"x"', json.dumps(title, ensure_ascii=False), 1)
    described = named.replace('"What x is about"', json.dumps(f"{HOSTILE} {SECRET}").replace("\\u007f", "\\u007F"))
    return site.project.add_task(name, behaviour, f"{described}\n[secrets]\nPASSWORD = '{SECRET}'\n")


def hostile_steps(text: str) -> list[Step]:
    """Steps whose every text is this one."""
    parameters = {"url": text, "text": text, "nothing": None, "number": 7}
    steps = [Step(text, "input_text", parameters, (9, 9, 9), text, text, f"html/body/{text}") for _ in range(3)]
    return [*steps, Step(text, "done", {"text": text, "success": False}, (9, 9, 9), text, text)]


def check_harmless(page: Page, tabs: Tabs, *, says: bool = True) -> None:
    """Nothing of it ran, it is shown as it is, no secret is there, and the page is not too wide for a phone."""
    assert page.evaluate("window.pwned") is None
    assert page.locator("iframe, script:not([src]):not([type='application/json']), [onerror], [onload]").count() <= (
        "report.html" in page.url
    )
    assert page.locator("a[href^='javascript:' i], img[src^='x']").count() == 0
    if says:
        expect(page.locator("body")).to_contain_text(LITERAL)
    assert "49" not in page.title()
    content = page.content()
    assert SECRET not in content
    assert overflow(page) <= 0, f"{page.url} is too wide for {NARROW} pixels"


def test_hostile_texts_are_texts_on_every_page_and_no_secret_is_on_any(site: Stack, tabs: Tabs) -> None:
    words = " ".join(f"print:{attack.replace(' ', '_')}" for attack in (*ATTACKS, SECRET))
    thinks = f"think:{ATTACKS[1].replace(' ', '_')}"
    folder = add_hostile_task(site, "hostile", f"{words} {thinks} wait:end {thinks} fail", TITLE)
    by_hand = add_run(site.project, "hostile", hostile_steps(f"{HOSTILE} {SECRET}"), "FAILED")
    (folder / "videos").mkdir()
    (folder / "videos" / f"_img src=x onerror=window.pwned=1_{by_hand}.webm").write_bytes(b"no video")
    context = tabs.context(viewport={"width": NARROW, "height": 800})
    url = f"{tabs.base}/test-runs/execute-configuration/hostile/hostile_default"
    answer = context.request.post(url, data={"labels": {"a": LITERAL, "b": SECRET, "c": ATTACKS[1] + "W" * 150}})
    assert answer.status == 202, answer.text()
    run = answer.json()["id"]

    named = {
        "tasks": ["hostile"],
        "name": (LITERAL + ATTACKS[1] + SECRET + "W" * 200)[:200],
        "labels": {"a": HOSTILE[:200]},
    }
    accepted = context.request.post(f"{tabs.base}/batches", data=named)
    assert accepted.status == 202, accepted.text()
    batch = accepted.json()["id"]

    page = tabs.open(f"/ui/runs/{run}")
    expect(page.locator("#step-1")).to_be_visible()
    expect(page.locator("#log")).to_contain_text(LITERAL)
    check_harmless(page, tabs)
    other = tabs.open("/ui/workers")
    expect(other.locator("#workers")).to_contain_text("running")
    check_harmless(other, tabs)
    other.goto(f"{tabs.base}/?test_case_id=hostile")
    expect(other.locator(f"#run-{run}")).to_contain_text("step 1 · goal 0")
    (folder / "end").touch()
    expect(other.locator(f"#run-{run}")).to_contain_text("failed")
    check_harmless(other, tabs)
    expect(page.locator("#head .state")).to_contain_text("failed")
    check_harmless(page, tabs)

    site.wait_final(accepted.json()["runs"][0]["id"])
    for path in (
        f"/ui/batches/{batch}",
        f"/batches/{batch}/report.html",
        "/ui/batches",
        f"/ui/runs/{by_hand}",
        f"/test-runs/{by_hand}/report.html",
        f"/test-runs/{run}/report.html",
        "/ui/tasks?search=hostile",
        "/ui/tasks/hostile",
    ):
        page.goto(tabs.base + path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        check_harmless(page, tabs)
    tabs.expected.append("404|422")
    page.goto(f"{tabs.base}/?search=%3C/script%3E%3Cscript%3Ewindow.pwned=1%3C/script%3E&label=x%22%3E=%3Cb%3E")
    check_harmless(page, tabs, says=False)
    page.goto(f"{tabs.base}/ui/%3C/script%3E%3Cscript%3Ewindow.pwned=1%3C/script%3E")
    check_harmless(page, tabs)
    page.goto(f"{tabs.base}/?page=%3Cimg%20src=x%20onerror=window.pwned=1%3E")
    check_harmless(page, tabs, says=False)


def test_a_right_to_left_mark_changes_nothing_beside_its_text(site: Stack, tabs: Tabs) -> None:
    add_hostile_task(site, "bidi", "pass", "Pay \u202e now")
    run = add_run(site.project, "bidi", hostile_steps("Pay \u202e now"), "FAILED")
    page = tabs.open(f"/ui/runs/{run}")
    for text in page.locator("h1, .goal, #result h2, .step li span, #result dd.text").all():
        assert text.evaluate("element => getComputedStyle(element).unicodeBidi") == "isolate"
