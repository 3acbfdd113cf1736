"""Results of runs, plain ones and ones with hostile texts."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import strategies as st

from jobs.run.failure import Failure
from jobs.run.results import Results, RunResult
from jobs.run.state import Reason, State

START = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
CARD = Failure(
    step=3,
    action="click_element_by_index",
    goal="Open the cart",
    message="The cart is empty",
    url="https://shop.example/cart?a=1&b=2",
    screenshot="tasks/login/screenshots/run/003_click.png",
    log_tail=["line 1", "line <2>"],
    exit_code=None,
    signal="SIGTERM",
)
PASSED = RunResult(
    run_id="r" * 24,
    task_id="login",
    test_name="Log in",
    file="tasks/login/task_login.toml",
    state=State.FINISHED,
    reason=None,
    message=None,
    started_at=START,
    finished_at=START + timedelta(seconds=9.5),
    duration=9.5,
    failure=None,
)
STATES = {
    "passed": PASSED,
    "failed": msgspec.structs.replace(
        PASSED, state=State.FAILED, reason=Reason.TEST_FAILED, message="The cart is empty\nreally", failure=CARD
    ),
    "error": msgspec.structs.replace(
        PASSED, state=State.ERROR, reason=Reason.TIMEOUT, message="It took too long", failure=CARD
    ),
    "stopped": msgspec.structs.replace(
        PASSED, state=State.ERROR, reason=Reason.STOPPED, message="A user stopped it", failure=CARD
    ),
    "pending": msgspec.structs.replace(PASSED, state=State.PENDING, started_at=None, finished_at=None, duration=None),
    "running": msgspec.structs.replace(PASSED, state=State.RUNNING, finished_at=None, duration=None),
}


def results(*runs: RunResult, **fields: Any) -> Results:
    """Results of these runs, as of one batch."""
    whole: dict[str, Any] = {
        "id": "b" * 24,
        "name": "Nightly",
        "started_at": START,
        "finished_at": START + timedelta(seconds=20),
        "duration": 20.0,
        "runs": runs,
    }
    return Results(**{**whole, **fields})


NASTY = (
    "\x00",
    "\x0b",
    "\x7f",
    "\x85",
    "\u2028",
    "\ud800",
    "\udfff",
    "\ufffe",
    "\uffff",
    "]]>",
    "<![CDATA[",
    "&amp;",
    '"',
)
ANSI = ("\x1b[31m", "\x1b]0;title\x07", "\x1b", "\x9b", "\r\n", "\r", "\t", "\n", "[[ATTACHMENT|/etc/passwd]]")
HUGE = st.sampled_from([*NASTY, *ANSI, "a", "é", "🙂", "<", "\n"]).map(lambda part: part * (20_000 // len(part)))
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=()), max_size=60),
    st.lists(st.sampled_from([*NASTY, *ANSI, "word"]), max_size=20).map("".join),
    HUGE,
)
"""Texts of all kinds, also such as no UTF-8 file can have."""
SOME = st.none() | TEXTS
CARDS = st.builds(
    Failure,
    step=st.none() | st.integers(),
    action=SOME,
    goal=SOME,
    message=SOME,
    url=SOME,
    screenshot=SOME,
    log_tail=st.lists(TEXTS, max_size=25),
    exit_code=st.none() | st.integers(),
    signal=SOME,
)
RUNS = st.builds(
    RunResult,
    run_id=st.text("abc", min_size=24, max_size=24),
    task_id=st.sampled_from(["login", "checkout"]),
    test_name=TEXTS,
    file=st.just("tasks/login/task_login.toml"),
    state=st.sampled_from(State),
    reason=st.none() | st.sampled_from(Reason),
    message=SOME,
    started_at=st.none() | st.just(START),
    finished_at=st.none() | st.just(START + timedelta(seconds=3)),
    duration=st.none() | st.floats(-1, 1e6),
    failure=st.none() | CARDS,
    browser=SOME,
)
ANY_RESULTS = st.builds(
    results, name=TEXTS, labels=st.dictionaries(st.sampled_from(["branch", "commit", "x"]), TEXTS)
).flatmap(lambda whole: st.lists(RUNS, max_size=4).map(lambda runs: msgspec.structs.replace(whole, runs=runs)))
