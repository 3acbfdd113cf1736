"""Figures, what they should be, and the table of them."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

HEAD = ("figure", "median", "p95", "is", "target", "")


class Figure(NamedTuple):
    """Something that was measured: `value` is what `target` (at most, or at least) is about; None has no target."""

    name: str
    median: str
    p95: str
    value: float
    unit: str
    target: float | None = None
    at_least: bool = False

    @property
    def is_met(self) -> bool:
        """Whether it is as good as it should be."""
        if self.target is None:
            return True
        return self.value >= self.target if self.at_least else self.value <= self.target

    def row(self) -> tuple[str, ...]:
        """The figure as a row of the table."""
        wanted = "" if self.target is None else f"{'>=' if self.at_least else '<='} {self.target:g}{self.unit}"
        verdict = "" if self.target is None else "ok" if self.is_met else "MISSED"
        return self.name, self.median, self.p95, f"{self.value:.3g}{self.unit}", wanted, verdict


def median(samples: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(samples)


def p95(samples: Sequence[float]) -> float:
    """The one that 95 of 100 are not larger than."""
    return sorted(samples)[min(len(samples) - 1, int(len(samples) * 0.95))]


def milliseconds(seconds: float) -> str:
    """The time as a text."""
    return f"{seconds * 1000:.2f} ms"


def ratio(
    name: str, samples: Sequence[float], floor: Sequence[float], unit: str, target: float | None = None
) -> Figure:
    """How many times the floor's median these samples take (seconds), measured in the same run."""
    value = median(samples) / median(floor)
    return Figure(name, milliseconds(median(samples)), milliseconds(p95(samples)), value, unit, target)


def plain(name: str, value: float, unit: str, target: float | None = None, *, at_least: bool = False) -> Figure:
    """A figure that is no ratio."""
    return Figure(name, "", "", value, unit, target, at_least)


def table(figures: Sequence[Figure]) -> str:
    """All of them, one per line."""
    rows = [HEAD, *(figure.row() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def interleaved(
    floor: Callable[[], float], asks: Mapping[str, Callable[[], float]], rounds: int
) -> tuple[list[float], dict[str, list[float]]]:
    """The samples of the floor and of each of the rest, taken in turns, so that a slow moment of the machine meets all.

    The floor is measured before each of them, so that neither has the machine's caches for itself.
    """
    lowest: list[float] = []
    samples: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(rounds):
        for name, ask in asks.items():
            lowest.append(floor())
            samples[name].append(ask())
    return lowest, samples
