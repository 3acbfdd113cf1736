"""Pages in a real browser, which note all that must not happen in them; and what tests ask of pages."""

import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    Request,
    WebError,
    expect,
)

from tests.chromium import find_chromium

SECONDS = 15.0  # for which a page may take to show something
COLOURS: tuple[Any, ...] = ("light", "dark")
NARROW, WIDE = 375, 1280
NOTE_VIOLATIONS = """addEventListener("securitypolicyviolation", (event) =>
    console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));"""
expect.set_options(timeout=SECONDS * 1000)


def need_chromium() -> None:
    """Skip the test where there is no Chromium; on the machine that decides it fails."""
    found = find_chromium()
    if found is None and (os.environ.get("CI") or os.environ.get("REQUIRE_BROWSER")):
        pytest.fail("There must be a Chromium where CI or REQUIRE_BROWSER is set, got none.")
    if found is None:
        pytest.skip("There is no Chromium, so no page is looked at.")


class Tabs:
    """Opens pages of one server, and notes what must not happen in them.

    `expected` are patterns of the console errors that a test causes itself.
    """

    def __init__(self, browser: Browser, base: str) -> None:
        self.browser, self.base = browser, base
        self.contexts: list[BrowserContext] = []
        self.faults: list[str] = []
        self.requests: list[str] = []
        self.expected: list[str] = []

    def context(self, **options: Any) -> BrowserContext:
        """A browser with no history."""
        context = self.browser.new_context(**options)
        context.set_default_timeout(SECONDS * 1000)
        context.add_init_script(NOTE_VIOLATIONS)
        context.on("request", self._note_request)
        context.on("console", self._note_message)
        context.on("weberror", self._note_error)
        context.on("dialog", self._note_dialog)
        self.contexts.append(context)
        return context

    def open(self, path: str = "/") -> Page:
        """A new tab with this page, in the browser that was made last."""
        page = (self.contexts[-1] if self.contexts else self.context()).new_page()
        page.goto(self.base + path)
        return page

    def count(self, part: str) -> int:
        """How many requests had this in their address."""
        return sum(part in url for url in self.requests)

    def check(self) -> None:
        """Nothing happened that must not."""
        for context in self.contexts:
            context.close()
        faults = [fault for fault in self.faults if not any(re.search(one, fault) for one in self.expected)]
        assert not faults, faults

    def _note_request(self, request: Request) -> None:
        self.requests.append(request.url)
        if not request.url.startswith((self.base, "blob:", "data:")):
            self.faults.append(f"request to elsewhere: {request.url}")

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text}")

    def _note_error(self, error: WebError) -> None:
        self.faults.append(f"error: {error.error}")

    def _note_dialog(self, dialog: Dialog) -> None:
        self.faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()


def start_batch(tabs: Tabs, *tasks: str) -> tuple[str, list[str]]:
    """The IDs of a batch of these tasks that was accepted, and of its runs."""
    body = {"tasks": tasks, "name": "Every night", "labels": {"branch": "main"}}
    answer = tabs.context().request.post(f"{tabs.base}/batches", data=body)
    assert answer.status == 202, answer.text()
    return answer.json()["id"], [run["id"] for run in answer.json()["runs"]]


def mark(page: Page) -> None:
    """Note in the page that it is this one."""
    page.evaluate("window.untouched = true")


def is_untouched(page: Page) -> bool:
    """Whether it was not loaded again since."""
    return bool(page.evaluate("window.untouched === true"))


def is_seen(image: Locator) -> bool:
    """Whether the picture has been loaded."""
    expect(image).to_have_js_property("complete", value=True)
    return int(image.evaluate("image => image.naturalWidth")) > 0


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def find_barriers(page: Page) -> list[str]:
    """What keeps people out: serious and critical findings of axe, those about contrast in both colours."""
    violations: list[dict[str, Any]] = Axe().run(page).response["violations"]
    page.emulate_media(color_scheme="dark")
    violations += page.evaluate("axe.run({ runOnly: ['color-contrast'] })")["violations"]
    page.emulate_media(color_scheme="light")
    bad = [one for one in violations if one["impact"] in ("serious", "critical")]
    return [f"{one['id']}: {node['html'][:200]}" for one in bad for node in one["nodes"]]


def look(page: Page, name: str, folder: Path) -> None:
    """Check that the page fits at both widths, and keep how it looks in both colours."""
    for width in (WIDE, NARROW):
        page.set_viewport_size({"width": width, "height": 800})
        assert overflow(page) <= 0, f"{name} is too wide for {width} pixels"
        for colours in COLOURS:
            page.emulate_media(color_scheme=colours)
            page.screenshot(path=folder / f"{name}-{width}-{colours}.png", full_page=True)


def png(red: int, green: int, blue: int, width: int = 640, height: int = 400) -> bytes:
    """A picture of one colour."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = (b"\0" + bytes((red, green, blue)) * width) * height
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
