"""Plain output: foreign texts made harmless, a line per change while a batch runs, and its summary at the end."""

import errno
import os
import re
import select
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import Any, Protocol, TextIO

from runner.client.batches import Batch, Run

ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x9d\x90])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b.?"
)
COMMAND = re.compile(r"^\s*::|##(?=\w*\[)", re.MULTILINE)
SUMMARY_SECONDS = 30.0
WORDS = {"FINISHED": "passed", "FAILED": "failed", "ERROR": "error", "PENDING": "waiting", "RUNNING": "running"}


class View(Protocol):
    """Shows a batch while it is followed."""

    wants_medians: bool

    def __enter__(self) -> "View": ...
    def __exit__(self, *_: object) -> None: ...
    def say(self, text: str) -> None:
        """Show a sentence."""

    def show(self, batch: Batch) -> None:
        """Show the batch, which has changed."""

    def tick(self) -> None:
        """Show that time passes; is called a few times per second."""

    def expect(self, medians: Mapping[str, float]) -> None:
        """Take in how many seconds the tasks usually need."""


def clean(text: str) -> str:
    """A foreign text as one line that a terminal, and the log of a CI, only shows."""
    return clean_lines(" ".join("".join(c if c.isprintable() else " " for c in ESCAPE.sub("", text)).split()))


def clean_lines(text: str) -> str:
    """The same for a text of many lines. In the log of a CI, what would be a command is one no more."""
    seen = ESCAPE.sub("", text)
    seen = "".join(c if c.isprintable() or c in "\n\t" else " " for c in seen)
    return COMMAND.sub(lambda found: found[0].replace("::", ": :").replace("##", "# #"), seen)


def duration_text(seconds: float) -> str:
    """`3.1 s`, `4:05` or `1:04:05`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def size_text(batch: Batch) -> str:
    """How many runs there are."""
    return f"{len(batch.runs)} run{'s' if len(batch.runs) != 1 else ''}"


def counts_text(batch: Batch) -> str:
    """`2 passed, 1 failed, 1 waiting`: what there is of each."""
    words = {"pending": "waiting", "error": "with an error"}
    found = [f"{n} {words.get(name, name)}" for name, n in batch.counts.items() if n and name != "total"]
    return ", ".join(found) or "no runs"


class Quiet:
    """Shows nothing."""

    wants_medians = False

    def __enter__(self) -> "View":
        return self

    def __exit__(self, *_: object) -> None: ...

    def say(self, text: str) -> None: ...

    def show(self, batch: Batch) -> None: ...

    def tick(self) -> None: ...

    def expect(self, medians: Mapping[str, float]) -> None: ...


class Lines(Quiet):
    """Writes a line for each run that changes, and one for all of them from time to time."""

    def __init__(
        self, out: TextIO, every: float = SUMMARY_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out, self._every, self._clock = out, every, clock
        self._begun = self._said = clock()
        self._states: dict[str, str] = {}
        self._batch: Batch | None = None

    def say(self, text: str) -> None:
        print(f"[{self._elapsed()}] {clean(text)}", file=self._out, flush=True)

    def show(self, batch: Batch) -> None:
        self._batch = batch
        for run in batch.runs:
            if self._states.get(run.id, "PENDING") != run.state:
                self.say(change_text(run))
            self._states[run.id] = run.state

    def tick(self) -> None:
        if self._batch and self._clock() - self._said >= self._every:
            self._said = self._clock()
            self.say(f"{size_text(self._batch)}: {counts_text(self._batch)}")

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(self._clock() - self._begun), 60)
        return f"{minutes:02}:{seconds:02}"


def change_text(run: Run) -> str:
    """What has become of a run."""
    word = "stopped" if run.reason == "stopped" else WORDS.get(run.state, run.state)
    after = "" if run.duration is None else f" after {duration_text(run.duration)}"
    return f"{run.task} {word}{after}" + (f": {run.message}" if run.message and not run.passed else "")


def summary(batch: Batch, address: str) -> str:
    """What came out of a batch, and why each run that did not pass did not."""
    ended = batch.document.get("duration")
    after = f" after {duration_text(ended)}" if isinstance(ended, int | float) else ""
    lines = [line for run in batch.to_explain for line in explanation(run, address)]
    what = f"{batch.state if batch.over else 'NOT OVER'}{after}: {counts_text(batch)}"
    return "\n".join([*lines, what, f"  {address}{batch.page}"])


def explanation(run: Run, address: str) -> Iterable[str]:
    """The lines of a run that did not pass."""
    yield f"{run.state} {clean(run.task)}" + (f" ({clean(run.reason)})" if run.state == "ERROR" and run.reason else "")
    if run.message:
        yield f"  {clean(run.message)}"
    if run.action or run.place:
        yield f"  in {clean(run.action) or 'an action'}" + (f" at {clean(run.place)}" if run.place else "")
    yield f"  {address}/ui/runs/{run.id}"


class Lossy(FileIO):
    """A standard stream that takes all: tests and reports go on when its reader has left, or its disk is full."""

    lost = ""

    def write(self, content: Any, /) -> int:
        try:
            while (written := super().write(content)) is None:  # the pipe is full, and does not block
                select.select([], [self], [])
            return written
        except OSError as error:
            if error.errno != errno.EPIPE:
                self.lost = error.strerror or str(error)
            return len(content)


def make_writable() -> None:
    """Let no character be one that this terminal or pipe cannot take, and no write fail."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name) or Path(os.devnull).open("w")  # noqa: SIM115 (there is none after `>&-`)
        if stream is getattr(sys, f"__{name}__"):
            file = BufferedWriter(Lossy(number, "w", closefd=False))
            stream = TextIOWrapper(file, stream.encoding, "replace", line_buffering=True)
        setattr(sys, name, stream)


def lost_output() -> str:
    """Why something of stdout could not be written; empty if all was, or its reader did not want more."""
    sys.stdout.flush()
    return str(getattr(getattr(getattr(sys.stdout, "buffer", None), "raw", None), "lost", ""))


def is_terminal(stream: TextIO) -> bool:
    """Whether a table can be drawn on it."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
