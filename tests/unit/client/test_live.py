"""The table of a terminal: what is in it, and that it fits."""

import io
from typing import Any

from rich.console import Console

from runner.client.batches import as_batch
from runner.client.live import LiveTable, estimate, picture
from tests.unit.client.scripted import a_batch, a_run

STARTED = "2026-11-26T08:00:00Z"
NOW = 1795680010.0  # ten seconds later


def drawn(*runs: dict[str, Any], medians: dict[str, float] | None = None, height: int = 24) -> list[str]:
    console = Console(file=io.StringIO(), width=100, height=height)
    console.print(picture(as_batch("batches", a_batch(*runs)), medians or {}, NOW, height))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_a_run_has_its_state_time_step_and_goal() -> None:
    line = drawn(a_run("login", "RUNNING", started_at=STARTED, steps=3, last_goal="Log [red]in\n"))[1]
    assert line.split() == ["login", "running", "10.0", "s", "3", "Log", "[red]in"]
    line = drawn(a_run("login", "FAILED", message="No cart", steps=3, last_goal="Look"))[1]
    assert line.split() == ["login", "failed", "3.1", "s", "3", "No", "cart"]
    assert drawn(a_run("login"))[1].split() == ["login", "waiting"]


def test_what_runs_is_first_and_the_rest_is_counted() -> None:
    states = ["FINISHED"] * 10 + ["PENDING"] * 10 + ["ERROR", "FAILED", "RUNNING"]
    lines = drawn(*[a_run(f"t{n}", state) for n, state in enumerate(states)], height=12)
    assert len(lines) < 12
    assert [line.split()[1] for line in lines[1:5]] == ["running", "failed", "error", "waiting"]
    assert "and 16 more" in lines
    assert lines[-1] == "10 waiting, 1 running, 10 passed, 1 failed, 1 with an error"
    assert "12/23" in lines[-2]
    assert len(drawn(*[a_run(f"t{n}") for n in range(500)], height=3)) < 6


def test_what_is_left_is_estimated_from_the_medians() -> None:
    runs = [
        a_run("a", "RUNNING", started_at=STARTED),
        a_run("b", "RUNNING", started_at=STARTED),
        a_run("a"),
        a_run("new"),
    ]
    batch = as_batch("batches", a_batch(*runs))
    assert estimate(batch, {"a": 30.0, "b": 4.0}, NOW) == (20 + 0 + 30 + 17) / 2
    assert estimate(batch, {}, NOW) == 0
    assert "0/4, about 33.5 s left" in drawn(*runs, medians={"a": 30.0, "b": 4.0})[-2]
    assert "━" in drawn(*runs, medians={"a": 30.0})[1]
    assert "━" not in drawn(*runs)[1]


def test_no_color_is_respected(monkeypatch: Any) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = io.StringIO()
    with LiveTable(Console(file=out, force_terminal=True, width=80)) as table:
        table.say("a [bold]sentence[/bold]\x1b[2J")
        table.show(as_batch("batches", a_batch(a_run("login", "FAILED", message="x"))))
    assert "a [bold]sentence[/bold]\n" in out.getvalue()
    assert "\x1b[31m" not in out.getvalue()
    assert "\x1b[1;31m" not in out.getvalue()


def test_a_tick_draws_again() -> None:
    out = io.StringIO()
    with LiveTable(Console(file=out, force_terminal=True, width=80)) as table:
        table.tick()
        table.show(as_batch("batches", a_batch(a_run("login", "RUNNING", started_at=STARTED))))
        table.expect({"login": 10.0})
        before = len(out.getvalue())
        table.tick()
        assert len(out.getvalue()) == before
        table._drawn -= 1
        table.tick()
        assert len(out.getvalue()) > before
