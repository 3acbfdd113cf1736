"""The picture in README.md, of the page of a failed run. `python -m tests.picture` makes it anew.

It shows what a real stack has done with the sample tasks. Beside a failure stands the last run that passed: so the task
that fails on purpose looks, the first time, for a text that is there. Its window is small, so that one can read it.
"""

import shutil
import sys
import tempfile
from contextlib import closing
from functools import reduce
from pathlib import Path

from tests.chromium import open_page
from tests.project import Project
from tests.stack import ROOT, Stack

PICTURE = ROOT / "docs" / "failed-run.png"
MOST_BYTES = 200_000
WIDTH, HEIGHT = 1280, 980
COMMAND = "python -m runner.cli.sample run {task_id}"
NOWHERE, THERE = "this text is nowhere on the page", "ok"
WINDOWS = {"viewport_width = 1280": "viewport_width = 640", "viewport_height = 720": "viewport_height = 200"}


def main() -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory(prefix="runner-picture-") as folder:
        stack = sample_stack(Path(folder))
        with closing(stack), open_page(WIDTH, HEIGHT) as page:
            stack.launch()
            stack.wait_ready()
            page.goto(f"http://127.0.0.1:{stack.port}/ui/runs/{fail(stack)}", wait_until="networkidle")
            page.screenshot(path=PICTURE)
    size = PICTURE.stat().st_size
    print(f"{PICTURE.relative_to(ROOT)} has {size} bytes.")
    return size > MOST_BYTES


def sample_stack(folder: Path) -> Stack:
    """A stack for a copy of the sample tasks."""
    root = folder / "project"
    root.mkdir()
    shutil.copy2(ROOT / "bugninja.toml", root)
    shutil.copytree(
        ROOT / "tasks", root / "tasks", ignore=lambda _, names: {*names} & {"runs", "traversals", "screenshots"}
    )
    return Stack(Project(root), folder, RUNNER_COMMAND=COMMAND)


def fail(stack: Stack) -> str:
    """The ID of a run that has failed, after others that have passed."""
    toml = stack.project.root / "tasks" / "fail_on_purpose" / "task_fail_on_purpose.toml"
    original = reduce(lambda text, change: text.replace(*change), WINDOWS.items(), toml.read_text())
    toml.write_text(original.replace(NOWHERE, THERE))
    for task in ("check_the_runner", "fail_on_purpose"):
        assert stack.wait_final(stack.post(task))["current_state"] == "FINISHED", stack.log("stack")
    toml.write_text(original)
    run_id = stack.post("fail_on_purpose")
    assert stack.wait_final(run_id)["current_state"] == "FAILED", stack.log("stack")
    return run_id


if __name__ == "__main__":
    sys.exit(main())
