"""The secrets in a task, a traversal, the project and the environment: documents -> `Secret` values."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from runner.env_file import readable_values
from runner.errors import SettingsError
from runner.files import NotRegular, read_if_there
from runner.redaction import Secret
from runner.spellings import SHORTEST, is_common

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|PWD|CREDENTIAL|COOKIE|AUTH(?!OR(?!I))|DSN|(?<![A-Z])PAT(?![A-Z])")
FOLDER_NAMES = ("PWD", "OLDPWD")  # variables of every shell, which hold a path
SWITCHES = frozenset({"true", "false", "yes", "no", "on", "off", "none", "null", "enabled", "disabled", "required"})
# Without a scheme before it, which would be looked for from each letter of a text.
URL_LOGIN = re.compile(r"://([^/\s:@]*)(?::([^/\s]*))?@")


class SecretNames(NamedTuple):
    """Which names say that a value is secret: those that contain a word for it, and those that the settings name, with
    `*` for anything, whatever their case."""

    also: Sequence[str] = ()
    never: Sequence[str] = ()

    def allow(self, name: str) -> bool:
        """Whether the settings let a value with this name be a secret."""
        return not _matches(name, self.never)

    def say(self, name: str) -> bool:
        """Whether the name says that its value is secret."""
        if not self.allow(name):
            return False
        plain = name.upper()
        return _matches(name, self.also) or (SECRET_NAME.search(plain) is not None and plain not in FOLDER_NAMES)


NO_NAMES = SecretNames()  # no others than those with a word for a secret


def secrets_of_task(document: Mapping[str, Any], names: SecretNames = NO_NAMES) -> Iterator[Secret]:
    """The secrets in a task's TOML: all in `[secrets]`, logins, values whose names say so, and those in URLs."""
    yield from _all_in("", _table(document.get("secrets")), names)
    yield from _login("HTTP_AUTH", _table(document.get("task")).get("http_auth"))
    yield from _login("PROXY", _table(document.get("run_config")).get("proxy"))
    yield from secrets_of_document(document, names)


def secrets_of_traversal(document: Mapping[str, Any], names: SecretNames = NO_NAMES) -> Iterator[Secret]:
    """The secrets in a traversal: `secrets`, `http_auth`, and in `browser_config` proxy, credentials and headers."""
    browser = _table(document.get("browser_config"))
    yield from _all_in("", _table(document.get("secrets")), names)
    yield from _login("HTTP_AUTH", document.get("http_auth"))
    yield from _login("HTTP_AUTH", browser.get("http_credentials"))
    yield from _login("PROXY", browser.get("proxy"))
    yield from secrets_of_text("START_URL", document.get("start_url"), names)
    for headers in (browser.get("extra_http_headers"), browser.get("headers")):
        yield from _headers(headers)


def secrets_of_document(value: Any, names: SecretNames, name: str = "") -> Iterator[Secret]:
    """The texts in any document whose names say that they are secret, and what is secret in its other texts."""
    if isinstance(value, dict):
        for key, child in value.items():
            yield from secrets_of_document(child, names, key)
    elif isinstance(value, list):
        for child in value:
            yield from secrets_of_document(child, names, name)
    elif isinstance(value, str):
        if names.say(name) and not is_switch(value):
            yield Secret(name, value)
        yield from secrets_of_text(name, value, names)


def secrets_of_text(name: str, text: Any, names: SecretNames = NO_NAMES) -> Iterator[Secret]:
    """What is secret in a text: the login in a URL, its user name and password apart, and parameters of a URL, or
    members of a JSON object, whose names say so."""
    if not isinstance(text, str) or not names.allow(name):
        return
    for login in URL_LOGIN.finditer(text):
        yield from credentials(name, unquote(login[1]), unquote(login[2] or ""))
    for query in _queries(text):
        yield from (Secret(key, value) for key, value in parse_qsl(query) if names.say(key) and not is_switch(value))
    if text.lstrip().startswith("{"):
        yield from secrets_of_document(_json(text), names, name)


def read_environment_secrets(
    environ: Mapping[str, str], project_root: Path, names: SecretNames = NO_NAMES
) -> Iterator[Secret]:
    """Secrets in this process's environment, the project's `.env` and its `bugninja.toml`; and local paths, which
    answers need not have. Raises `SettingsError` if the `.env` cannot be read, as the CLI may be able to."""
    for variables in (environ, readable_values(_read_env_file(project_root / ".env"))):
        yield from (secret for secret in secrets_of_document(dict(variables), names) if len(secret.value) >= SHORTEST)
    yield from secrets_of_document(_toml(_read_text(project_root / "bugninja.toml", project_root)), names)
    yield Secret("PROJECT_ROOT", str(project_root), instead=".")
    home = environ.get("HOME", "")
    if len(home) >= SHORTEST:  # if it is the project's root, that name comes first
        yield Secret("HOME", home, instead="~")


def read_task_secrets(path: Path, root: Path, names: SecretNames = NO_NAMES) -> tuple[Secret, ...]:
    """The secrets in a task's file, below `root`, as it is now; none if it cannot be read."""
    return tuple(secrets_of_task(_toml(_read_text(path, root)), names))


def is_switch(value: str) -> bool:
    """Whether the value only turns something on or off, or counts something."""
    return value.strip().lower() in SWITCHES or (value.strip().isdecimal() and is_common(value))


def credentials(name: str, username: str, password: str) -> Iterator[Secret]:
    """The secrets in a user name and a password: both, and the pair."""
    values = (password, username, f"{username}:{password}" if username and password else "")
    yield from (Secret(name, value) for value in values if value)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)


def _read_text(path: Path, root: Path) -> str:
    """The text of a file below `root`; none if it cannot be read (then the CLI reads none either)."""
    try:
        content = read_if_there(path, root)
    except OSError:
        return ""
    return (content or b"").decode("utf-8-sig", errors="replace")


def _read_env_file(path: Path) -> str:
    """The text of a `.env`, which may be a link: the CLI would follow it."""
    try:
        content = read_if_there(path, path) or b""
    except NotRegular:
        return ""
    except OSError as error:
        problem = f"{path} must be readable, since it may hold secrets, got: {error.strerror}."
        raise SettingsError([problem]) from None
    return content.decode("utf-8-sig", errors="replace")


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return {}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _all_in(name: str, value: Any, names: SecretNames) -> Iterator[Secret]:
    """All texts and numbers below this name, and what is secret in them apart from the rest."""
    children: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict):
        children = ((name or key, child) for key, child in value.items() if names.allow(key))
    elif isinstance(value, list):
        children = ((name, child) for child in value)
    elif isinstance(value, str | int | float) and not isinstance(value, bool):
        with suppress(ValueError):  # a number of thousands of digits, which Python does not write
            yield Secret(name, str(value))
        yield from secrets_of_text(name, value, names)
    for key, child in children:
        yield from _all_in(key, child, names)


def _queries(text: str) -> Iterator[str]:
    """The query of each URL in a text, empty if it has none."""
    for word in text.split():
        yield word.partition("://")[2].partition("?")[2].partition("#")[0]


def _login(name: str, table: Any) -> Iterator[Secret]:
    login = _table(table)
    yield from credentials(name, *(str(login.get(key) or "") for key in ("username", "password")))
    yield from secrets_of_text(name, login.get("server"))


def _headers(table: Any) -> Iterator[Secret]:
    for name, value in _table(table).items():
        if isinstance(value, str):
            yield Secret(name, value)
            yield from (Secret(name, word) for word in value.split()[1:])
