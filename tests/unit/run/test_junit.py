"""The JUnit file: what Jenkins and GitLab accept of it, and what they show."""

import re
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import JUnitXml

from jobs.run.junit import junit_xml
from jobs.run.results import CUT, Results
from tests.unit.run.results import ANY_RESULTS, CARD, PASSED, START, STATES, TEXTS, results

ATTRIBUTES = {
    "testsuites": ({"name", "tests", "failures", "errors", "time"}, set()),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp", "file"},
        {"name", "tests", "failures", "errors"},
    ),
    "testcase": ({"name", "classname", "time"}, {"name"}),
    "failure": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "skipped": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}
"""The attributes that an element may have in Jenkins, of those that we write; and those that it must have."""
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"testcase"},
    "testcase": {"failure", "error", "skipped", "system-out"},
}
SECONDS = re.compile(r"[0-9]+\.[0-9]{3}")
OUTCOMES = ("failure", "error", "skipped")
LARGEST_CASE = 20_000


def parse(whole: Results, artifacts: str | None = None, **options: Any) -> Element:
    """The root of the file, which any reader of XML has to be able to read."""
    return ElementTree.fromstring(junit_xml(whole, artifacts, **options))


def case_of(name: str, artifacts: str | None = None) -> Element:
    (case,) = parse(results(STATES[name]), artifacts).iter("testcase")
    return case


def outcome_of(case: Element) -> Element | None:
    found = [child for child in case if child.tag in OUTCOMES]
    assert len(found) <= 1
    return found[0] if found else None


def check(root: Element) -> None:
    """Raise if an element is not as Jenkins demands it."""
    assert root.tag == "testsuites"
    for element in root.iter():
        allowed, required = ATTRIBUTES[element.tag]
        assert required <= {*element.keys()} <= allowed
        assert {child.tag for child in element} <= CHILDREN.get(element.tag, set())
        assert SECONDS.fullmatch(element.get("time", "0.000"))
        if element.tag in CHILDREN:
            assert not (element.text or "").strip()


def check_counts(content: bytes) -> None:
    """Raise if the counts are not those of the cases, as another program counts them."""
    for suite in [*JUnitXml.fromstring(content)]:
        written = (suite.tests, suite.failures, suite.errors, suite.skipped)
        suite.update_statistics()
        assert written == (suite.tests, suite.failures, suite.errors, suite.skipped)
    root = ElementTree.fromstring(content)
    for name in ("tests", "failures", "errors"):
        assert int(root.attrib[name]) == sum(int(suite.attrib[name]) for suite in root)


@settings(max_examples=60, deadline=None)
@given(ANY_RESULTS, st.none() | TEXTS)
def test_no_text_makes_a_file_that_a_ci_refuses(whole: Results, artifacts: str | None) -> None:
    content = junit_xml(whole, artifacts)
    root = ElementTree.fromstring(content)
    check(root)
    check_counts(content)
    cases = [*root.iter("testcase")]
    assert len({case.attrib["name"] for case in cases}) == len(cases) == len(whole.runs)
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]", content.decode())
    assert all(len(ElementTree.tostring(case, "utf-8")) <= LARGEST_CASE for case in cases)
    for case in cases:  # a picture is named by us alone
        assert "[[ATTACHMENT|/etc" not in (case.findtext("system-out") or "") or artifacts


@pytest.mark.parametrize(
    ("state", "tag", "message", "kind"),
    [
        ("failed", "failure", "The cart is empty", "test_failed"),
        ("error", "error", "It took too long", "timeout"),
        ("stopped", "skipped", "A user stopped it", "stopped"),
        ("pending", "skipped", "The run is not over: it is PENDING.", None),
        ("running", "skipped", "The run is not over: it is RUNNING.", None),
    ],
)
def test_a_case_says_what_became_of_its_run(state: str, tag: str, message: str, kind: str | None) -> None:
    outcome = outcome_of(case_of(state))
    assert outcome is not None
    assert (outcome.tag, outcome.get("message"), outcome.get("type")) == (tag, message, kind)
    assert (outcome.text or "").startswith(message)  # GitLab shows nothing but the text


def test_a_run_that_passed_has_no_outcome() -> None:
    case = case_of("passed", "pictures")
    assert [*case] == []
    assert case.attrib == {"name": "Log in", "classname": "login", "time": "9.500"}
    remark = parse(results(msgspec.structs.replace(PASSED, message="A remark")))
    assert not [*remark.iter("failure")]


def test_a_failure_says_where_it_broke() -> None:
    outcome = outcome_of(case_of("failed"))
    assert outcome is not None
    assert outcome.text == (
        "The cart is empty\nreally\n"
        f"Run: {'r' * 24}\n"
        "Step: 3\n"
        "Action: click_element_by_index\n"
        "URL: https://shop.example/cart?a=1&b=2\n"
        "Goal: Open the cart\n"
        "Signal: SIGTERM\n"
        "\nEnd of the log:\nline 1\nline <2>"
    )


def test_a_failure_without_a_card_or_a_message_still_says_something() -> None:
    run = msgspec.structs.replace(STATES["failed"], message=None)
    assert [failure.get("message") for failure in parse(results(run)).iter("failure")] == ["The cart is empty"]
    assert (
        next(parse(results(msgspec.structs.replace(run, message="\n why\n"))).iter("failure")).get("message") == "why"
    )
    bare = msgspec.structs.replace(run, failure=None)
    (failure,) = parse(results(bare)).iter("failure")
    assert failure.get("message") == "The run ended as FAILED."


@pytest.mark.parametrize(
    ("state", "artifacts", "named"),
    [
        ("failed", "out/pictures/", f"[[ATTACHMENT|out/pictures/{'r' * 24}.png]]"),
        ("stopped", "out", f"[[ATTACHMENT|out/{'r' * 24}.png]]"),
        ("error", "", f"[[ATTACHMENT|{'r' * 24}.png]]"),
        ("failed", None, None),
        ("passed", "out", None),
        ("running", "out", None),
    ],
)
def test_a_picture_is_named_where_the_ci_has_it(state: str, artifacts: str | None, named: str | None) -> None:
    assert case_of(state, artifacts).findtext("system-out") == named


def test_a_picture_that_is_not_there_is_not_named() -> None:
    run = msgspec.structs.replace(STATES["failed"], failure=msgspec.structs.replace(CARD, screenshot=None))
    assert not [*parse(results(run), "out").iter("system-out")]


def test_the_counts_are_those_of_each_task_and_of_all() -> None:
    other = msgspec.structs.replace(STATES["failed"], task_id="cart", file="tasks/cart/task_cart.toml")
    later = msgspec.structs.replace(PASSED, started_at=START + timedelta(hours=1))
    content = junit_xml(results(later, *[*STATES.values()][1:], other), None)
    check_counts(content)
    root = ElementTree.fromstring(content)
    assert root.attrib == {"name": "Nightly", "tests": "7", "failures": "2", "errors": "1", "time": "20.000"}
    assert [dict(suite.attrib) for suite in root] == [
        {
            "name": "login",
            "file": "tasks/login/task_login.toml",
            "tests": "6",
            "failures": "1",
            "errors": "1",
            "skipped": "3",
            "time": "38.000",
            "timestamp": "2026-11-23T08:00:00+00:00",
        },
        {
            "name": "cart",
            "file": "tasks/cart/task_cart.toml",
            "tests": "1",
            "failures": "1",
            "errors": "0",
            "skipped": "0",
            "time": "9.500",
            "timestamp": "2026-11-23T08:00:00+00:00",
        },
    ]


def test_results_that_have_not_started_have_neither_times_nor_a_name() -> None:
    root = parse(results(STATES["pending"], name="", started_at=None, finished_at=None, duration=None))
    check(root)
    assert (root.get("name"), root.get("time")) == ("b" * 24, "0.000")
    assert parse(results(duration=-0.5)).get("time") == "0.000"  # of two clocks
    assert root[0].get("timestamp") is None
    check(parse(results()))


def test_equal_names_are_told_apart() -> None:
    runs = [msgspec.structs.replace(PASSED, test_name=name) for name in ("A", "A", "A (2)", " A\n", "", "\x00")]
    names = [case.get("name") for case in parse(results(*runs)).iter("testcase")]
    assert names == ["A", "A (2)", "A (2) (2)", "A (3)", "login", "login (2)"]


def test_a_text_that_is_cut_says_so_and_keeps_the_rest() -> None:
    card = msgspec.structs.replace(CARD, goal="<" * 9000, log_tail=["x" * 9000, *("short",) * 20])
    run = msgspec.structs.replace(STATES["failed"], message="é" * 9000, failure=card)
    (failure,) = parse(results(run)).iter("failure")
    lines = (failure.text or "").splitlines()
    assert lines[0].startswith("é" * 1400)
    assert lines[0].endswith(CUT)
    assert len(lines[0].encode()) <= 3000
    assert next(line for line in lines if line.startswith("Goal: <")).endswith("<" + CUT)
    assert lines[-20:] == ["short"] * 20  # the end of the log, not its start
    exact = msgspec.structs.replace(run, message="m" * 3000)
    assert (next(parse(results(exact)).iter("failure")).text or "").startswith("m" * 3000 + "\n")


@pytest.mark.parametrize("part", ["<", '"', "é", "🙂", "\n", "\t", "a\r\n", "\ud800"])
def test_no_case_is_larger_than_20_kb(part: str) -> None:
    text = part * 30_000
    card = msgspec.structs.replace(
        CARD, action=text, goal=text, message=text, url=text, signal=text, log_tail=[text] * 30
    )
    run = msgspec.structs.replace(STATES["failed"], test_name=text, message=text, failure=card)
    content = junit_xml(results(run, run), text)
    start, end = content.rindex(b"<testcase"), content.rindex(b"</testcase>") + len(b"</testcase>")
    assert end - start <= LARGEST_CASE


def test_the_file_can_be_read_by_people() -> None:
    lines = junit_xml(results(PASSED), None).decode().splitlines()
    assert lines[0] == "<?xml version='1.0' encoding='utf-8'?>"
    assert lines[3] == '    <testcase name="Log in" classname="login" time="9.500" />'


def test_gitlab_may_have_the_file_in_each_case() -> None:
    (case,) = parse(results(PASSED), file_of_case=True).iter("testcase")
    assert case.get("file") == "tasks/login/task_login.toml"
