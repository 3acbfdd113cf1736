"""The command line and the environment of the CLI for one run. Pure: nothing is started here."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from runner.ids import RunId, TaskId
from runner.settings import Settings

RUN_ID_VARIABLE = "BUGNINJA_RUN_ID"
TASK_ID_VARIABLE = "BUGNINJA_TASK_ID"
OURS = ("REDIS_URL", "HOST", "PORT", "HONCHO_PROCESS_NAME")  # the stack's own affairs, not the CLI's


class Command(NamedTuple):
    """What is started for a run: `argv[0]` is looked up on the PATH of `environ`, `folder` is its working directory."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path


def build_command(settings: Settings, task_id: TaskId, run_id: RunId, environ: Mapping[str, str]) -> Command:
    """The configured command for this task and run.

    `{task_id}` and `{run_id}` are replaced inside words that were split before, so that nothing in them can become a
    second word. The environment is the worker's, with the two IDs, without the variables of the stack itself, and
    with output that is neither held back nor limited to ASCII unless the environment asks for it.
    """
    argv = tuple(word.replace("{task_id}", task_id).replace("{run_id}", run_id) for word in settings.runner_command)
    inherited = {name: value for name, value in environ.items() if name not in OURS and not name.startswith("RQ_")}
    defaults = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    ids = {RUN_ID_VARIABLE: run_id, TASK_ID_VARIABLE: task_id}
    return Command(argv, {**defaults, **inherited, **ids}, settings.project_root)
