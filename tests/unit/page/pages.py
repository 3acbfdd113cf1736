"""Pages as tests read them: what stands on them, without a browser."""

from html.parser import HTMLParser
from typing import Any

from tests.unit.fake_stack import FakeStack

VOID = {"meta", "link", "input", "img", "br", "rect", "path", "polyline", "circle"}


class Page(HTMLParser):
    """An HTML page: its text, and all elements with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == [], self._open

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        found = {name: value or "" for name, value in attributes}
        assert not [name for name in found if name.startswith("on") or name == "style"], (tag, found)
        self.elements.append((tag, found))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("style", "script"):
            self._texts.append(data)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        """The attributes of all elements with this name and these attributes."""
        wanted = {name.replace("_", "-"): value for name, value in attributes.items()}
        return [found for name, found in self.elements if name == tag and wanted.items() <= found.items()]

    def ids(self, prefix: str) -> list[str]:
        """The IDs that begin so, in their order."""
        return [found["id"] for _, found in self.elements if found.get("id", "").startswith(prefix)]

    @property
    def posts(self) -> list[str]:
        """What its buttons call."""
        return [found["data-post"] for found in self.all("button") if "data-post" in found]


def get_page(stack: FakeStack, path: str, status: int = 200, **headers: str) -> Page:
    """The page at this address; of each the headers and the elements are checked for what no page may have."""
    response = stack.client.get(path, headers=headers)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    return Page(response.text)


def get_report(stack: FakeStack, run_id: str, query: str = "") -> Page:
    """The run as one file."""
    return get_page(stack, f"/test-runs/{run_id}/report.html{query}")
