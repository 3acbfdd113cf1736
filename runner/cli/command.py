"""The command line and the environment of the CLI for one run, and how it ends. Pure: nothing is started here."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from shutil import which
from typing import NamedTuple

from runner.ids import RunId
from runner.log import log_event
from runner.project.run_folder import RunFolder
from runner.settings import Settings

RUN_ID_VARIABLE = "BUGNINJA_RUN_ID"
TASK_ID_VARIABLE = "BUGNINJA_TASK_ID"
FOLDER_VARIABLE = "BUGNINJA_RUN_FOLDER"
URL_VARIABLE = "BUGNINJA_RUNNER_URL"
HONCHO_VARIABLE = "HONCHO_PROCESS_NAME"
RUN_VARIABLES = (RUN_ID_VARIABLE, TASK_ID_VARIABLE, FOLDER_VARIABLE)  # all others are the same for all runs
SHIM = Path(__file__).parent / "shim"
OURS = ("REDIS_URL", "API_TOKEN", "HOST", "PORT", HONCHO_VARIABLE)  # the stack's own affairs, not the CLI's


class ProcessExit(NamedTuple):
    """How the CLI ended: `exit_code`, or the name of the `signal` that ended it (then exit_code is None)."""

    exit_code: int | None
    signal: str | None


class Command(NamedTuple):
    """The command of a run: `argv[0]` is looked up on the PATH of `environ`, `folder` is its working directory."""

    argv: tuple[str, ...]
    environ: Mapping[str, str]
    folder: Path


class Replay(NamedTuple):
    """A replay: the ID in the name of the traversal, and whether the agent may repair its steps."""

    traversal_id: RunId
    healing: bool


def build_command(
    settings: Settings, folder: RunFolder, environ: Mapping[str, str], replay: Replay | None = None
) -> Command:
    """The configured command for the run with this folder, or for this replay.

    `{task_id}`, `{run_id}` and, for a replay, `{traversal_id}` are replaced inside words that were split before, so
    that nothing in them can become a second word. The environment is the worker's, with the two IDs, the run's folder,
    the address of the web process and the shim that makes Bugninja keep the IDs, without the variables of the stack
    itself, and with output that is neither held back nor limited to ASCII unless the environment asks for it.
    """
    words = settings.runner_command if replay is None else settings.runner_replay_command
    task_id, run_id = folder.task_id, folder.run_id
    values = {"{task_id}": task_id, "{run_id}": run_id, "{traversal_id}": replay.traversal_id if replay else ""}
    argv = tuple(_filled(word, values) for word in words) + (("--healing",) if replay and replay.healing else ())
    own = dict(zip(RUN_VARIABLES, (run_id, task_id, str(folder.path)), strict=True))
    return Command(argv, {**base_environ(settings, environ), **own}, settings.project_root)


def base_environ(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of all runs, without the variables that each has for itself."""
    inherited = {name: value for name, value in environ.items() if name not in OURS and not name.startswith("RQ_")}
    defaults = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    if HONCHO_VARIABLE not in environ:  # which gives each line of the Procfile a PORT of its own
        defaults[URL_VARIABLE] = settings.base_url
    path = os.pathsep.join(filter(None, [str(SHIM), environ.get("PYTHONPATH")]))
    without_own = {name: value for name, value in inherited.items() if name not in RUN_VARIABLES}
    return {**defaults, **without_own, "PYTHONPATH": path}


def log_missing(settings: Settings, environ: Mapping[str, str]) -> None:
    """Log what a worker will need and does not find: the programs of the commands, the folder of the tasks."""
    commands = {"RUNNER_COMMAND": settings.runner_command, "RUNNER_REPLAY_COMMAND": settings.runner_replay_command}
    for variable, (program, *_) in commands.items():
        path = str(settings.project_root / program) if os.sep in program else program
        if "{" not in program and which(path, path=environ.get("PATH")) is None:
            log_event("program_missing", level=logging.WARNING, variable=variable, program=program)
    if not settings.tasks_root.is_dir():
        log_event("no_tasks", level=logging.WARNING, folder=settings.tasks_root)


def _filled(word: str, values: Mapping[str, str]) -> str:
    for placeholder, value in values.items():
        word = word.replace(placeholder, value)
    return word
