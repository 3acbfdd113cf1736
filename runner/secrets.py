"""The secrets in a task, a traversal and the environment: documents -> `Secret` values."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from honcho.environ import parse as parse_env

from runner.files import read_if_there
from runner.redaction import SHORTEST, Secret, credentials, environment_secrets


def secrets_of_task(document: Mapping[str, Any]) -> Iterator[Secret]:
    """The secrets in a task's TOML: `[secrets]`, `[task.http_auth]`, `[run_config.proxy]` and those in its URLs."""
    task, run_config = _table(document.get("task")), _table(document.get("run_config"))
    yield from _named(document.get("secrets"))
    yield from _login("HTTP_AUTH", task.get("http_auth"))
    yield from _login("PROXY", run_config.get("proxy"))
    yield from secrets_of_url("START_URL", task.get("start_url"))


def secrets_of_traversal(document: Mapping[str, Any]) -> Iterator[Secret]:
    """The secrets in a traversal: `secrets`, `http_auth`, and in `browser_config` proxy, credentials and headers."""
    browser = _table(document.get("browser_config"))
    yield from _named(document.get("secrets"))
    yield from _login("HTTP_AUTH", document.get("http_auth"))
    yield from _login("HTTP_AUTH", browser.get("http_credentials"))
    yield from _login("PROXY", browser.get("proxy"))
    yield from secrets_of_url("START_URL", document.get("start_url"))
    for headers in (browser.get("extra_http_headers"), browser.get("headers")):
        yield from _headers(headers)


def read_environment_secrets(environ: Mapping[str, str], project_root: Path) -> Iterator[Secret]:
    """Secret variables of this process and of the project's `.env`, and local paths, which answers need not have."""
    yield from environment_secrets(environ)
    content = read_if_there(project_root / ".env")
    if content is not None:
        yield from environment_secrets(_env_file(content.decode("utf-8", errors="replace")))
    yield Secret("PROJECT_ROOT", str(project_root), instead=".")
    home = environ.get("HOME", "")
    if len(home) >= SHORTEST and home != str(project_root):
        yield Secret("HOME", home, instead="~")


def read_task_secrets(path: Path) -> tuple[Secret, ...]:
    """The secrets in a task's file as it is now; none if it cannot be read (then the CLI has none either)."""
    try:
        content = read_if_there(path)
        return tuple(secrets_of_task(tomllib.loads((content or b"").decode("utf-8"))))
    except (OSError, ValueError, RecursionError):
        return ()


def _env_file(text: str) -> dict[str, str]:
    """A `.env` file; a line that cannot be read is passed over, the others count."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        try:
            values.update(parse_env(line))
        except ValueError:
            continue
    return values


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _named(table: Any) -> Iterator[Secret]:
    for name, value in _table(table).items():
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            yield Secret(name, str(value))
        elif isinstance(value, dict | list):
            yield from (Secret(name, text) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    children: Iterable[Any] = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from _texts(child)
    if isinstance(value, str):
        yield value


def _login(name: str, table: Any) -> Iterator[Secret]:
    login = _table(table)
    username, password = (str(login.get(key) or "") for key in ("username", "password"))
    if username or password:
        yield from credentials(name, username, password)
    yield from secrets_of_url(name, login.get("server"))


def secrets_of_url(name: str, url: Any) -> Iterator[Secret]:
    """The user name and the password in a URL, if there are any."""
    if not isinstance(url, str) or "@" not in url:
        return
    try:
        parts = urlsplit(url)
    except ValueError:
        return
    yield from credentials(name, unquote(parts.username or ""), unquote(parts.password or ""))


def _headers(table: Any) -> Iterator[Secret]:
    for name, value in _table(table).items():
        if isinstance(value, str):
            yield Secret(name, value)
            yield from (Secret(name, word) for word in value.split()[1:])
