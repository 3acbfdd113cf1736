"""One line per thing that happens to a run: `run=ID event=WHAT key=value ...`, the same in every process."""

import logging
import os
import select
from collections.abc import Mapping

STDERR = 2
FORMAT = "%(asctime)s %(levelname)s %(message)s"
OF_RQ = ("rq.worker", "rq.job")  # loggers that get handlers of their own from RQ's command line
logger = logging.getLogger("bugninja_runner")


class DroppingHandler(logging.Handler):
    """Writes what the pipe or terminal takes at once, and drops the rest: if nobody reads it (Ctrl-Z, Ctrl-S), no
    answer and no run has to wait. How many lines were dropped is said with the next one that is not."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor, self._poll = descriptor, select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._dropped = 0
        self._is_cut = False  # whether the last line was written in part

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        try:
            lines = [self.format(record)]
            if self._dropped:
                lines.insert(0, self.format(_dropped_record(self._dropped)))
            text = "\n" * self._is_cut + "".join(f"{line}\n" for line in lines)
            self._write(text.encode("utf-8", "backslashreplace"))
            self._dropped = 0
        except Exception:  # noqa: BLE001 (as the handlers of Python do: a line is no reason to fail)
            self._dropped += 1

    def _write(self, content: bytes) -> None:
        """Write it piece by piece. Raises `OSError` when a piece would have to wait."""
        while content:
            if not any(events & select.POLLOUT for _, events in self._poll.poll(0)):
                raise BlockingIOError
            content = content[os.write(self._descriptor, content[: select.PIPE_BUF]) :]
            self._is_cut = bool(content)


def configure_logging(level: str) -> None:
    """Log to stderr from this level on, whoever logs. Called once, where a process starts."""
    handler = DroppingHandler(STDERR)
    handler.setLevel(level)  # the loggers of RQ have a level of their own
    logging.basicConfig(level=level, format=FORMAT, handlers=[handler])
    for name in OF_RQ:
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True


def log_event(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log the event with its fields; a value with spaces is quoted, a None is left out."""
    logger.log(level, _line(event, fields))


def log_fault(what: str) -> None:
    """Log a fault of ours that is just being handled, with its trace."""
    logger.exception(what)


def _dropped_record(count: int) -> logging.LogRecord:
    text = _line("log_lines_dropped", {"count": count})
    return logging.LogRecord(logger.name, logging.WARNING, __file__, 0, text, None, None)


def _line(event: str, fields: Mapping[str, object]) -> str:
    pairs = [f"{name}={_value(value)}" for name, value in fields.items() if value is not None]
    return " ".join([f"event={event}", *pairs])


def _value(value: object) -> str:
    text = str(value)
    plain = text and not any(c.isspace() or c in "\"'=" or not c.isprintable() for c in text)
    return text if plain else ascii(text)
