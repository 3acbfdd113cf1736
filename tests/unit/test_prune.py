"""Which runs are pruned, and what the command says."""

import io
import time
from typing import Any

import pytest

from jobs.prune import ProgressLine, main
from jobs.retention import Limits, Run, choose
from jobs.run.state import State
from runner.errors import SettingsError
from runner.ids import RunId
from runner.settings import DAY, read_settings
from tests.project import Project
from tests.unit.fake_stack import FakeStack
from tests.unit.pruning import HAND, OLD, files, old_runs

NOW = 1_800_000_000.0
POLICY = "[retention_policy]\nmax_age_days = 30\nkeep_last_runs = 0\n"


def run(name: str, age_days: float, **changes: Any) -> Run:
    over_at = NOW - age_days * DAY
    state = State.FINISHED
    made = Run(RunId(name), RunId(name), state, over_at, over_at, False, False, True, True, False, None)
    return made._replace(**changes)


def chosen(runs: list[Run], days: int = 0, keep: int = 0, records: int = 0, **policy: bool) -> str:
    """The names of the runs that are pruned, sorted; those that lose their records, too, in capitals."""
    found = choose(runs, Limits(days, keep, records, **policy), NOW)
    return (
        "".join(sorted(run.run_id.upper() if is_whole else run.run_id for run, is_whole in found)).swapcase().swapcase()
    )


RUNS = [
    run("e", 4, over_at=float("inf")),
    run("a", 0, over_at=float("inf")),
    run("b", 1),
    run("f", 5),
    run("c", 2),
    run("d", 3, is_replay=True),
]


@pytest.mark.parametrize(
    ("days", "keep", "records", "names"),
    [
        (0, 0, 0, ""),
        (2, 0, 0, "df"),  # c is just two days old
        (10, 0, 0, ""),
        (0, 1, 0, "bcdf"),  # a is the newest, and e is not over
        (0, 3, 0, "df"),
        (0, 6, 0, ""),
        (4, 2, 0, "cdf"),
        (0, 0, 2, "DF"),
        (1, 0, 4, "Fcd"),
        (2, 0, 1, "CDF"),  # the record never outlives its own limit
    ],
)
def test_old_runs_and_those_beyond_the_number_are_chosen(days: int, keep: int, records: int, names: str) -> None:
    assert chosen(RUNS, days, keep, records) == names


@pytest.mark.parametrize(
    ("days", "keep", "names"),
    [(2, 0, "df"), (0, 2, "cf"), (0, 1, "bcf"), (0, 0, "bcdf"), (2, 4, "f"), (2, 5, ""), (4, 0, "f"), (5, 0, "")],
)
def test_a_policy_keeps_what_is_young_or_among_the_newest_of_its_kind(days: int, keep: int, names: str) -> None:
    """Bugninja counts runs by the agent (a b c e f) and replays (d) apart."""
    assert chosen(RUNS, days, keep, by_policy=True) == names


def test_what_a_replay_still_needs_is_kept() -> None:
    waits, over = run("w", 0, over_at=float("inf"), needs=RunId("d")), run("x", 5, file_id=RunId("y"))
    assert chosen([*RUNS, waits, over], 2, records=2) == "FX"
    assert chosen([*RUNS, waits._replace(needs=RunId("y")), over], 2, records=2) == "DF"


def test_a_recording_that_may_still_be_in_use_is_kept_for_a_day() -> None:
    runs = [run("n", 0), run("l", 0.5, is_lost=True), run("m", 2, is_lost=True), run("o", 0.5)]
    assert chosen(runs, keep=1) == "mo"


def test_a_record_that_cannot_be_read_is_not_marked_but_may_be_deleted() -> None:
    assert chosen([run("b", 1), run("d", 3, is_readable=False)], keep=1) == ""
    assert chosen([run("b", 1), run("d", 3, is_readable=False)], keep=1, records=2) == "D"


def test_a_run_that_is_marked_is_pruned_to_its_end_whatever_the_limits_are_now() -> None:
    assert chosen([run("b", 1), run("d", 3, is_pruned=True)], days=100) == "d"


@pytest.mark.parametrize(
    ("environ", "toml", "limits"),
    [
        ({}, "", Limits(0, 0, 0)),
        ({}, POLICY, Limits(30, 0, 0, by_policy=True)),
        ({"RECORDS_KEEP_DAYS": "9"}, POLICY, Limits(30, 0, 9, by_policy=True)),
        ({"RUNS_KEEP": "0"}, POLICY, Limits(0, 0, 0)),
        ({"RUNS_KEEP_DAYS": "0"}, POLICY, Limits(0, 0, 0)),
        ({"RUNS_KEEP_DAYS": "7", "RUNS_KEEP": ""}, POLICY, Limits(7, 0, 0)),
        ({"RUNS_KEEP_DAYS": "7", "RUNS_KEEP": "5"}, "", Limits(7, 5, 0)),
    ],
)
def test_the_policy_of_the_project_holds_where_no_setting_says_anything(
    project: Project, environ: dict[str, str], toml: str, limits: Limits
) -> None:
    (project.root / "bugninja.toml").write_text(toml)
    found = Limits.of(project.settings(**environ))
    assert found == limits
    assert found.are_none == (limits == Limits(0, 0, 0))


def test_without_yes_nothing_is_deleted(stack: FakeStack, capsys: pytest.CaptureFixture[str]) -> None:
    ours = old_runs(stack)
    before = files(stack.settings.tasks_root)
    assert main([], stack.project.environ(RUNS_KEEP_DAYS="30", RECORDS_KEEP_DAYS="3000")) == 0
    printed = capsys.readouterr().out
    assert f" {ours} FINISHED {OLD} files " in printed
    assert f" {HAND} FINISHED " in printed
    assert "\nThe files of 2 runs, 0.02 MB would be deleted; with --yes they are." in printed
    assert files(stack.settings.tasks_root) == before


def test_a_summary_says_what_was_deleted_of_which_task(
    stack: FakeStack, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old_runs(stack)
    old_runs(stack, "sell", "i" * 24)
    monkeypatch.setattr("jobs.prune.connect", lambda _: stack.redis)
    assert main(["--yes"], stack.project.environ(RUNS_KEEP_DAYS="30")) == 0
    assert capsys.readouterr().out == (
        "buy: the files of 2 runs, 0.02 MB\nsell: the files of 2 runs, 0.02 MB\nThe files of 4 runs, 0.04 MB were deleted.\n"
    )
    assert main(["--yes"], stack.project.environ(RUNS_KEEP_DAYS="30")) == 0
    assert capsys.readouterr().out == "The files of 0 runs, 0.00 MB would be deleted; with --yes they are.\n"
    assert main(["--yes"], stack.project.environ(RECORDS_KEEP_DAYS="30")) == 0
    assert "\nThe files of 4 runs (4 with their records), 0.00 MB were deleted.\n" in capsys.readouterr().out


def test_without_limits_everything_is_kept(stack: FakeStack, capsys: pytest.CaptureFixture[str]) -> None:
    old_runs(stack)
    before = files(stack.settings.tasks_root)
    assert main(["--yes"], stack.project.environ()) == 0
    assert "all runs are kept" in capsys.readouterr().out
    assert files(stack.settings.tasks_root) == before


def test_without_redis_nothing_is_deleted(stack: FakeStack, capsys: pytest.CaptureFixture[str]) -> None:
    old_runs(stack)
    before = files(stack.settings.tasks_root)
    environ = stack.project.environ(RUNS_KEEP_DAYS="30", REDIS_URL="redis://127.0.0.1:1/0")
    assert main(["--yes"], environ) == 1
    assert "Not all was deleted" in capsys.readouterr().err
    assert files(stack.settings.tasks_root) == before


def test_settings_that_cannot_be_used_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], {"RUNS_KEEP": "many"}) == 1
    assert "RUNS_KEEP must be an integer from 0 to 1000000, got 'many'." in capsys.readouterr().err
    with pytest.raises(SettingsError, match=r"RUNS_KEEP_DAYS must be an integer from 0 to 3650 \(days\), got '-1'"):
        read_settings({"RUNS_KEEP_DAYS": "-1"})


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_shown_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, file = Terminal(), io.StringIO()
    for output in (terminal, file):
        now = iter([1.0, 1.0, 1.05, 1.2, 1.2])
        monkeypatch.setattr(time, "monotonic", lambda now=now: next(now))
        line = ProgressLine(output)
        for text in ("one", "two", "three"):
            line.show(text)
        line.clear()
    monkeypatch.undo()
    assert terminal.getvalue() == "\r\x1b[Kone\r\x1b[Kthree\r\x1b[K"
    assert file.getvalue() == ""
