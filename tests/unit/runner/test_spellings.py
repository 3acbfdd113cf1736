"""A secret is found in all its spellings."""

import base64
import html
import json
import random
import re
import unicodedata
import urllib.parse

import pytest

from runner.folded import Text
from runner.redaction import Redactor, Secret
from runner.spellings import spellings

VALUE = 'pa ss"w\\ö/rd&'
PEM_LINES = [random.Random(line).randbytes(48).hex()[:64] for line in range(26)]
PEM = "\n".join(["-----BEGIN PRIVATE KEY-----", *PEM_LINES, "Qw3rty==", "-----END PRIVATE KEY-----", ""])

REDACT = Redactor([Secret("PASSWORD", VALUE)])


def wrapped(text: str, at: int) -> str:
    return f"│ {text[:at]} │\n│ {text[at:]} │"


def every(text: str, sign: str) -> str:
    return "".join(f"{sign}{byte:02X}" for byte in text.encode())


@pytest.mark.parametrize(
    "spelling",
    [
        VALUE,
        VALUE.upper(),
        unicodedata.normalize("NFD", VALUE),
        unicodedata.normalize("NFD", VALUE.upper()),
        json.dumps(VALUE),
        json.dumps(VALUE, ensure_ascii=False),
        json.dumps({"a": json.dumps(VALUE)}),
        repr(VALUE),
        repr(VALUE.encode()),
        html.escape(VALUE),
        html.escape(VALUE, quote=False),
        html.escape(VALUE).replace("&quot;", "&#34;"),
        urllib.parse.quote(VALUE),
        urllib.parse.quote(VALUE, safe="").lower(),
        urllib.parse.quote(VALUE, safe="!'()*"),
        urllib.parse.quote_plus(VALUE),
        every(VALUE, "%"),
        every(VALUE, "\\x"),
        "".join(f"\\u{ord(character):04X}" for character in VALUE),
        base64.b64encode(VALUE.encode()).decode(),
        base64.urlsafe_b64encode(VALUE.encode()).decode(),
        VALUE.encode().hex(),
        VALUE.encode().hex(":").upper(),
        VALUE.encode().hex(" ", 2),
        wrapped(VALUE, 8),
        wrapped(VALUE, 3).replace("pa  ", "pa "),
        VALUE[:6] + "\n" + VALUE[6:],
        VALUE[:6] + "\x1b[1;31m" + VALUE[6:],
        VALUE[:6] + "\x9b31m" + VALUE[6:],
        VALUE[:6] + "\x1bPq#0;2;0;0;0\x1b\\" + VALUE[6:],
        VALUE[:6] + "\x1b]8;;http://x/" + 20_000 * "y" + "\x07" + VALUE[6:],
        VALUE[:6] + "\x1b(B\x1b=" + VALUE[6:],
        VALUE[:6] + "\u00a0\ufffd" + VALUE[6:],
        VALUE[:6] + "\x00\x07\b\x7f\x84" + VALUE[6:],
        VALUE[:6] + "\t" + VALUE[6:],
        VALUE[:6] + "\x1b" + VALUE[6:],
        VALUE[:6] + "\x9b" + VALUE[6:],
    ],
)
def test_a_secret_is_found_in_all_its_spellings(spelling: str) -> None:
    clean = REDACT.text(f"before {spelling} after")
    assert "<secret>PASSWORD</secret>" in clean
    quotes = r"""(b?['"]|\{"a": "\\"|\\|│ )?"""
    assert re.fullmatch(f"before {quotes}<secret>PASSWORD</secret>([A-Z]?=*|['\"\\\\}}]*| │) after", clean), clean


QUOTED = '(it\'s)*</m/e>/&"you"!'


@pytest.mark.parametrize(
    "spelling",
    [
        html.escape(QUOTED),
        html.escape(QUOTED).replace("&#x27;", "&#39;").replace("&quot;", "&#34;"),
        html.escape(QUOTED, quote=False),
        urllib.parse.quote(QUOTED, safe="!'()*"),
        urllib.parse.quote(QUOTED, safe=""),
        base64.b64encode(QUOTED.encode()).decode(),
    ],
)
def test_a_secret_with_quotes_is_found(spelling: str) -> None:
    assert Redactor([Secret("S", QUOTED)]).text(f"before {spelling} after") == "before <secret>S</secret> after"


@pytest.mark.parametrize("value", ["ﬁsh-é", "FISH-É", "fish-e\u0301", "fish-É"])
@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_a_secret_is_found_in_all_forms_of_unicode(value: str, form: str) -> None:
    for text in {unicodedata.normalize(form, value) for value in (value, value.upper(), value.lower())}:  # type: ignore[arg-type]
        assert Redactor([Secret("S", value)]).text(f"a {text} b") == "a <secret>S</secret> b"


@pytest.mark.parametrize("value", ["abcde", "???>>>~~~???"])
def test_base64_in_both_alphabets_is_found(value: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        clean = Redactor([Secret("S", value)]).text(encode(value.encode()).decode())
        assert clean in ("<secret>S</secret>", "<secret>S</secret>U=")


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "någon:"])
def test_base64_of_a_longer_text_with_the_secret_in_it_is_found(before: str) -> None:
    code = base64.b64encode(f"{before}hunter2-hunter3{before}".encode()).decode()
    clean = Redactor([Secret("S", "hunter2-hunter3")]).text(f"Basic {code}")
    assert "<secret>S</secret>" in clean
    assert len(clean) - len("Basic <secret>S</secret>") <= 2 * (len(before) * 4 // 3 + 3)


@pytest.mark.parametrize("value", ["\n hunter2-x \n", "hunter2-x\n", "\thunter2-x"])
def test_white_space_at_the_ends_of_a_value_does_not_hide_it(value: str) -> None:
    assert Redactor([Secret("S", value)]).text("'hunter2-x'") == "'<secret>S</secret>'"


@pytest.mark.parametrize(
    "value", [PEM, PEM.strip(), *(PEM.replace("\n", sign) for sign in ("\\n", "\r\n", "\\r\\n", "\r", "\\r"))]
)
def test_the_lines_of_a_key_are_secret_one_by_one(value: str) -> None:
    redactor = Redactor([Secret("KEY", value)])
    assert redactor.text(PEM) in ("<secret>KEY</secret>", "<secret>KEY</secret>\n")
    log = "\n".join(f"12:00:00 INFO │ {line}" for line in PEM.split("\n"))
    clean = redactor.text(log)
    assert not any(line in clean for line in PEM_LINES)
    assert "12:00:00 INFO │ -----BEGIN PRIVATE KEY-----\n12:00:00 INFO │ <secret>KEY</secret>\n" in clean
    assert "<secret>KEY</secret>" in redactor.text(base64.b64encode(value.strip().encode()).decode())
    whole = base64.b64encode(PEM.strip().encode()).decode()
    assert "<secret>KEY</secret>" in redactor.text(whole)
    assert len(redactor.text("\n".join(whole[at : at + 76] for at in range(0, len(whole), 76)))) < 100


def test_a_short_line_of_a_longer_value_is_no_secret_by_itself() -> None:
    redactor = Redactor([Secret("S", "line\nlonger line\nseven-7\neight-88")])
    assert redactor.text("a eight-88") == "a <secret>S</secret>"
    assert redactor.text("a seven-7") == "a seven-7"
    assert redactor.text("a line") == "a line"
    assert redactor.text("a longer line") == "a <secret>S</secret>"
    assert redactor.text("line\nlonger line\nseven-7\neight-88") == "<secret>S</secret>"


def test_a_spelling_is_found_by_the_bytes_that_are_compared() -> None:
    assert b"hunter2" in spellings("Hunter2")
    assert spellings("hunter2") >= {b"hunter2", b"68756e74657232", b"ahvudgvym", b"%68%75%6e%74%65%72%32"}
    assert Text("a│\x1b[31mB\\ c").folded == b"abc"
