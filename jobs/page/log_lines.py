"""The end of a run's log, line by line."""

from io import BytesIO
from typing import NamedTuple

from jobs.status.reader import RunReader
from runner.errors import Gone
from runner.files import file_size

LINES = 200  # that a page shows before a script reads the others
LOG_BYTES = 64 * 1024


class LogLines(NamedTuple):
    """Some lines of a log, and what the log has beside them."""

    lines: list["LogLine"]
    start: int
    """The offset of the first one, in bytes."""
    size: int
    """Of the whole log, in bytes."""
    is_partial: bool
    """Whether the last line has no end yet."""


class LogLine(NamedTuple):
    """A line of a log. Its offset, in bytes, is the end of its link: it stays the same while the log grows."""

    offset: int
    text: str


def last_lines(reader: RunReader, run_id: str) -> LogLines | None:
    """The last LINES lines of the run's log, or what of them is in its last LOG_BYTES; None if it was pruned. Reads the
    disk. Raises `NotFound`."""
    try:
        with reader.open_log(run_id) as file:
            size = file_size(file)
            start = file.seek(max(0, size - LOG_BYTES))
            content = file.read(size - start)
    except Gone:
        return None
    lines = []
    for text in BytesIO(content):
        lines.append(LogLine(start, text.decode(errors="replace").rstrip("\n")))
        start += len(text)
    is_cut = size > LOG_BYTES and len(lines) > 1
    shown = lines[is_cut:][-LINES:]
    is_partial = bool(content) and not content.endswith(b"\n")
    return LogLines(shown, shown[0].offset if shown else 0, size, is_partial)
