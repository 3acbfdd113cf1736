"""Who may call: Host, Origin and the token."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fakeredis
import pytest
from starlette.datastructures import Headers
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from app import create_app
from jobs.api.guard import Guard, Refusal, check_host_and_origin, check_token, host_name
from jobs.api.routes import ENDPOINTS
from jobs.services import Services
from runner.settings import Settings, read_settings
from tests.project import Project
from tests.unit.fake_stack import FakeStack
from tests.unit.runs import FRONT_END, start_buy

TOKEN = "a-token-of-20-chars!"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings({"PROJECT_ROOT": str(tmp_path)})


def status(settings: Settings, method: str, **headers: str) -> int | None:
    refused = check_host_and_origin(settings, method, "/test-runs", Headers(headers))
    return refused.status if refused else None


def token_status(settings: Settings, path: str, **headers: str) -> int | None:
    refused = check_token(settings, "GET", path, Headers(headers))
    return refused.status if refused else None


@pytest.fixture
def guarded(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of an application that wants a token."""
    project.add_task("buy")
    server = fakeredis.FakeServer()
    redis, reader = fakeredis.FakeRedis(server=server), fakeredis.FakeAsyncRedis(server=server)
    app = create_app(project.settings(API_TOKEN=TOKEN), partial(Services.build, writing=redis, reading=reader))
    with TestClient(app, "http://127.0.0.1:8000") as client:
        yield client


def test_only_known_origins_may_read_the_answers(stack: FakeStack) -> None:
    def allowed(origin: str) -> str | None:
        found: str | None = stack.client.get("/health", headers={"Origin": origin}).headers.get(
            "access-control-allow-origin"
        )
        return found

    assert allowed("http://localhost:5173") == "http://localhost:5173"
    assert allowed("http://evil.example") is None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8000", "localhost"),
        ("LocalHost", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8000", "[::1]"),
        ("[::1]", "[::1]"),
        ("a:b", "a:b"),
        ("a:1:2", "a:1"),
        ("localhost:", "localhost"),
        ("A", "a"),
        ("8000", "8000"),
        ("", ""),
    ],
)
def test_a_host_is_compared_without_its_port(host: str, name: str) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost@evil", ""])
def test_only_our_own_names_are_served(settings: Settings, host: str) -> None:
    assert status(settings, "GET", host=host) == 400


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_the_names_of_loopback_are_served(settings: Settings, host: str) -> None:
    assert status(settings, "GET", host=host) is None


def test_a_request_has_one_host(settings: Settings) -> None:
    twice = Headers(raw=[(b"host", b"localhost"), (b"host", b"localhost")])
    refused = check_host_and_origin(settings, "GET", "/test-runs", twice)
    assert refused == (400, "A request must have one Host header, got more.")


def test_allowed_hosts_can_name_others_or_any(tmp_path: Path) -> None:
    named = read_settings({"PROJECT_ROOT": str(tmp_path), "ALLOWED_HOSTS": "tests.example, 10.0.0.7"})
    assert status(named, "GET", host="tests.example:443") is None
    assert status(named, "GET", host="localhost") == 400
    any_host = read_settings({"PROJECT_ROOT": str(tmp_path), "ALLOWED_HOSTS": "*"})
    assert status(any_host, "GET", host="whatever") is None


@pytest.mark.parametrize(
    ("method", "origin", "expected"),
    [
        ("POST", "http://localhost:5173", None),
        ("POST", "http://evil.example", 403),
        ("POST", "null", 403),
        ("DELETE", "http://evil.example", 403),
        ("POST", "http://localhost:5173.evil.example", 403),
        ("POST", "http://localhost:9999", 403),
        ("POST", "http://localhost:8000", None),
        ("POST", "https://localhost:8000", None),
        ("POST", "HTTPS://LocalHost:8000", None),
        ("POST", "ftp://localhost:8000", 403),
        ("POST", "", 403),
        ("PUT", "http://evil.example", 403),
        ("PATCH", "http://evil.example", 403),
        ("GETS", "http://evil.example", 403),
        ("HEAD", "http://evil.example", None),
        ("GET", "http://evil.example", None),  # CORS keeps the page from reading the answer
        ("OPTIONS", "http://evil.example", None),
    ],
)
def test_a_page_of_another_origin_may_change_nothing(
    settings: Settings, method: str, origin: str, expected: int | None
) -> None:
    assert status(settings, method, host="localhost:8000", origin=origin) == expected


def test_the_servers_own_page_may_start_runs_on_any_port(settings: Settings) -> None:
    assert status(settings, "POST", host="localhost:8123", origin="http://localhost:8123") is None
    assert status(settings, "POST", host="localhost:8123", origin="http://localhost:8124") == 403


def test_names_are_compared_in_any_case(settings: Settings) -> None:
    for scheme in ("http", "https"):
        assert status(settings, "POST", host="LocalHost:8123", origin=f"{scheme}://localhost:8123") is None


def test_who_is_no_page_may_change_what_it_likes(settings: Settings) -> None:
    for method in ("GET", "POST", "DELETE"):
        assert status(settings, method, host="localhost") is None


def test_a_host_that_is_not_ours_is_refused_whatever_its_origin(settings: Settings) -> None:
    for origin in ("http://evil.example", FRONT_END):
        assert status(settings, "POST", host="evil.example", origin=origin) == 400
    assert check_host_and_origin(settings, "GET", "/health", Headers()) == (
        400,
        f"Host must be one of {', '.join(settings.allowed_hosts)}, got ''; ALLOWED_HOSTS says which.",
    )
    refused = check_host_and_origin(settings, "GET", "/", Headers(raw=[(b"host", b"a\x1bb")]))
    assert refused is not None
    assert "\x1b" not in refused.detail


def test_a_refused_origin_is_named(settings: Settings) -> None:
    headers = Headers({"host": "localhost", "origin": "http://evil.example"})
    assert check_host_and_origin(settings, "POST", "/", headers) == (
        403,
        "Pages of 'http://evil.example' may change nothing here; CORS_ORIGINS says which may.",
    )


def test_without_a_token_in_the_settings_none_is_needed(settings: Settings) -> None:
    assert token_status(settings, "/test-runs") is None


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (f"Bearer {TOKEN}", None),
        (f"bearer   {TOKEN}", None),
        (f"Bearer {TOKEN}x", 401),
        (f"Bearer {TOKEN[:-1]}", 401),
        (f"Basic {TOKEN}", 401),
        (TOKEN, 401),
        ("Bearer \u00fc", 401),
        (f"Bearer {TOKEN} ", None),
        (f"Bearer {TOKEN} x", 401),
        (f"Bearer{TOKEN}", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("", 401),
    ],
)
def test_with_a_token_every_call_but_health_needs_it(tmp_path: Path, authorization: str, expected: int | None) -> None:
    settings = read_settings({"PROJECT_ROOT": str(tmp_path), "API_TOKEN": TOKEN})
    assert token_status(settings, "/test-runs", authorization=authorization) == expected
    assert check_token(settings, "GET", "/test-runs", Headers()) == (
        401, "This call needs the header 'Authorization: Bearer TOKEN', with the server's API_TOKEN."
    )  # fmt: skip
    assert token_status(settings, "/health", authorization=authorization) is None
    assert token_status(settings, "/api/v1/health") is None
    assert token_status(settings, "/client.pyz") is None
    for path in ("/health/x", "/", "/api/v1", "/api/v1/health/", "/HEALTH", "//health", "/x/health"):
        assert token_status(settings, path) == 401
    assert token_status(settings, "/ready") == 401


def test_the_front_end_may_start_a_run_and_read_the_answer(buy: FakeStack) -> None:
    response = start_buy(buy, Origin=FRONT_END)
    assert response.status_code == 202
    assert response.headers["access-control-allow-origin"] == FRONT_END
    exposed = response.headers["access-control-expose-headers"]
    assert exposed == "Location, ETag, X-Next-Offset, Content-Range, Accept-Ranges"


def test_a_page_somewhere_cannot_start_a_run(buy: FakeStack) -> None:
    response = start_buy(buy, Origin="http://evil.example")
    assert response.status_code == 403
    assert "http://evil.example" in response.json()["detail"]
    assert buy.redis.llen("rq:queue:bugninja") == 0
    assert buy.client.get("/test-runs").json()["total_count"] == 0


def test_an_unknown_host_is_refused_with_a_sentence(buy: FakeStack) -> None:
    for path in ("/health", "/test-runs", "/nothing"):
        response = buy.client.get(path, headers={"Host": "evil.example"})
        assert response.status_code == 400
        assert "got 'evil.example'" in response.json()["detail"]
    preflight = {"Host": "evil.example", "Origin": FRONT_END, "Access-Control-Request-Method": "POST"}
    assert buy.client.options("/test-runs", headers=preflight).status_code == 400


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_preflight_is_answered_for_our_pages_only(buy: FakeStack, method: str) -> None:
    headers = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type"}
    ours = buy.client.options("/api/v1/tasks", headers={"Origin": FRONT_END, **headers})
    assert (ours.status_code, ours.headers["access-control-allow-origin"]) == (200, FRONT_END)
    theirs = buy.client.options("/api/v1/tasks", headers={"Origin": "http://evil.example", **headers})
    assert theirs.status_code == 400
    assert "Disallowed CORS origin" in theirs.json()["detail"]


@pytest.mark.parametrize(
    "header", ["authorization", "content-type", "idempotency-key", "if-none-match", "last-event-id", "range"]
)
def test_a_preflight_lets_our_pages_send_what_the_routes_read(buy: FakeStack, header: str) -> None:
    asked = {"Origin": FRONT_END, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": header}
    assert buy.client.options("/tasks", headers=asked).status_code == 200
    refused = buy.client.options("/tasks", headers={**asked, "Access-Control-Request-Headers": f"x-{header}"})
    assert (refused.status_code, refused.json()) == (
        400, {"detail": "Disallowed CORS headers; CORS_ORIGINS says which pages may read the answers."}
    )  # fmt: skip


def test_only_a_missing_token_is_asked_for(buy: FakeStack) -> None:
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert "www-authenticate" not in buy.client.post("/test-runs/x/stop", headers=headers).headers


def test_with_a_token_every_route_wants_it_but_health_and_the_command_line(guarded: TestClient) -> None:
    paths = [re.sub(r"{.*?}", "x", operation.path) for operation, _ in ENDPOINTS] + ["/docs", "/openapi.json", "/x"]
    for path in paths:
        method = "POST" if "execute" in path or "replay" in path or "rerun" in path else "GET"
        for prefix in ("", "/api/v1"):
            response = guarded.request(method, f"{prefix}{path}")
            assert (response.status_code == 200) is (path in ("/health", "/client.pyz")), path
            if response.status_code != 200:
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


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "refusal", "asked", "sent"),
    [
        ("http", None, ["http"], []),
        ("http", Refusal(401, "why"), [], [401]),
        ("http", Refusal(403, "why"), [], [403]),
        ("lifespan", Refusal(401, "why"), ["lifespan"], []),
    ],
)
async def test_only_what_is_not_refused_gets_to_the_application(
    settings: Settings, kind: str, refusal: Refusal | None, asked: list[str], sent: list[int]
) -> None:
    seen: list[str] = []
    answers: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(message: Message) -> None:
        answers.append(message)

    scope = {"type": kind, "method": "GET", "path": "/x", "headers": [(b"host", b"h")]}
    checked: list[object] = []
    guarded = Guard(app, settings, lambda *given: checked.append(given[1:3]) or refusal)  # type: ignore[func-returns-value]
    await guarded(scope, receive, send)
    assert (seen, [message["status"] for message in answers if "status" in message]) == (asked, sent)
    assert checked == ([("GET", "/x")] if kind == "http" else [])
    challenges = [
        value for message in answers for name, value in message.get("headers", ()) if name == b"www-authenticate"
    ]
    assert challenges == ([b"Bearer"] if sent == [401] else [])
