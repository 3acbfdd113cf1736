"""Failures that are the same have the same fingerprint, and no others."""

import subprocess
import sys
import time
import uuid

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.run.fingerprint import LONGEST, failure_fingerprint, normalized
from jobs.run.state import Reason
from runner.ids import new_run_id
from tests.stack import ROOT

WORD = st.text("ghijklmnopqrstuvwyz", min_size=2, max_size=10)
WORDS = st.lists(WORD, min_size=1, max_size=6).map(" ".join)
NUMBER = st.one_of(st.integers(), st.floats(0.001, 1e6).map("{:.3f}".format), st.integers(0).map("{:,}".format)).map(
    str
)
MOMENT = st.datetimes().flatmap(
    lambda moment: st.sampled_from([f"{moment:%Y-%m-%d}".zfill(10), moment.isoformat(), f"{moment.isoformat(' ')}Z"])
)
ID = st.one_of(
    st.uuids().map(str),
    st.builds(lambda _: new_run_id(), st.integers()),
    st.text("0123456789abcdef", min_size=8, max_size=64),
)
HOST = st.sampled_from(["localhost", "localhost:3000", "127.0.0.1:8000", "shop.example.com", "a-b.test:81/x?y=1#z"])
URL = st.builds(
    "{}://{}".format,
    st.sampled_from(["http", "https", "ws"]),
    HOST | st.sampled_from(["x.y/q?a=1", "[::1]:80/", "u:p@h"]),
)
QUOTED = st.builds(
    lambda text, quotes: f"{quotes[0]}{text}{quotes[1]}",
    st.text(st.characters(codec="utf-8", exclude_characters="'\"`”“„»«"), max_size=40),
    st.sampled_from(["''", '""', "``", "“”", "«»", "„“"]),
)
ANY_TEXT = st.one_of(
    st.text(), st.text("ab12'\"`./: #…-xhtp\n“„”"), st.lists(st.one_of(WORD, NUMBER, ID, URL, QUOTED)).map("".join)
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("", ""),
        ("The cart is empty", "The cart is empty"),
        ("  The\tcart \n is empty ", "The cart is empty"),
        ("http://127.0.0.1:8000/health does not contain the text 'no such text'", "… does not contain the text …"),
        ("The run took longer than 1800 seconds (RUN_TIMEOUT)", "The run took longer than # seconds (RUN_TIMEOUT)"),
        ("page.goto: Timeout 30000ms exceeded", "page.goto: Timeout #ms exceeded"),
        ("12345678bytes, 5bytes", "#bytes, #bytes"),
        ("item 3 of 1,234.50 at 12:30:05.123.", "item # of # at #."),
        ("-5 < +3", "# < #"),
        ("at 2026-11-23T09:37:34.959987Z or 2026-11-23 09:37 or 2026-11-23", "at # or # or #"),
        ("at 2026-11-23T09:37:34+01:00", "at #"),
        ("run n2iibj7cbzvwogjifeudc8gl", "run #"),
        ("traverse_20261123_080000_n2iibj7cbzvwogjifeudc8gl.json", "traverse_#_#_#.json"),
        ("order 123e4567-e89b-12d3-a456-426614174000", "order #"),
        ("commit DEADBEEF, object at 0x7f3a", "commit #, object at #"),
        ("the decade facade", "the decade facade"),
        ("It can't and doesn't", "It can't and doesn't"),
        ("The owner's and users' carts", "The owner's and users' carts"),
        ("The button 'it's here' isn't there", "The button … isn't there"),
        ('Expected "a", got `b` or “c” or «d»', "Expected …, got … or … or …"),
        ("connect ECONNREFUSED 10.0.0.1:5432", "connect ECONNREFUSED …"),
        ("no such host shop.example.com", "no such host …"),
        ("no such host shop.example.com. Retry", "no such host …. Retry"),
        ("test.py:12 in java.io.IOException", "test.py:# in java.io.IOException"),
        ("lib.test.js", "lib.test.js"),
        ("notlocalhost, overdeadbeef", "notlocalhost, overdeadbeef"),
    ],
)
def test_what_differs_from_run_to_run_is_replaced(message: str, text: str) -> None:
    assert normalized(message) == text


@pytest.mark.parametrize(
    ("url", "path"),
    [
        (None, None),
        ("", "/"),
        ("https://shop.example.com", "/"),
        ("https://shop.example.com?x=1", "/"),
        ("https://user:word@shop.example.com:8443/cart?item=1#top", "/cart"),
        ("http://localhost:3000/orders/123/n2iibj7cbzvwogjifeudc8gl/edit", "/orders/#/#/edit"),
        ("http://[", "/"),
        ("http://h/a?b=\nc", "/a"),
        ("about:blank", "about:blank"),
    ],
)
def test_of_the_url_the_path_counts(url: str | None, path: str | None) -> None:
    assert failure_fingerprint(Reason.TEST_FAILED, "click", "m", url).path == path


def test_a_fingerprint_says_what_it_was_made_of() -> None:
    found = failure_fingerprint(Reason.TEST_FAILED, "click", "No item 7", "http://h/a")
    assert found[1:] == ("No item #", "click", "/a")
    assert len(found.id) == 12
    assert failure_fingerprint(Reason.LOST, None, None, None)[1:] == ("", None, None)


def test_each_part_of_a_failure_counts() -> None:
    failures = [
        (Reason.TEST_FAILED, "click", "a", "http://h/a"),
        (Reason.NO_RESULT, "click", "a", "http://h/a"),
        (Reason.TEST_FAILED, "done", "a", "http://h/a"),
        (Reason.TEST_FAILED, None, "a", "http://h/a"),
        (Reason.TEST_FAILED, "click", "b", "http://h/a"),
        (Reason.TEST_FAILED, "click", "a", "http://h/b"),
        (Reason.TEST_FAILED, "click", "a", None),
    ]
    assert len({failure_fingerprint(*failure).id for failure in failures}) == len(failures)


def test_a_fingerprint_is_the_same_in_another_process() -> None:
    code = (
        "from jobs.run.fingerprint import failure_fingerprint as f\n"
        "from jobs.run.state import Reason\n"
        "print(f(Reason.TEST_FAILED, 'click', 'é 1', 'http://h/a').id, end='')"
    )
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert other.stdout == failure_fingerprint(Reason.TEST_FAILED, "click", "é 1", "http://h/a").id


@given(ANY_TEXT)
def test_what_is_normalized_stays_as_it_is(text: str) -> None:
    once = normalized(text)
    assert normalized(once) == once
    assert len(once) <= LONGEST


@pytest.mark.parametrize(
    "kind", [NUMBER, MOMENT, ID, HOST, URL, QUOTED], ids=["number", "moment", "id", "host", "url", "quoted"]
)
@settings(max_examples=30)
@given(data=st.data(), before=WORDS, after=WORDS)
def test_failures_that_differ_only_in_one_kind_of_thing_are_the_same(
    kind: st.SearchStrategy[str], data: st.DataObject, before: str, after: str
) -> None:
    one, other = (
        failure_fingerprint(Reason.TEST_FAILED, "click", f"{before} {data.draw(kind)} {after}", None) for _ in range(2)
    )
    assert one == other
    assert one.text in (f"{before} # {after}", f"{before} … {after}")


@given(WORDS, WORDS)
def test_failures_with_other_words_are_not_the_same(one: str, other: str) -> None:
    ids = {failure_fingerprint(Reason.TEST_FAILED, "click", words, None).id for words in (one, other)}
    assert len(ids) == (1 if one == other else 2)


def test_the_path_is_the_same_for_all_ids_hosts_and_queries() -> None:
    urls = (f"http://{uuid.uuid4()}.test/o/{uuid.uuid4()}/x/{n}?q={n}" for n in range(20))
    assert {failure_fingerprint(Reason.TEST_FAILED, "a", "m", url).path for url in urls} == {"/o/#/x/#"}


def test_a_text_that_cannot_be_encoded_has_a_fingerprint() -> None:
    assert failure_fingerprint(Reason.TEST_FAILED, "\ud800", "\udfff\x00", "\ud800").text == "\udfff\x00"


HOSTILE = [
    "'",
    " 'a",
    "1.",
    "1,:",
    "a.",
    "-a.",
    "ab12",
    "0x",
    "http://",
    "a://",
    '"`',
    "1-",
    " ' '",
    "é",
    "f",
    "localhost:",
    "2026-11-23",
]


@pytest.mark.parametrize("part", HOSTILE)
def test_hostile_texts_take_no_time(part: str) -> None:
    start = time.process_time()
    failure_fingerprint(Reason.TEST_FAILED, part * 300_000, part * 300_000, part * 300_000)
    assert time.process_time() - start < 0.5
