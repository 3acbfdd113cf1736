"""The OpenAPI document."""

import json

from jobs.api.routes import ENDPOINTS
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import start_buy


def test_etag_and_304_are_documented(stack: FakeStack) -> None:
    paths = stack.client.get("/openapi.json").json()["paths"]
    for path in ("/test-runs/{run_id}", "/test-runs", "/test-runs/test-case/{test_case_id}", "/tasks", "/project"):
        answers = paths[path]["get"]["responses"]
        assert "ETag" in answers["200"]["headers"]
        assert "ETag" in answers["304"]["headers"]


def test_every_route_is_documented(buy: FakeStack) -> None:
    document = buy.client.get("/openapi.json").json()
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert documented == {(op.method, op.path.replace(":path", "")) for op, _ in ENDPOINTS}
    run = document["components"]["schemas"]["RunDocument"]
    assert set(run["properties"]) == set(start_buy(buy).json())
    assert "detail" in document["components"]["schemas"]["Problem"]["required"]
    assert "secret_names" not in json.dumps(document)
