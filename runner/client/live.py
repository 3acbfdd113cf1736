"""A table that shows, on a terminal, how a batch runs."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from runner.client.batches import Batch, Run
from runner.client.lines import WORDS, clean, counts_text, duration_text

ORDER = ("RUNNING", "FAILED", "ERROR", "PENDING", "FINISHED")
STYLES = {"RUNNING": "cyan", "FAILED": "bold red", "ERROR": "yellow", "PENDING": "dim", "FINISHED": "green"}
OTHER_LINES = 5  # the table's head, what was left out, both lines about all runs, and the cursor's
BAR = 16
DRAWN = 0.2  # seconds from one drawing to the next, if nothing changes


class LiveTable:
    """Draws the table on stderr, and removes it at the end."""

    wants_medians = True

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(file=sys.stderr)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._medians: Mapping[str, float] = {}
        self._batch: Batch | None = None
        self._drawn = 0.0

    def __enter__(self) -> "LiveTable":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Write a sentence above the table."""
        self._console.print(Text(clean(text)))

    def show(self, batch: Batch) -> None:
        """Draw the batch."""
        self._batch, self._drawn = batch, time.monotonic()
        shown = picture(batch, self._medians, time.time(), self._console.size.height)
        self._live.update(shown, refresh=True)

    def tick(self) -> None:
        """Draw it again: what runs has come further."""
        if self._batch and time.monotonic() - self._drawn >= DRAWN:
            self.show(self._batch)

    def expect(self, medians: Mapping[str, float]) -> None:
        """Draw bars from now on."""
        self._medians = medians


def picture(batch: Batch, medians: Mapping[str, float], now: float, height: int) -> RenderableType:
    """All of it, in so many lines; `now` is in seconds since 1970."""
    runs = sorted(batch.runs, key=lambda run: ORDER.index(run.state) if run.state in ORDER else 0)
    room = max(height - OTHER_LINES, 1)
    table = Table(box=None, pad_edge=False, expand=True)
    for name, more in (("task", 2), ("state", None), ("time", None), ("", None), ("step", None), ("goal", 5)):
        table.add_column(name, ratio=more, no_wrap=True, overflow="ellipsis")
    for run in runs[:room]:
        table.add_row(*row(run, medians.get(run.task), now))
    hidden = [Text(f"and {len(runs) - room} more", style="dim")] if len(runs) > room else []
    return Group(table, *hidden, *overall(batch, medians, now))


def row(run: Run, median: float | None, now: float) -> tuple[RenderableType, ...]:
    """The cells of a run."""
    seconds = elapsed(run, now)
    bar = bar_of(median, seconds, BAR) if median and run.state == "RUNNING" else Text("")
    return (
        Text(clean(run.task)),
        Text(WORDS.get(run.state, clean(run.state)), style=STYLES.get(run.state, "")),
        Text(duration_text(seconds) if run.over or run.state == "RUNNING" else "", justify="right"),
        bar,
        Text(str(run.steps or ""), justify="right"),
        Text(clean(run.message if run.over else run.goal)),
    )


def overall(batch: Batch, medians: Mapping[str, float], now: float) -> tuple[RenderableType, ...]:
    """The lines about all runs: a bar with an estimate of the rest, and the counts."""
    over = sum(run.over for run in batch.runs)
    rest = estimate(batch, medians, now)
    line = Table.grid(padding=(0, 1))
    line.add_row(
        bar_of(len(batch.runs), over, 2 * BAR),
        Text(f"{over}/{len(batch.runs)}" + (f", about {duration_text(rest)} left" if rest else "")),
    )
    return line, Text(counts_text(batch))


def bar_of(total: float, done: float, width: int) -> ProgressBar:
    """A bar of so many characters."""
    return ProgressBar(total, min(done, total), width, complete_style="cyan", finished_style="cyan")


def elapsed(run: Run, now: float) -> float:
    """For how many seconds a run has run, by this machine's clock as long as it does."""
    if run.duration is not None:
        return run.duration
    return 0.0 if run.started_at is None else max(now - run.started_at, 0.0)


def estimate(batch: Batch, medians: Mapping[str, float], now: float) -> float:
    """In how many seconds all will be over, if as many runs run side by side as do now, and new tasks take what others
    do; 0 if that is not known."""
    usual = sum(medians.values()) / max(len(medians), 1)
    rest = [
        medians.get(run.task, usual) - (elapsed(run, now) if run.state == "RUNNING" else 0)
        for run in batch.runs
        if not run.over
    ]
    return sum(max(seconds, 0) for seconds in rest) / max(batch.counts["running"], 1)
