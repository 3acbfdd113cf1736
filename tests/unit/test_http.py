"""HTTP itself: methods, origins, bodies, odd paths, files, and the documentation."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import fakeredis
import msgspec
import pytest
from starlette.testclient import TestClient

from app import create_app
from jobs.api.routes import ENDPOINTS
from jobs.queue.idempotency import IdempotencyKeys, Reservation
from jobs.run.document import RunDocument
from jobs.services import Services
from runner.ids import RunId, TaskId
from tests.project import Project
from tests.unit.conftest import FakeStack

FRONT_END = "http://localhost:5173"
ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-20-chars!"


def start(stack: FakeStack, **headers: str) -> Any:
    return stack.client.post("/test-runs/execute-configuration/buy/buy_default", headers=headers)


@pytest.fixture
def buy(stack: FakeStack) -> FakeStack:
    stack.project.add_task("buy", "visit pass")
    return stack


def test_the_front_end_may_start_a_run_and_read_the_answer(buy: FakeStack) -> None:
    response = start(buy, Origin=FRONT_END)
    assert response.status_code == 202
    assert response.headers["access-control-allow-origin"] == FRONT_END
    assert "Location" in response.headers["access-control-expose-headers"]


def test_a_page_somewhere_cannot_start_a_run(buy: FakeStack) -> None:
    response = start(buy, Origin="http://evil.example")
    assert response.status_code == 403
    assert "http://evil.example" in response.json()["detail"]
    assert buy.redis.llen("rq:queue:bugninja") == 0
    assert buy.client.get("/test-runs").json()["total_count"] == 0


def test_an_unknown_host_is_refused_with_a_sentence(buy: FakeStack) -> None:
    for path in ("/health", "/test-runs", "/nothing"):
        response = buy.client.get(path, headers={"Host": "evil.example"})
        assert response.status_code == 400
        assert "The Host 'evil.example' is not served here" in response.json()["detail"]
    preflight = {"Host": "evil.example", "Origin": FRONT_END, "Access-Control-Request-Method": "POST"}
    assert buy.client.options("/test-runs", headers=preflight).status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_a_preflight_is_answered_for_our_pages_only(buy: FakeStack, method: str) -> None:
    headers = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
    ours = buy.client.options("/api/v1/tasks", headers={"Origin": FRONT_END, **headers})
    assert (ours.status_code, ours.headers["access-control-allow-origin"]) == (200, FRONT_END)
    theirs = buy.client.options("/api/v1/tasks", headers={"Origin": "http://evil.example", **headers})
    assert theirs.status_code == 400
    assert "Disallowed CORS origin" in theirs.json()["detail"]


@pytest.fixture
def guarded(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of an application that wants a token."""
    project.add_task("buy")
    server = fakeredis.FakeServer()
    redis, reader = fakeredis.FakeRedis(server=server), fakeredis.FakeAsyncRedis(server=server)
    app = create_app(project.settings(API_TOKEN=TOKEN), partial(Services.build, writing=redis, reading=reader))
    with TestClient(app, "http://127.0.0.1:8000") as client:
        yield client


def test_with_a_token_every_route_but_health_wants_it(guarded: TestClient) -> None:
    paths = [re.sub(r"{.*?}", "x", operation.path) for operation, _ in ENDPOINTS] + ["/docs", "/openapi.json", "/x"]
    for path in paths:
        method = "POST" if "execute" in path or "replay" in path or "rerun" in path else "GET"
        for prefix in ("", "/api/v1"):
            response = guarded.request(method, f"{prefix}{path}")
            assert (response.status_code == 200) is (path == "/health"), path
            if path != "/health":
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
                assert "Authorization: Bearer" in response.json()["detail"]
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.get("/test-runs", headers=right).status_code == 200
    assert guarded.get("/test-runs", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert guarded.get("/openapi.json", headers=right).json()["security"] == [{"token": []}]
    refused = guarded.get("/test-runs", headers={"Origin": FRONT_END})
    assert refused.headers["access-control-allow-origin"] == FRONT_END
    preflight = {"Origin": FRONT_END, "Access-Control-Request-Method": "GET"}
    assert guarded.options("/test-runs", headers=preflight).status_code == 200


CHANGES = [
    ("POST", "/test-cases/"),
    ("POST", "/test-cases"),
    ("PUT", "/project"),
    ("PUT", "/browser-configs/bulk"),
    ("PUT", "/secret-values/bulk"),
    ("PUT", "/tasksbuy"),
    ("DELETE", "/tasksbuy"),
    ("PUT", "/tasks/buy"),
    ("DELETE", "/tasks/buy"),
    ("PATCH", "/tasks/buy"),
    ("POST", "/tasks"),
    ("POST", "/file-upload/parse-test-case"),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_what_the_cli_is_for_is_refused_with_a_sentence(buy: FakeStack, method: str, path: str, prefix: str) -> None:
    response = buy.client.request(method, f"{prefix}{path}", json={"test_name": "x"}, headers={"Origin": FRONT_END})
    assert response.status_code == 405
    assert "with the Bugninja CLI" in response.json()["detail"]
    assert "allow" in response.headers
    assert response.headers["access-control-allow-origin"] == FRONT_END
    assert (buy.project.root / "tasks" / "buy" / "task_buy.toml").exists()


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_every_path_says_what_it_allows(buy: FakeStack, prefix: str) -> None:
    for operation, _ in ENDPOINTS:
        path = prefix + re.sub(r"{.*?}", "x", operation.path)
        response = buy.client.options(path)
        assert response.status_code == 204, path
        allowed = {name.strip() for name in response.headers["allow"].split(",")}
        assert operation.method in allowed
        assert "OPTIONS" in allowed
        assert ("HEAD" in allowed) is (operation.method == "GET")
        wrong = buy.client.request("TRACE", path)
        assert wrong.status_code == 405
        assert operation.method in wrong.headers["allow"]
        assert wrong.json()["detail"].startswith("TRACE ")


def test_head_answers_as_get_without_a_body(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    for path in (f"/test-runs/{run_id}", "/test-runs", "/tasks", "/health", f"/test-runs/{run_id}/log", "/project"):
        get, head = buy.client.get(path), buy.client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.headers["content-length"] == get.headers["content-length"]
    assert buy.client.head("/test-runs/nothing").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "//test-runs",
        "/test-runs//",
        "/test-runs//x",
        "/api/v1//test-runs",
        "//evil.example/%2e%2e",
        "/test-runs/%00",
        "/test-runs/%ff%fe",
        "/test-runs/a%2fb",
        "/test-runs/..%2f..%2fetc",
        "/test-runs/" + "x" * 8000,
        "/tasks/%2e%2e",
        "/api/v2/test-runs",
        "/TEST-RUNS",
    ],
)
def test_odd_paths_are_json_404s_that_lead_nowhere(buy: FakeStack, path: str) -> None:
    response = buy.client.get(path, follow_redirects=False)
    if response.status_code in (307, 308):
        assert response.headers["location"].startswith("http://127.0.0.1:8000/")
        response = buy.client.get(path)
        assert response.status_code == 200
        return
    assert response.status_code == 404
    assert isinstance(response.json()["detail"], str)


def test_a_trailing_slash_leads_to_the_same(buy: FakeStack) -> None:
    assert buy.client.get("/test-runs/").json() == buy.client.get("/test-runs").json()
    assert buy.client.get("/api/v1/tasks/buy/").json()["id"] == "buy"
    response = buy.client.post("/test-runs/execute-configuration/buy/buy_default/")
    assert response.status_code == 202


def test_percent_encoding_of_plain_characters_changes_nothing(buy: FakeStack) -> None:
    run_id = buy.run("buy")["id"]
    encoded = "".join(f"%{ord(char):02x}" for char in run_id)
    assert buy.client.get(f"/test-runs/{encoded}").json()["id"] == run_id


@pytest.mark.parametrize(
    ("body", "content_type", "status", "words"),
    [
        (b"", "application/x-www-form-urlencoded", 202, ""),
        (b"", None, 202, ""),
        (b"{}", "application/json", 202, ""),
        (b" null ", "application/json; charset=utf-8", 202, ""),
        (b"a=b", "application/x-www-form-urlencoded", 415, "of type 'application/x-www-form-urlencoded'"),
        (b"{}", "text/plain", 415, "of type 'text/plain'; expected is no body, or {} as application/json"),
        (b"{}", None, 415, "of type ''"),
        (b'{"a": 1}', "application/json", 422, "The body is not empty"),
        (b"{", "application/json", 422, "The body is not empty"),
        (b" " * 70_000, "application/json", 413, "larger than 65536 bytes"),
    ],
)
def test_a_start_needs_no_body_and_takes_none(
    buy: FakeStack, body: bytes, content_type: str | None, status: int, words: str
) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}
    response = buy.client.post(
        "/test-runs/execute-configuration/buy/buy_default", content=body or None, headers=headers
    )
    assert response.status_code == status, response.text
    assert words in response.json().get("detail", "")
    assert buy.client.get("/test-runs").json()["total_count"] == (1 if status == 202 else 0)


@pytest.fixture
def picture(buy: FakeStack) -> str:
    """The path of a screenshot."""
    folder = buy.project.root / "tasks" / "buy" / "screenshots" / "run"
    folder.mkdir(parents=True)
    (folder / "001.png").write_bytes(bytes(range(200)))
    return "/tasks/buy/screenshots/run/001.png"


def test_a_screenshot_is_served_with_all_that_a_browser_wants(buy: FakeStack, picture: str) -> None:
    response = buy.client.get(picture, headers={"Origin": FRONT_END})
    assert (response.status_code, response.content) == (200, bytes(range(200)))
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["access-control-allow-origin"] == FRONT_END
    etag = response.headers["etag"]
    again = buy.client.get(picture, headers={"If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    for header in (f'"other", {etag}', f"W/{etag}", "*"):
        assert buy.client.get(picture, headers={"If-None-Match": header}).status_code == 304
    assert buy.client.get(picture, headers={"If-None-Match": '"other"'}).status_code == 200
    part = buy.client.get(picture, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert part.headers["content-range"] == "bytes 10-19/200"
    assert buy.client.get(picture, headers={"Range": "bytes=900-"}).status_code == 416
    head = buy.client.head(picture)
    assert (head.status_code, head.headers["content-length"], head.content) == (200, "200", b"")
    (buy.project.root / picture[1:]).write_bytes(b"new")
    assert buy.client.get(picture, headers={"If-None-Match": etag}).content == b"new"


def test_errors_about_ranges_are_json_too(buy: FakeStack, picture: str) -> None:
    response = buy.client.get(picture, headers={"Range": "bytes=900-"})
    assert (response.status_code, response.headers["content-range"]) == (416, "bytes */200")
    assert "has 200 bytes" in response.json()["detail"]
    for header in ("bytes=x-y", "lines=1-2", "bytes=-"):
        assert buy.client.get(picture, headers={"Range": header}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/tasks/buy/task_buy.toml",
        "/tasks/buy/screenshots",
        "/tasks/buy/screenshots/",
        "/tasks/buy/screenshots/run/",
        "/tasks/buy/screenshots/%2e%2e/task_buy.toml",
        "/tasks/buy/screenshots/..%2ftask_buy.toml",
        "/tasks/buy/runs/x/run.json",
        "/tasks/buy/traversals/x.json",
    ],
)
def test_nothing_but_pictures_and_recordings_is_served(buy: FakeStack, picture: str, path: str) -> None:
    response = buy.client.get(path)
    assert response.status_code == 404
    assert isinstance(response.json()["detail"], str)


def test_the_same_key_and_request_give_the_same_run(buy: FakeStack) -> None:
    first = start(buy, **{"Idempotency-Key": "one"})
    again = start(buy, **{"Idempotency-Key": "one"})
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["location"] == first.headers["location"]
    buy.work()
    over = start(buy, **{"Idempotency-Key": "one"})
    assert (over.status_code, over.json()["current_state"]) == (200, "FINISHED")
    other = start(buy, **{"Idempotency-Key": "two"})
    assert (other.status_code, other.json()["id"] != first.json()["id"]) == (202, True)
    prefixed = buy.client.post(
        "/api/v1/test-runs/execute-configuration/buy/buy_default", headers={"Idempotency-Key": "one"}
    )
    assert (prefixed.status_code, prefixed.json()["id"]) == (200, first.json()["id"])
    ttl = max(buy.redis.ttl(name) for name in buy.redis.scan_iter("bugninja-runner:idempotency:*"))
    assert buy.settings.run_ttl - 60 < ttl <= buy.settings.run_ttl


def test_the_same_key_for_another_request_is_refused(buy: FakeStack) -> None:
    buy.project.add_task("sell")
    key = {"Idempotency-Key": "one"}
    run_id = start(buy, **key).json()["id"]
    for path in (
        "/test-runs/execute-configuration/sell/sell_default",
        f"/test-runs/{run_id}/rerun",
        "/test-runs/replay/buy/buy_default",
    ):
        response = buy.client.post(path, headers=key)
        assert response.status_code == 409
        assert "used for another request" in response.json()["detail"]
    assert buy.client.get("/test-runs").json()["total_count"] == 1


def test_a_request_that_was_refused_leaves_its_key_free(buy: FakeStack) -> None:
    key = {"Idempotency-Key": "one"}
    blocked = buy.project.root / "tasks" / "buy" / "runs"
    blocked.write_text("a file where the folder should be")
    assert start(buy, **key).status_code == 507
    blocked.unlink()
    buy.server.connected = False
    assert start(buy, **key).status_code == 503
    buy.server.connected = True
    assert start(buy, **key).status_code == 202
    assert start(buy, **key).status_code == 200


def test_a_key_whose_run_was_never_accepted_is_free_again(buy: FakeStack) -> None:
    key = {"Idempotency-Key": "one"}
    first = start(buy, **key).json()["id"]
    (buy.project.root / "tasks" / "buy" / "runs" / first / "run.json").unlink()
    early = start(buy, **key)
    assert early.status_code == 409
    assert "just being accepted" in early.json()["detail"]
    (name,) = buy.redis.keys("bugninja-runner:idempotency:*")
    buy.redis.expire(name, buy.settings.run_ttl - 31)
    second = start(buy, **key)
    assert second.status_code == 202
    assert second.json()["id"] != first


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_that_is_none_is_named(buy: FakeStack, key: str) -> None:
    response = start(buy, **{"Idempotency-Key": key})
    assert response.status_code == 422
    assert response.json()["detail"].startswith("Idempotency-Key is '")


def test_the_documentation_comes_from_here(buy: FakeStack) -> None:
    for prefix in ("", "/api/v1"):
        page = buy.client.get(f"{prefix}/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "://" not in page.text
        for asset in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert buy.client.get(f"{prefix}/{asset}").status_code == 200, asset
        assert buy.client.get(f"{prefix}/openapi.json").json()["openapi"].startswith("3.1")
    assert buy.client.get("/docs/assets/nothing.js").json()["detail"].startswith("GET ")


def test_every_route_is_documented(buy: FakeStack) -> None:
    document = buy.client.get("/openapi.json").json()
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert documented == {(op.method, op.path.replace(":path", "")) for op, _ in ENDPOINTS}
    run = document["components"]["schemas"]["RunDocument"]
    assert set(run["properties"]) == set(start(buy).json())
    assert "detail" in document["components"]["schemas"]["Problem"]["required"]
    assert "secret_names" not in json.dumps(document)


def test_the_documentation_names_only_routes_that_exist() -> None:
    routes = {(op.method, op.path.replace(":path", "")) for op, _ in ENDPOINTS}
    named = [
        (method, path)
        for file in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
        for method, path in re.findall(r"`(GET|POST) (/[^`? ]*)", file.read_text())
    ]
    assert len(named) > 10
    assert not set(named) - routes - {("GET", "/docs"), ("GET", "/openapi.json")}


def test_our_own_faults_can_be_read_by_the_front_end(buy: FakeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.project.catalog.read_task", lambda *_: 1 / 0)
    response = buy.client.get("/tasks/buy", headers={"Origin": FRONT_END})
    assert response.status_code == 500
    assert response.headers["access-control-allow-origin"] == FRONT_END
    assert "detail" in response.json()


def test_links_that_go_round_in_circles_are_not_found(buy: FakeStack) -> None:
    folder = buy.project.root / "tasks" / "buy"
    (folder / "screenshots").symlink_to("a")
    (folder / "a").symlink_to("screenshots")
    assert buy.client.get("/tasks/buy/screenshots/a/b.png").status_code == 404


def test_waiting_for_keys_delays_no_get(project: Project) -> None:
    project.add_task("buy", "visit pass")
    stack = FakeStack(project, wait_seconds=3.0)
    with stack.client:
        check_that_waiting_for_keys_delays_no_get(stack)


def check_that_waiting_for_keys_delays_no_get(buy: FakeStack) -> None:
    keys = [f"key{number}" for number in range(45)]
    run_id = start(buy).json()["id"]
    for key in keys:
        reservation = Reservation("start buy buy_default", RunId("n" * 24), TaskId("buy"))
        IdempotencyKeys(buy.redis, buy.settings.run_ttl).reserve(key, reservation)
    with ThreadPoolExecutor(45) as pool:
        waiting = [pool.submit(start, buy, **{"Idempotency-Key": key}) for key in keys]
        assert buy.client.get(f"/test-runs/{run_id}").status_code == 200
        assert not all(answer.done() for answer in waiting)
        assert {answer.result().status_code for answer in waiting} == {409}


def test_the_run_document_in_the_documentation_has_the_fields_of_a_run_document() -> None:
    documentation = (ROOT / "docs" / "rest.md").read_text()
    example = json.loads(documentation.split("```json\n")[1].split("```")[0])
    assert list(example) == [field.name for field in msgspec.structs.fields(RunDocument)]
