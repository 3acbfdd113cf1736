"""One line per thing that happens to a run: `run=ID event=WHAT key=value ...`, the same in every process."""

import logging

FORMAT = "%(asctime)s %(levelname)s %(message)s"
logger = logging.getLogger("bugninja_runner")


def configure_logging(level: str) -> None:
    """Log to stderr from this level on. Called once, where a process starts."""
    logging.basicConfig(level=level, format=FORMAT)


def log_event(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log the event with its fields; a value with spaces is quoted, a None is left out."""
    pairs = [f"{name}={_value(value)}" for name, value in fields.items() if value is not None]
    logger.log(level, " ".join([f"event={event}", *pairs]))


def log_fault(what: str) -> None:
    """Log a fault of ours that is just being handled, with its trace."""
    logger.exception(what)


def _value(value: object) -> str:
    text = str(value)
    plain = text and not any(c.isspace() or c in "\"'=" or not c.isprintable() for c in text)
    return text if plain else ascii(text)
