"""The only place where text from outside becomes a part of a path."""

import re
from collections.abc import Iterator
from typing import NewType

from cuid2 import create_id, is_cuid

from runner.errors import NotFound, printable

RunId = NewType("RunId", str)
TaskId = NewType("TaskId", str)

RUN_ID_LENGTH = 24  # Bugninja names its runs by CUID2 of the default length
RUN_ID_PATTERN = r"^[a-z][a-z0-9]{23}\Z"
RUN_ID_ANYWHERE = re.compile(r"(?=([a-z][a-z0-9]{23}))")
TASK_ID_PATTERN = r"^[a-z0-9_]{1,128}\Z"

RUN_ID_RULE = "24 characters, a letter first, then a-z and 0-9"
TASK_ID_RULE = "1 to 128 characters of a-z, 0-9 and _"


def new_run_id() -> RunId:
    """A fresh CUID2, made before anything is started."""
    return RunId(create_id(RUN_ID_LENGTH))


def parse_run_id(text: str) -> RunId | None:
    """The text as a run ID, or None if no run can have that name."""
    return RunId(text) if is_cuid(text, RUN_ID_LENGTH, RUN_ID_LENGTH) else None


def run_ids_in(text: str) -> Iterator[RunId]:
    """All parts of the text that can be the ID of a run."""
    return (RunId(found) for found in RUN_ID_ANYWHERE.findall(text))


def check_run_id(text: str) -> RunId:
    """The text (from outside) as a run ID. Raises `NotFound` if no run can have that name."""
    run_id = parse_run_id(text)
    if run_id is None:
        raise NotFound(f"There is no run '{printable(text)}': the ID of a run is {RUN_ID_RULE}.")
    return run_id


def parse_task_id(text: str) -> TaskId | None:
    """The text as the name of a task's folder, or None if no task can have that name."""
    return TaskId(text) if re.match(TASK_ID_PATTERN, text) else None
