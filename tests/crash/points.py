"""The one list of the steps at which processes are killed: `points.txt`.

`CRASH_RECORD=1 pytest tests/crash -k known` renews it.
"""

from pathlib import Path
from typing import NamedTuple

LIST = Path(__file__).with_name("points.txt")
VICTIMS: dict[str, dict[str, tuple[str, ...]]] = {
    "web": {"web": ("self",)},
    "prune": {"prune": ("self",)},
    "worker": {"worker": ("self",)},
    "recovery": {"worker": ("self",)},
    "horse": {"horse": ("self",), "worker": ("parent",), "both": ("parent", "self")},
}
"""Who is killed at a step of each kind."""


class Point(NamedTuple):
    """One step of a scenario."""

    scenario: str
    kind: str
    """Whose step it is: `web`, `worker`, `horse`, `recovery` (a thread of the worker), or `prune`."""
    name: str
    number: int
    """Which one of the steps with this name."""

    def __str__(self) -> str:
        return f"{self.scenario}: {self.kind} {self.name} #{self.number}"


class Row(NamedTuple):
    """A row of the matrix: who is killed just before which step."""

    point: Point
    victim: str

    def __str__(self) -> str:
        return f"{self.point} kills {self.victim}"


def parse_point(line: str) -> Point:
    scenario, _, rest = line.partition(": ")
    what, _, number = rest.rpartition(" #")
    kind, _, name = what.partition(" ")
    return Point(scenario, kind, name, int(number))


def known_points() -> list[Point]:
    return [parse_point(line) for line in LIST.read_text().splitlines()] if LIST.exists() else []


def write_points(scenario: str, points: list[Point]) -> None:
    """Put these points into the list, in place of those of this scenario."""
    others = [point for point in known_points() if point.scenario != scenario]
    LIST.write_text("".join(f"{point}\n" for point in sorted([*others, *points], key=lambda point: point.scenario)))
