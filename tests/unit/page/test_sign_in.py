"""Signing in with the token, so that a browser is let in."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import quote

import fakeredis
import pytest
from itsdangerous import TimestampSigner
from starlette.testclient import TestClient

from app import create_app
from jobs.api.guard import SESSION_SECONDS, new_session
from jobs.services import Services
from tests.project import Project
from tests.unit.page.pages import Page

TOKEN = "0123456789abcdef"
HTML = {"Accept": "text/html"}


@contextmanager
def client_of(project: Project, **settings: str) -> Iterator[TestClient]:
    """A client that follows no redirects."""
    server = fakeredis.FakeServer()
    redis, reader = fakeredis.FakeRedis(server=server), fakeredis.FakeAsyncRedis(server=server)
    app = create_app(project.settings(**settings), partial(Services.build, writing=redis, reading=reader))
    with TestClient(app, "http://127.0.0.1:8000", follow_redirects=False) as client:
        yield client


@pytest.fixture
def client(project: Project) -> Iterator[TestClient]:
    """A client of a server with a token."""
    project.add_task("buy")
    with client_of(project, API_TOKEN=TOKEN) as client:
        yield client


def sign_in(client: TestClient, token: str = TOKEN, place: str = "/", **headers: str) -> tuple[int, str, str]:
    """Status, Location and Set-Cookie of the answer to the form."""
    answer = client.post("/ui/sign-in", data={"token": token, "next": place}, headers=headers)
    return answer.status_code, answer.headers.get("location", ""), answer.headers.get("set-cookie", "")


def test_a_browser_signs_in_and_goes_on_to_the_page_that_it_wanted(client: TestClient) -> None:
    wanted = "/ui/tasks?sort=task"
    answer = client.get(wanted, headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/ui/sign-in?next={quote(wanted, safe='')}")
    form = Page(client.get(answer.headers["location"]).text)
    assert form.all("input", name="next")[0]["value"] == wanted
    assert form.all("input", type="password")
    status, place, cookie = sign_in(client, place=wanted)
    assert (status, place) == (303, wanted)
    assert cookie.startswith("bugninja_session_8000=")
    for word in ("HttpOnly", "SameSite=strict", f"Max-Age={SESSION_SECONDS}", "Path=/"):
        assert word in cookie
    assert SESSION_SECONDS == 12 * 3600
    page = client.get(wanted, headers=HTML)
    assert page.status_code == 200
    assert Page(page.text).posts[0] == "/ui/sign-out"
    assert client.get("/test-runs").status_code == 200
    assert client.get(f"/ui/sign-in?next={quote(wanted)}").headers["location"] == wanted


def test_programs_get_401_as_before(client: TestClient) -> None:
    for path in ("/", "/test-runs", "/ui/tasks", "/tasks/buy/screenshots/x/1.png"):
        assert client.get(path).status_code == 401, path
    assert client.get("/test-runs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.post("/test-runs/execute-configuration/buy/buy_default", headers={"Accept": "*/*"}).status_code == 401


def test_a_wrong_token_is_said_and_sets_no_cookie(client: TestClient) -> None:
    answer = client.post("/ui/sign-in", data={"token": "x" * 16, "next": "/ui/tasks"})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    page = Page(answer.text)
    assert "This is not the server's API_TOKEN." in page.text
    assert page.all("input", name="next")[0]["value"] == "/ui/tasks"
    assert client.post("/ui/sign-in", json={}).status_code == 415
    assert client.post("/ui/sign-in").status_code == 401


@pytest.mark.parametrize(
    "place", ["//evil.example", "/\\evil.example", "https://evil.example", "", "javascript:x", "/a\nb"]
)
def test_one_goes_on_nowhere_else(client: TestClient, place: str) -> None:
    assert sign_in(client, place=place)[:2] == (303, "/")


def test_a_form_without_referrer_signs_in_but_changes_nothing_else(client: TestClient) -> None:
    assert sign_in(client, Origin="null")[0] == 303
    start = "/test-runs/execute-configuration/buy/buy_default"
    for origin in ("null", "https://evil.example"):
        assert client.post(start, headers={"Origin": origin}).status_code == 403
        assert client.post("/ui/sign-out", headers={"Origin": origin}).status_code == 403
    assert sign_in(client, Origin="https://evil.example")[0] == 403
    assert client.post(start, headers={"Origin": "http://127.0.0.1:8000"}).status_code == 202


def test_a_cookie_lasts_12_hours_and_only_as_long_as_the_token(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = project.settings(API_TOKEN=TOKEN)
    fresh, other = new_session(settings), new_session(project.settings(API_TOKEN="another-token-of-it"))
    now = TimestampSigner("x").get_timestamp()
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _: now - SESSION_SECONDS - 1)
    old = new_session(settings)
    monkeypatch.undo()
    with client_of(project, API_TOKEN=TOKEN) as client:
        for value, status in ((fresh, 200), (other, 401), (old, 401), (fresh[:-1], 401), ("", 401), ("x.y.z", 401)):
            answer = client.get("/test-runs", headers={"Cookie": f"bugninja_session_8000={value}"})
            assert answer.status_code == status, value


def test_signing_out_takes_the_cookie_away(client: TestClient) -> None:
    sign_in(client)
    assert client.get("/test-runs").status_code == 200
    assert client.post("/ui/sign-out").json() == {}
    assert client.get("/test-runs").status_code == 401


def test_without_a_token_there_is_nothing_to_sign_in_to(project: Project) -> None:
    with client_of(project) as client:
        assert client.get("/ui/sign-in").status_code == 404
        assert client.post("/ui/sign-in", data={"token": ""}).status_code == 404
        assert "/ui/sign-out" not in client.get("/").text


def test_over_https_the_cookie_stays_there(project: Project) -> None:
    with client_of(project, API_TOKEN=TOKEN) as client:
        client.base_url = "https://127.0.0.1:8000"
        assert "Secure" in sign_in(client)[2]


def test_ui_off_leaves_the_calls_and_the_report(project: Project) -> None:
    with client_of(project, UI="off", API_TOKEN=TOKEN) as client:
        assert client.get("/", headers=HTML).status_code == 401
        known = {"Authorization": f"Bearer {TOKEN}", **HTML}
        for path in ("/", "/ui/tasks", "/ui/batches", "/ui/static/style.css", "/ui/sign-in"):
            answer = client.get(path, headers=known)
            assert (answer.status_code, answer.json()["detail"]) == (404, f"GET {path}: Not Found")
        for kind, path in (("run", "/test-runs/nothing"), ("batch", f"/batches/{'b' * 24}")):
            detail = client.get(f"{path}/report.html", headers=known).json()["detail"]
            assert detail.startswith(f"There is no {kind}")
