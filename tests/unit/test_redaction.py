import base64
import json
import urllib.parse
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cli.log_file import LogFile
from runner.redaction import Redactor, Secret
from runner.secrets import read_environment_secrets, secrets_of_task, secrets_of_traversal

VALUE = 'pa ss"w\\ö/rd'
REDACT = Redactor([Secret("PASSWORD", VALUE)])
SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<>│┃║|"), min_size=5, max_size=20
)


def wrapped(text: str, at: int) -> str:
    return f"│ {text[:at]} │\n│ {text[at:]} │"


@pytest.mark.parametrize(
    "spelling",
    [
        VALUE,
        json.dumps(VALUE),
        json.dumps(VALUE, ensure_ascii=False),
        json.dumps({"a": json.dumps(VALUE)}),
        repr(VALUE),
        urllib.parse.quote(VALUE),
        urllib.parse.quote(VALUE, safe="").lower().replace("pa", "pa"),
        urllib.parse.quote_plus(VALUE),
        base64.b64encode(VALUE.encode()).decode(),
        wrapped(VALUE, 8),
        wrapped(VALUE, 3).replace("pa  ", "pa "),
        VALUE[:6] + "\n" + VALUE[6:],
    ],
)
def test_a_secret_is_found_in_all_its_spellings(spelling: str) -> None:
    clean = REDACT.text(f"before {spelling} after")
    assert "<secret>PASSWORD</secret>" in clean
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    for part in ("pa ss", "w\\", "rd", "cGEg"):
        assert part not in clean


def test_short_secrets_are_taken_out_where_they_are_the_whole_text() -> None:
    redactor = Redactor([Secret("PIN", "123")])
    assert redactor.text("123") == "<secret>PIN</secret>"
    assert redactor.text("1234 is a number") == "1234 is a number"


def test_lists_dicts_keys_and_numbers_are_covered() -> None:
    redactor = Redactor([Secret("A", "s3cret"), Secret("N", "4711")])
    assert redactor.value({"s3cret": ["xs3cretx", 4711, 4712, None, True]}) == {
        "<secret>A</secret>": ["x<secret>A</secret>x", "<secret>N</secret>", 4712, None, True]
    }


def test_the_longer_of_two_secrets_wins() -> None:
    redactor = Redactor([Secret("SHORT", "abcd"), Secret("LONG", "abcdefgh")])
    assert redactor.text("abcdefgh abcd") == "<secret>LONG</secret> <secret>SHORT</secret>"


@given(SECRETS, st.text(max_size=30), st.text(max_size=30))
def test_whatever_stands_around_it_a_secret_does_not_stay(secret: str, before: str, after: str) -> None:
    clean = Redactor([Secret("S", secret)]).text(before + secret + after)
    assert secret not in clean.replace("<secret>S</secret>", "\0")


def test_secrets_of_a_task_and_of_a_traversal() -> None:
    task = {
        "secrets": {"PASSWORD": "p1", "PIN": 4711, "NESTED": {"x": "n1"}},
        "task": {"http_auth": {"username": "u2", "password": "p2"}, "start_url": "http://u3:p3@host/"},
        "run_config": {"proxy": {"server": "http://u4:p4@proxy:1"}},
    }
    values = {secret.value for secret in secrets_of_task(task)}
    pair = base64.b64encode(b"u2:p2").decode()
    assert {"p1", "4711", "n1", "u2", "p2", "u2:p2", pair, "u3", "p3", "u4", "p4"} <= values
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


def test_secrets_of_the_environment_and_the_projects_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text('OPENAI_API_KEY=from-file\nexport \'broken\nOTHER=x\nDB_PASSWORD="quoted one"\n')
    environ = {"MY_TOKEN": "from-env", "A_SECRET": "abc", "PATH": "/bin", "HOME": "/home/ada"}
    found = {secret.name: secret for secret in read_environment_secrets(environ, tmp_path)}
    assert found["MY_TOKEN"].value == "from-env"
    assert found["OPENAI_API_KEY"].value == "from-file"
    assert found["DB_PASSWORD"].value == "quoted one"
    assert "A_SECRET" not in found  # too short to be told from any other text
    redactor = Redactor(found.values())
    assert redactor.text(f"{tmp_path}/tasks/x and /home/ada/.cache") == "./tasks/x and ~/.cache"


@given(st.data())
def test_a_log_holds_no_secret_however_the_output_arrives(data: st.DataObject) -> None:
    import tempfile

    secret = data.draw(SECRETS)
    text = data.draw(st.text(max_size=20)) + "\x1b[31m" + secret + "\x1b[0m\n" + wrapped(secret, len(secret) // 2)
    raw = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cli.log"
        log = LogFile(path, Redactor([Secret("S", secret)]))
        for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
            log.feed(raw[start:end])
            so_far = path.read_text().replace("<secret>S</secret>", "\0")
            assert secret not in so_far
        log.close()
        written = path.read_text()
    assert "\x1b" not in written
    assert written.count("<secret>S</secret>") >= 2


def test_a_log_follows_its_cli_without_waiting_for_the_end_of_a_line(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "cli.log", Redactor([Secret("S", "hunter2")]))
    log.feed(b"Continue? ")
    assert (tmp_path / "cli.log").read_text() == "Continue? "
    log.feed(b"hunt")
    assert (tmp_path / "cli.log").read_text() == "Continue? "
    log.feed(b"ing\n")
    assert (tmp_path / "cli.log").read_text() == "Continue? hunting\n"
    log.close()


def test_a_log_that_grows_without_end_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "cli.log", Redactor([]), kept_bytes=1000, tail_bytes=100)
    for number in range(1000):
        log.feed(f"line {number}\n".encode())
    log.close()
    text = (tmp_path / "cli.log").read_text()
    assert text.startswith("line 0\n")
    assert text.endswith("line 999\n")
    assert "bytes are left out here" in text
    assert len(text) < 1300


def test_a_full_disk_costs_the_log_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    log = LogFile(tmp_path / "cli.log", Redactor([]))
    monkeypatch.setattr("runner.cli.log_file.os.write", full)
    log.feed(b"one\n")
    log.feed(b"two\n")
    log.close()
    assert log.problem == "No space left on device"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/srv/shop/tasks/x.toml", "./tasks/x.toml"),
        ("in /srv/shop", "in ."),
        ("file:///srv/shop/x", "file://./x"),
        ("--root=/srv/shop --x", "--root=. --x"),
        ("https://shop.example/srv/shop/login", "https://shop.example/srv/shop/login"),
        ("http://[::1]/srv/shop", "http://[::1]/srv/shop"),
        ("/srv/shopping", "/srv/shopping"),
    ],
)
def test_a_local_path_is_taken_out_where_it_is_one(text: str, shown: str) -> None:
    assert Redactor([Secret("PROJECT_ROOT", "/srv/shop", instead=".")]).text(text) == shown
