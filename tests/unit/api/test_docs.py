"""The page with the documentation."""

import re

from tests.unit.fake_stack import FakeStack


def test_the_documentation_comes_from_here(buy: FakeStack) -> None:
    for prefix in ("", "/api/v1"):
        page = buy.client.get(f"{prefix}/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "://" not in page.text
        for asset in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert buy.client.get(f"{prefix}/{asset}").status_code == 200, asset
        assert buy.client.get(f"{prefix}/openapi.json").json()["openapi"].startswith("3.1")
    assert buy.client.get("/docs/assets/nothing.js").json()["detail"].startswith("GET ")
