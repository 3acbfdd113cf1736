"""Numbers -> the geometry of a plot, which a template draws as SVG. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 600, 120  # of a plot, in its own units


class Point(NamedTuple):
    """A run in the plot."""

    x: float
    y: float
    run_id: str
    seconds: float


class Plot(NamedTuple):
    """Durations over time, the newest one at the right. `levels` are the heights of horizontal lines by their names."""

    points: list[Point]
    levels: dict[str, float]
    top: float
    """The duration at the upper edge, in seconds."""

    @property
    def line(self) -> str:
        """The points, as SVG's `polyline` wants them."""
        return " ".join(f"{point.x},{point.y}" for point in self.points)


def duration_plot(durations: Sequence[tuple[str, float]], levels: dict[str, float | None]) -> Plot | None:
    """The plot of these runs (IDs and seconds, the oldest first) with lines at these levels (seconds; None for one that
    is not known). None without any run."""
    if not durations:
        return None
    known = {name: level for name, level in levels.items() if level is not None}
    top = max([seconds for _, seconds in durations] + [*known.values()]) * 1.1 or 1.0
    step = WIDTH / len(durations)
    points = [
        Point(round((n + 0.5) * step, 1), _height(seconds, top), run_id, seconds)
        for n, (run_id, seconds) in enumerate(durations)
    ]
    return Plot(points, {name: _height(level, top) for name, level in known.items()}, top)


def _height(seconds: float, top: float) -> float:
    return round(HEIGHT * (1 - seconds / top), 1)
