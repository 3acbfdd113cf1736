"""Secrets are taken out of texts."""

import base64
import html
import json
import random
import string
import unicodedata
import urllib.parse

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.folded import Text
from runner.redaction import BLOCK_BYTES, LONGEST_WAIT, RedactedStream, Redactor, Search, Secret
from runner.spellings import is_common, spellings

VALUE = 'pa ss"w\\ö/rd&'
PEM_LINES = [random.Random(line).randbytes(48).hex()[:64] for line in range(26)]
PEM = "\n".join(["-----BEGIN PRIVATE KEY-----", *PEM_LINES, "Qw3rty==", "-----END PRIVATE KEY-----", ""])

REDACT = Redactor([Secret("PASSWORD", VALUE)])

SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<>│┃║|"), min_size=5, max_size=20
).filter(lambda value: not is_common(value))


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
        VALUE[:6] + "\x1b" + VALUE[6:],
        VALUE[:6] + "\x9b" + VALUE[6:],
    ],
)
def test_a_secret_is_found_in_all_its_spellings(spelling: str) -> None:
    clean = REDACT.text(f"before {spelling} after")
    assert "<secret>PASSWORD</secret>" in clean
    assert clean.startswith("before ")
    assert clean.endswith(" after")
    for part in ("pa ss", "w\\", "rd", "cgeg", "7061", "5c", "x70"):
        assert part not in clean.replace("<secret>PASSWORD</secret>", "").lower()


@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "någon:"])
def test_base64_of_a_longer_text_with_the_secret_in_it_is_found(before: str) -> None:
    code = base64.b64encode(f"{before}hunter2-hunter3{before}".encode()).decode()
    clean = Redactor([Secret("S", "hunter2-hunter3")]).text(f"Basic {code}")
    assert "<secret>S</secret>" in clean
    assert len(clean) - len("Basic <secret>S</secret>") <= 2 * (len(before) * 4 // 3 + 3)


@pytest.mark.parametrize("value", ["\n hunter2-x \n", "hunter2-x\n", "\thunter2-x"])
def test_white_space_at_the_ends_of_a_value_does_not_hide_it(value: str) -> None:
    assert Redactor([Secret("S", value)]).text("'hunter2-x'") == "'<secret>S</secret>'"


@pytest.mark.parametrize("value", [PEM, PEM.strip(), PEM.replace("\n", "\\n"), PEM.replace("\n", "\r\n")])
def test_the_lines_of_a_key_are_secret_one_by_one(value: str) -> None:
    redactor = Redactor([Secret("KEY", value)])
    assert redactor.text(PEM) in ("<secret>KEY</secret>", "<secret>KEY</secret>\n")
    log = "\n".join(f"12:00:00 INFO │ {line}" for line in PEM.split("\n"))
    clean = redactor.text(log)
    assert not any(line in clean for line in PEM_LINES)
    assert "12:00:00 INFO │ -----BEGIN PRIVATE KEY-----\n12:00:00 INFO │ <secret>KEY</secret>\n" in clean
    whole = base64.b64encode(PEM.strip().encode()).decode()
    assert "<secret>KEY</secret>" in redactor.text(whole)
    assert len(redactor.text("\n".join(whole[at : at + 76] for at in range(0, len(whole), 76)))) < 100


def test_a_short_line_of_a_longer_value_is_no_secret_by_itself() -> None:
    redactor = Redactor([Secret("S", "line\nlonger line")])
    assert redactor.text("a line") == "a line"
    assert redactor.text("a longer line") == "a <secret>S</secret>"
    assert redactor.text("line\nlonger line") == "<secret>S</secret>"


@pytest.mark.parametrize("value", ["123", "12345", "80", "test", "Button", "screenshots", "1280", "abc", " ab "])
def test_short_and_common_values_are_secret_where_they_are_the_whole_text(value: str) -> None:
    redactor = Redactor([Secret("S", value)])
    assert redactor.text(value) == "<secret>S</secret>"
    assert redactor.text(f" {value.strip()}\n") == "<secret>S</secret>"
    assert redactor.text(f"a {value} here") == f"a {value} here"


@pytest.mark.parametrize("value", ["abcd", "123456", "1234a", "tests1", "ééé", "🔑🔑"])
def test_other_values_are_secret_anywhere(value: str) -> None:
    assert Redactor([Secret("S", value)]).text(f"a{value}b") == "a<secret>S</secret>b"
    assert Redactor([Secret("S", value)]).text(value) == "<secret>S</secret>"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("to astonish", "to astonish"),
        ("to\tast", "to\tast"),
        ("to\nast", "<secret>S</secret>"),
        ("to  \n  ast", "<secret>S</secret>"),
        ("│ to │\n│ ast │", "│ <secret>S</secret> │"),
        ("t\\oast", "<secret>S</secret>"),
        ("to\x1b[0mast", "<secret>S</secret>"),
    ],
)
def test_a_short_secret_is_not_found_in_parts_of_several_words(text: str, clean: str) -> None:
    assert Redactor([Secret("S", "toast")]).text(text) == clean


def test_a_short_secret_with_white_space_is_found() -> None:
    assert Redactor([Secret("S", "to as")]).text("x to as x") == "x <secret>S</secret> x"
    assert Redactor([Secret("S", "1234 5678")]).text("card 1234-1 12345678") == "card 1234-1 <secret>S</secret>"


def test_the_longer_of_two_secrets_wins() -> None:
    secrets = [Secret("SHORT", "abcd"), Secret("LONG", "abcdefgh"), Secret("MIDDLE", "fghijk")]
    for some in (secrets, secrets[::-1]):
        assert Redactor(some).text("abcdefgh abcd") == "<secret>LONG</secret> <secret>SHORT</secret>"
        assert Redactor(some).text("abcdefghijk") == "<secret>LONG</secret>"
    apart = Redactor([secrets[1]], Redactor([secrets[0]]))
    assert apart.text("abcdefgh abcd") == "<secret>LONG</secret> <secret>SHORT</secret>"


def test_two_secrets_side_by_side_are_two() -> None:
    assert Redactor([Secret("S", "hunter2")]).text("hunter2hunter2") == 2 * "<secret>S</secret>"


@pytest.mark.parametrize("value", ["aaaa", "abcabca", "aabaa"])
def test_no_part_of_a_secret_that_overlaps_itself_stays(value: str) -> None:
    redactor = Redactor([Secret("S", value)])
    overlap = next(value[:-length] for length in range(len(value) - 1, 0, -1) if value[:length] == value[-length:])
    assert redactor.text(f"x{overlap}{overlap}{value}y") == "x<secret>S</secret>y"
    stream = RedactedStream(redactor)
    given = "".join(stream.feed(character) for character in f"x{overlap}{overlap}{value}y") + stream.close()
    assert given == "x<secret>S</secret>y"


def test_a_base_is_used_again_and_a_known_secret_adds_nothing() -> None:
    base = Redactor([Secret("A", "hunter2"), Secret("T", "test")])
    both = base.with_secrets([Secret("A", "hunter2"), Secret("B", "swordfish"), Secret("P", "123")])
    assert base.with_secrets([Secret("A", "hunter2")]) is base
    assert both.text("hunter2 swordfish") == "<secret>A</secret> <secret>B</secret>"
    assert [both.text("test"), both.text("123")] == ["<secret>T</secret>", "<secret>P</secret>"]
    assert both.secrets == {
        Secret(*pair) for pair in (("A", "hunter2"), ("T", "test"), ("B", "swordfish"), ("P", "123"))
    }
    assert base.text("swordfish") == "swordfish"


def test_values_of_nothing_are_none() -> None:
    redactor = Redactor([Secret("A", ""), Secret("B", " \n")])
    assert redactor.secrets == frozenset()
    assert [redactor.text(""), redactor.text(" \n")] == ["", " \n"]


def test_characters_stay_whole() -> None:
    """Some of their bytes are ignored: they have them in common with the sides of panels."""
    redactor = Redactor([Secret("S", "…secret-ò╢")])
    assert redactor.text("║…SECRET-ò╢…") == "║<secret>S</secret>…"
    assert Redactor([Secret("S", "\udcff\udcfekey-1")]).text("x\ufffdkey-1") == "x\ufffd<secret>S</secret>"
    assert redactor.text("\ud800 …secret-ò╢") == "\ud800 <secret>S</secret>"


@given(SECRETS, st.text(max_size=30), st.text(max_size=30))
def test_whatever_stands_around_it_a_secret_does_not_stay(secret: str, before: str, after: str) -> None:
    clean = Redactor([Secret("S", secret)]).text(before + secret + after)
    assert secret not in clean.replace("<secret>S</secret>", "\0")


@given(st.text(alphabet=" \n|│ab\x1b[m;\\é…", max_size=80), st.text(alphabet="abé…", min_size=4, max_size=6))
def test_what_is_no_secret_stays_as_it_is(text: str, secret: str) -> None:
    clean = Redactor([Secret("S", secret)]).text(text)
    if "<secret>" not in clean:
        assert clean == text
    else:
        kept = clean.split("<secret>S</secret>")
        assert text.startswith(kept[0])
        assert text.endswith(kept[-1])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("/srv/shop/tasks/x.toml", "./tasks/x.toml"),
        ("in /srv/shop", "in ."),
        ("in /srv/shop.", "in .."),
        ("file:///srv/shop/x", "file://./x"),
        ("--root=/srv/shop --x", "--root=. --x"),
        ("https://shop.example/srv/shop/login", "https://shop.example/srv/shop/login"),
        ("http://[::1]/srv/shop", "http://[::1]/srv/shop"),
        ("/srv/shopping", "/srv/shopping"),
        ("/srv/shop-2", "/srv/shop-2"),
        ("é/srv/shop", "é/srv/shop"),
    ],
)
def test_a_local_path_is_taken_out_where_it_is_one(text: str, clean: str) -> None:
    assert Redactor([Secret("PROJECT_ROOT", "/srv/shop", instead=".")]).text(text) == clean


@pytest.mark.parametrize("at", [BLOCK_BYTES - 20, BLOCK_BYTES - 8, BLOCK_BYTES, 3 * BLOCK_BYTES - 1])
def test_a_secret_is_found_at_the_edges_of_the_blocks(at: int) -> None:
    value = "hunter2-" + "x" * 40
    text = "." * at + value + "." * 10
    assert Redactor([Secret("S", value)]).text(text) == "." * at + "<secret>S</secret>" + "." * 10


@given(st.data())
def test_a_stream_gives_what_the_whole_text_gives(data: st.DataObject) -> None:
    alphabet = st.sampled_from(["ab", "abc", "a", "b", "\n", " ", "│", "é", "c" * 30])
    secrets = data.draw(st.lists(st.lists(alphabet, min_size=3, max_size=9).map("".join), min_size=1, max_size=3))
    redactor = Redactor([Secret("S", secret) for secret in secrets if secret.strip()])
    parts = data.draw(st.lists(st.one_of(alphabet, st.sampled_from(secrets)), max_size=20))
    stream = RedactedStream(redactor)
    given = "".join(map(stream.feed, parts)) + stream.close()
    for secret in secrets:
        assert is_common(secret) or secret.strip() not in given
    assert given.replace("<secret>S</secret>", "") == redactor.text("".join(parts) + "\0").replace(
        "<secret>S</secret>", ""
    ).removesuffix("\0")


def test_a_long_secret_that_comes_in_many_parts_is_found() -> None:
    value = "".join(random.Random(1).choices(string.ascii_letters + string.digits, k=3000))
    for text, parts in ((f"a {value} b", 7), (f"a {value} b", 1000), (PEM, 100)):
        stream = RedactedStream(Redactor([Secret("S", value), Secret("S", PEM)]))
        given = "".join(stream.feed(text[at : at + parts]) for at in range(0, len(text), parts)) + stream.close()
        assert given in ("a <secret>S</secret> b", "<secret>S</secret>\n")


def test_a_stream_waits_only_for_what_may_become_a_secret() -> None:
    stream = RedactedStream(Redactor([Secret("S", "hunter2"), Secret("T", "hunter2-and-more")]))
    fed = ["say h", "unt", "ing ", "hunter2", " ", "\n", "-and", "-", "!", "hunter2-and-mor", "e", "!"]
    given = ["say ", "", "hunting ", "", "", "", "", "", "<secret>S</secret> \n-and-!", "", "<secret>T</secret>", "!"]
    assert [stream.feed(part) for part in fed] == given
    assert stream.close() == ""
    assert stream.feed("hunt") == ""
    assert stream.close() == "hunt"


def test_a_stream_of_blanks_behind_the_beginning_of_a_secret_does_not_wait_for_ever() -> None:
    stream = RedactedStream(Redactor([Secret("S", "hunter2")]))
    assert stream.feed("hunt" + "\n" * (LONGEST_WAIT - 4)) == ""
    assert stream.feed("\n") == "hunt" + "\n" * (LONGEST_WAIT - 3)
    assert stream.feed("hunter2") == "<secret>S</secret>"


class Counted(Search):
    """Counts the bytes that are searched and compared."""

    work = 0

    def sees(self, content: bytes | memoryview) -> bool:
        Counted.work += len(content)
        return super().sees(content)

    def blocks(self, content: bytes):  # type: ignore[no-untyped-def]
        for block in super().blocks(content):
            Counted.work += sum(len(spellings) for _, spellings in block)
            yield block

    def is_beginning(self, content: bytes) -> bool:
        Counted.work += len(content)
        return super().is_beginning(content)


@given(
    st.lists(st.sampled_from([PEM, "aaaaaaaa", "hunter2", "-" * 40 + "x", "a\n" * 30 + "b"]), min_size=1, max_size=4),
    st.lists(
        st.sampled_from(["-", "a", "-----BEGIN", "\n", "  │\n│ ", "hunt", "\x1b[31m", "%2d"]), min_size=1, max_size=6
    ),
)
@example([PEM], ["-" * 80, "\n"])
def test_the_work_grows_as_the_text_does(secrets: list[str], parts: list[str]) -> None:
    """Whatever the text and the secrets are, four times the text is at most about four times the work."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("runner.redaction.Search", Counted)
        redactor = Redactor([Secret("S", secret) for secret in secrets])
    work = []
    for size in (4_000, 16_000):
        text = "".join(parts)
        text = (text * (size // len(text) + 1))[:size]
        Counted.work = 0
        redactor.text(text)
        stream = RedactedStream(redactor)
        for at in range(0, len(text), 2_000):
            stream.feed(text[at : at + 2_000])
        work.append(Counted.work)
    assert work[1] <= 5 * work[0] + 200_000


def test_a_spelling_is_found_by_the_bytes_that_are_compared() -> None:
    assert b"hunter2" in spellings("Hunter2")
    assert spellings("hunter2") >= {b"hunter2", b"68756e74657232", b"ahvudgvym", b"%68%75%6e%74%65%72%32"}
    assert Text("a│\x1b[31mB\\ c").folded == b"abc"
