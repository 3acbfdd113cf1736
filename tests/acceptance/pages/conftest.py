"""One browser and one stack for most tests of the pages."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.acceptance.pages.browser import Tabs, need_chromium
from tests.chromium import open_browser
from tests.project import Project
from tests.stack import Stack


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium."""
    need_chromium()
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="package")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole Procfile. Its tests share it, so each has tasks of its own."""
    folder = tmp_path_factory.mktemp("site")
    stack = Stack(Project(folder / "project"), folder)
    stack.launch()
    stack.wait_ready()
    yield stack
    stack.close()


@pytest.fixture
def new_tabs(browser: Browser) -> Iterator[Callable[..., Tabs]]:
    """Opens pages of a stack, in which nothing may have happened that must not."""
    made: list[Tabs] = []

    def make(stack: Stack) -> Tabs:
        made.append(Tabs(browser, f"http://127.0.0.1:{stack.port}"))
        return made[-1]

    yield make
    for tabs in made:
        tabs.check()


@pytest.fixture
def tabs(site: Stack, new_tabs: Callable[..., Tabs]) -> Iterator[Tabs]:
    """Pages of the shared stack. A run that a test that failed has left is stopped."""
    yield new_tabs(site)
    for run in site.call("GET", "/test-runs?status=PENDING").body["items"]:
        if site.call("POST", f"/test-runs/{run['id']}/stop").status < 300:  # else it was made by hand
            site.wait_final(run["id"])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The folder for pictures of pages: PICTURES, for who wants to look at them."""
    folder = Path(os.environ.get("PAGES_PICTURES", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
