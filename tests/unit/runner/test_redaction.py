"""Secrets are taken out of texts."""

import base64
import json
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.redaction import Redactor, Secret

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


@pytest.mark.parametrize(
    ("text", "clean"),
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
def test_a_local_path_is_taken_out_where_it_is_one(text: str, clean: str) -> None:
    assert Redactor([Secret("PROJECT_ROOT", "/srv/shop", instead=".")]).text(text) == clean
