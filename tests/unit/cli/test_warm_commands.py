"""What command starts the CLI matters to no run."""

import json
import select
import sys
from pathlib import Path

import psutil
import pytest

from tests.unit.cli.templates import Warm, wait_gone
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="warm starts need Linux")


def test_a_launcher_may_change_the_environment_and_stay(tmp_path: Path) -> None:
    """As `uv run` does."""
    launcher = tmp_path / "uv"
    launcher.write_text(
        f'#!/bin/sh\nshift\nexport BY_UV=yes\n[ "$1" = python ] && shift\n"{sys.executable}" "$@"; exit $?\n'
    )
    launcher.chmod(0o755)
    warm = Warm(tmp_path)
    warm.environ["RUNNER_COMMAND"] = f"uv run python {warm.script} {{task_id}}"
    try:
        template = warm.ready(
            "import json, os, sys; print(json.dumps([os.environ['BY_UV'], sys.argv[1:], sys.orig_argv]))"
        )
        assert template.process is not None
        printed, code = warm.run(template)
        assert (json.loads(printed), code) == (["yes", ["buy"], [sys.executable, str(warm.script), "buy"]], 0)
        process = template.process
        template.end()
        wait_gone(process)
        template.keep()
        wait_for(lambda: bool(select.select([template._control], [], [], 0)[0]), 20, "its message")
        for child in psutil.Process(template._launched.pid).children():  # type: ignore[union-attr]
            child.kill()
            wait_gone(child)
        wait_for(lambda: not psutil.pid_exists(child.pid), 10, "its end")
        template.keep()
        assert template.process is None
    finally:
        warm.close()


def test_a_console_script_is_that_of_its_python_whatever_else_has_its_name(tmp_path: Path) -> None:
    warm = Warm(tmp_path, RUNNER_PYTHON=sys.executable, RUNNER_COMMAND="pip --version {task_id}")
    (warm.root / "pip").write_text("this is no Python")
    try:
        template = warm.template()
        wait_for(lambda: warm.is_ready(template), 20, "the template")
        printed, code = warm.run(template)
        assert (printed.startswith("pip "), code) == (True, 0), printed
    finally:
        warm.close()
