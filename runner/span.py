"""Parts of a file that may be growing while it is read."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from runner.files import read_tail

BLOCK = 64 * 1024
TAIL_BYTES = 1024 * 1024  # in which the last lines are looked for
RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


class Span(NamedTuple):
    """The bytes from `start` up to `end` (not included), and the HTTP status that goes with them."""

    start: int
    end: int
    status: int

    def content_range(self, size: int) -> str:
        """The value of the Content-Range header for a file of this size."""
        return f"bytes */{size}" if self.status == 416 else f"bytes {self.start}-{self.end - 1}/{size}"


def file_size(path: Path) -> int:
    """The size in bytes; 0 if the file is not there yet."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def last_lines(path: Path, count: int) -> bytes:
    """The last `count` lines (as far as they are in the last MiB)."""
    lines = read_tail(path, TAIL_BYTES).split(b"\n")
    whole = lines[:-1] if lines[-1] == b"" else lines
    return b"".join(line + b"\n" for line in whole[len(whole) - min(count, len(whole)) :])


def parse_range(header: str | None, size: int) -> Span:
    """What a Range header asks for (RFC 9110): 206 a part, 416 a part that is not there, 200 everything.

    A header that is not understood asks for everything.
    """
    found = RANGE.fullmatch(header.strip()) if header is not None else None
    if found is None or found.groups() == ("", ""):
        return Span(0, size, 200)
    first, last = found.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if (first and last and int(last) < int(first)) or start >= size:
        return Span(0, 0, 416)
    return Span(start, end, 206)


def read_span(path: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of the span in blocks, also if the file has grown meanwhile. Raises `OSError` at once."""
    return _blocks(path.open("rb"), start, end) if start < end else iter(())


def _blocks(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start, os.SEEK_SET)
        while start < end and (block := file.read(min(BLOCK, end - start))):
            start += len(block)
            yield block
