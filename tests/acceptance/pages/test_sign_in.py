"""A server with an API_TOKEN: a person signs in by a form, and all pages work; nobody else gets in."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from jobs.api.guard import new_session, session_cookie
from tests.acceptance.pages.browser import Tabs, find_barriers, is_seen, is_untouched, look, mark
from tests.acceptance.pages.history import add_run, shopping
from tests.project import Project
from tests.stack import Stack
from tests.waiting import wait_for

TOKEN = "a-token-of-this-server-only"
HEADER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def locked(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack with an API_TOKEN."""
    folder = tmp_path_factory.mktemp("locked")
    stack = Stack(Project(folder / "project"), folder, API_TOKEN=TOKEN)
    stack.launch()
    wait_for(lambda: stack.call("GET", "/ready", **HEADER).status == 200, 60, "/ready")
    yield stack
    stack.close()


def sign_in(page: Page, token: str = TOKEN) -> None:
    """Fill in the form."""
    page.get_by_label("API_TOKEN of this server").fill(token)
    page.get_by_role("button", name="Sign in").click()


def session(context: BrowserContext, stack: Stack) -> dict[str, object]:
    """The cookie of the browser; empty if it has none."""
    name = session_cookie(stack.project.settings(PORT=str(stack.port)))
    return next((dict(cookie) for cookie in context.cookies() if cookie["name"] == name), {})


def test_who_signs_in_gets_where_they_wanted_to_go_and_can_do_all(
    locked: Stack, new_tabs: Callable[[Stack], Tabs], pictures: Path
) -> None:
    folder = locked.project.add_task("locked", "visit wait:end pass")
    failed = add_run(locked.project, "locked", shopping(passes=False), "FAILED")
    tabs = new_tabs(locked)
    context = tabs.context()
    page = tabs.open(f"/ui/runs/{failed}?start=1")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert find_barriers(page) == []
    look(page, "sign-in", pictures)
    tabs.expected.append("status of 401")
    sign_in(page, "a wrong token")
    expect(page.get_by_role("alert").filter(has_text="This is not the server's API_TOKEN.")).to_be_visible()
    assert session(context, locked) == {}
    sign_in(page)
    page.wait_for_url(f"**/ui/runs/{failed}?start=1")
    assert is_seen(page.get_by_alt_text("This run, at the failure"))
    cookie = session(context, locked)
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/")
    assert page.evaluate("document.cookie") == ""
    assert TOKEN not in str(cookie["value"])

    page.goto(f"{tabs.base}/ui/tasks/locked")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/ui/runs/*")
    mark(page)
    expect(page.locator("#step-1")).to_be_visible()
    (folder / "end").touch()
    expect(page.locator("#head .state")).to_contain_text("passed")
    assert is_untouched(page)
    expect(page.get_by_role("button", name="Copy as curl")).to_have_attribute(
        "data-copy", f'curl -X POST -H "Authorization: Bearer $API_TOKEN" {tabs.base}/test-runs/{page.url[-24:]}/rerun'
    )
    elsewhere = {"Origin": "http://evil.example"}
    rerun = f"{tabs.base}/test-runs/{failed}/rerun"
    assert context.request.post(rerun, headers=elsewhere).status == 403
    assert context.request.post(f"{tabs.base}/ui/sign-out", headers=elsewhere).status == 403
    assert locked.call("GET", f"/test-runs/{failed}").status == 401
    assert locked.call("GET", f"/test-runs/{failed}", **HEADER).status == 200

    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/ui/sign-in")
    assert session(context, locked) == {}
    page.goto(f"{tabs.base}/ui/workers")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_the_cookie_of_another_token_is_refused(locked: Stack, new_tabs: Callable[[Stack], Tabs]) -> None:
    settings = locked.project.settings(API_TOKEN="the-token-of-another-server", PORT=str(locked.port))
    tabs = new_tabs(locked)
    context = tabs.context()
    context.add_cookies([{"name": session_cookie(settings), "value": new_session(settings), "url": tabs.base}])
    page = tabs.open("/ui/tasks")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert context.request.get(f"{tabs.base}/test-runs").status == 401
    own = locked.project.settings(API_TOKEN=TOKEN, PORT=str(locked.port))
    context.add_cookies([{"name": session_cookie(own), "value": new_session(own), "url": tabs.base}])
    page.reload()
    expect(page.get_by_role("heading", name="Tasks")).to_be_visible()


def test_a_link_from_elsewhere_needs_no_second_sign_in(locked: Stack, new_tabs: Callable[[Stack], Tabs]) -> None:
    tabs = new_tabs(locked)
    tabs.expected.append("to elsewhere: http://chat.example/")
    context = tabs.context()
    link = f'<a href="{tabs.base}/ui/tasks?search=x">Look</a>'
    context.route("http://chat.example/**", lambda route: route.fulfill(body=link, content_type="text/html"))
    page = tabs.open("/")
    sign_in(page)
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.goto("http://chat.example/")
    page.get_by_role("link", name="Look").click()
    page.wait_for_url("**/ui/tasks?search=x")
    expect(page.get_by_role("heading", name="Tasks")).to_be_visible()


def test_signing_in_leads_to_no_other_server(locked: Stack, new_tabs: Callable[[Stack], Tabs]) -> None:
    tabs = new_tabs(locked)
    page = tabs.open("/ui/sign-in")
    for place in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"):
        page.goto(f"{tabs.base}/ui/sign-in?next={quote(place, safe='')}")
        sign_in(page)
        expect(page.get_by_role("heading", name="Runs")).to_be_visible()
        assert page.url == f"{tabs.base}/"
        page.goto("about:blank")  # its stream must not see that
        page.context.clear_cookies()
