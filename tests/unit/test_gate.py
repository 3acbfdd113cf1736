"""Who is let in: the rules about Host, Origin and the token."""

from pathlib import Path

import pytest

from jobs.api.guard import check_host_and_origin, check_token, host_name
from runner.settings import Settings, read_settings

TOKEN = "a-token-of-20-chars!"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings({"PROJECT_ROOT": str(tmp_path)})


def status(settings: Settings, method: str, **headers: str) -> int | None:
    refused = check_host_and_origin(settings, method, "/test-runs", headers)
    return refused.status if refused else None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost:8000", "localhost"),
        ("LocalHost", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8000", "[::1]"),
        ("[::1]", "[::1]"),
        ("a:b", "a:b"),
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


def token_status(settings: Settings, path: str, **headers: str) -> int | None:
    refused = check_token(settings, "GET", path, headers)
    return refused.status if refused else None


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
        ("", 401),
    ],
)
def test_with_a_token_every_call_but_health_needs_it(tmp_path: Path, authorization: str, expected: int | None) -> None:
    settings = read_settings({"PROJECT_ROOT": str(tmp_path), "API_TOKEN": TOKEN})
    assert token_status(settings, "/test-runs", authorization=authorization) == expected
    assert token_status(settings, "/health", authorization=authorization) is None
    assert token_status(settings, "/api/v1/health") is None
    assert token_status(settings, "/health/x") == 401
    assert token_status(settings, "/ready") == 401
