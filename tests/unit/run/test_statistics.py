"""The definitions of a task's statistics."""

import csv
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.run.fingerprint import FailureGroup
from jobs.run.state import State
from jobs.run.statistics import (
    CSV_COLUMNS,
    SORT_KEYS,
    EndedRun,
    Health,
    LastPassed,
    Spread,
    Streak,
    TaskStatistics,
    as_csv,
    count_flips,
    in_order,
    percentile,
    task_statistics,
)

T0 = 1_795_420_800.0  # 2026-11-23 08:00 UTC
PASS_OR_FAIL = st.lists(st.booleans(), max_size=40)
SECONDS = st.floats(0, 1e6, allow_nan=False)
FULL_COUNTS = {State.FINISHED: 3, State.ERROR: 2}


def history(results: str | Sequence[bool], durations: Sequence[float | None] = ()) -> list[EndedRun]:
    """Runs that passed (P) or failed (F), newest first; one ends each minute, the oldest at T0."""
    passed = [result in ("P", True) for result in results]
    return [
        EndedRun(
            run_id=f"r{age}",
            passed=ok,
            queued_at=T0 + (len(passed) - 1 - age) * 60 - 10,
            finished_at=T0 + (len(passed) - 1 - age) * 60,
            duration=durations[age] if age < len(durations) else 4.0,
        )
        for age, ok in enumerate(passed)
    ]


def of(runs: Sequence[EndedRun], last: int = 30, streak: Streak | None = None, task: str = "buy") -> TaskStatistics:
    return task_statistics(task, FULL_COUNTS, runs, [run for run in runs if run.passed], streak, last)


def both(spread: Spread) -> tuple[float | None, float | None]:
    return spread.p50, spread.p90


def at(minutes: float) -> datetime:
    return datetime.fromtimestamp(T0 + minutes * 60, UTC)


@pytest.mark.parametrize(
    ("newest_first", "health"),
    [
        ("", "new"),
        ("FFFF", "new"),
        ("FFFFF", "broken"),
        ("FFFPFPFPFP", "broken"),
        ("FFPPP", "stable"),
        ("FFPPF", "flaky"),
        ("PFPPPPPP", "flaky"),
        ("PPPPPPPPFF", "stable"),
        ("PPPPPPPPFP", "flaky"),
        ("PPPPPPPPPFP", "stable"),
        ("PPPPP", "stable"),
    ],
)
def test_the_verdicts_say_how_a_task_does(newest_first: str, health: str) -> None:
    assert of(history(newest_first)).health == health


@pytest.mark.parametrize(
    ("durations", "trend", "health"),
    [
        ([20.0] * 5 + [10.0] * 4, None, "stable"),
        ([20.0] * 5 + [10.0] * 5, 2.0, "slow"),
        ([15.0] * 5 + [10.0] * 5, 1.5, "stable"),
        ([10.0] * 5 + [5.0] * 5, 2.0, "stable"),
        ([10.1] * 5 + [5.0] * 5, 2.02, "slow"),
        ([1.0, 1.0, 30.0, 30.0, 30.0, *[10.0] * 20, *[30.0] * 99], 3.0, "slow"),
        ([30.0] * 5 + [10.0] * 10 + [20.0] * 11, 2.0, "slow"),
        ([20.0] * 5 + [0.0] * 5, None, "stable"),
        ([None, *[20.0] * 5, None, *[10.0] * 5], 2.0, "slow"),
    ],
)
def test_a_task_is_slow_if_it_takes_much_longer_than_before(
    durations: list[float | None], trend: float | None, health: str
) -> None:
    found = of(history("P" * len(durations), durations), last=5)
    assert found.trend == pytest.approx(trend)
    assert found.health == health


def test_a_flaky_task_is_not_called_slow() -> None:
    assert of(history("PFPPPPPPPPP", [20.0] * 6 + [10.0] * 5)).health is Health.FLAKY


def test_the_rates_are_those_of_the_last_verdicts() -> None:
    found = of(history("PFPPPFFFFF"), last=4)
    assert (found.last, found.pass_rate, found.flips, found.flip_rate) == (4, 0.75, 2, 2 / 3)
    assert of(history("PF")).flip_rate == 1
    assert (of(history("F")).pass_rate, of(history("F")).flip_rate) == (0, None)


def test_a_task_without_runs_has_no_numbers() -> None:
    found = msgspec.to_builtins(task_statistics("buy", {}, [], [], None, 30))
    nothing = {"p50": None, "p90": None}
    assert found == {
        "task_id": "buy",
        "health": "new",
        "counts": {"PENDING": 0, "RUNNING": 0, "FINISHED": 0, "FAILED": 0, "ERROR": 0},
        "last": 0,
        "pass_rate": None,
        "flips": 0,
        "flip_rate": None,
        "streak": None,
        "last_run_at": None,
        "last_passed": None,
        "duration": nothing,
        "trend": None,
        "queue_wait": nothing,
        "first_step": {"warm": nothing, "cold": nothing},
    }


def test_a_streak_ends_at_the_first_other_verdict() -> None:
    found = of(history("FFPF"))
    assert found.streak == Streak(State.FAILED, 2, at(2), "r1")
    assert found.last_run_at == at(3)
    assert found.last_passed == LastPassed("r2", at(1))
    assert found.counts == {**dict.fromkeys(State, 0), **FULL_COUNTS}


def test_a_streak_longer_than_the_verdicts_is_taken_as_it_is_given() -> None:
    longer = Streak(State.FINISHED, 400, at(-400), "first")
    assert of(history("PPPPP"), streak=longer).streak == longer
    assert of(history("PPPPP")).streak == Streak(State.FINISHED, 5, at(0), "r4")
    assert of(history("FPPPP"), streak=longer).streak == Streak(State.FAILED, 1, at(4), "r0")
    assert of([], streak=longer).streak is None


def test_durations_are_those_of_passed_runs_and_waits_those_of_all() -> None:
    runs = [
        EndedRun("a", True, T0, T0, 1.0, 5.0, 3.0, True),
        EndedRun("b", False, T0, T0, 100.0, 7.0, 4.0, True),
        EndedRun("c", True, T0, T0, 2.0, None, 9.0, False),
        EndedRun("d", True, T0, T0, None, 6.0, 8.0, None),
        EndedRun("e", True, T0, T0, 50.0, 900.0, 900.0, True),
    ]
    passed = [runs[0], runs[2], *history("PP", [3.0, 4.0])]
    found = task_statistics("buy", {}, runs, passed, None, 4)
    assert both(found.duration) == pytest.approx((2.5, 3.7))
    assert both(task_statistics("buy", {}, runs, passed, None, 2).duration) == pytest.approx((1.5, 1.9))
    assert both(found.queue_wait) == pytest.approx((6.0, 6.8))
    assert both(found.first_step.warm) == pytest.approx((3.5, 3.9))
    assert both(found.first_step.cold) == (9.0, 9.0)


@given(PASS_OR_FAIL, st.integers(1, 40))
def test_rates_are_rates(results: list[bool], last: int) -> None:
    found = of(history(results), last)
    assert found.last == min(last, len(results))
    assert found.pass_rate is None if not results else found.pass_rate == statistics.mean(results[:last])
    assert found.flip_rate is None if found.last < 2 else 0 <= (found.flip_rate or 0) <= 1
    assert found.flips == max(len([*groupby(results[:last])]) - 1, 0)


@given(PASS_OR_FAIL)
def test_flips_do_not_depend_on_which_verdict_is_the_good_one_nor_on_the_order(results: list[bool]) -> None:
    assert count_flips(results) == count_flips([not result for result in results]) == count_flips(results[::-1])


@given(PASS_OR_FAIL, st.integers(3, 12))
def test_a_task_that_broke_for_good_is_never_flaky(before: list[bool], failures: int) -> None:
    found = of(history([False] * failures + before))
    assert found.health is (Health.BROKEN if failures + len(before) >= 5 else Health.NEW)


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=10, max_size=10), PASS_OR_FAIL, st.integers(1, 30))
def test_health_depends_on_the_ten_newest_verdicts_alone(newest: list[bool], older: list[bool], last: int) -> None:
    assert of(history(newest)).health is of(history(newest + older), last).health


@given(st.lists(st.booleans(), min_size=1, max_size=40))
def test_a_streak_is_the_newest_verdicts_that_are_equal(results: list[bool]) -> None:
    streak = of(history(results)).streak
    assert streak is not None
    assert (streak.state is State.FINISHED) is results[0]
    assert streak.length == len([*next(groupby(results))[1]]) >= 1
    assert streak.first_run == f"r{streak.length - 1}"


@given(st.lists(SECONDS, min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_a_percentile_is_among_the_values_and_grows(values: list[float], low: float, high: float) -> None:
    ordered, (low, high) = sorted(values), sorted((low, high))
    slack = 1e-9 * ordered[-1]
    assert ordered[0] <= percentile(ordered, low) <= percentile(ordered, high) + slack <= ordered[-1] + 2 * slack
    assert (percentile(ordered, 0), percentile(ordered, 1)) == (ordered[0], ordered[-1])
    assert percentile(ordered, 0.5) == pytest.approx(statistics.median(ordered))


@given(st.lists(SECONDS, min_size=2, max_size=30))
def test_percentiles_are_those_of_the_standard_library(values: list[float]) -> None:
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    assert percentile(sorted(values), 0.9) == pytest.approx(tenths[8])


def some_tasks() -> list[TaskStatistics]:
    return [
        of(history("FFFFFP"), task="a"),
        of([], task="b"),
        of(history("PPPPPP", [9.0] * 6), task="c"),
        of(history("PFPFPFP"), task="d"),
        of(history("P" * 10, [8.0] * 5 + [4.0] * 5), task="e"),
    ]


@pytest.mark.parametrize(
    ("word", "ascending", "descending"),
    [
        ("task", "abcde", "edcba"),
        ("health", "adbce", "cebda"),
        ("pass_rate", "adceb", "cedab"),
        ("flip_rate", "ceadb", "daceb"),
        ("duration", "adecb", "ceadb"),
        ("trend", "eabcd", "eabcd"),
        ("last_run", "acdeb", "edacb"),
    ],
)
def test_tasks_without_a_value_are_last_in_both_orders(word: str, ascending: str, descending: str) -> None:
    for order, wanted in ((False, ascending), (True, descending)):
        for given_order in (some_tasks(), some_tasks()[::-1]):
            found = in_order(given_order, word, descending=order)  # type: ignore[arg-type]
            assert "".join(task.task_id for task in found) == wanted


def test_each_word_to_sort_by_has_a_test() -> None:
    assert len(SORT_KEYS) == 7


def leaves(value: object, path: str) -> list[tuple[str, object]]:
    """The values in a JSON document, with their paths."""
    if not isinstance(value, dict):
        return [(path, value)]
    return [leaf for key, inner in value.items() for leaf in leaves(inner, f"{path}.{key}".lstrip("."))]


def test_csv_has_all_values_of_the_json() -> None:
    runs = [EndedRun("x", True, T0, T0, 1.5, 0.25, 3.0, True), EndedRun("y", False, T0, T0, 2.0, 0.0, 4.0, False)]
    found = of(runs * 10, task='a,"b"\nc')
    (row,) = csv.DictReader(as_csv([found]).splitlines(keepends=True))
    document = {path: value for path, value in leaves(msgspec.to_builtins(found), "") if path in row}
    assert [*row] == [*CSV_COLUMNS] == [path for path, _ in leaves(msgspec.to_builtins(found), "")]
    assert {path: "" if value is None else str(value) for path, value in document.items()} == row


def test_csv_has_all_columns_for_a_task_without_runs() -> None:
    (row,) = csv.DictReader(as_csv([of([])]).splitlines())
    assert (row["task_id"], row["last"], row["flips"], row["streak.length"]) == ("buy", "0", "0", "")
    assert len(row) == len(CSV_COLUMNS)
    assert as_csv([]).strip() == ",".join(CSV_COLUMNS)


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"])
def test_csv_has_no_formulas(name: str) -> None:
    (row,) = csv.DictReader(as_csv([of([], task=name)]).splitlines(keepends=True))
    assert row["task_id"] == f"'{name}"


def test_csv_keeps_numbers_as_they_are() -> None:
    (row,) = csv.DictReader(as_csv([of(history("PP", [-1.5, -1.5]))]).splitlines())
    assert row["duration.p50"] == "-1.5"


def test_the_answers_can_be_described() -> None:
    for answer in (TaskStatistics, FailureGroup):
        properties = msgspec.json.schema(answer)["$defs"][answer.__name__]["properties"]
        assert [*properties] == [field.name for field in msgspec.structs.fields(answer)]


def test_the_statistics_of_many_tasks_are_quick() -> None:
    runs = [EndedRun(f"r{n}", n % 7 > 0, T0, T0 - n, n % 5 + 1.0, 0.5, 2.0, n % 2 > 0) for n in range(30)]
    passed = [run for run in runs if run.passed]
    start = time.process_time()
    for _ in range(500):
        task_statistics("buy", FULL_COUNTS, runs, passed, None, 30)
    assert time.process_time() - start < 0.5  # twenty times of what it takes
