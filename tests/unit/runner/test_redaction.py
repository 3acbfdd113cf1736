"""Secrets are taken out of texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.redaction import BLOCK_BYTES, Redactor, Secret
from runner.spellings import is_common

SECRETS = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="<>│┃║|"), min_size=5, max_size=20
).filter(lambda value: not is_common(value))


@pytest.mark.parametrize("value", ["123", "12345", "80", "test", "Button", "screenshots", "1280", "abc", " ab "])
def test_short_and_common_values_are_secret_where_they_are_the_whole_text(value: str) -> None:
    redactor = Redactor([Secret("S", value)])
    assert redactor.text(value) == "<secret>S</secret>"
    assert redactor.text(f" {value.strip()}\n") == "<secret>S</secret>"
    assert redactor.text(f"a {value} here") == f"a {value} here"
    assert redactor.text(f"a {value.encode().hex()} here") == f"a {value.encode().hex()} here"


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
        ("to\rast", "<secret>S</secret>"),
        ("to  \r  ast", "<secret>S</secret>"),
        ("to\na st", "to\na st"),
        ("to  \n  ast", "<secret>S</secret>"),
        ("│ to │\n│ ast │", "│ <secret>S</secret> │"),
        ("t\\oast", "<secret>S</secret>"),
        ("to\x1b[0mast", "<secret>S</secret>"),
    ],
)
def test_a_short_secret_is_not_found_in_parts_of_several_words(text: str, clean: str) -> None:
    assert Redactor([Secret("S", "toast")]).text(text) == clean


def test_a_secret_of_8_bytes_is_found_in_parts_of_several_words() -> None:
    redactor = Redactor([Secret("S", "hunter2"), Secret("L", "swordfis")])
    assert redactor.text("hun ter2 swo rdfis") == "hun ter2 <secret>L</secret>"


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


def test_the_longest_secret_wins_in_each_place() -> None:
    redactor = Redactor([Secret("FIRST", "abcdefghijk"), Secret("SHORT", "vwxy1"), Secret("LONG", "y1z2345")])
    assert redactor.text("abcdefghijk vwxy1z2345 vwxy1") == (
        "<secret>FIRST</secret> <secret>LONG</secret> <secret>SHORT</secret>"
    )


def test_of_two_names_for_one_value_the_first_is_given() -> None:
    for value in ("hunter2", "test"):
        assert Redactor([Secret("A", value), Secret("B", value)]).text(value) == "<secret>A</secret>"
    assert Redactor([Secret("A", "hunter2"), Secret("B", "hunter2")]).text("a hunter2") == "a <secret>A</secret>"


def test_two_secrets_side_by_side_are_two() -> None:
    assert Redactor([Secret("S", "hunter2")]).text("hunter2hunter2") == 2 * "<secret>S</secret>"


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
    assert redactor.text("\ud800\x1b[m …secret-ò╢") == "\ud800\x1b[m <secret>S</secret>"


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
        ("/srv/shopé", "/srv/shopé"),
        ("./srv/shop", "./srv/shop"),
        ("a-/srv/shop", "a-/srv/shop"),
    ],
)
def test_a_local_path_is_taken_out_where_it_is_one(text: str, clean: str) -> None:
    assert Redactor([Secret("PROJECT_ROOT", "/srv/shop", instead=".")]).text(text) == clean


@pytest.mark.parametrize("at", [BLOCK_BYTES - 20, BLOCK_BYTES - 8, BLOCK_BYTES, 3 * BLOCK_BYTES - 1])
def test_a_secret_is_found_at_the_edges_of_the_blocks(at: int) -> None:
    value = "hunter2-" + "x" * 40
    text = "." * at + value + "." * 10
    assert Redactor([Secret("S", value)]).text(text) == "." * at + "<secret>S</secret>" + "." * 10


@pytest.mark.parametrize("size", [2, 1000])
@pytest.mark.parametrize("before", ["x", "│", "é", "\x1b[31m"])
def test_a_secret_is_found_at_the_edges_of_the_pieces_in_which_places_are_looked_up(before: str, size: int) -> None:
    value = "é-" + "x" * size + "…"
    for at in range(1015, 1030):
        start = (before * at).encode()[:at].decode(errors="ignore")
        assert Redactor([Secret("S", value)]).text(f"{start}{value}…") == f"{start}<secret>S</secret>…"
