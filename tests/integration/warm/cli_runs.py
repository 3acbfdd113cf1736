"""Runs of the stand-in CLI, warm and cold, without a worker between."""

import os
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from runner.cli.command import ProcessExit, build_command
from runner.cli.process import CliProcess
from runner.cli.warm import Template
from runner.ids import TaskId, new_run_id
from runner.project.run_folder import RunFolder
from runner.redaction import Redactor
from tests.project import Project
from tests.stack import ROOT
from tests.waiting import wait_for

SCRIPT = ROOT / "tests" / "warm_cli" / "script.py"
CONSOLE = """#!{interpreter}
# -*- coding: utf-8 -*-
import sys
from tests.warm_cli.main import main
if __name__ == "__main__":
    sys.exit(main())
"""
AS_SCRIPT = f"{sys.executable} {SCRIPT} {{task_id}} --run={{run_id}} 'two words'"
AS_MODULE = f"{sys.executable} -m tests.warm_cli {{task_id}} --run={{run_id}}"
VARYING = [  # what may differ between two runs, and only this
    (re.compile(r"\b0x[0-9a-f]{8,}"), "ADDRESS"),
]


class Ended(NamedTuple):
    """What a run leaves behind, without what may differ between two runs."""

    exit: ProcessExit | None
    log: str
    traversals: list[str]


class CliRuns:
    """Starts runs in a project, each in a folder of its own."""

    def __init__(self, project: Project, command: str = AS_SCRIPT, **environ: str) -> None:
        self.project = project
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(project.root), **environ}
        self.environ = {**own, **project.environ(RUNNER_COMMAND=command, RUNNER_WARM="on", RUNNER_WARM_IMPORTS=" ")}
        self.settings = project.settings(**self.environ)
        self.template = Template(self.settings, self.environ, Redactor(()))

    def warm_up(self) -> None:
        """Wait until the template is ready."""

        def is_ready() -> bool:
            self.template.keep()
            return self.template.process is not None

        wait_for(is_ready, 20, "a template")

    def start(self, task: str, *, warm: bool) -> tuple[CliProcess, RunFolder]:
        """Start a run of the task."""
        folder = RunFolder(self.settings.tasks_root, TaskId(task), new_run_id())
        folder.path.mkdir(parents=True)
        command = build_command(self.settings, folder, self.environ)
        return CliProcess(command, folder, Redactor(()), self.template if warm else None), folder

    def run(self, task: str, *, warm: bool) -> Ended:
        """Start it, and wait for its end."""
        process, folder = self.start(task, warm=warm)
        assert process.is_warm == warm
        ended = process.wait(30)
        assert process.clear() == 0
        return self.left_by(folder, ended)

    def left_by(self, folder: RunFolder, ended: ProcessExit | None) -> Ended:
        """What the run has left behind."""
        paths = folder.path.parents[1].glob(f"traversals/*{folder.run_id}.json")
        texts = [folder.log.read_text(), *(path.read_text() for path in sorted(paths))]
        log, *traversals = (normal(text, folder.run_id) for text in texts)
        return Ended(ended, log, traversals)


def normal(text: str, run_id: str) -> str:
    """The text without what may differ between two runs."""
    text = text.replace(run_id, "RUN")
    for pattern, word in VARYING:
        text = pattern.sub(word, text)
    return text


def console_script(project: Project, interpreter: str = sys.executable) -> Path:
    """A console script as an installer writes it."""
    path = project.root / "bin" / "stand-in"
    path.parent.mkdir(exist_ok=True)
    path.write_text(CONSOLE.format(interpreter=interpreter))
    path.chmod(0o755)
    return path


def without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """The dictionary without these."""
    return {name: value for name, value in values.items() if name not in names}
