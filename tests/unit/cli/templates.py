"""Templates of small CLIs, in a project of their own."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from runner.cli.command import Command, build_command
from runner.cli.warm import Template
from runner.cli.warm_process import WarmProcess
from runner.ids import RunId, TaskId
from runner.project.run_folder import RunFolder
from runner.redaction import Redactor, Secret
from runner.settings import Settings, read_settings
from tests.waiting import wait_for


class Warm:
    """A project whose CLI is `cli.py`, in a folder beside it, and its template."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.root, self.code = folder / "project", folder / "code"
        for each in (self.root / "tasks", self.code):
            each.mkdir(parents=True)
        self.script = self.code / "cli.py"
        self.environ = {
            "PATH": f"{folder}:{os.environ['PATH']}",
            "PROJECT_ROOT": str(self.root),
            "RUNNER_COMMAND": f"{sys.executable} {self.script} run {{task_id}}",
            **variables,
        }
        self.templates: list[Template] = []

    @property
    def settings(self) -> Settings:
        return read_settings(self.environ)

    def template(self, *secrets: Secret) -> Template:
        """A template that is not started yet."""
        template = Template(self.settings, self.environ, Redactor(secrets))
        self.templates.append(template)
        return template

    def ready(self, code: str = "print('hello')") -> Template:
        """The template of a CLI with this code."""
        self.script.write_text(code)
        template = self.template()
        wait_for(lambda: self.is_ready(template), 20, "the template")
        return template

    def is_ready(self, template: Template, *, wanted: bool = False) -> bool:
        """Whether it is ready, or becomes so when it is kept."""
        template.keep(wanted=wanted)
        return template.process is not None

    def command(self, number: int = 0, **environ: str) -> Command:
        """The command of one of many runs."""
        folder = RunFolder(self.root / "tasks", TaskId("buy"), RunId(f"run{number:021d}"))
        return build_command(self.settings, folder, {**self.environ, **environ})

    def run(self, template: Template, number: int = 0) -> tuple[str, int | None]:
        """What a run has printed, and its exit code."""
        process = template.fork(self.command(number))
        assert process is not None
        return finish(process)

    def close(self) -> None:
        for template in self.templates:
            for process in template.process.children(recursive=True) if template.process else ():
                process.kill()
            template.end()


def finish(process: WarmProcess) -> tuple[str, int | None]:
    """What it prints, and its exit code."""
    with process.stdout as stdout:
        printed = b"".join(iter(lambda: os.read(stdout.fileno(), 65536), b""))
    return printed.decode(), process.wait(20)


def wait_gone(process: psutil.Process) -> None:
    wait_for(lambda: is_gone(process), 10, f"the end of {process}")


def is_gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it has just gone
        return True


Ready = Callable[[str], Template]
