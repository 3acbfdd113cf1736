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


def test_the_page_may_only_do_what_it_needs(stack: FakeStack) -> None:
    page = stack.client.get("/docs")
    rules = dict(rule.split(" ", 1) for rule in page.headers["content-security-policy"].split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["x-content-type-options"] == "nosniff"


def test_no_script_or_style_stands_in_the_page(stack: FakeStack) -> None:
    page = stack.client.get("/docs").text
    assert re.findall(r"<script[^>]*>([^<]+)</script>|<style|style=|\son\w+=", page) == []
    script = stack.client.get("/docs/show.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert 'SwaggerUIBundle({url: "openapi.json", dom_id: "#docs"' in script.text
