"""Log lines, and where they go when nobody reads them."""

import fcntl
import logging
import os
import select
import sys
from collections.abc import Iterator

import pytest

from runner.log import DroppingHandler, configure_logging, log_event

FULL = 200_000  # bytes that no pipe takes


class Pipe:
    """A pipe with a handler at its writing end."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        self.handler = DroppingHandler(self.writing)

    def log(self, text: str) -> None:
        self.handler.emit(logging.LogRecord("x", logging.INFO, "x", 0, text, None, None))

    def read(self) -> str:
        return os.read(self.reading, FULL).decode()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reading)
    os.close(pipe.writing)


def test_lines_are_written_in_their_order(pipe: Pipe) -> None:
    pipe.log("one")
    pipe.log("zwei é \udcff")
    assert pipe.read() == "one\nzwei é \\udcff\n"


def test_lines_that_nobody_reads_are_dropped_and_counted(pipe: Pipe) -> None:
    for number in range(2000):
        pipe.log(f"{number:0200}")
    kept = pipe.read().splitlines()
    assert kept == [f"{number:0200}" for number in range(len(kept))]
    assert 100 < len(kept) < 2000
    pipe.log("again")
    assert pipe.read() == f"event=log_lines_dropped count={2000 - len(kept)}\nagain\n"
    pipe.log("and again")
    assert pipe.read() == "and again\n"


def test_a_long_line_is_written_whole_or_cut_and_never_runs_into_the_next(pipe: Pipe) -> None:
    pipe.log("x" * 3 * select.PIPE_BUF)
    assert pipe.read() == "x" * 3 * select.PIPE_BUF + "\n"
    pipe.log("y" * FULL)
    assert set(pipe.read()) == {"y"}
    pipe.log("next")
    assert pipe.read() == "\nevent=log_lines_dropped count=1\nnext\n"
    pipe.log("last")
    assert pipe.read() == "last\n"


def test_the_pipe_itself_is_left_as_it_is(pipe: Pipe) -> None:
    """It may be shared with programs that do not expect EAGAIN."""
    pipe.log("x" * FULL)
    assert not fcntl.fcntl(pipe.writing, fcntl.F_GETFL) & os.O_NONBLOCK


def test_a_reader_that_is_gone_and_a_record_that_cannot_be_formatted_raise_nothing() -> None:
    reading, writing = os.pipe()
    handler = DroppingHandler(writing)
    handler.emit(logging.LogRecord("x", logging.INFO, "x", 0, "%d", ("no number",), None))
    handler.emit(logging.LogRecord("x", logging.INFO, "x", 0, "fine", None, None))
    assert os.read(reading, 100) == b"event=log_lines_dropped count=1\nfine\n"
    os.close(reading)
    handler.emit(logging.LogRecord("x", logging.INFO, "x", 0, "text", None, None))
    os.close(writing)
    handler.emit(logging.LogRecord("x", logging.INFO, "x", 0, "text", None, None))


def test_all_lines_of_a_process_have_one_format(monkeypatch: pytest.MonkeyPatch, pipe: Pipe) -> None:
    root, of_rq = logging.getLogger(), logging.getLogger("rq.worker")
    monkeypatch.setattr("runner.log.STDERR", pipe.writing)
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(of_rq, "handlers", [logging.StreamHandler(sys.stdout)])
    monkeypatch.setattr(of_rq, "propagate", False)
    monkeypatch.setattr(of_rq, "level", logging.DEBUG)
    configure_logging("INFO")
    of_rq.info("of RQ")
    of_rq.debug("of RQ, but not asked for")
    log_event("of_ours", what="a b", count=3, nothing=None)
    first, second = pipe.read().splitlines()
    assert first.endswith(" INFO of RQ")
    assert second.endswith(" INFO event=of_ours what='a b' count=3")
