"""What is secret."""

import os
from pathlib import Path
from typing import Any

import pytest

from runner.errors import SettingsError
from runner.redaction import Redactor
from runner.secrets import (
    NO_NAMES,
    SecretNames,
    credentials,
    is_switch,
    read_environment_secrets,
    read_task_secrets,
    secrets_of_document,
    secrets_of_task,
    secrets_of_text,
    secrets_of_traversal,
)
from tests.project import Project


def test_secrets_of_a_task_and_of_a_traversal() -> None:
    task = {
        "secrets": {"PASSWORD": "p1", "PIN": 4711, "NESTED": {"x": "n1"}},
        "task": {"http_auth": {"username": "u2", "password": "p2"}, "start_url": "http://u3:p3@host/"},
        "run_config": {"proxy": {"server": "http://u4:p4@proxy:1"}},
    }
    values = {secret.value for secret in secrets_of_task(task)}
    assert {"p1", "4711", "n1", "u2", "p2", "u2:p2", "u3", "p3", "u4", "p4"} <= values
    traversal = {
        "secrets": {"A": "s1"},
        "http_auth": {"username": "u1", "password": "p1"},
        "browser_config": {
            "http_credentials": {"username": "u2", "password": "p2"},
            "proxy": {"server": "x", "username": "u3", "password": "p3"},
            "extra_http_headers": {"Authorization": "Bearer t1"},
            "headers": {"X-Key": "k1"},
        },
    }
    values = {secret.value for secret in secrets_of_traversal(traversal)}
    assert {"s1", "u1", "p1", "u2", "p2", "u3", "p3", "Bearer t1", "t1", "k1"} <= values
    odd: list[dict[str, Any]] = [{}, {"secrets": 3, "browser_config": [], "http_auth": "x", "start_url": 4}]
    assert [list(secrets_of_traversal(document)) for document in odd] == [[], []]


@pytest.mark.parametrize(
    "name",
    ["API_KEY", "KEY_ID", "openai_api_key", "TOKENS", "X_SECRETS_1", "DB_PASS", "PASSPHRASE", "PGPASSWORD", "MYSQL_PWD",
     "AWS_CREDENTIALS", "SESSION_COOKIES", "BASIC_AUTH", "AUTHORIZATION", "OAUTH2", "SENTRY_DSN", "GITHUB_PAT", "PAT", "apiKey", "PAT_1"],
)  # fmt: skip
def test_a_name_that_contains_a_word_for_it_is_that_of_a_secret(name: str) -> None:
    assert NO_NAMES.say(name)
    assert not SecretNames(never=("X_*", name.lower())).say(name)


@pytest.mark.parametrize(
    "name",
    ["PATH", "PWD", "OLDPWD", "GIT_AUTHOR_NAME", "AUTHORS", "AUTHOR", "HOME", "USER", "PATTERN", "COMPAT", "DISPATCH",
     "MONEY", "TAKE", "BROKEN", "STOKED", "SECRECY", "CLASS", "PASTE", "PWM", "CROWD", "COOKING", "ROOKIE", "SOUTH", "AUTO",
     "HOLDS", "ASN", "LANG", ""],
)  # fmt: skip
def test_another_name_is_not(name: str) -> None:
    assert not NO_NAMES.say(name)
    assert SecretNames(also=("x", name.lower() or "*")).say(name)
    assert not SecretNames(also=("*",), never=("*",)).say(name)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"secrets": {"A": {"B": "b1", "C": ["c1", {"D": "d1"}]}}}, {("A", "b1"), ("A", "c1"), ("A", "d1")}),
        ({"secrets": {"N": 4711, "F": 1.5, "T": True, "O": None}}, {("F", "1.5"), ("N", "4711")}),
        ({"secrets": {"U": "a://b:c@h"}}, {("U", "b"), ("U", "c"), ("U", "b:c"), ("U", "a://b:c@h")}),
        ({"task": {"http_auth": {"username": "ann"}}}, {("HTTP_AUTH", "ann")}),
        ({"run_config": {"proxy": {"username": "ann"}}}, {("PROXY", "ann")}),
        ({"run_config": {"http_auth": {"username": "ann"}}, "task": {"proxy": {"username": "ann"}}}, set()),
        ({"task": {"api_keys": ["one", ["two"]], "hosts": [{"token": "three", "max_tokens": 4}]}},
         {("api_keys", "one"), ("api_keys", "two"), ("token", "three")}),
        ({"task": {"auth": {"kind": "basic", "auth_mode": "required"}}}, set()),
    ],
)  # fmt: skip
def test_a_secret_has_the_name_under_which_the_task_has_it(
    document: dict[str, Any], found: set[tuple[str, str]]
) -> None:
    assert {(secret.name, secret.value) for secret in secrets_of_task(document)} == found


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({"secrets": {"A": {"B": "b1"}}}, {("A", "b1")}),
        ({"http_auth": {"username": "ann", "password": 12}}, {("HTTP_AUTH", "ann"), ("HTTP_AUTH", "12"), ("HTTP_AUTH", "ann:12")}),
        ({"http_auth": {"username": "ann", "password": None}}, {("HTTP_AUTH", "ann")}),
        ({"browser_config": {"http_credentials": {"password": "word"}}}, {("HTTP_AUTH", "word")}),
        ({"browser_config": {"proxy": {"username": "ann"}}}, {("PROXY", "ann")}),
        ({"browser_config": {"proxy": {"server": "http://ann@h:1"}}}, {("PROXY", "ann")}),
        ({"start_url": "http://ann@h/?token=t0k"}, {("START_URL", "ann"), ("token", "t0k")}),
        ({"browser_config": {"headers": {"X": "one  two three", "N": 3}}},
         {("X", "one  two three"), ("X", "two"), ("X", "three")}),
        ({"browser_config": {"extra_http_headers": {"X": "one"}}, "headers": {"Y": "no"}}, {("X", "one")}),
    ],
)  # fmt: skip
def test_a_traversal_names_secrets_of_its_own(document: dict[str, Any], found: set[tuple[str, str]]) -> None:
    assert {(secret.name, secret.value) for secret in secrets_of_traversal(document)} == found


def test_what_the_settings_call_no_secret_is_none_in_a_traversal(tmp_path: Path) -> None:
    document = {"secrets": {"A": {"HOST": "h1", "B": "b1"}, "HOST": "h2"}, "start_url": "http://ann@h/?token=t0k"}
    names = SecretNames(never=("host", "start_*"))
    assert {secret.value for secret in secrets_of_traversal(document, names)} == {"b1"}


@pytest.mark.parametrize("word", ["true", "false", "yes", "no", "on", "off", "none", "null", "enabled", "disabled", "required",
                                  " True\n", "3600", " 99999 "])  # fmt: skip
def test_what_only_turns_something_on_or_off_or_counts_is_no_secret(word: str) -> None:
    assert is_switch(word)
    assert [*secrets_of_document({"TOKEN": word}, NO_NAMES)] == []
    assert [*secrets_of_text("HOOK", f"http://h/?token={word.strip()}")] == []


@pytest.mark.parametrize("word", ["123456", "truest", "-1", "1.5", "admin", "abc"])
def test_every_other_value_may_be_one(word: str) -> None:
    assert not is_switch(word)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("postgresql+psycopg2://ann:word@h", ["word", "ann", "ann:word"]),
        ("S3.a-b://ann@h", ["ann"]),
        ("HTTP://ann@h", ["ann"]),
        ("http://a%40b:p%3Aw@h", ["p:w", "a@b", "a@b:p:w"]),
        ("http://ann:p@ss:word@h", ["p@ss:word", "ann", "ann:p@ss:word"]),
        ("http://ann:@h", ["ann"]),
        ("http://:word@h", ["word"]),
        ("http://h and ann:word@h", []),
        ("http://h:80 and ann@h", []),
        ("http://h/ann:word@h", []),
        ("http://h:80/ann@h", []),
        ("http:/ann@h", []),
        ("http://h?token=one and two", ["one"]),
        ("http://h?token=one#two", ["one"]),
        ("http://h/a?b=c&token=one&x=two", ["one"]),
        ("S3.a-b+c://h?token=one", ["one"]),
        ("http://h and x?token=one", []),
        ("http://h/x#y?token=one", ["one"]),
        ("http://h,http://h?token=one", ["one"]),
        ("http://h?token=http://h?x", ["http://h?x"]),
        ("h?token=one", []),
        ("http://h?a=b?token=one", []),
        ("http://h?token=", []),
        (' {"token": "one", "x": "two", "y": {"secret": ["three"]}}', ["one", "three"]),
        ('["token"]', []),
        ('{"a": ' + "[" * 100_000, []),
        ("{" * 9, []),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_is_secret_in_a_text(text: str, values: list[str]) -> None:
    assert [secret.value for secret in secrets_of_text("X", text)] == values
    assert {secret.name for secret in secrets_of_text("X", text)} <= {"X", "token", "secret"}


@pytest.mark.parametrize("piece", ["a", "a.b-1", "://", "a://", "a://b:", "?", "a://b?", "a@"])
def test_a_long_text_is_searched_in_a_moment(piece: str) -> None:
    """Such as a token of many kB: not once more from each of its letters."""
    assert [*secrets_of_text("X", piece * (400_000 // len(piece)))] == []


def test_what_is_no_text_holds_no_secret() -> None:
    assert [[*secrets_of_text("X", value)] for value in (None, 3, ["http://ann@h"])] == [[], [], []]


def test_a_user_name_and_a_password_are_secret_together_and_apart() -> None:
    assert [secret.value for secret in credentials("X", "ann", "word")] == ["word", "ann", "ann:word"]
    assert [secret.value for secret in credentials("X", "ann", "")] == ["ann"]
    assert [secret.value for secret in credentials("X", "", "word")] == ["word"]
    assert [secret.name for secret in credentials("X", "ann", "")] == ["X"]


def test_the_secrets_of_a_task_are_those_that_its_file_has_now(tmp_path: Path) -> None:
    path = tmp_path / "buy" / "task_buy.toml"
    assert read_task_secrets(path, tmp_path) == ()
    path.parent.mkdir()
    path.write_bytes(b'\xef\xbb\xbf[secrets]\nA = "word"\nHOST = "h\xff"\n')
    assert {secret.value for secret in read_task_secrets(path, tmp_path)} == {"word", "h\ufffd"}
    assert {secret.value for secret in read_task_secrets(path, tmp_path, SecretNames(never=("HOST",)))} == {"word"}
    for broken in ("[secrets", "a = " + "[" * 100_000):
        path.write_text(broken)
        assert read_task_secrets(path, tmp_path) == ()
    path.unlink()
    (tmp_path / "elsewhere").write_text('[secrets]\nA = "word"\n')
    path.symlink_to(tmp_path / "elsewhere")
    assert read_task_secrets(path, tmp_path) == (), "no link is followed"


def test_an_env_file_that_cannot_be_read_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text("A_KEY=word")
    (tmp_path / "bugninja.toml").write_text('api_key = "other-word"')
    monkeypatch.setattr("runner.files.MAX_BYTES", 3)
    with pytest.raises(SettingsError) as caught:
        list(read_environment_secrets({}, tmp_path))
    assert f"{tmp_path}/.env must be readable, since it may hold secrets, got: it is larger than" in str(caught.value)
    (tmp_path / ".env").unlink()
    assert [secret.name for secret in read_environment_secrets({}, tmp_path)] == ["PROJECT_ROOT"]


def test_a_variable_is_a_secret_from_four_characters_on(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("C_KEY=wrd\nD_KEY=w0rd\nU=http://u:xyz@h\n")
    found = read_environment_secrets({"A_KEY": "abc", "B_KEY": "abcd", "HOME": "/ab"}, tmp_path)
    assert [(secret.name, secret.value) for secret in found] == [
        ("B_KEY", "abcd"), ("D_KEY", "w0rd"), ("U", "u:xyz"), ("PROJECT_ROOT", str(tmp_path))
    ]  # fmt: skip
    found = read_environment_secrets({"HOME": "/abc"}, tmp_path)
    assert ("HOME", "/abc", "~") in [(secret.name, secret.value, secret.instead) for secret in found]


@pytest.mark.parametrize(
    ("name", "value", "values"),
    [
        ("MY_TOKEN", "from-env", {"from-env"}),
        ("MY_TOKEN", "abc", set()),
        ("AUTH_ENABLED", "true", set()),
        ("TOKEN_TTL", "3600", set()),
        ("PIN_KEY", "123456", {"123456"}),
        ("ADMIN_PASSWORD", "admin", {"admin"}),
        ("DATABASE_URL", "postgres://shop:p%40ss@db/shop", {"shop", "p@ss", "shop:p@ss"}),
        ("HTTP_PROXY", "http://proxy-user@proxy:3128", {"proxy-user"}),
        ("REDIS_URL", "redis://:pa#ss@h/0", {"pa#ss"}),
        ("REDIS_URL", "redis://h?password=swordfish&db=1", {"swordfish"}),
        (
            "HOOK",
            "see https://a/?x=1&api_key=s3cr3t&t=2#x and http://u1ser:p1ass@b",
            {"s3cr3t", "u1ser", "p1ass", "u1ser:p1ass"},
        ),
        ("GOOGLE", '{"type": "x", "private_key": "-----BEGIN\\nabcdefgh"}', {"-----BEGIN\nabcdefgh"}),
        ("GOOGLE", '{"broken', set()),
        ("PLAIN", "http://host:80/a?b=c", set()),
        ("SHOP_LOGIN", "mallory", {"mallory"}),
        ("NO_KEY", "mallory", set()),
        ("NO_URL", "http://u:mallory@h", set()),
    ],
)
def test_secrets_of_a_variable(name: str, value: str, values: set[str], tmp_path: Path) -> None:
    names = SecretNames(also=("shop_*",), never=("NO_*",))
    for environ, dotenv in (({name: value}, ""), ({}, f"export {name}='{value}'\n")):
        (tmp_path / ".env").write_text(dotenv + "'broken\n")
        found = {secret.value for secret in read_environment_secrets(environ, tmp_path, names)}
        assert found - {str(tmp_path)} == values


def test_secrets_of_the_project_and_its_env_file_and_local_paths(tmp_path: Path) -> None:
    dotenv = b'\xef\xbb\xbfOPENAI_API_KEY=from-file\r\nexport \'broken\nOTHER=x\nDB_PASSWORD="quoted one"\nexport A_PAT=pat-1\nU=\xff'
    (tmp_path / ".env").write_bytes(dotenv)
    (tmp_path / "bugninja.toml").write_text(
        '[project]\nname = "shop"\n[llm]\napi_key = "toml-key"\nmax_tokens = 4096\n'
        '[[hosts]]\npassword = "toml-word"\nurl = "http://ann:ann-word@h"\n'
    )
    environ = {"MY_TOKEN": "from-env", "A_SECRET": "abc", "PATH": "/bin", "HOME": "/home/ada"}
    found = list(read_environment_secrets(environ, tmp_path))
    assert {(secret.name, secret.value) for secret in found if secret.instead is None} == {
        ("MY_TOKEN", "from-env"), ("OPENAI_API_KEY", "from-file"), ("DB_PASSWORD", "quoted one"), ("A_PAT", "pat-1"),
        ("api_key", "toml-key"), ("password", "toml-word"), ("url", "ann"), ("url", "ann-word"), ("url", "ann:ann-word"),
    }  # fmt: skip
    redactor = Redactor(found)
    assert redactor.text(f"{tmp_path}/tasks/x and /home/ada/.cache") == "./tasks/x and ~/.cache"
    at_home = read_environment_secrets({"HOME": str(tmp_path)}, tmp_path)
    assert Redactor(at_home).text(f"{tmp_path}/x") == "./x"
    assert Redactor(read_environment_secrets({"HOME": "/"}, tmp_path)).text("/x") == "/x"


def test_the_settings_name_what_is_secret_and_what_is_not(tmp_path: Path) -> None:
    task = {
        "secrets": {"USERNAME": "mallory", "PASSWORD": "hunter2"},
        "task": {"shop": {"login": "s3cr3t"}, "api_key": "k3y-1"},
    }
    names = SecretNames(also=("login",), never=("user*", "*_key"))
    assert {secret.value for secret in secrets_of_task(task, names)} == {"hunter2", "s3cr3t"}
    assert {secret.value for secret in secrets_of_traversal(task, names)} == {"hunter2"}
    settings = Project(tmp_path).settings(REDACT_NAMES=" login ,SHOP_*", REDACT_NOT="USER*")
    assert (settings.redact_names, settings.redact_not) == (("login", "SHOP_*"), ("USER*",))
    assert Project(tmp_path).settings().redact_names == ()


def test_the_env_file_of_the_project_may_be_a_link_to_a_file(tmp_path: Path) -> None:
    """The CLI follows it, so its secrets must be known."""
    env, elsewhere = tmp_path / "project" / ".env", tmp_path / "elsewhere"
    env.parent.mkdir()
    elsewhere.write_bytes(b"\xef\xbb\xbfOPENAI_API_KEY=from-elsewhere\n")
    env.symlink_to(elsewhere)
    found = {secret.name: secret.value for secret in read_environment_secrets({}, env.parent)}
    assert found["OPENAI_API_KEY"] == "from-elsewhere"
    elsewhere.unlink()
    elsewhere.symlink_to(elsewhere)
    assert [secret.name for secret in read_environment_secrets({}, env.parent)] == ["PROJECT_ROOT"]
    elsewhere.unlink()
    os.mkfifo(elsewhere)
    assert [secret.name for secret in read_environment_secrets({}, env.parent)] == ["PROJECT_ROOT"]
    env.unlink()
    assert [secret.name for secret in read_environment_secrets({}, env.parent)] == ["PROJECT_ROOT"]


def test_a_number_of_thousands_of_digits_hides_no_other_secret(tmp_path: Path) -> None:
    path = tmp_path / "task.toml"
    path.write_text(f'[secrets]\nN = 0x{"f" * 5000}\nPASSWORD = "hunter2"\n')
    assert {secret.value for secret in read_task_secrets(path, tmp_path)} == {"hunter2"}
