"""Secrets are taken out of what comes in parts, in a time that grows as the text does."""

import random
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.folded import Text
from runner.redaction import LONGEST_WAIT, RedactedStream, Redactor, Search, Secret
from runner.spellings import is_common
from tests.unit.runner.test_spellings import PEM


@pytest.mark.parametrize("value", ["aaaa", "abcabca", "aabaa"])
def test_no_part_of_a_secret_that_overlaps_itself_stays(value: str) -> None:
    redactor = Redactor([Secret("S", value)])
    overlap = next(value[:-length] for length in range(len(value) - 1, 0, -1) if value[:length] == value[-length:])
    assert redactor.text(f"x{overlap}{overlap}{value}y") == "x<secret>S</secret>y"
    stream = RedactedStream(redactor)
    given = "".join(stream.feed(character) for character in f"x{overlap}{overlap}{value}y") + stream.close()
    assert given == "x<secret>S</secret>y"


def test_few_places_are_looked_up_of_a_long_secret_that_overlaps_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up, span = [], Text.span

    def counted(text: Text, start: int, end: int) -> tuple[int, int]:
        looked_up.append(start)
        return span(text, start, end)

    monkeypatch.setattr(Text, "span", counted)
    assert Redactor([Secret("S", "ab" * 1000)]).text("ab" * 10_000) == "<secret>S</secret>"
    assert len(looked_up) < 10


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


def test_a_secret_that_is_longer_than_what_waits_is_found() -> None:
    value = "".join(random.Random(1).choices(string.ascii_letters, k=LONGEST_WAIT + 10_000))
    stream = RedactedStream(Redactor([Secret("S", value)]))
    given = "".join(stream.feed(value[at : at + 9_000]) for at in range(0, len(value), 9_000)) + stream.close()
    assert given == "<secret>S</secret>"


@pytest.mark.parametrize("values", [("hunter2", "swordfish" * 20), ("swordfish" * 20, "hunter2")])
def test_a_secret_of_either_set_is_waited_for(values: tuple[str, str]) -> None:
    base, added = values
    for value in values:
        stream = RedactedStream(Redactor([Secret("S", added)], Redactor([Secret("S", base)])))
        assert "".join(map(stream.feed, value)) + stream.close() == "<secret>S</secret>"


def test_only_the_end_of_a_long_text_waits() -> None:
    stream = RedactedStream(Redactor([Secret("S", "hunter2")]))
    assert stream.feed("x" * 2 * LONGEST_WAIT + "hunt") == "x" * 2 * LONGEST_WAIT
    assert stream.feed("er2") == "<secret>S</secret>"


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
