"""The OpenAPI document."""

import json

from jobs.api.routes import ENDPOINTS
from jobs.page.routes import REPORTS
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import start_buy


def test_etag_and_304_are_documented(stack: FakeStack) -> None:
    paths = stack.client.get("/openapi.json").json()["paths"]
    for path in ("/test-runs/{run_id}", "/test-runs", "/test-runs/test-case/{test_case_id}", "/tasks", "/project"):
        answers = paths[path]["get"]["responses"]
        assert "ETag" in answers["200"]["headers"]
        assert "ETag" in answers["304"]["headers"]


def test_the_labels_are_documented_where_a_run_is_started(stack: FakeStack) -> None:
    document = stack.client.get("/openapi.json").json()
    started = {path for path, item in document["paths"].items() if "requestBody" in item.get("post", {})}
    assert started == {op.path for op, _ in ENDPOINTS if op.method == "POST" and not op.path.endswith("/stop")}
    body = document["paths"]["/test-runs/{run_id}/rerun"]["post"]["requestBody"]
    assert not body["required"]
    assert body["content"]["application/json"] == {
        "schema": {"anyOf": [{"$ref": "#/components/schemas/RunBody"}, {"type": "null"}]},
        "example": {"labels": {"branch": "main"}},
    }
    described = document["components"]["schemas"]["RunBody"]
    assert described["additionalProperties"] is False
    labels = described["properties"]["labels"]["anyOf"][0]
    assert (labels["maxProperties"], labels["additionalProperties"]["maxLength"]) == (16, 200)
    assert labels["propertyNames"] == {"pattern": "^[a-z0-9_.-]{1,32}$"}


def test_every_route_is_documented(buy: FakeStack) -> None:
    document = buy.client.get("/openapi.json").json()
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert documented == {(op.method, op.path.replace(":path", "")) for op, _ in (*ENDPOINTS, *REPORTS)}
    run = document["components"]["schemas"]["RunDocument"]
    assert set(run["properties"]) == set(start_buy(buy).json())
    assert "detail" in document["components"]["schemas"]["Problem"]["required"]
    assert "secret_names" not in json.dumps(document)
